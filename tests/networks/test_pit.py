"""PiT: pooling in NumPy, sizes of maps, and which images it takes."""

import keras
import numpy as np
import pytest

from mixmo_keras import backbones
from mixmo_keras.networks.backbones.pit import _pool
from mixmo_keras.networks.backbones.transformer import PaperStart


@pytest.mark.parametrize("size", [(5, 5), (4, 6), (1, 1)])
def test_pooling(size):
    height, width, channels = *size, 3
    tokens = keras.Input((1 + height * width, channels))
    pool = keras.Model(tokens, _pool(tokens, size, PaperStart(0), "pool"))
    random = np.random.default_rng(0)
    x = random.normal(size=(2, 1 + height * width, channels)).astype("float32")
    kernel, bias = pool.get_layer("pool_conv").get_weights()
    assert kernel.shape == (3, 3, channels, 2)
    maps = np.pad(x[:, 1:].reshape(2, height, width, channels), ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows, columns = (height + 1) // 2, (width + 1) // 2
    places = np.zeros((2, rows, columns, 2 * channels))
    for row in range(rows):
        for column in range(columns):
            window = maps[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
            for channel in range(channels):  # each makes two, side by side
                for copy in (0, 1):
                    product = (window[..., channel] * kernel[..., channel, copy]).sum((1, 2))
                    places[:, row, column, 2 * channel + copy] = product + bias[2 * channel + copy]
    dense, offset = pool.get_layer("pool_dense").get_weights()
    expected = np.concatenate([x[:, :1] @ dense + offset, places.reshape(2, -1, 2 * channels)], axis=1)
    np.testing.assert_allclose(pool(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_maps_of_the_papers_sizes():
    for size, maps in (("base", (31, 16, 8)), ("small", (27, 14, 7))):
        parts = backbones.pit(size, depths=(1, 1, 1))
        assert parts.encoder.output_shape[1:3] == (maps[0], maps[0])
        names = ("stage1_block1_attention", "stage2_block1_attention", "stage3_block1_attention")
        lengths = [parts.core.get_layer(name).output.shape[1] for name in names]
        assert lengths == [1 + side * side for side in maps]


def test_the_answer_is_the_class_tokens():
    """Positions matter, and only what the class token saw."""
    parts = backbones.pit(
        "tiny", (16, 16, 3), seed=0, patch=4, stride=2, depths=(1, 1, 1), head_width=4, heads=(1, 2, 4)
    )
    features = np.random.default_rng(0).normal(size=(1, 7, 7, 4)).astype("float32")
    answer = np.asarray(parts.core(features))
    assert np.abs(answer - parts.core(features[:, ::-1])).max() > 1e-5
    assert parts.core.get_layer("class_token").output.shape[1] == 50
