"""Sharpness-aware minimisation: its formula by hand, and a step against two gradients written out."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from gradients import gradients
from keras import layers

import mixmo_keras
from mixmo_keras import SAM, StochasticDepth

X, Y = tiny.data()
RATE, L2 = 0.1, 0.01


def start(sharpness, backbone=None, **options):
    """A model whose weights are all away from zero; plain SGD."""
    compiled = options.pop("compiled", {})
    model = tiny.model(backbone=backbone, l2=L2, **options)
    random = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(weight + random.uniform(0.1, 0.3, weight.shape))
    model.compile(keras.optimizers.SGD(RATE, **compiled), sharpness=sharpness, run_eagerly=True)
    return model


def values(variables):
    return [np.array(variable) for variable in variables]


def uphill(sharpness, weights, slopes):
    """w + ε in NumPy, all weights laid into one vector."""
    flat, slope = (np.concatenate([part.ravel() for part in parts]).astype("float64") for parts in (weights, slopes))
    unit = np.abs(flat) if sharpness.adaptive else np.ones_like(flat)
    moved = flat + sharpness.radius * unit**2 * slope / np.linalg.norm(unit * slope)
    ends = np.cumsum([weight.size for weight in weights])[:-1]
    return [part.reshape(weight.shape) for part, weight in zip(np.split(moved, ends), weights, strict=True)]


def slopes(model, images=X, labels=Y, step=0):
    """∇(loss + L2), without a trace in the model."""
    kept = values(model.variables)
    found, _ = gradients(model, images, labels, step)
    for variable, value in zip(model.variables, kept, strict=True):
        variable.assign(value)
    return [g + 2 * L2 * np.array(w) for g, w in zip(found, model.trainable_weights, strict=True)]


def slopes_uphill(model, sharpness, *data):
    """The gradient of a SAM step."""
    weights = values(model.trainable_weights)
    for variable, value in zip(model.trainable_weights, uphill(sharpness, weights, slopes(model, *data)), strict=True):
        variable.assign(value)
    found = slopes(model, *data)
    for variable, value in zip(model.trainable_weights, weights, strict=True):
        variable.assign(value)
    return found


def assert_moved(model, before, *steps):
    for weight, start, *gradient in zip(model.trainable_weights, before, *steps, strict=True):
        np.testing.assert_allclose(
            weight, start - RATE * np.mean(gradient, 0), rtol=1e-4, atol=1e-6, err_msg=weight.path
        )


def test_uphill_by_hand():
    moved = SAM(0.5).uphill([np.float32([3.0]), np.float32([[4.0]])], [np.float32([0.6]), np.float32([[0.8]])])
    np.testing.assert_allclose(moved[0], [3.3], rtol=1e-6)
    np.testing.assert_allclose(moved[1], [[4.4]], rtol=1e-6)
    # in units of |w|: |w|·g = (3, 4), of norm 5, so that ε = 0.5·(1·3, 2·4)/5
    (moved,) = SAM(0.5, adaptive=True).uphill([np.float32([-1.0, 2.0])], [np.float32([3.0, 2.0])])
    np.testing.assert_allclose(moved, [-1 + 0.3, 2 + 0.8], rtol=1e-6)


def test_a_flat_place_has_no_uphill_and_loss_scaling_no_meaning():
    weights = [np.float32([1.0, 2.0]), np.float32([5.0])]
    flat = SAM().uphill(weights, [np.zeros(2, "float32"), None])
    np.testing.assert_array_equal(flat[0], weights[0])
    assert flat[1] is weights[1]
    slope = [np.float32([0.3, -2.0]), np.float32([1.0])]
    once, scaled = (SAM(0.1).uphill(weights, [factor * g for g in slope]) for factor in (1.0, 2.0**15))
    np.testing.assert_allclose(np.concatenate(once), np.concatenate(scaled), rtol=1e-6)


@pytest.mark.parametrize("num_members", [1, 2])
@pytest.mark.parametrize("sharpness", [SAM(0.5), SAM(2.0, adaptive=True)], ids=["SAM", "ASAM"])
def test_a_step_goes_down_the_gradient_uphill_on_the_same_draw(sharpness, num_members):
    model = start(sharpness, num_members=num_members)
    before, plain, expected = values(model.trainable_weights), slopes(model), slopes_uphill(model, sharpness)
    assert max(np.abs(a - b).max() for a, b in zip(plain, expected, strict=True)) > 1e-3  # it is another one
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    assert_moved(model, before, expected)
    assert int(model.optimizer.iterations) == int(model.step_counter) == 1


def test_the_first_pass_alone_is_seen():
    """By batch norm's averages, the loss and the metrics: those of the weights, not of what lies uphill."""
    plain, sharp = start(None), start(SAM(0.5))
    seen = [model.fit(X, Y, batch_size=8, shuffle=False, verbose=0).history for model in (plain, sharp)]
    assert seen[0] == seen[1]
    assert not tiny.equal_weights(values(plain.trainable_weights), values(sharp.trainable_weights))
    statistics = [values(model.core.non_trainable_weights) for model in (plain, sharp)]
    assert tiny.equal_weights(*statistics)
    assert not np.allclose(statistics[0][0], 0)


def test_accumulated_gradients_are_each_uphill():
    sharpness = SAM(0.5)
    model = start(sharpness, compiled=dict(gradient_accumulation_steps=2))
    before = values(model.trainable_weights)
    halves = [slopes_uphill(model, sharpness, X[4 * step :][:4], Y[4 * step :][:4], step) for step in (0, 1)]
    model.fit(tf.data.Dataset.from_tensor_slices((X, Y)).batch(4), verbose=0)
    assert_moved(model, before, *halves)


def test_what_is_clipped_is_the_gradient_uphill():
    sharpness = SAM(0.5)
    model = start(sharpness, compiled=dict(global_clipnorm=0.1))
    before, expected = values(model.trainable_weights), slopes_uphill(model, sharpness)
    norm = np.sqrt(sum(np.square(gradient).sum() for gradient in expected))
    assert norm > 0.1
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    assert_moved(model, before, [gradient * 0.1 / norm for gradient in expected])


class Watching(layers.Layer):
    """Passes on what it sees, and keeps it."""

    seen: list

    def call(self, x):
        if tf.executing_eagerly():  # not while its shape is asked for
            type(self).seen.append(np.array(x))
        return x


@pytest.mark.parametrize("drop", [lambda: layers.Dropout(0.5, seed=1), lambda: StochasticDepth(0.5)])
def test_both_passes_drop_the_same(drop):
    Watching.seen = []
    images, features = keras.Input(tiny.SHAPE), keras.Input((8, 8, 4))
    dropped = Watching()(drop()(keras.layers.Lambda(lambda x: 0 * x + 1.0)(features)))
    core = keras.Model(features, layers.Dense(6)(layers.GlobalAveragePooling2D()(layers.add([dropped, features]))))
    encoder = keras.Model(images, layers.Conv2D(4, 3, padding="same")(images))
    model = start(SAM(0.5), mixmo_keras.backbones.Backbone(encoder, core))
    Watching.seen = []
    model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    first, second, next_first, next_second = Watching.seen
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(next_first, next_second)
    assert 0 < (first == 0).mean() < 1
    assert not np.array_equal(first, next_first)


def test_it_is_saved_and_left_out_anew(tmp_path):
    model = start(SAM(0.1, adaptive=True))
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    assert copy.sharpness == SAM(0.1, adaptive=True)
    copy.compile()
    assert copy.sharpness is None  # as every argument of `compile` that is left out
    for same in (model, keras.models.load_model(tmp_path / "model.keras")):
        same.compile(keras.optimizers.SGD(RATE), sharpness=same.sharpness, run_eagerly=True)
        same.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    assert tiny.equal_weights(model, same)
