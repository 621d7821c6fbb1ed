"""Vision transformers (Dosovitskiy et al., 2021) whose patch embeddings are the encoders: masks lie on the patch grid.

With `pool="token"`, `layer_scale=1e-4` and `initialization="deit"` the network is that of DeiT III (Touvron et al., 2022;
`vit_models` in models_v2.py of facebookresearch/deit), which cosub trains.
"""

import keras
from keras import layers

from mixmo_keras.common import arguments
from mixmo_keras.networks.backbones.backbone import Backbone
from mixmo_keras.networks.backbones.parts import Branches, InitialSeeds
from mixmo_keras.networks.backbones.tokens import ClassToken, LayerScale, PositionEmbedding
from mixmo_keras.networks.stochastic_depth import DropPath

SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12)}  # width, depth, heads
POOLS = ("mean", "token")
INITIALIZATIONS = ("glorot", "deit")
DEIT_STDDEV = 0.02


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
        size: `"tiny"`, `"small"` or `"base"`: 192, 384 or 768 wide, twelve blocks, 3, 6 or 12 heads.
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
    height, width, _ = input_shape = arguments.image_shape("input_shape", input_shape)
    if height % patch or width % patch:
        raise ValueError(f"`patch` (={patch}) must divide the images' height and width, {height}×{width}.")
    of_deit = arguments.choice("initialization", initialization, INITIALIZATIONS) == "deit"
    initial = _OfDeit(seed) if of_deit else _Glorot(seed)
    branches = Branches(DropPath.of(drop_path), 2 * depth)

    images = keras.Input(input_shape, name="images")
    stem = initial.stem(patch * patch * input_shape[-1])
    encoder = keras.Model(images, layers.Conv2D(channels, patch, patch, **stem, name="patches")(images), name="encoder")

    features = keras.Input(encoder.output_shape[1:], name="features")
    x = layers.Reshape((-1, channels), name="tokens")(features)
    num_patches = x.shape[1]
    x = PositionEmbedding(initial.token(), name="position")(x)
    if pool == "token":
        x = ClassToken(initial.token(), name="class_token")(x)
    for index in range(depth):
        x = _block(x, num_heads, branches, initial, layer_scale, f"block{index + 1}")
    x = _norm(x, "norm")
    if pool == "token":
        x = layers.Flatten(name="pool")(layers.Cropping1D((0, num_patches), name="first")(x))
    else:
        x = layers.GlobalAveragePooling1D(name="pool")(x)
    return Backbone(encoder, keras.Model(features, x, name="core"), head_stddev=DEIT_STDDEV if of_deit else None)


def _block(x, num_heads: int, branches: Branches, initial: "_Glorot", layer_scale: float | None, name: str):
    """Attention and two dense layers, each a residual branch with layer norm first."""
    channels = x.shape[-1]

    def scaled(y, number: int):
        return y if layer_scale is None else LayerScale(layer_scale, name=f"{name}_scale{number}")(y)

    y, add = branches(x, name, 1)
    y = _norm(y, f"{name}_norm1")
    attention = layers.MultiHeadAttention(
        num_heads, channels // num_heads, kernel_initializer=initial.kernel(), name=f"{name}_attention"
    )
    y = attention(y, y)
    initial.built(attention)
    x = add(x, scaled(y, 1))
    y, add = branches(x, name, 2)
    y = _norm(y, f"{name}_norm2")
    y = layers.Dense(4 * channels, "gelu", kernel_initializer=initial.kernel(), name=f"{name}_dense1")(y)
    y = layers.Dense(channels, kernel_initializer=initial.kernel(), name=f"{name}_dense2")(y)
    return add(x, scaled(y, 2))


def _norm(x, name: str):
    return layers.LayerNormalization(epsilon=1e-6, name=name)(x)


class _Glorot:
    """Keras' initial weights, each with a seed of its own."""

    def __init__(self, seed: int | None):
        self._seeds = InitialSeeds(seed)

    def stem(self, fan_in: int) -> dict[str, keras.Initializer]:
        """The initializers of the embedding of the patches, as options of the convolution."""
        return {"kernel_initializer": self.kernel()}

    def kernel(self) -> keras.Initializer:
        return keras.initializers.GlorotUniform(self._seeds.next())

    def token(self) -> keras.Initializer:
        """Of positions and class token."""
        return keras.initializers.TruncatedNormal(stddev=0.02, seed=self._seeds.next())

    def built(self, attention: layers.MultiHeadAttention) -> None:
        """Called with each attention layer as soon as it has its weights."""


class _OfDeit(_Glorot):
    """DeiT III's initial weights."""

    def stem(self, fan_in: int) -> dict[str, keras.Initializer]:
        limit = fan_in**-0.5
        return {
            f"{part}_initializer": keras.initializers.RandomUniform(-limit, limit, seed=self._seeds.next())
            for part in ("kernel", "bias")
        }

    def kernel(self) -> keras.Initializer:
        return keras.initializers.RandomNormal(stddev=DEIT_STDDEV, seed=self._seeds.next())

    def token(self) -> keras.Initializer:
        return self.kernel()

    def built(self, attention: layers.MultiHeadAttention) -> None:
        # Keras gives all four kernels the layer's one initializer, with its one seed: query, key and value would be equal
        for weight in attention.weights:
            if weight.name == "kernel":
                weight.assign(self.kernel()(weight.shape, weight.dtype))
