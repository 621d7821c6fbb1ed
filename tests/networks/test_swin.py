"""Swin transformers: windows and relative positions place by place, and keras_hub's network with its weights in ours."""

import keras
import numpy as np
import pytest

import mixmo_keras
from mixmo_keras import backbones
from mixmo_keras.networks.backbones.swin import largest_window
from mixmo_keras.networks.backbones.windows import WindowAttention, relative_positions


def attended(projected, biases, num_heads, window, shift):
    """Attention place by place: a place sees those of its window of the rolled map that are near it in the map itself."""
    _, height, width, channels = projected.shape
    query, key, value = np.split(projected.astype("float64"), 3, axis=-1)
    out = np.zeros_like(value)
    places = [(y, x) for y in range(height) for x in range(width)]

    def window_of(place):
        rolled = [(at - by) % side for at, by, side in zip(place, shift, (height, width), strict=True)]
        return [at // side for at, side in zip(rolled, window, strict=True)]

    per_head = channels // 3 // num_heads
    for head in range(num_heads):
        part = slice(head * per_head, (head + 1) * per_head)
        for here in places:
            seen = [
                there
                for there in places
                if window_of(there) == window_of(here)
                and all(abs(a - b) < side for a, b, side in zip(here, there, window, strict=True))
            ]
            scores = []
            for there in seen:
                down, right = here[0] - there[0] + window[0] - 1, here[1] - there[1] + window[1] - 1
                bias = biases[down * (2 * window[1] - 1) + right, head]
                scores.append((query[:, *here, part] * key[:, *there, part]).sum(-1) / np.sqrt(per_head) + bias)
            weights = np.exp(scores) / np.exp(scores).sum(0)
            out[:, *here, part] = sum(
                weight[:, None] * value[:, *there, part] for weight, there in zip(weights, seen, strict=True)
            )
    return out


@pytest.mark.parametrize(
    ("size", "window", "shift"),
    [((4, 4), (2, 2), (0, 0)), ((4, 4), (2, 2), (1, 1)), ((6, 3), (3, 3), (1, 0)), ((4, 6), (2, 3), (1, 1))],
)
def test_windows_place_by_place(size, window, shift):
    random = np.random.default_rng(0)
    layer = WindowAttention(2, window, shift)
    projected = random.normal(size=(2, *size, 3 * 4)).astype("float32")
    layer(projected)
    layer.biases.assign(random.normal(size=layer.biases.shape))
    expected = attended(projected, np.asarray(layer.biases), 2, window, shift)
    np.testing.assert_allclose(layer(projected), expected, rtol=1e-4, atol=1e-5)


def test_relative_positions_by_hand():
    """A window of 1×3: from a place two to the right of another down to two to its left, of 3·1 rows by 5 columns."""
    np.testing.assert_array_equal(relative_positions((1, 3)), [[2, 1, 0], [3, 2, 1], [4, 3, 2]])
    numbers = relative_positions((2, 2))  # the same number wherever the relative position is the same
    np.testing.assert_array_equal(numbers, [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]])


@pytest.mark.parametrize(("length", "window"), [(56, 7), (14, 7), (8, 4), (24, 6), (4, 4), (1, 1), (3, 3), (10, 5)])
def test_windows_adapt_to_small_maps(length, window):
    assert largest_window(length, 7) == window


def test_windows_of_a_small_network():
    core = backbones.swin("tiny", (32, 32, 3), depths=(2, 2, 2, 2), width=4, heads=(1, 1, 1, 1)).core
    windows = [(layer.window, layer.shift) for layer in core.layers if isinstance(layer, WindowAttention)]
    none = (0, 0)
    assert windows[:4] == [((4, 4), none), ((4, 4), (2, 2)), ((4, 4), none), ((4, 4), none)]
    assert windows[4:] == [((2, 2), none), ((2, 2), none), ((1, 1), none), ((1, 1), none)]


def test_what_windows_refuse():
    with pytest.raises(ValueError, match=r"`shift` must be an integer from 0 to 1, got 2"):
        WindowAttention(2, (2, 2), (2, 0))
    with pytest.raises(ValueError, match=r"`projected` must be \(B, h, w, 3·c\) whose h and w are multiples"):
        WindowAttention(2, (2, 2))(np.ones((1, 3, 4, 12), "float32"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:keras.src.layers.layer")  # what its constructor causes
def test_keras_hubs_network_with_its_weights():
    keras_hub = pytest.importorskip("keras_hub")
    sizes = dict(depths=(2, 2, 1, 1), num_heads=(1, 2, 2, 4))
    theirs = keras_hub.models.SwinTransformerBackbone((56, 56, 3), 4, window_size=7, patch_size=1, **sizes)
    options = dict(patch=1, depths=sizes["depths"], width=4, heads=sizes["num_heads"])
    parts = backbones.swin("tiny", (56, 56, 3), **options)
    random = np.random.default_rng(0)
    theirs.set_weights([weight + random.normal(0, 0.1, weight.shape) for weight in theirs.get_weights()])

    core = parts.core.get_layer
    embedding = theirs.get_layer("patch_embedding")
    parts.encoder.get_layer("patches").set_weights(embedding.proj.get_weights())
    core("stem_norm").set_weights(embedding.norm.get_weights())
    for number, stage in enumerate(theirs.stages):
        for index, block in enumerate(stage.blocks):
            name, attention = f"stage{number + 1}_block{index + 1}", block.attn
            pairs = dict(norm1=block.norm1, projected=attention.qkv, attended=attention.proj, norm2=block.norm2)
            for part, layer in (pairs | dict(dense1=block.mlp.fc1, dense2=block.mlp.fc2)).items():
                core(f"{name}_{part}").set_weights(layer.get_weights())
            core(f"{name}_attention").biases.assign(attention.relative_position_bias_table)
        if stage.downsample is not None:
            core(f"stage{number + 2}_norm").set_weights(stage.downsample.norm.get_weights())
            core(f"stage{number + 2}_dense").set_weights(stage.downsample.reduction.get_weights())
    core("norm").set_weights(theirs.norm.get_weights())
    images = random.normal(size=(2, 56, 56, 3)).astype("float32")
    expected = keras.ops.mean(theirs(images, training=False), axis=1)
    np.testing.assert_allclose(parts.core(parts.encoder(images)), expected, rtol=1e-5, atol=1e-5)
    split = backbones.split(theirs)  # or as it is
    np.testing.assert_allclose(split.core(split.encoder(images)), expected, rtol=1e-5, atol=1e-5)
    assert isinstance(mixmo_keras.CoSub(theirs, num_classes=3, drop_path=0, seed=0), mixmo_keras.MixMo)
