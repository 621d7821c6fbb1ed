"""RegNetY: the widths of the paper's models, and a network in NumPy."""

import numpy as np
import pytest

from mixmo_keras import backbones
from mixmo_keras.networks.backbones.regnet import FLOPS, stages

# of each stage its width and its number of blocks, as the paper and its code's model zoo list them
PUBLISHED = {
    "200mf": ([24, 56, 152, 368], [1, 1, 4, 7]),
    "400mf": ([48, 104, 208, 440], [1, 3, 6, 6]),
    "1_6gf": ([48, 120, 336, 888], [2, 6, 17, 2]),
    "3_2gf": ([72, 216, 576, 1512], [2, 5, 13, 1]),
    "4gf": ([128, 192, 512, 1088], [2, 6, 12, 2]),
    "6_4gf": ([144, 288, 576, 1296], [2, 7, 14, 2]),
    "12gf": ([224, 448, 896, 2240], [2, 5, 11, 1]),
    "16gf": ([224, 448, 1232, 3024], [2, 4, 11, 1]),
    "32gf": ([232, 696, 1392, 3712], [2, 5, 12, 1]),
}


@pytest.mark.parametrize("flops", PUBLISHED)
def test_published_widths(flops):
    widths, depths, group_widths = stages(*FLOPS[flops])
    assert (widths, depths) == PUBLISHED[flops]
    assert group_widths == [min(FLOPS[flops][-1], width) for width in widths]


@pytest.mark.parametrize(
    "numbers", [*FLOPS.values(), (16, 10.5, 1.9, 7, 12), (8, 0.0, 2.0, 3, 8), (24, 5.0, 3.0, 4, 100)]
)
def test_widths_block_by_block(numbers):
    w0, wa, wm, depth, group_width = numbers
    by_block = []
    for index in range(depth):
        line = w0 + wa * index
        powers = [w0 * wm**k for k in range(12)]
        nearest = min(powers, key=lambda power: abs(np.log(power / line)))  # the nearest exponent
        width = 8 * round(nearest / 8)
        by_block.append(max(round(width / min(group_width, width)), 1) * min(group_width, width))
    widths, depths, _ = stages(*numbers)
    assert np.repeat(widths, depths).tolist() == by_block


def test_by_hand():
    """w0 = 8, wa = 6, wm = 2: the line 8, 14, 20, 26 is nearest to 8·2^0, 8·2^1, 8·2^1 and 8·2^2."""
    assert stages(8, 6, 2, 4, 8) == ([8, 16, 32], [1, 2, 1], [8, 8, 8])


def convolution(x, kernel, stride, groups=1):
    """Padded on both sides alike."""
    size = kernel.shape[0]
    x = np.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    height, width = ((length - size) // stride + 1 for length in x.shape[1:3])
    inputs, outputs = kernel.shape[2], kernel.shape[3] // groups
    parts = []
    for group in range(groups):
        own, weights = x[..., group * inputs :][..., :inputs], kernel[..., group * outputs :][..., :outputs]
        parts.append(
            sum(
                own[:, i : i + stride * (height - 1) + 1 : stride, j : j + stride * (width - 1) + 1 : stride]
                @ weights[i, j]
                for i in range(size)
                for j in range(size)
            )
        )
    return np.concatenate(parts, axis=-1)


def test_forward_pass():
    core = backbones.regnet(8, 6, 2.0, 4, 8, (8, 8, 3), seed=0).core
    random = np.random.default_rng(0)
    core.set_weights(
        [weight + random.uniform(0.1, 0.5, weight.shape) * (weight.ndim == 1) for weight in core.get_weights()]
    )
    weights = {weight.path: np.asarray(weight, "float64") for weight in core.weights}

    def norm(x, name):
        gamma, beta, mean, variance = (
            weights[f"{name}_bn/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta

    def dense(x, name):
        return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]

    features = random.normal(size=(2, 4, 4, 32))
    x = np.maximum(norm(features, "stem"), 0)
    for stage, (width, blocks) in enumerate(((8, 1), (16, 2), (32, 1)), start=1):
        for block in range(1, blocks + 1):
            name, stride = f"stage{stage}_block{block}", 2 if block == 1 else 1
            y = np.maximum(norm(convolution(x, weights[f"{name}_conv1/kernel"], 1), f"{name}_1"), 0)
            y = np.maximum(norm(convolution(y, weights[f"{name}_conv2/kernel"], stride, width // 8), f"{name}_2"), 0)
            squeezed = np.maximum(dense(y.mean((1, 2), keepdims=True), f"{name}_excite1"), 0)
            assert squeezed.shape[-1] == x.shape[-1] // 4  # of the block's input
            y = y / (1 + np.exp(-dense(squeezed, f"{name}_excite2")))
            y = norm(convolution(y, weights[f"{name}_conv3/kernel"], 1), f"{name}_3")
            if f"{name}_shortcut/kernel" in weights:
                x = norm(convolution(x, weights[f"{name}_shortcut/kernel"], stride), f"{name}_shortcut")
            x = np.maximum(x + y, 0)
    np.testing.assert_allclose(core(features.astype("float32")), x.mean((1, 2)), rtol=1e-4, atol=1e-4)


def test_initial_weights():
    core = backbones.regnet(64, 0, 2.0, 1, 16, (8, 8, 3), seed=0).core
    for name, fan_out in (("conv2", 9 * 64), ("conv3", 64)):
        kernel = core.get_layer(f"stage1_block1_{name}").kernel
        assert np.std(kernel) == pytest.approx(np.sqrt(2 / fan_out), rel=0.05)
