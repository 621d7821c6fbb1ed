"""EfficientNet-Lite (Tan, Liu, 2020): EfficientNet for phones, without squeeze-and-excitation, with ReLU6 for swish.

It follows `efficientnet_lite_builder.py` of tensorflow/tpu. `pretrained_weights.py` reads ImageNet's weights for it.
"""

import math
from typing import NamedTuple

import keras
from keras import layers

from mixmo_keras.common import arguments
from mixmo_keras.networks.backbones.backbone import Backbone
from mixmo_keras.networks.backbones.parts import Branches, Parts
from mixmo_keras.networks.fused_layers import BatchNormalization
from mixmo_keras.networks.stochastic_depth import DropPath


class _Scale(NamedTuple):
    width: float
    depth: float
    size: int  # of the images, in pixels


class _Stage(NamedTuple):
    repeats: int
    kernel_size: int
    strides: int
    expansion: int
    filters: int


SCALES = {0: _Scale(1.0, 1.0, 224), 1: _Scale(1.0, 1.1, 240), 2: _Scale(1.1, 1.2, 260)}
_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
_STEM, _HEAD = 32, 1280  # filters of the first and the last convolution, whatever the width


def efficientnet_lite(
    version: int = 0,
    input_shape: tuple[int, int, int] | None = None,
    seed: int | None = None,
    drop_path: DropPath | float = 0.0,
) -> Backbone:
    """EfficientNet-Lite. Encoder: a 3×3 convolution with stride 2, 32 filters. Core: inverted bottlenecks, 1280 features.

    Its weights are new. `mixmo_keras.from_classifier("efficientnet_lite0")` begins with ImageNet's.

    Args:
        version: 0, 1 or 2. By name: `"efficientnet_lite0"`.
        input_shape: (H, W, C) of the images, of any size. Defaults to (224, 224, 3), with 240 pixels for version 1 and 260
            for version 2.
        seed: Integer from which the initial weights follow. Defaults to random ones.
        drop_path: Stochastic depth in the blocks that have a shortcut, a rate or a `DropPath`. Defaults to none.
    """
    scale = SCALES[arguments.known_integer("version", version, SCALES)]
    shape = arguments.image_shape("input_shape", input_shape or (scale.size, scale.size, 3))
    parts, blocks = Parts(seed), _blocks(scale)
    with_shortcut = [stage.strides == 1 and inputs == stage.filters for inputs, stage in blocks]
    branches = Branches(DropPath.of(drop_path), sum(with_shortcut))

    images = keras.Input(shape, name="images")
    encoder = keras.Model(images, parts.convolution(images, _STEM, 3, 2, name="stem"), name="encoder")

    features = keras.Input(encoder.output_shape[1:], name="features")
    x = _norm_relu6(features, "stem")
    for index, (inputs, stage) in enumerate(blocks):
        name, shortcut, add = f"block{index}", x, None
        if with_shortcut[index]:
            x, add = branches(x, name)
        if stage.expansion > 1:
            x = parts.convolution(x, stage.expansion * inputs, 1, name=f"{name}_expand")
            x = _norm_relu6(x, f"{name}_expand")
        x = layers.DepthwiseConv2D(
            stage.kernel_size,
            stage.strides,
            padding="same",
            use_bias=False,
            depthwise_initializer=parts.kernel(),
            name=f"{name}_depthwise",
        )(x)
        x = _norm_relu6(x, f"{name}_depthwise")
        x = parts.convolution(x, stage.filters, 1, name=f"{name}_project")
        x = _norm(x, f"{name}_project")
        if add is not None:
            x = add(shortcut, x)
    x = _norm_relu6(parts.convolution(x, _HEAD, 1, name="last"), "last")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return Backbone(encoder, keras.Model(features, x, name="core"))


def _blocks(scale: _Scale) -> list[tuple[int, _Stage]]:
    """Each block's number of input channels, and what it does; only a stage's first block has its strides.

    The first and the last stage keep their one block, and the stem its filters, whatever the scale is.
    """
    blocks, inputs = [], _STEM
    for index, stage in enumerate(_STAGES):
        repeats = stage.repeats if index in (0, len(_STAGES) - 1) else math.ceil(scale.depth * stage.repeats)
        filters = _multiple_of_8(scale.width * stage.filters)
        for repeat in range(repeats):
            blocks.append((inputs, stage._replace(filters=filters, strides=1 if repeat else stage.strides)))
            inputs = filters
    return blocks


def _multiple_of_8(filters: float) -> int:
    """The nearest multiple of 8, or the next above it where that loses more than a tenth."""
    nearest = max(8, int(filters + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * filters else nearest


def _norm(x, name: str):
    return BatchNormalization(momentum=0.99, epsilon=1e-3, name=f"{name}_bn")(x)


def _norm_relu6(x, name: str):
    return layers.ReLU(max_value=6, name=f"{name}_relu6")(_norm(x, name))
