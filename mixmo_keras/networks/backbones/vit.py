"""Vision transformers (Dosovitskiy et al., 2021) whose patch embeddings are the encoders: masks lie on the patch grid."""

import keras
from keras import layers

from mixmo_keras import arguments
from mixmo_keras.networks.backbones.backbone import Backbone
from mixmo_keras.networks.backbones.parts import Branches, InitialSeeds
from mixmo_keras.networks.stochastic_depth import DropPath

SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12)}  # width, depth, heads


@keras.saving.register_keras_serializable("mixmo_keras")
class PositionEmbedding(layers.Layer):
    """Adds a learned vector of each position to tokens (B, n, c).

    Args:
        initializer: Of the vectors. Defaults to Keras' truncated normal.
    """

    def __init__(self, initializer="truncated_normal", **kwargs):
        super().__init__(**kwargs)
        self.initializer = keras.initializers.get(initializer)

    def build(self, input_shape):
        self.positions = self.add_weight(name="positions", shape=input_shape[1:], initializer=self.initializer)

    def call(self, tokens):
        return tokens + keras.ops.cast(self.positions, tokens.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "initializer": keras.initializers.serialize(self.initializer)}


def vit(
    size: str = "tiny",
    patch: int = 4,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    seed: int | None = None,
    drop_path: DropPath | float = 0.0,
    depth: int | None = None,
) -> Backbone:
    """ViT-size/patch. Encoder: the embedding of the patches. Core: position embedding, blocks, layer norm, mean over tokens.

    Without a class token, which would stand beside the patches' map; the mean over tokens does as well (Beyer et al., 2022).

    Args:
        size: `"tiny"`, `"small"` or `"base"`: 192, 384 or 768 wide, twelve blocks, 3, 6 or 12 heads.
        patch: Side of a patch in pixels; divides the images' height and width.
        input_shape: (H, W, C) of the images. Defaults to CIFAR's.
        seed: Integer from which the initial weights follow. Defaults to random ones.
        drop_path: Stochastic depth in the two branches of each block, a rate or a `DropPath`. Defaults to none.
        depth: Number of blocks. Defaults to the size's.
    """
    channels, usual_depth, num_heads = SIZES[arguments.choice("size", size, SIZES)]
    depth = usual_depth if depth is None else arguments.integer("depth", depth, least=1)
    patch = arguments.integer("patch", patch, least=1)
    height, width, _ = input_shape = arguments.image_shape("input_shape", input_shape)
    if height % patch or width % patch:
        raise ValueError(f"`patch` (={patch}) must divide the images' height and width, {height}×{width}.")
    initial_seeds = InitialSeeds(seed)
    branches = Branches(DropPath.of(drop_path), 2 * depth)

    def initial(initializer=keras.initializers.GlorotUniform, **options):
        return initializer(seed=initial_seeds.next(), **options)

    images = keras.Input(input_shape, name="images")
    embedded = layers.Conv2D(channels, patch, patch, kernel_initializer=initial(), name="patches")(images)
    encoder = keras.Model(images, embedded, name="encoder")

    features = keras.Input(encoder.output_shape[1:], name="features")
    x = layers.Reshape((-1, channels), name="tokens")(features)
    x = PositionEmbedding(initial(keras.initializers.TruncatedNormal, stddev=0.02), name="position")(x)
    for index in range(depth):
        x = _block(x, num_heads, branches, initial, f"block{index + 1}")
    x = layers.GlobalAveragePooling1D(name="pool")(_norm(x, "norm"))
    return Backbone(encoder, keras.Model(features, x, name="core"))


def _block(x, num_heads: int, branches: Branches, initial, name: str):
    """Attention and two dense layers, each a residual branch with layer norm first."""
    channels = x.shape[-1]
    y, add = branches(x, name, 1)
    y = _norm(y, f"{name}_norm1")
    attention = layers.MultiHeadAttention(
        num_heads, channels // num_heads, kernel_initializer=initial(), name=f"{name}_attention"
    )
    x = add(x, attention(y, y))
    y, add = branches(x, name, 2)
    y = _norm(y, f"{name}_norm2")
    y = layers.Dense(4 * channels, "gelu", kernel_initializer=initial(), name=f"{name}_dense1")(y)
    y = layers.Dense(channels, kernel_initializer=initial(), name=f"{name}_dense2")(y)
    return add(x, y)


def _norm(x, name: str):
    return layers.LayerNormalization(epsilon=1e-6, name=name)(x)
