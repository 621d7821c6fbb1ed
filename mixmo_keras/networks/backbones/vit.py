"""Vision transformers (Dosovitskiy et al., 2021) whose patch embeddings are the encoders: masks lie on the patch grid."""

import keras
from keras import layers

from mixmo_keras import seeds
from mixmo_keras.networks.backbones.backbone import Backbone
from mixmo_keras.networks.backbones.parts import Branches

SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12)}  # width, depth, heads


@keras.saving.register_keras_serializable("mixmo_keras")
class PositionEmbedding(layers.Layer):
    """Adds a learned vector of each position to tokens (B, n, c)."""

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
    drop_path: float = 0.0,
    drop_path_ramp: bool = False,
    efficient_drop_path: bool = False,
    depth: int | None = None,
) -> Backbone:
    """ViT-size/patch. Encoder: the embedding of the patches. Core: position embedding, blocks, layer norm, mean over tokens.

    Without a class token, which would stand beside the patches' map; the mean over tokens does as well (Beyer et al., 2022).

    Args:
        size: `"tiny"`, `"small"` or `"base"`: 192, 384 or 768 wide, twelve blocks, 3, 6 or 12 heads.
        patch: side of a patch in pixels; divides the images' height and width.
        input_shape: (H, W, C) of the images.
        seed: integer from which the initial weights follow; `None` for random ones.
        drop_path: rate of stochastic depth, the same in every block's two branches.
        drop_path_ramp: whether the rate rises from branch to branch, and reaches `drop_path` at the last.
        efficient_drop_path: whether a branch is computed for the rows alone that keep it (cosub).
        depth: number of blocks; `None` for the size's.
    """
    if size not in SIZES:
        raise ValueError(f"`size` must be one of {', '.join(SIZES)}, got {size!r}.")
    height, width, _ = input_shape
    if patch < 1 or height % patch or width % patch:
        raise ValueError(f"`patch` (={patch}) must divide the images' height and width, {height}×{width}.")
    channels, own_depth, num_heads = SIZES[size]
    depth = own_depth if depth is None else depth
    if depth < 1:
        raise ValueError(f"`depth` must be at least 1, got {depth}.")
    branches = Branches(drop_path, 2 * depth, drop_path_ramp, efficient_drop_path)
    counter = iter(range(10**6))

    def initial(initializer=keras.initializers.GlorotUniform, **options):
        return initializer(seed=None if seed is None else seeds.derive(seed, "core", next(counter)), **options)

    def norm(x, name: str):
        return layers.LayerNormalization(epsilon=1e-6, name=name)(x)

    def block(x, name: str):
        y, add = branches(x, name, 1)
        y = norm(y, f"{name}_norm1")
        attention = layers.MultiHeadAttention(
            num_heads, channels // num_heads, kernel_initializer=initial(), name=f"{name}_attention"
        )
        x = add(x, attention(y, y))
        y, add = branches(x, name, 2)
        y = norm(y, f"{name}_norm2")
        y = layers.Dense(4 * channels, "gelu", kernel_initializer=initial(), name=f"{name}_dense1")(y)
        y = layers.Dense(channels, kernel_initializer=initial(), name=f"{name}_dense2")(y)
        return add(x, y)

    images = keras.Input(input_shape, name="images")
    embedded = layers.Conv2D(channels, patch, patch, kernel_initializer=initial(), name="patches")(images)
    encoder = keras.Model(images, embedded, name="encoder")

    features = keras.Input(encoder.output_shape[1:], name="features")
    x = layers.Reshape((-1, channels), name="tokens")(features)
    x = PositionEmbedding(initial(keras.initializers.TruncatedNormal, stddev=0.02), name="position")(x)
    for index in range(depth):
        x = block(x, f"block{index + 1}")
    x = layers.GlobalAveragePooling1D(name="pool")(norm(x, "norm"))
    return Backbone(encoder, keras.Model(features, x, name="core"))
