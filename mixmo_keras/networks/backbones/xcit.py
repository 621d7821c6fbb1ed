"""XCiT (El-Nouby et al., 2021, "Cross-covariance image transformers"): attention among channels, not among places."""

import keras
from keras import layers

from mixmo_keras.common import arguments
from mixmo_keras.networks.backbones import transformer
from mixmo_keras.networks.backbones.backbone import Backbone
from mixmo_keras.networks.backbones.cross_covariance import ClassAttention, CrossCovarianceAttention, WavePositions
from mixmo_keras.networks.backbones.parts import Branches, Parts, check_divides
from mixmo_keras.networks.backbones.tokens import ClassToken, LayerScale
from mixmo_keras.networks.fused_layers import FusedGELU
from mixmo_keras.networks.stochastic_depth import DropPath

SIZES = {"nano": (128, 4), "tiny": (192, 4), "small": (384, 8), "medium": (512, 8), "large": (768, 16)}  # width, heads
PATCHES = (4, 8, 16)
_NUM_CLASS_BLOCKS = 2
_DEEP = 18  # blocks, above which the paper's networks begin with small branches


def xcit(
    size: str = "small",
    depth: int = 12,
    patch: int = 16,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    seed: int | None = None,
    drop_path: DropPath | float = 0.0,
    width: int | None = None,
    heads: int | None = None,
    layer_scale: float | None = None,
) -> Backbone:
    """XCiT-size-depth/patch. Encoder: the stem's first 3×3 convolution with stride 2. Core: the rest of the stem, blocks.

    A block has three residual branches: cross-covariance attention, two depthwise 3×3 convolutions, two dense layers. Then
    a class token attends to the others in two blocks, which stochastic depth leaves out nothing of. Source: xcit.py of
    facebookresearch/xcit.

    Args:
        size: `"nano"`, `"tiny"`, `"small"`, `"medium"` or `"large"`: 128, 192, 384, 512 or 768 wide.
        depth: Number of blocks with cross-covariance attention, 12 or 24 in the paper.
        patch: 16 or 8, as in the paper, or 4 for small images: the stem's convolutions halve the map four, three or two
            times. Divides the images' height and width.
        input_shape: (H, W, C) of the images. Defaults to ImageNet's.
        seed: Integer from which the initial weights follow. Defaults to random ones.
        drop_path: Stochastic depth in the three branches of each block, a rate or a `DropPath`. Defaults to none.
        width: Number of channels, a multiple of 8. Defaults to the size's.
        heads: Number of heads, which divides the channels. Defaults to the size's.
        layer_scale: Initial value of the factors by which each channel of a branch is multiplied. Defaults to the paper's:
            1 up to 18 blocks, 1e-5 for more.
    """
    usual_width, usual_heads = SIZES[arguments.choice("size", size, SIZES)]
    depth = arguments.integer("depth", depth, least=1)
    patch = arguments.known_integer("patch", patch, PATCHES)
    input_shape = arguments.image_shape("input_shape", input_shape)
    check_divides("patch", patch, input_shape)
    channels = usual_width if width is None else arguments.integer("width", width, least=8)
    num_heads = usual_heads if heads is None else arguments.integer("heads", heads, least=1)
    if channels % num_heads or channels % 8:
        raise ValueError(f"`width` (={channels}) must be a multiple of 8 and of `heads` (={num_heads}).")
    if layer_scale is None:
        layer_scale = 1.0 if depth <= _DEEP else 1e-5
    layer_scale = arguments.number("layer_scale", layer_scale, above=0)
    start = transformer.PaperStart(seed)
    branches = Branches(DropPath.of(drop_path), 3 * depth)
    num_halvings = patch.bit_length() - 1

    images = keras.Input(input_shape, name="images")
    filters = [channels >> halving for halving in reversed(range(num_halvings))]
    encoder = keras.Model(images, _halve(images, filters[0], start, "conv1"), name="encoder")

    features = keras.Input(encoder.output_shape[1:], name="features")
    x = Parts.norm(features, "conv1")
    for number, count in enumerate(filters[1:], start=2):
        x = FusedGELU(name=f"conv{number - 1}_gelu")(x)
        x = Parts.norm(_halve(x, count, start, f"conv{number}"), f"conv{number}")
    height, width = x.shape[1:3]
    positions = start.convolution(64)
    x = layers.Reshape((-1, channels), name="tokens")(WavePositions(**positions, name="position")(x))
    for index in range(depth):
        x = _block(x, (height, width), num_heads, branches, start, layer_scale, f"block{index + 1}")
    x = ClassToken(start.token(), name="class_token")(x)
    for index in range(_NUM_CLASS_BLOCKS):
        x = _class_block(x, num_heads, start, layer_scale, size != "nano", f"class_block{index + 1}")
    x = transformer.norm(transformer.first_token(x, "token"), "norm")
    return Backbone(encoder, keras.Model(features, x, name="core"), head_stddev=transformer.STDDEV)


def _halve(x, filters: int, start: transformer.GlorotStart, name: str):
    """A 3×3 convolution with stride 2, padded on both sides alike."""
    kernel = start.convolution(9 * x.shape[-1], bias=False)
    x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    return layers.Conv2D(filters, 3, 2, use_bias=False, **kernel, name=name)(x)


def _block(x, size, num_heads: int, branches: Branches, start: transformer.GlorotStart, layer_scale: float, name: str):
    """Cross-covariance attention, convolutions among neighbours, two dense layers; each with layer norm first."""
    channels = x.shape[-1]
    y, add = branches(x, name, 1)
    y = transformer.norm(y, f"{name}_norm1")
    y = layers.Dense(3 * channels, kernel_initializer=start.kernel(), name=f"{name}_projected")(y)
    y = CrossCovarianceAttention(num_heads, name=f"{name}_attention")(y)
    y = layers.Dense(channels, kernel_initializer=start.kernel(), name=f"{name}_attended")(y)
    x = add(x, LayerScale(layer_scale, name=f"{name}_scale1")(y))
    y, add = branches(x, name, 2)
    y = _among_neighbours(transformer.norm(y, f"{name}_norm2"), size, start, name)
    x = add(x, LayerScale(layer_scale, name=f"{name}_scale2")(y))
    y, add = branches(x, name, 3)
    y = transformer.dense_layers(transformer.norm(y, f"{name}_norm3"), start, name)
    return add(x, LayerScale(layer_scale, name=f"{name}_scale3")(y))


def _among_neighbours(x, size: tuple[int, int], start: transformer.GlorotStart, name: str):
    """Two depthwise 3×3 convolutions with GELU and batch norm between."""
    channels = x.shape[-1]
    x = layers.Reshape((*size, channels), name=f"{name}_map")(x)
    for number in (1, 2):
        convolution = start.convolution(9, "depthwise")
        x = layers.DepthwiseConv2D(3, padding="same", **convolution, name=f"{name}_conv{number}")(x)
        if number == 1:
            x = Parts.norm(FusedGELU(name=f"{name}_gelu")(x), name)
    return layers.Reshape((-1, channels), name=f"{name}_tokens")(x)


def _class_block(x, num_heads: int, start: transformer.GlorotStart, layer_scale: float, norm_all: bool, name: str):
    """Attention of the class token and two dense layers for it, as the paper's code has it.

    There the other tokens change too: they get their own layer norm added, and are doubled at the end.

    Args:
        x: (B, 1 + n, c), the class token first.
        num_heads: Number of heads.
        start: The initial weights.
        layer_scale: Initial value of the factors of each branch.
        norm_all: Whether the second layer norm is of all tokens or, as in XCiT-nano, of the class token alone.
        name: Of the block.
    """
    channels, others = x.shape[-1], x.shape[1] - 1

    def first(x, number):
        return layers.Cropping1D((0, others), name=f"{name}_first{number}")(x)

    def with_others_of(token, x, number):
        rest = layers.Cropping1D((1, 0), name=f"{name}_others{number}")(x)
        return layers.Concatenate(axis=1, name=f"{name}_together{number}")([token, rest])

    y = transformer.norm(x, f"{name}_norm1")
    token = layers.Dense(3 * channels, kernel_initializer=start.kernel(), name=f"{name}_projected")(y)
    token = ClassAttention(num_heads, name=f"{name}_attention")(token)
    token = layers.Dense(channels, kernel_initializer=start.kernel(), name=f"{name}_attended")(token)
    y = LayerScale(layer_scale, name=f"{name}_scale1")(with_others_of(token, y, 1))
    x = layers.Add(name=f"{name}_add1")([x, y])
    if norm_all:
        x = transformer.norm(x, f"{name}_norm2")
    else:
        x = with_others_of(transformer.norm(first(x, 2), f"{name}_norm2"), x, 2)
    token = transformer.dense_layers(first(x, 3), start, name)
    token = LayerScale(layer_scale, name=f"{name}_scale2")(token)
    return layers.Add(name=f"{name}_add2")([x, with_others_of(token, x, 3)])
