"""Fused batch norm and GELU: Keras' results, gradients and statistics; GELU by hand."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from mixmo_keras import keras_internals
from mixmo_keras.networks.fused_layers import BatchNormalization, FusedGELU

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(1, 2, (4, 3, 5, 2)).astype("float32")
UPSTREAM = RANDOM.normal(0, 1, X.shape).astype("float32")


def step(layer, x=X):
    """Output, gradients of the input and of the weights, and all weights after one pass in training."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
        value = tf.reduce_sum(tf.cast(y, "float32") * UPSTREAM)
    gradients = tape.gradient(value, [x, *[weight.value for weight in layer.trainable_weights]])
    return [np.asarray(tf.cast(part, "float32")) for part in (y, *gradients, *[w.value for w in layer.weights])]


def built(kind, **options):
    layer = kind(momentum=0.6, epsilon=1e-5, **options)
    layer.build(X.shape)
    layer.set_weights([np.array([1.5, 0.5], "float32") + number for number in range(len(layer.weights))])
    return layer


VARIANTS = pytest.mark.parametrize("options", [{}, {"scale": False}, {"scale": False, "center": False}])


@VARIANTS
def test_batch_norm_is_keras_to_the_last_bit_in_float32(options):
    ours, theirs = (step(built(kind, **options)) for kind in (BatchNormalization, keras.layers.BatchNormalization))
    for part, expected in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(part, expected)


@VARIANTS
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_batch_norm_in_half_precision_is_that_in_float32_but_for_rounding(options, dtype):
    x = np.asarray(tf.cast(tf.cast(X, dtype), "float32"))
    layer, theirs = (
        built(BatchNormalization, dtype=f"mixed_{dtype}", **options),
        built(keras.layers.BatchNormalization, **options),
    )
    parts, expected = step(layer, tf.cast(x, dtype)), step(theirs, x)
    assert layer(x, training=True).dtype == dtype
    for number, (part, one) in enumerate(zip(parts, expected, strict=True)):
        is_statistic = number >= len(parts) - 2
        np.testing.assert_allclose(part, one, rtol=1e-4 if is_statistic else 0.02, atol=1e-4 if is_statistic else 0.03)


@pytest.mark.parametrize("frozen", [True, False])
def test_batch_norm_uses_its_averages_at_inference_and_where_it_is_frozen(frozen):
    layer, theirs = built(BatchNormalization), built(keras.layers.BatchNormalization)
    before = layer.get_weights()
    with keras_internals.seen_as_frozen([layer] if frozen else []):
        outputs = layer(X, training=frozen)
    np.testing.assert_array_equal(outputs, theirs(X, training=False))
    for weight, kept in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, kept)


def test_gelu_by_hand_and_its_slope():
    # x·Φ(x) at 0, 1 and −2: Φ(1) = 0.841345, Φ(−2) = 0.022750
    layer, x = FusedGELU(), tf.constant([0.0, 1.0, -2.0])
    for training in (False, True):
        np.testing.assert_allclose(layer(x, training=training), [0, 0.841345, -0.045500], atol=1e-6)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
    density = [math.exp(-value * value / 2) / math.sqrt(2 * math.pi) for value in (0, 1, -2)]
    expected = [0.5, 0.841345 + density[1], 0.022750 - 2 * density[2]]
    np.testing.assert_allclose(tape.gradient(y, x), expected, atol=1e-6)


def test_gelu_in_half_precision_rounds_once():
    x = tf.cast(X, "bfloat16")
    expected = tf.cast(keras.activations.gelu(tf.cast(x, "float32"), approximate=False), "bfloat16")
    for training in (False, True):
        outputs = FusedGELU(dtype="mixed_bfloat16")(x, training=training)
        np.testing.assert_allclose(tf.cast(outputs, "float32"), tf.cast(expected, "float32"), rtol=2**-7)
