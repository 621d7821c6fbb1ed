"""What the transformers here share: initial weights, layer norm, the two dense layers of a block, the block itself."""

import keras
from keras import layers

from mixmo_keras.networks.backbones.parts import Branches, InitialSeeds
from mixmo_keras.networks.backbones.tokens import LayerScale
from mixmo_keras.networks.fused_layers import FusedGELU

STDDEV = 0.02  # of dense layers, heads, positions and tokens in the papers' code


class GlorotStart:
    """Keras' initial weights, each with a seed of its own.

    Args:
        seed: Integer from which they follow, each by its number. `None` for random ones.
    """

    def __init__(self, seed: int | None):
        self._seeds = InitialSeeds(seed)

    def convolution(self, fan_in: int, kernel: str = "kernel", bias: bool = True) -> dict[str, keras.Initializer]:
        """Returns the initializers of a convolution as its options.

        Args:
            fan_in: Number of values that one output value is computed from.
            kernel: What Keras calls the kernel: `"depthwise"` in depthwise convolutions.
            bias: Whether the convolution has one.
        """
        return {f"{kernel}_initializer": self.kernel()}

    def kernel(self) -> keras.Initializer:
        """Returns the initializer of a dense layer's kernel."""
        return keras.initializers.GlorotUniform(self._seeds.next())

    def token(self) -> keras.Initializer:
        """Returns the initializer of positions, and of the class token."""
        return keras.initializers.TruncatedNormal(stddev=STDDEV, seed=self._seeds.next())

    def attention_built(self, attention: layers.MultiHeadAttention) -> None:
        """Called with each attention layer as soon as it has its weights."""


class PaperStart(GlorotStart):
    """The initial weights of the papers' code, in PyTorch: N(0, 0.02²), and PyTorch's default for convolutions.

    Its truncated normal cuts at ±2, a hundred standard deviations.
    """

    def convolution(self, fan_in: int, kernel: str = "kernel", bias: bool = True) -> dict[str, keras.Initializer]:
        limit = fan_in**-0.5
        parts = [kernel, "bias"] if bias else [kernel]
        return {
            f"{part}_initializer": keras.initializers.RandomUniform(-limit, limit, seed=self._seeds.next())
            for part in parts
        }

    def kernel(self) -> keras.Initializer:
        return keras.initializers.RandomNormal(stddev=STDDEV, seed=self._seeds.next())

    def token(self) -> keras.Initializer:
        return self.kernel()

    def attention_built(self, attention: layers.MultiHeadAttention) -> None:
        # Keras gives all four kernels the layer's one initializer, with its one seed: query, key and value would be equal
        for weight in attention.weights:
            if weight.name == "kernel":
                weight.assign(self.kernel()(weight.shape, weight.dtype))


def norm(x, name: str, epsilon: float = 1e-6):
    """Layer norm over channels."""
    return layers.LayerNormalization(epsilon=epsilon, name=name)(x)


def dense_layers(x, start: GlorotStart, name: str, numbers: tuple[int, int] = (1, 2)):
    """The two dense layers of a block, the first four times as wide, with GELU between.

    Args:
        x: (B, ..., c).
        start: The initial weights.
        name: Of the block.
        numbers: What the layers are called by, `dense1` and `dense2`.
    """
    channels = x.shape[-1]
    first, second = (f"{name}_dense{number}" for number in numbers)
    x = layers.Dense(4 * channels, kernel_initializer=start.kernel(), name=first)(x)
    x = FusedGELU(name=f"{first}_gelu")(x)
    return layers.Dense(channels, kernel_initializer=start.kernel(), name=second)(x)


def scaled(x, initial: float | None, name: str):
    """`LayerScale` of a branch, or the branch itself where `initial` is `None`."""
    return x if initial is None else LayerScale(initial, name=name)(x)


def block(x, num_heads: int, branches: Branches, start: GlorotStart, layer_scale: float | None, name: str):
    """Attention and two dense layers, each a residual branch of tokens (B, n, c) with layer norm first."""
    y, add = branches(x, name, 1)
    y = norm(y, f"{name}_norm1")
    attention = layers.MultiHeadAttention(
        num_heads, x.shape[-1] // num_heads, kernel_initializer=start.kernel(), name=f"{name}_attention"
    )
    y = attention(y, y)
    start.attention_built(attention)
    x = add(x, scaled(y, layer_scale, f"{name}_scale1"))
    y, add = branches(x, name, 2)
    y = dense_layers(norm(y, f"{name}_norm2"), start, name)
    return add(x, scaled(y, layer_scale, f"{name}_scale2"))


def first_token(x, name: str = "pool"):
    """The class token (B, c) of tokens (B, n, c)."""
    x = layers.Cropping1D((0, x.shape[1] - 1), name="first")(x)
    return layers.Flatten(name=name)(x)
