"""Residual networks with pre-activation (He et al., 2016), as MixMo's implementation has them for Tiny ImageNet."""

import keras
from keras import layers

from mixmo_keras.common import arguments
from mixmo_keras.networks.backbones.backbone import Backbone
from mixmo_keras.networks.backbones.parts import Branches, Parts
from mixmo_keras.networks.stochastic_depth import DropPath

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}  # depth: blocks of each group


def preact_resnet(
    depth: int = 18,
    width: int = 1,
    input_shape: tuple[int, int, int] = (64, 64, 3),
    seed: int | None = None,
    drop_path: DropPath | float = 0.0,
) -> Backbone:
    """PreActResNet-depth-width. Encoder: a 3×3 convolution with stride 2, 64 filters, whatever the width. Core: four groups.

    Convolutions pad both sides alike, as PyTorch's. There is no batch norm after the last block, and the heads' initial
    weights are N(0, 0.01²).

    Args:
        depth: 18 or 34.
        width: The widen factor w: the groups have 64w, 128w, 256w and 512w filters.
        input_shape: (H, W, C) of the images. Defaults to Tiny ImageNet's.
        seed: Integer from which the initial weights follow. Defaults to random ones.
        drop_path: Stochastic depth in the blocks, a rate or a `DropPath`. Defaults to none.
    """
    blocks = BLOCKS[arguments.known_integer("depth", depth, BLOCKS)]
    width = arguments.integer("width", width, least=1)
    parts = Parts(seed)
    branches = Branches(DropPath.of(drop_path), sum(blocks))

    def block(x, filters: int, strides: int, name: str):
        shortcut = x
        x = parts.norm_relu(x, f"{name}_1")
        if shortcut.shape[-1] != filters or strides != 1:
            shortcut = parts.convolution(x, filters, 1, strides, True, f"{name}_shortcut")  # of the activation
        x, add = branches(x, name)
        x = parts.convolution(x, filters, 3, strides, True, f"{name}_conv1")
        x = parts.norm_relu(x, f"{name}_2")
        x = parts.convolution(x, filters, 3, 1, True, f"{name}_conv2")
        return add(shortcut, x)

    images = keras.Input(arguments.image_shape("input_shape", input_shape), name="images")
    encoder = keras.Model(images, parts.convolution(images, 64, 3, 2, True, "conv"), name="encoder")

    features = keras.Input(encoder.output_shape[1:], name="features")
    x = features
    for group, (count, strides) in enumerate(zip(blocks, (1, 2, 2, 2), strict=True)):
        for index in range(count):
            x = block(x, 64 * width * 2**group, strides if index == 0 else 1, f"group{group + 1}_block{index + 1}")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return Backbone(encoder, keras.Model(features, x, name="core"), head_stddev=0.01)
