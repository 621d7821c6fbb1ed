"""Learning rates by depth: against shares worked out by hand."""

import keras
import numpy as np
import pytest
import tiny

from mixmo_keras import FineTuning
from mixmo_keras.training.checkpoint_files import values_of

X, Y = tiny.data(8)


def built(**options):
    model = tiny.model(backbone=tiny.residual_backbone(), learning_rate=None)
    model.compile(run_eagerly=True, **options)
    return model


@pytest.mark.parametrize(
    "optimizer",
    [lambda: keras.optimizers.SGD(0.1), lambda: keras.optimizers.AdamW(0.01, weight_decay=2.0)],
    ids=["SGD", "AdamW"],
)
def test_a_step_moves_each_layer_by_its_share(optimizer):
    """a and b by 1/2 · 1/16, c by 1/2 · 1/4, d by 1/2; encoders by 1/16, heads by 1: decay of weights likewise."""
    moved = []
    for fine_tuning in (None, FineTuning(0.5, layer_decay=0.25)):
        model = built(optimizer=optimizer(), fine_tuning=fine_tuning)
        before = values_of(model.trainable_weights)
        model.train_on_batch(X, Y)
        moved.append([now - then for now, then in zip(values_of(model.trainable_weights), before, strict=True)])
    shares = set()
    for weight, whole, some in zip(model.trainable_weights, *moved, strict=True):
        share = tiny.share_by_depth(weight, model, 0.5, 0.25)
        shares.add(share)
        np.testing.assert_allclose(some, share * whole, rtol=1e-3, atol=1e-7, err_msg=weight.path)
    assert shares == {1 / 32, 1 / 16, 1 / 8, 1 / 2, 1.0}


def test_frozen_epochs_and_names_multiply_with_depth():
    model = built(
        optimizer=keras.optimizers.SGD(0.1), fine_tuning=FineTuning(1.0, 1, layer_decay=0.5), rates={"c/kernel": 0.0}
    )
    before = values_of(model.core.trainable_weights)
    model.fit(X, Y, batch_size=8, verbose=0)
    assert tiny.equal_weights(before, model.core.trainable_weights)
    model.fit(X, Y, batch_size=8, verbose=0, initial_epoch=1, epochs=2)
    stays = [np.array_equal(*pair) for pair in zip(before, values_of(model.core.trainable_weights), strict=True)]
    assert stays == [weight.path == "c/kernel" for weight in model.core.trainable_weights]


def test_it_is_saved(tmp_path):
    model = built(optimizer=keras.optimizers.SGD(0.1), fine_tuning=FineTuning(1.0, layer_decay=0.5))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.fine_tuning == FineTuning(1.0, layer_decay=0.5)
    loaded.run_eagerly = True
    for one in (model, loaded):
        one.train_on_batch(X, Y)
    assert tiny.equal_weights(model, loaded)


def test_a_core_without_branches_is_refused():
    with pytest.raises(
        ValueError, match="`layer_decay` counts the residual branches of the core's graph, and this core"
    ):
        tiny.model().compile(keras.optimizers.SGD(0.1), fine_tuning=FineTuning(layer_decay=0.5))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_rates_by_depth_and_the_decay_of_kernels_under_replicas_and_on_jax(backend):
    assert tiny.script("rates_and_decay.py", backend=backend).endswith("done\n")
