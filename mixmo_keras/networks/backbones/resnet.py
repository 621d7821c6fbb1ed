"""Residual networks with bottlenecks for ImageNet (He et al., 2016), with the stride on the 3×3 convolution."""

import keras
from keras import layers

from mixmo_keras.common import arguments
from mixmo_keras.networks.backbones.backbone import Backbone
from mixmo_keras.networks.backbones.parts import Branches, Parts
from mixmo_keras.networks.stochastic_depth import DropPath

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}  # depth: blocks of each group


def resnet(
    depth: int = 50,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    seed: int | None = None,
    drop_path: DropPath | float = 0.0,
) -> Backbone:
    """ResNet-depth. Encoder: the first 7×7 convolution with stride 2, 64 filters (MIMO, section 4.2). Core: the rest.

    The heads' initial weights are N(0, 0.01²), as in MIMO's code (`resnet50_mimo.py` of Uncertainty Baselines). Convolutions
    pad both sides alike, as PyTorch's; MIMO's code does so in the first one, while its 3×3 convolutions with strides pad by
    TensorFlow's "same": maps of even sizes at the bottom and right alone.

    Args:
        depth: 50, 101 or 152.
        input_shape: (H, W, C) of the images. Defaults to ImageNet's.
        seed: Integer from which the initial weights follow. Defaults to random ones.
        drop_path: Stochastic depth in the blocks, a rate or a `DropPath`. Defaults to none.
    """
    blocks = BLOCKS[arguments.known_integer("depth", depth, BLOCKS)]
    parts = Parts(seed)
    branches = Branches(DropPath.of(drop_path), sum(blocks))

    def block(x, filters: int, strides: int, name: str):
        shortcut = x
        if x.shape[-1] != 4 * filters or strides != 1:
            shortcut = parts.convolution(x, 4 * filters, 1, strides, True, f"{name}_shortcut")
            shortcut = parts.norm(shortcut, f"{name}_shortcut")
        x, add = branches(x, name)
        x = parts.norm_relu(parts.convolution(x, filters, 1, 1, True, f"{name}_conv1"), f"{name}_1")
        x = parts.norm_relu(parts.convolution(x, filters, 3, strides, True, f"{name}_conv2"), f"{name}_2")
        x = parts.norm(parts.convolution(x, 4 * filters, 1, 1, True, f"{name}_conv3"), f"{name}_3")
        return layers.ReLU(name=f"{name}_relu")(add(shortcut, x))

    images = keras.Input(arguments.image_shape("input_shape", input_shape), name="images")
    encoder = keras.Model(images, parts.convolution(images, 64, 7, 2, True, "conv"), name="encoder")

    features = keras.Input(encoder.output_shape[1:], name="features")
    x = parts.norm_relu(features, "stem")
    x = layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    for group, (count, strides) in enumerate(zip(blocks, (1, 2, 2, 2), strict=True)):
        for index in range(count):
            x = block(x, 64 * 2**group, strides if index == 0 else 1, f"group{group + 1}_block{index + 1}")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return Backbone(encoder, keras.Model(features, x, name="core"), head_stddev=0.01)
