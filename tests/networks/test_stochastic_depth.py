"""Stochastic depth: which rows keep a branch, and what the mean is."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from mixmo_keras import StochasticDepth, backbones, seeds
from mixmo_keras.networks.stochastic_depth import AddRows, DropPath, TakeRows
from mixmo_keras.seeds import StepSeed

RANDOM = np.random.default_rng(0)


def test_drop_path_as_an_object():
    assert DropPath.of(0.2) == DropPath.of(np.float64(0.2)) == DropPath(0.2)
    assert DropPath.of(DropPath(0.2, ramp=True)) == DropPath(0.2, ramp=True)
    assert DropPath(0.3).rates(3) == [0.3, 0.3, 0.3]
    assert DropPath(0.3, ramp=True).rates(3) == pytest.approx([0.1, 0.2, 0.3])
    drop_path = DropPath(0.3, efficient=True)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(drop_path)))
    assert keras.saving.deserialize_keras_object(config) == drop_path


def test_options_without_a_rate():
    with pytest.raises(ValueError, match=r"`ramp` \(`drop_path_ramp`\) has no meaning without a rate of `drop_path`"):
        DropPath(ramp=True)
    with pytest.raises(ValueError, match=r"`efficient` \(`efficient_drop_path`\) has no meaning without a rate"):
        DropPath(efficient=True)
    with pytest.raises(ValueError, match="`efficient_drop_path` must be True or False, got 1"):
        DropPath(0.2, efficient=1)


def draw(layer, branch, step=0):
    with seeds.drawing(StepSeed(0, step)):
        return ops.convert_to_numpy(layer(branch, training=True))


def test_rows_are_left_out_whole_and_the_mean_stays():
    rate, rows = 0.3, 20_000
    layer = StochasticDepth(rate)
    branch = np.broadcast_to(np.arange(1, 7, dtype="float32").reshape(1, 2, 3), (rows, 2, 3))
    out = draw(layer, branch)
    kept = out[:, 0, 0] > 0
    np.testing.assert_allclose(out, kept[:, None, None] * branch / 0.7, rtol=1e-6)
    deviation = np.sqrt(rate * (1 - rate) / rows)
    assert abs(kept.mean() - 0.7) < 4 * deviation
    np.testing.assert_allclose(out.mean(0), branch[0], rtol=4 * deviation / 0.7)
    assert np.array_equal(draw(layer, branch), out)
    assert not np.array_equal(draw(layer, branch, step=1), out)
    assert np.array_equal(layer(branch), branch)  # inference
    again = StochasticDepth.from_config(layer.get_config())
    assert again.rate == rate


def test_outside_a_step_nothing_is_drawn():
    with pytest.raises(RuntimeError, match="A layer draws random numbers outside a training step"):
        StochasticDepth(0.5)(np.ones((2, 3), "float32"), training=True)


BRANCHES = {
    "wide_resnet": (dict(depth=16, width=1), 6),
    "preact_resnet": (dict(depth=18, width=1), 8),
    "vit": (dict(size="tiny", patch=4, depth=2), 4),
    "resnet": (dict(depth=50), 16),
}


@pytest.mark.parametrize(
    "name",
    ["wide_resnet", "vit", *(pytest.param(name, marks=pytest.mark.slow) for name in ("preact_resnet", "resnet"))],
)
def test_rates_of_the_blocks(name):
    build = getattr(backbones, name)
    size, blocks = BRANCHES[name]

    def rates(**options):
        core = build(**size, input_shape=(8, 8, 3), **options).core
        return [layer.rate for layer in core.layers if isinstance(layer, StochasticDepth)]

    assert rates() == []
    assert rates(drop_path=DropPath(0.4, ramp=True)) == pytest.approx([0.4 * (i + 1) / blocks for i in range(blocks)])
    efficient = build(**size, input_shape=(8, 8, 3), drop_path=DropPath(0.4, ramp=True, efficient=True)).core
    taken = [layer.rate for layer in efficient.layers if isinstance(layer, TakeRows)]
    assert taken == pytest.approx([0.4 * (i + 1) / blocks for i in range(blocks)])


# -- efficient stochastic depth ----------------------------------------------------------------------------------------


def take(layer, x, step=0):
    with seeds.drawing(StepSeed(0, step)):
        return layer(x, training=True)


@pytest.mark.parametrize(("rate", "rows", "kept"), [(0.3, 10, 7), (0.5, 5, 2), (0.9, 4, 1), (0.2, 1, 1), (0.0, 3, 3)])
def test_as_many_rows_every_time(rate, rows, kept):
    x = np.arange(rows * 6, dtype="float32").reshape(rows, 2, 3)
    taken, indices = take(TakeRows(rate), x)
    assert taken.shape == (kept, 2, 3)
    assert len(set(np.asarray(indices))) == kept
    np.testing.assert_array_equal(taken, x[np.asarray(indices)])
    out = AddRows()(10 * taken, x, indices, training=True)
    expected = x.copy()
    expected[np.asarray(indices)] += 10 * x[np.asarray(indices)] * rows / kept
    np.testing.assert_allclose(out, expected, rtol=1e-6)


def test_rows_taken_keep_the_mean():
    x = np.ones((8, 1), "float32")
    layer, steps = TakeRows(0.4), 4000
    indices = tf.function(lambda: tf.map_fn(lambda step: take(layer, x, step)[1], tf.range(steps)))()
    chosen = np.array([np.bincount(row, minlength=8) for row in indices.numpy()])
    assert set(chosen.sum(1)) == {4}  # ⌊8·0.6⌋
    deviation = np.sqrt(0.5 * 0.5 / steps)
    assert np.abs(chosen.mean(0) - 0.5).max() < 4 * deviation  # times B/k = 2: the branch, in the mean
    np.testing.assert_array_equal(layer(x)[0], x)  # inference: all rows
    np.testing.assert_array_equal(AddRows()(x, x, layer(x)[1]), 2 * x)
    assert TakeRows.from_config(layer.get_config()).rate == 0.4


@pytest.mark.parametrize(  # deep networks are made of the same layers
    "name",
    ["wide_resnet", "vit", *(pytest.param(name, marks=pytest.mark.slow) for name in ("preact_resnet", "resnet"))],
)
def test_efficient_networks_are_the_same_at_inference(name):
    build = getattr(backbones, name)
    options = {**BRANCHES[name][0], "input_shape": (8, 8, 3), "seed": 0}
    plain, efficient = build(**options), build(**options, drop_path=DropPath(0.5, efficient=True))
    weights = [RANDOM.normal(0.2, 0.1, weight.shape) ** 2 for weight in plain.core.get_weights()]
    plain.core.set_weights(weights)
    efficient.core.set_weights(weights)
    x = RANDOM.normal(size=(3, *plain.core.input_shape[1:])).astype("float32")
    np.testing.assert_allclose(efficient.core(x), plain.core(x), rtol=1e-5)
