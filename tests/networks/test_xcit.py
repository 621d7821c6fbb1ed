"""XCiT: cross-covariance attention, class attention and positions, each in NumPy, and a whole core."""

import numpy as np
import pytest
import tiny
from scipy.special import erf

from mixmo_keras import backbones
from mixmo_keras.networks.backbones.cross_covariance import (
    ClassAttention,
    CrossCovarianceAttention,
    WavePositions,
    waves,
)

RANDOM = np.random.default_rng(0)


def softmax(x):
    return np.exp(tiny.log_softmax(x))


def cross_covariance(projected, temperature):
    """Head by head: queries and keys of length 1 along the tokens, channels attend to channels."""
    query, key, value = np.split(np.asarray(projected, "float64"), 3, axis=-1)
    heads = []
    for q, k, v, tau in zip(
        *(np.split(x, len(temperature), axis=-1) for x in (query, key, value)), temperature, strict=True
    ):
        q, k = (x / np.sqrt((x**2).sum(1, keepdims=True)) for x in (q, k))
        weights = softmax(np.einsum("bnc,bnd->bcd", q, k) * tau)
        heads.append(np.einsum("bcd,bnd->bnc", weights, v))
    return np.concatenate(heads, axis=-1)


def class_attention(projected, num_heads):
    query, key, value = np.split(np.asarray(projected, "float64"), 3, axis=-1)
    heads = []
    for q, k, v in zip(*(np.split(x, num_heads, axis=-1) for x in (query[:, 0], key, value)), strict=True):
        weights = softmax(np.einsum("bc,bnc->bn", q, k) / np.sqrt(q.shape[-1]))
        heads.append(np.einsum("bn,bnc->bc", weights, v))
    return np.concatenate(heads, axis=-1)[:, None]


def test_cross_covariance_attention():
    layer = CrossCovarianceAttention(2)
    projected = RANDOM.normal(size=(2, 5, 18)).astype("float32")
    layer(projected)
    np.testing.assert_array_equal(layer.temperature, np.ones((2, 1, 1)))
    layer.temperature.assign([[[0.5]], [[3.0]]])
    np.testing.assert_allclose(layer(projected), cross_covariance(projected, [0.5, 3.0]), rtol=1e-4, atol=1e-5)


def test_class_attention():
    projected = RANDOM.normal(size=(2, 5, 18)).astype("float32")
    np.testing.assert_allclose(ClassAttention(3)(projected), class_attention(projected, 3), rtol=1e-4, atol=1e-5)


def test_waves_by_hand():
    """Of the last row of any number all sines are those of a whole turn; the longer waves are below it."""
    found = waves(3, 2)
    assert found.shape == (3, 2, 64)
    row, column = 2 * np.pi * 2 / (3 + 1e-6), 2 * np.pi * 1 / (2 + 1e-6)
    by_hand = []
    for angle in (row, column):  # rows first
        for pair in range(16):
            by_hand += [np.sin(angle / 10000 ** (2 * pair / 32)), np.cos(angle / 10000 ** (2 * pair / 32))]
    np.testing.assert_allclose(found[1, 0], by_hand, rtol=1e-5, atol=1e-6)


def test_positions_are_a_projection_of_waves():
    layer = WavePositions(bias_initializer="ones")
    x = RANDOM.normal(size=(2, 3, 2, 4)).astype("float32")
    found = layer(x)
    np.testing.assert_allclose(found, x + waves(3, 2) @ np.asarray(layer.kernel) + 1, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", [CrossCovarianceAttention(2), ClassAttention(2)])
def test_what_attention_refuses(layer):
    with pytest.raises(ValueError, match=r"`projected` must be \(B, n, 3·c\) with c a multiple of num_heads=2"):
        layer(np.ones((1, 3, 9), "float32"))


@pytest.mark.parametrize("size", ["tiny", "nano"])
def test_forward_pass(size):
    parts = backbones.xcit(size, 1, 4, (8, 8, 3), seed=0, width=8, heads=2)
    core = parts.core
    values = [weight + RANDOM.uniform(0, 0.3, weight.shape) for weight in core.get_weights()]
    core.set_weights(values)
    weights = {weight.path: np.asarray(weight, "float64") for weight in core.weights}

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * weights[f"{name}/gamma"] + weights[f"{name}/beta"]

    def batch_norm(x, name):
        gamma, beta, mean, variance = (
            weights[f"{name}_bn/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta

    def dense(x, name):
        return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]

    def gelu(x):
        return x * (1 + erf(x / np.sqrt(2))) / 2

    def windows(x, stride):
        x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        rows, columns = ((length - 3) // stride + 1 for length in x.shape[1:3])
        for i in range(3):
            for j in range(3):
                yield i, j, x[:, i : i + stride * (rows - 1) + 1 : stride, j : j + stride * (columns - 1) + 1 : stride]

    def depthwise(x, name):
        kernel = weights[f"{name}/kernel"]
        return sum(part * kernel[i, j, :, 0] for i, j, part in windows(x, 1)) + weights[f"{name}/bias"]

    def mlp(x, name):
        return dense(gelu(dense(x, f"{name}_dense1")), f"{name}_dense2")

    features = RANDOM.normal(size=(2, 4, 4, 4))
    x = gelu(batch_norm(features, "conv1"))
    x = batch_norm(sum(part @ weights["conv2/kernel"][i, j] for i, j, part in windows(x, 2)), "conv2")
    x = x + waves(2, 2).astype("float64") @ weights["position/kernel"] + weights["position/bias"]
    x = x.reshape(2, 4, 8)
    scale = [weights[f"block1_scale{number}/factors"] for number in (1, 2, 3)]
    y = cross_covariance(
        dense(norm(x, "block1_norm1"), "block1_projected"), weights["block1_attention/temperature"].ravel()
    )
    x = x + scale[0] * dense(y, "block1_attended")
    y = depthwise(norm(x, "block1_norm2").reshape(2, 2, 2, 8), "block1_conv1")
    y = depthwise(batch_norm(gelu(y), "block1"), "block1_conv2").reshape(2, 4, 8)
    x = x + scale[1] * y
    x = x + scale[2] * mlp(norm(x, "block1_norm3"), "block1")
    x = np.concatenate([np.tile(weights["class_token/token"], (2, 1, 1)), x], axis=1)
    for name in ("class_block1", "class_block2"):
        y = norm(x, f"{name}_norm1")
        y[:, :1] = dense(class_attention(dense(y, f"{name}_projected"), 2), f"{name}_attended")
        x = x + weights[f"{name}_scale1/factors"] * y
        if size == "nano":
            x[:, :1] = norm(x[:, :1], f"{name}_norm2")
        else:
            x = norm(x, f"{name}_norm2")
        token = weights[f"{name}_scale2/factors"] * mlp(x[:, :1], name)
        x = x + np.concatenate([token, x[:, 1:]], axis=1)
    expected = norm(x[:, 0], "norm")
    np.testing.assert_allclose(core(features.astype("float32")), expected, rtol=1e-3, atol=1e-4)
