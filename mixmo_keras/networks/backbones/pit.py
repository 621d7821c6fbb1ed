"""PiT (Heo et al., 2021, "Rethinking spatial dimensions of vision transformers"): a vision transformer that pools."""

import itertools
from collections.abc import Sequence

import keras
from keras import layers

from mixmo_keras.common import arguments
from mixmo_keras.networks.backbones import transformer
from mixmo_keras.networks.backbones.backbone import Backbone
from mixmo_keras.networks.backbones.parts import Branches, one_for_each_stage
from mixmo_keras.networks.backbones.tokens import ClassToken, PositionEmbedding
from mixmo_keras.networks.stochastic_depth import DropPath

SIZES = {  # patch, stride; channels of a head; blocks and heads of the three stages
    "tiny": (16, 8, 32, (2, 6, 4), (2, 4, 8)),
    "extra_small": (16, 8, 48, (2, 6, 4), (2, 4, 8)),
    "small": (16, 8, 48, (2, 6, 4), (3, 6, 12)),
    "base": (14, 7, 64, (3, 6, 4), (4, 8, 16)),
}


def pit(
    size: str = "small",
    input_shape: tuple[int, int, int] = (224, 224, 3),
    seed: int | None = None,
    drop_path: DropPath | float = 0.0,
    patch: int | None = None,
    stride: int | None = None,
    depths: Sequence[int] | None = None,
    head_width: int | None = None,
    heads: Sequence[int] | None = None,
) -> Backbone:
    """PiT-size. Encoder: the embedding of overlapping patches. Core: positions, class token, three stages, pooling between.

    Pooling halves the map by a depthwise 3×3 convolution that doubles the channels; the class token gets a dense layer.
    Source: pit.py of naver-ai/pit.

    Args:
        size: `"tiny"`, `"extra_small"`, `"small"` or `"base"`.
        input_shape: (H, W, C) of the images. Defaults to ImageNet's.
        seed: Integer from which the initial weights follow. Defaults to random ones.
        drop_path: Stochastic depth in the two branches of each block, a rate or a `DropPath`. Defaults to none.
        patch: Side of a patch in pixels, up to the images' height and width. Defaults to 14 for `"base"`, 16 for the others.
        stride: Pixels from patch to patch; divides what height and width are larger by than a patch. Defaults to 7 for
            `"base"`, 8 for the others. 4 and 2 keep more of small images.
        depths: Number of blocks of each stage. Defaults to the size's.
        head_width: Number of channels of a head. Defaults to the size's.
        heads: Number of heads of each stage, twice that of the stage before, as channels are. Defaults to the size's.
    """
    usual_patch, usual_stride, usual_head, usual_depths, usual_heads = SIZES[arguments.choice("size", size, SIZES)]
    depths = one_for_each_stage("depths", depths, usual_depths)
    heads = one_for_each_stage("heads", heads, usual_heads)
    if any(2 * first != second for first, second in itertools.pairwise(heads)):
        raise ValueError(f"`heads` must double from stage to stage, as channels do; got {heads}.")
    patch, stride, head_width = (
        arguments.integer(name, usual if value is None else value, least=1)
        for name, value, usual in (
            ("patch", patch, usual_patch),
            ("stride", stride, usual_stride),
            ("head_width", head_width, usual_head),
        )
    )
    input_shape = arguments.image_shape("input_shape", input_shape)
    if any(length < patch or (length - patch) % stride for length in input_shape[:2]):
        raise ValueError(
            f"`input_shape` (={input_shape}) must be `patch` (={patch}) plus multiples of `stride` (={stride}) high and "
            "wide. Pass another image size, or backbones.pit(size, patch=..., stride=...)."
        )
    channels = head_width * heads[0]
    start = transformer.PaperStart(seed)
    branches = Branches(DropPath.of(drop_path), 2 * sum(depths))

    images = keras.Input(input_shape, name="images")
    stem = start.convolution(patch * patch * input_shape[-1])
    encoder = keras.Model(
        images, layers.Conv2D(channels, patch, stride, **stem, name="patches")(images), name="encoder"
    )

    features = keras.Input(encoder.output_shape[1:], name="features")
    height, width = features.shape[1:3]
    x = layers.Reshape((-1, channels), name="tokens")(PositionEmbedding(start.token(), name="position")(features))
    x = ClassToken(start.token(), name="class_token")(x)
    for stage, (depth, num_heads) in enumerate(zip(depths, heads, strict=True), start=1):
        if stage > 1:
            x = _pool(x, (height, width), start, f"pool{stage - 1}")
            height, width = (height + 1) // 2, (width + 1) // 2
        for index in range(depth):
            x = transformer.block(x, num_heads, branches, start, None, f"stage{stage}_block{index + 1}")
    x = transformer.norm(transformer.first_token(x, "token"), "norm")
    return Backbone(encoder, keras.Model(features, x, name="core"), head_stddev=transformer.STDDEV)


def _pool(x, size: tuple[int, int], start: transformer.GlorotStart, name: str):
    """Tokens (B, 1 + h·w, c), the class token first, to (B, 1 + ⌈h/2⌉·⌈w/2⌉, 2c)."""
    channels = x.shape[-1]
    token = layers.Cropping1D((0, size[0] * size[1]), name=f"{name}_first")(x)
    places = layers.Cropping1D((1, 0), name=f"{name}_others")(x)
    places = layers.Reshape((*size, channels), name=f"{name}_map")(places)
    places = layers.ZeroPadding2D(1, name=f"{name}_pad")(places)
    convolution = start.convolution(9, "depthwise")
    places = layers.DepthwiseConv2D(3, 2, depth_multiplier=2, **convolution, name=f"{name}_conv")(places)
    places = layers.Reshape((-1, 2 * channels), name=f"{name}_tokens")(places)
    token = layers.Dense(2 * channels, kernel_initializer=start.kernel(), name=f"{name}_dense")(token)
    return layers.Concatenate(axis=1, name=name)([token, places])
