"""RegNetY (Radosavovic et al., 2020, "Designing network design spaces"): widths that follow from a line of four numbers."""

import keras
import numpy as np
from keras import layers

from mixmo_keras.common import arguments
from mixmo_keras.networks.backbones.backbone import Backbone
from mixmo_keras.networks.backbones.parts import Branches, Parts
from mixmo_keras.networks.stochastic_depth import DropPath

# w0, wa, wm, depth, group width: the paper's RegNetY models, from configs/dds_baselines/regnety of facebookresearch/pycls
FLOPS = {
    "200mf": (24, 36.44, 2.49, 13, 8),
    "400mf": (48, 27.89, 2.09, 16, 8),
    "600mf": (48, 32.54, 2.32, 15, 16),
    "800mf": (56, 38.84, 2.4, 14, 16),
    "1_6gf": (48, 20.71, 2.65, 27, 24),
    "3_2gf": (80, 42.63, 2.66, 21, 24),
    "4gf": (96, 31.41, 2.24, 22, 64),
    "6_4gf": (112, 33.22, 2.27, 25, 72),
    "8gf": (192, 76.82, 2.19, 17, 56),
    "12gf": (168, 73.36, 2.37, 19, 112),
    "16gf": (200, 106.23, 2.48, 18, 112),
    "32gf": (232, 115.89, 2.53, 20, 232),
}
STEM = 32  # filters
_STEP = 8  # widths are multiples of it
_SQUEEZE = 0.25


def stages(w0: int, wa: float, wm: float, depth: int, group_width: int) -> tuple[list[int], list[int], list[int]]:
    """Returns the stages of a RegNet (section 3.3 of the paper): channels, numbers of blocks, channels of a group.

    Block j has the width w0 + wa·j, rounded to the nearest w0·wm^k with an integer k, and that to a multiple of 8. Blocks of
    one width are a stage; its width is rounded to a multiple of the group width, which is no more than the width.

    Arguments as in `regnet`.
    """
    w0 = arguments.integer("w0", w0, least=_STEP)
    if w0 % _STEP:
        raise ValueError(f"`w0` must be a multiple of {_STEP}, got {w0}.")
    wa = arguments.number("wa", wa, least=0)
    wm = arguments.number("wm", wm, above=1)
    depth = arguments.integer("depth", depth, least=1)
    group_width = arguments.integer("group_width", group_width, least=1)
    exponents = np.round(np.log((w0 + wa * np.arange(depth)) / w0) / np.log(wm))
    by_block = (np.round(w0 * wm**exponents / _STEP) * _STEP).astype(int)
    widths, depths = np.unique(by_block, return_counts=True)
    group_widths = np.minimum(group_width, widths)
    widths = np.maximum(np.round(widths / group_widths), 1).astype(int) * group_widths
    return widths.tolist(), depths.tolist(), group_widths.tolist()


def regnety(
    flops: str = "4gf",
    input_shape: tuple[int, int, int] = (224, 224, 3),
    seed: int | None = None,
    drop_path: DropPath | float = 0.0,
) -> Backbone:
    """RegNetY-flops, one of the paper's models: `regnet` with its numbers.

    Args:
        flops: Multiply-adds at 224 pixels: `"200mf"`, `"400mf"`, `"600mf"`, `"800mf"`, `"1_6gf"`, `"3_2gf"`, `"4gf"`,
            `"6_4gf"`, `"8gf"`, `"12gf"`, `"16gf"` or `"32gf"`.
        input_shape: (H, W, C) of the images. Defaults to ImageNet's.
        seed: Integer from which the initial weights follow. Defaults to random ones.
        drop_path: Stochastic depth in the blocks, a rate or a `DropPath`. Defaults to none.
    """
    return regnet(*FLOPS[arguments.choice("flops", flops, FLOPS)], input_shape, seed, drop_path)


def regnet(
    w0: int,
    wa: float,
    wm: float,
    depth: int,
    group_width: int,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    seed: int | None = None,
    drop_path: DropPath | float = 0.0,
) -> Backbone:
    """A RegNetY of any widths. Encoder: the first 3×3 convolution with stride 2, 32 filters. Core: batch norm, the stages.

    A block is one residual branch: 1×1, grouped 3×3 and 1×1 convolutions of one width, with squeeze-and-excitation to a
    quarter of the block's input behind the second. Each stage halves the map. Weights begin as in pycls: N(0, 2/fan-out) in
    convolutions, N(0, 0.01²) in the heads. Convolutions pad both sides alike, as PyTorch's.

    Args:
        w0: Width of the first block, a positive multiple of 8.
        wa: Slope of the widths, at least 0.
        wm: Factor between widths of stages, greater than 1.
        depth: Number of blocks.
        group_width: Number of channels of a group of the 3×3 convolutions.
        input_shape: (H, W, C) of the images, of any size. Defaults to ImageNet's.
        seed: Integer from which the initial weights follow. Defaults to random ones.
        drop_path: Stochastic depth in the blocks, a rate or a `DropPath`. Defaults to none.
    """
    widths, depths, group_widths = stages(w0, wa, wm, depth, group_width)
    parts = _Parts(seed)
    branches = Branches(DropPath.of(drop_path), sum(depths))

    def block(x, width: int, groups: int, strides: int, name: str):
        inputs = x.shape[-1]
        shortcut = x
        if inputs != width or strides != 1:
            shortcut = parts.norm(parts.convolution(x, width, 1, strides, True, f"{name}_shortcut"), f"{name}_shortcut")
        x, add = branches(x, name)
        x = parts.norm_relu(parts.convolution(x, width, 1, 1, True, f"{name}_conv1"), f"{name}_1")
        x = parts.norm_relu(parts.convolution(x, width, 3, strides, True, f"{name}_conv2", groups), f"{name}_2")
        x = parts.squeeze_and_excite(x, round(_SQUEEZE * inputs), name)
        x = parts.norm(parts.convolution(x, width, 1, 1, True, f"{name}_conv3"), f"{name}_3")
        return layers.ReLU(name=f"{name}_relu")(add(shortcut, x))

    images = keras.Input(arguments.image_shape("input_shape", input_shape), name="images")
    encoder = keras.Model(images, parts.convolution(images, STEM, 3, 2, True, "conv"), name="encoder")

    features = keras.Input(encoder.output_shape[1:], name="features")
    x = parts.norm_relu(features, "stem")
    for stage, (width, blocks, channels) in enumerate(zip(widths, depths, group_widths, strict=True), start=1):
        for index in range(blocks):
            x = block(x, width, width // channels, 1 if index else 2, f"stage{stage}_block{index + 1}")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return Backbone(encoder, keras.Model(features, x, name="core"), head_stddev=0.01)


class _Parts(Parts):
    """With the initial weights of pycls."""

    def kernel(self) -> keras.Initializer:
        return keras.initializers.VarianceScaling(2, "fan_out", "untruncated_normal", self._seeds.next())

    def squeeze_and_excite(self, x, channels: int, name: str):
        """A map times factors of its channels, which two dense layers make of its mean."""
        factors = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)
        for number, (width, activation) in enumerate(((channels, "relu"), (x.shape[-1], "sigmoid")), start=1):
            dense = layers.Dense(width, activation, kernel_initializer=self.kernel(), name=f"{name}_excite{number}")
            factors = dense(factors)
        return layers.Multiply(name=f"{name}_excited")([x, factors])
