"""Vision transformers (Dosovitskiy et al., 2021) whose patch embeddings are the encoders: masks lie on the patch grid."""

import keras
from keras import layers

from mixmo_keras.common import arguments
from mixmo_keras.networks.backbones import transformer
from mixmo_keras.networks.backbones.backbone import Backbone
from mixmo_keras.networks.backbones.parts import Branches, check_divides
from mixmo_keras.networks.backbones.tokens import ClassToken, PositionEmbedding
from mixmo_keras.networks.stochastic_depth import DropPath

SIZES = {  # width, depth, heads
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "medium": (512, 12, 8),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
}
POOLS = ("mean", "token")
INITIALIZATIONS = ("glorot", "deit")


def vit(
    size: str = "tiny",
    patch: int = 4,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    seed: int | None = None,
    drop_path: DropPath | float = 0.0,
    depth: int | None = None,
    pool: str = "mean",
    layer_scale: float | None = None,
    initialization: str = "glorot",
) -> Backbone:
    """ViT-size/patch. Encoder: the embedding of the patches. Core: position embedding, blocks, layer norm, pooling.

    Args:
        size: `"tiny"`, `"small"`, `"medium"`, `"base"`, `"large"` or `"huge"`: 192, 384, 512, 768, 1024 or 1280 wide.
        patch: Side of a patch in pixels; divides the images' height and width.
        input_shape: (H, W, C) of the images. Defaults to CIFAR's.
        seed: Integer from which the initial weights follow. Defaults to random ones.
        drop_path: Stochastic depth in the two branches of each block, a rate or a `DropPath`. Defaults to none.
        depth: Number of blocks. Defaults to the size's.
        pool: `"mean"` over the tokens, without a class token, which does as well (Beyer et al., 2022); or `"token"`: a class
            token, put before the others in the core, behind the position embedding, and the core ends in it, as in DeiT III.
        layer_scale: Initial value of learned factors by which each channel of a branch is multiplied, 1e-4 in DeiT III.
            Defaults to no factors.
        initialization: `"glorot"`, Keras' default, and He's in the heads; or `"deit"`, as in DeiT III: N(0, 0.02²) in dense
            layers, heads, positions and class token, and PyTorch's default, uniform within ±1/√fan-in, in the embedding of
            the patches. (Its truncated normal cuts at ±2, a hundred standard deviations.)
    """
    channels, usual_depth, num_heads = SIZES[arguments.choice("size", size, SIZES)]
    depth = usual_depth if depth is None else arguments.integer("depth", depth, least=1)
    patch = arguments.integer("patch", patch, least=1)
    pool = arguments.choice("pool", pool, POOLS)
    if layer_scale is not None:
        layer_scale = arguments.number("layer_scale", layer_scale, above=0, otherwise=", or None")
    input_shape = arguments.image_shape("input_shape", input_shape)
    check_divides("patch", patch, input_shape)
    of_deit = arguments.choice("initialization", initialization, INITIALIZATIONS) == "deit"
    start = transformer.PaperStart(seed) if of_deit else transformer.GlorotStart(seed)
    branches = Branches(DropPath.of(drop_path), 2 * depth)

    images = keras.Input(input_shape, name="images")
    stem = start.convolution(patch * patch * input_shape[-1])
    encoder = keras.Model(images, layers.Conv2D(channels, patch, patch, **stem, name="patches")(images), name="encoder")

    features = keras.Input(encoder.output_shape[1:], name="features")
    x = layers.Reshape((-1, channels), name="tokens")(features)
    x = PositionEmbedding(start.token(), name="position")(x)
    if pool == "token":
        x = ClassToken(start.token(), name="class_token")(x)
    for index in range(depth):
        x = transformer.block(x, num_heads, branches, start, layer_scale, f"block{index + 1}")
    x = transformer.norm(x, "norm")
    x = transformer.first_token(x) if pool == "token" else layers.GlobalAveragePooling1D(name="pool")(x)
    core = keras.Model(features, x, name="core")
    return Backbone(encoder, core, head_stddev=transformer.STDDEV if of_deit else None)


def deit3(
    size: str = "small",
    patch: int = 16,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    seed: int | None = None,
    drop_path: DropPath | float = 0.0,
    depth: int | None = None,
) -> Backbone:
    """DeiT III's vision transformer, which cosub trains: `vit` with a class token, layer scale 1e-4 and its initial weights.

    Source: Touvron et al., 2022; `vit_models` in models_v2.py of facebookresearch/deit.

    Args:
        size: As of `vit`. The papers' are small, medium, base and large with patches of 16 pixels, and huge with 14.
        patch: Side of a patch in pixels; divides the images' height and width.
        input_shape: (H, W, C) of the images. Defaults to ImageNet's.
        seed: Integer from which the initial weights follow. Defaults to random ones.
        drop_path: Stochastic depth in the two branches of each block, a rate or a `DropPath`. Defaults to none.
        depth: Number of blocks. Defaults to the size's.
    """
    return vit(size, patch, input_shape, seed, drop_path, depth, pool="token", layer_scale=1e-4, initialization="deit")
