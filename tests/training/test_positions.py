"""Positions interpolated for another image size: by hand, and in networks that begin at another size."""

import keras
import numpy as np
import pytest
import tiny

from mixmo_keras import CoSub
from mixmo_keras.networks import backbones
from mixmo_keras.training import checkpoints
from mixmo_keras.training.positions import resized


def test_bicubic_interpolation_by_hand():
    """PyTorch's, a = −3/4: a quarter of the way the four neighbours weigh −.1055, .2617, .8789, −.0352 or the reverse."""
    edge = np.array([[0.0], [1.0]], "float32")
    expected = [-0.10546875, 0.2265625, 0.7734375, 1.10546875]
    np.testing.assert_allclose(resized(edge, (1, 2), (1, 4))[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(resized(edge, (2, 1), (4, 1))[:, 0], expected, rtol=1e-6)
    both = resized(np.outer(edge, edge).reshape(4, 1), (2, 2), (4, 4))
    np.testing.assert_allclose(both.reshape(4, 4), np.outer(expected, expected), rtol=1e-5)


def test_interpolation_keeps_constants_and_the_same_grid():
    positions = np.random.default_rng(0).normal(size=(30, 3)).astype("float32")
    np.testing.assert_allclose(resized(positions, (5, 6), (5, 6)), positions, atol=1e-6)
    np.testing.assert_allclose(resized(np.ones((6, 2), "float32"), (2, 3), (4, 7)), 1, atol=1e-6)


def network(kind: str, size: int):
    shape = (size, size, 3)
    if kind == "tiny":
        return tiny.model(backbone=tiny.backbone(shape))
    if kind == "vit":
        backbone = backbones.vit("tiny", 4, shape, seed=size, depth=1, drop_path=0.1, pool="token")
    else:
        options = dict(patch=1, window=5, depths=(1, 1, 1, 1), width=4, heads=(1, 1, 1, 1))
        backbone = backbones.swin("tiny", shape, seed=size, drop_path=0.1, **options)
    return CoSub(backbone, num_classes=3, seed=size, drop_path=0.0)


@pytest.mark.parametrize(
    ("kind", "before", "after"), [("vit", 8, 12), pytest.param("swin", 8, 16, marks=pytest.mark.slow), ("tiny", 8, 12)]
)
def test_a_network_begins_at_another_size(kind, before, after, tmp_path):
    small, large = network(kind, before), network(kind, after)
    small.save(tmp_path / "last.keras")
    checkpoints.warm_start(large, tmp_path / "last.keras")
    names = []
    for one, other in zip(small.trainable_weights, large.trainable_weights, strict=True):
        if one.shape == other.shape:
            np.testing.assert_array_equal(np.array(one), np.array(other))
        else:
            names.append(one.name)
            sides = [int(np.sqrt(weight.shape[0])) for weight in (one, other)]
            grids = [(side, side) for side in sides]
            np.testing.assert_allclose(np.array(other), resized(np.array(one), *grids), atol=1e-6)
    assert set(names) == {"vit": {"positions"}, "swin": {"biases"}, "tiny": set()}[kind]


def test_layers_for_one_size_alone_are_refused(tmp_path):
    def flattened(size):
        images, features = keras.Input((size, size, 3)), keras.Input((size, size, 2))
        encoder = keras.Model(images, keras.layers.Conv2D(2, 1)(images))
        core = keras.Model(features, keras.layers.Dense(3)(keras.layers.Flatten()(features)))
        return tiny.model(backbone=backbones.Backbone(encoder, core))

    flattened(8).save(tmp_path / "last.keras")
    with pytest.raises(
        ValueError, match=r"it has no model/\d+/kernel of shape \(288, 3\).* only learned positions are"
    ):
        checkpoints.warm_start(flattened(12), tmp_path / "last.keras")


def test_positions_of_a_checkpoint_and_other_shapes_are_refused(tmp_path):
    small = network("vit", 8)
    small.build_optimizer()
    kept = checkpoints.Checkpoints(tmp_path)
    kept.set_model(small)
    kept.save(checkpoints.Position(1))
    message = (
        r"it has no model/.*positions of shape \(9, 192\). .* only learned positions are interpolated, from a .keras"
    )
    with pytest.raises(ValueError, match=message):
        checkpoints.warm_start(network("vit", 12), tmp_path / "epoch-0001-step-000000.npz")
