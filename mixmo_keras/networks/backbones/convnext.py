"""ConvNeXt (Liu et al., 2022, "A ConvNet for the 2020s"), whose patch embedding is the encoder."""

from collections.abc import Sequence

import keras
from keras import layers

from mixmo_keras.common import arguments
from mixmo_keras.networks.backbones import transformer
from mixmo_keras.networks.backbones.backbone import Backbone
from mixmo_keras.networks.backbones.parts import Branches, check_divides, one_for_each_stage
from mixmo_keras.networks.stochastic_depth import DropPath

SIZES = {  # blocks and channels of the four stages
    # the first four are ConvNeXt V2's; their blocks here are the first paper's, as in timm
    "atto": ((2, 2, 6, 2), (40, 80, 160, 320)),
    "femto": ((2, 2, 6, 2), (48, 96, 192, 384)),
    "pico": ((2, 2, 6, 2), (64, 128, 256, 512)),
    "nano": ((2, 2, 8, 2), (80, 160, 320, 640)),
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
}


def convnext(
    size: str = "tiny",
    input_shape: tuple[int, int, int] = (224, 224, 3),
    seed: int | None = None,
    drop_path: DropPath | float = 0.0,
    patch: int = 4,
    depths: Sequence[int] | None = None,
    widths: Sequence[int] | None = None,
    layer_scale: float | None = 1e-6,
) -> Backbone:
    """ConvNeXt-size. Encoder: the embedding of the patches. Core: layer norm, four stages, pooling, layer norm.

    A block is one residual branch: depthwise 7×7 convolution, layer norm, two dense layers, layer scale. Weights have the
    shapes of those of `keras.applications.ConvNeXtTiny`, but for the depthwise kernels, whose last two axes are swapped.

    Args:
        size: `"tiny"`, `"small"`, `"base"` or `"large"`, the paper's; or for small images `"atto"`, `"femto"`, `"pico"` or
            `"nano"`.
        input_shape: (H, W, C) of the images; 8 times `patch` divides height and width, as each stage but the first halves
            them. Defaults to ImageNet's.
        seed: Integer from which the initial weights follow. Defaults to random ones.
        drop_path: Stochastic depth in the blocks, a rate or a `DropPath`. Defaults to none.
        patch: Side of a patch in pixels. Defaults to the paper's; 2 or 1 keep more of small images.
        depths: Number of blocks of each stage. Defaults to the size's.
        widths: Number of channels of each stage. Defaults to the size's.
        layer_scale: Initial value of the factors by which each channel of a branch is multiplied; `None` for no factors.
    """
    usual_depths, usual_widths = SIZES[arguments.choice("size", size, SIZES)]
    depths = one_for_each_stage("depths", depths, usual_depths)
    widths = one_for_each_stage("widths", widths, usual_widths)
    if layer_scale is not None:
        layer_scale = arguments.number("layer_scale", layer_scale, above=0, otherwise=", or None")
    patch = arguments.integer("patch", patch, least=1)
    input_shape = arguments.image_shape("input_shape", input_shape)
    check_divides("patch", patch, input_shape, times=8)
    start = _Start(seed)
    branches = Branches(DropPath.of(drop_path), sum(depths))

    def block(x, name: str):
        y, add = branches(x, name)
        y = layers.DepthwiseConv2D(7, padding="same", **start.convolution(49, "depthwise"), name=f"{name}_conv")(y)
        y = transformer.dense_layers(transformer.norm(y, f"{name}_norm"), start, name)
        return add(x, transformer.scaled(y, layer_scale, f"{name}_scale"))

    images = keras.Input(input_shape, name="images")
    stem = layers.Conv2D(widths[0], patch, patch, **start.convolution(0), name="patches")
    encoder = keras.Model(images, stem(images), name="encoder")

    features = keras.Input(encoder.output_shape[1:], name="features")
    x = features
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True), start=1):
        x = transformer.norm(x, f"stage{stage}_norm")
        if stage > 1:
            x = layers.Conv2D(width, 2, 2, **start.convolution(0), name=f"stage{stage}_conv")(x)
        for index in range(depth):
            x = block(x, f"stage{stage}_block{index + 1}")
    x = transformer.norm(layers.GlobalAveragePooling2D(name="pool")(x), "norm")
    return Backbone(encoder, keras.Model(features, x, name="core"), head_stddev=transformer.STDDEV)


class _Start(transformer.PaperStart):
    """N(0, 0.02²) in convolutions too, whatever their fan-in, and biases of 0."""

    def convolution(self, fan_in: int, kernel: str = "kernel", bias: bool = True) -> dict[str, keras.Initializer]:
        return {f"{kernel}_initializer": self.kernel()}
