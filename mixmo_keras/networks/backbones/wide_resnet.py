"""Wide residual networks for small images (Zagoruyko and Komodakis, 2016), as MixMo's implementation has them."""

import keras
from keras import layers

from mixmo_keras.common import arguments
from mixmo_keras.networks.backbones.backbone import Backbone
from mixmo_keras.networks.backbones.parts import Branches, Parts
from mixmo_keras.networks.stochastic_depth import DropPath

STRIDE_ON = ("second", "first")  # convolution of a block


def wide_resnet(
    depth: int = 28,
    width: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    seed: int | None = None,
    drop_path: DropPath | float = 0.0,
    stride_on: str = "second",
) -> Backbone:
    """WRN-depth-width. Encoder: the first 3×3 convolution, 16 filters. Core: three groups of (depth − 4)/6 residual blocks.

    Weights have the same shapes, and the same initial values, whichever convolution the strides are on.

    Args:
        depth: 6n + 4, such as 10, 16, 28 or 40.
        width: The widen factor w: the groups have 16w, 32w and 64w filters.
        input_shape: (H, W, C) of the images. Defaults to CIFAR's.
        seed: Integer from which the initial weights follow. Defaults to random ones.
        drop_path: Stochastic depth in the blocks, a rate or a `DropPath`. Defaults to none.
        stride_on: `"second"` or `"first"`, the 3×3 convolution of a block that has the stride: the second in MixMo's code,
            the first in MIMO's (`wide_resnet_mimo.py` of Uncertainty Baselines). By name: `"wrn28_10_stride_first"`.
    """
    if (depth := arguments.integer("depth", depth)) < 10 or (depth - 4) % 6:
        raise ValueError(f"`depth` must be 6n + 4 with n ≥ 1, such as 10, 16, 28 or 40, got {depth}.")
    width = arguments.integer("width", width, least=1)
    stride_on = arguments.choice("stride_on", stride_on, STRIDE_ON)
    num_blocks = (depth - 4) // 6  # of each group
    parts = Parts(seed)
    branches = Branches(DropPath.of(drop_path), 3 * num_blocks)

    def block(x, filters: int, strides: int, name: str):
        shortcut = x
        if x.shape[-1] != filters or strides != 1:
            shortcut = parts.convolution(x, filters, 1, strides, name=f"{name}_shortcut")  # of the raw input
        x, add = branches(x, name)
        first, second = (strides, 1) if stride_on == "first" else (1, strides)
        x = parts.norm_relu(x, f"{name}_1")
        x = parts.convolution(x, filters, 3, first, name=f"{name}_conv1")
        x = parts.norm_relu(x, f"{name}_2")
        x = parts.convolution(x, filters, 3, second, name=f"{name}_conv2")
        return add(shortcut, x)

    images = keras.Input(arguments.image_shape("input_shape", input_shape), name="images")
    encoder = keras.Model(images, parts.convolution(images, 16, 3, name="conv"), name="encoder")

    features = keras.Input(encoder.output_shape[1:], name="features")
    x = features
    for group, strides in enumerate((1, 2, 2)):
        for index in range(num_blocks):
            x = block(x, 16 * width * 2**group, strides if index == 0 else 1, f"group{group + 1}_block{index + 1}")
    x = parts.norm_relu(x, "final")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return Backbone(encoder, keras.Model(features, x, name="core"))
