"""Optimizers by name, and a decay that leaves out what doesn't multiply inputs."""

import keras
import numpy as np
import pytest
import tiny

from mixmo_keras.training import optimizers


def trained(decay: float | None, kernels_only: bool = False, name: str = "adamw"):
    """A model after one step, and its weights by path before it."""
    model = tiny.model(learning_rate=None)
    optimizer = optimizers.named(name, 0.1, optimizers.MOMENTUM, decay)
    model.compile(optimizer, decay_kernels_only=kernels_only, run_eagerly=True)
    before = [np.array(weight) for weight in model.trainable_weights]
    model.train_on_batch(*tiny.data(4))
    return model, before


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_only_kernels_decay(name):
    """w ← w − rate·λ·w beside the step, of kernels; the step itself is that without decay, whose gradients are the same."""
    plain, before = trained(None, name=name)
    decayed, _ = trained(0.5, kernels_only=True, name=name)
    kinds = set()
    for without, with_decay, start in zip(plain.trainable_weights, decayed.trainable_weights, before, strict=True):
        is_kernel = "kernel" in without.path
        kinds.add(is_kernel)
        expected = np.array(without) - (0.1 * 0.5 * start if is_kernel else 0)
        np.testing.assert_allclose(np.array(with_decay), expected, atol=1e-6, err_msg=without.path)
    assert kinds == {True, False}


def test_all_weights_decay_unless_told_otherwise():
    plain, before = trained(None)
    decayed, _ = trained(0.5)
    differences = [
        np.array(one) - np.array(other)
        for one, other in zip(plain.trainable_weights, decayed.trainable_weights, strict=True)
    ]
    for difference, start in zip(differences, before, strict=True):
        np.testing.assert_allclose(difference, 0.05 * start, atol=1e-6)


def test_a_saved_model_decays_kernels_only_too(tmp_path):
    model, _ = trained(0.5, kernels_only=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.decay_kernels_only
    loaded.run_eagerly = True
    for one in (model, loaded):
        one.train_on_batch(*tiny.data(4))
    for one, other in zip(model.trainable_weights, loaded.trainable_weights, strict=True):
        np.testing.assert_array_equal(np.array(one), np.array(other))


def test_lamb_trains_and_adamw_has_no_decay_of_its_own():
    model, before = trained(0.05, kernels_only=True, name="lamb")
    assert isinstance(model.optimizer, keras.optimizers.Lamb)
    assert all(np.isfinite(np.array(weight)).all() for weight in model.trainable_weights)
    assert not np.array_equal(np.array(model.trainable_weights[0]), before[0])
    assert optimizers.named("adamw", 0.1, 0.9, None).weight_decay == 0


def test_a_decay_of_kernels_needs_a_decay():
    with pytest.raises(ValueError, match="`decay_kernels_only` needs an optimizer that decays weights, such as keras"):
        tiny.model().compile(keras.optimizers.SGD(0.1), decay_kernels_only=True)
    with pytest.raises(ValueError, match="`decay_kernels_only` must be True or False"):
        tiny.model().compile(keras.optimizers.AdamW(0.1), decay_kernels_only="kernel")
