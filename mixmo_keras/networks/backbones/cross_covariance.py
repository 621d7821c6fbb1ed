"""What XCiT adds to a transformer: attention among channels, attention of the class token, positions by waves."""

import keras
import numpy as np
from keras import layers, ops

from mixmo_keras.common import arguments

_NUM_WAVES, _TEMPERATURE = 32, 10000  # of each axis, and of the longest wave


class _Heads(layers.Layer):
    """Attention of several heads over tokens' queries, keys and values (B, n, 3·c).

    Args:
        num_heads: Number of heads; divides c.
    """

    def __init__(self, num_heads: int, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = arguments.integer("num_heads", num_heads, least=1)

    def build(self, input_shape):
        if len(input_shape) != 3 or input_shape[-1] % (3 * self.num_heads):
            raise ValueError(
                f"`projected` must be (B, n, 3·c) with c a multiple of num_heads={self.num_heads}; got {tuple(input_shape)}."
            )
        self.built = True

    def _split(self, projected):
        """Queries, keys and values, each (B, heads, n, ·)."""
        _, num_tokens, channels = projected.shape
        x = ops.reshape(projected, (-1, num_tokens, 3, self.num_heads, channels // 3 // self.num_heads))
        return ops.unstack(ops.transpose(x, (2, 0, 3, 1, 4)), 3)

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads}


@keras.saving.register_keras_serializable("mixmo_keras")
class CrossCovarianceAttention(_Heads):
    """Attention among channels (El-Nouby et al., 2021, XCiT, equation 5): softmax(K̂ᵀQ̂ · τ) of each head.

    Queries and keys have length 1 along the tokens. τ is learned, one number a head, and begins at 1.

    Args:
        num_heads: Number of heads; divides c.

    Call arguments:
        projected: (B, n, 3·c), queries, keys and values of each token, one behind the other.

    Returns:
        (B, n, c), which a dense layer should follow.
    """

    def build(self, input_shape):
        super().build(input_shape)
        self.temperature = self.add_weight(name="temperature", shape=(self.num_heads, 1, 1), initializer="ones")

    def call(self, projected):
        query, key, value = self._split(projected)
        query, key = (_of_length_one(ops.swapaxes(x, -1, -2)) for x in (query, key))  # (B, heads, ·, n)
        scores = ops.matmul(query, ops.swapaxes(key, -1, -2)) * ops.cast(self.temperature, query.dtype)
        x = ops.matmul(value, ops.swapaxes(ops.softmax(scores, axis=-1), -1, -2))  # (B, heads, n, ·)
        return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, projected.shape[1], projected.shape[2] // 3))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] // 3)


def _of_length_one(x):
    """x over its length along the last axis, computed in float32."""
    exact = ops.cast(x, "float32")
    length = ops.sqrt(ops.sum(ops.square(exact), axis=-1, keepdims=True))
    return ops.cast(exact / ops.maximum(length, 1e-12), x.dtype)


@keras.saving.register_keras_serializable("mixmo_keras")
class ClassAttention(_Heads):
    """Attention of the first token alone to all of them (Touvron et al., 2021, CaiT).

    Args:
        num_heads: Number of heads; divides c.

    Call arguments:
        projected: (B, n, 3·c), queries, keys and values of each token, one behind the other.

    Returns:
        (B, 1, c), which a dense layer should follow.
    """

    def call(self, projected):
        query, key, value = self._split(projected)
        query = query[:, :, :1] * query.shape[-1] ** -0.5
        weights = ops.softmax(ops.matmul(query, ops.swapaxes(key, -1, -2)), axis=-1)  # (B, heads, 1, n)
        x = ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3))
        return ops.reshape(x, (-1, 1, projected.shape[2] // 3))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], 1, input_shape[-1] // 3)


@keras.saving.register_keras_serializable("mixmo_keras")
class WavePositions(layers.Layer):
    """Adds a learned projection of sines and cosines of each place's row and column to a map (B, h, w, c), as XCiT does.

    Args:
        kernel_initializer: Of the projection. Defaults to Keras' Glorot.
        bias_initializer: Of its bias. Defaults to zeros.
    """

    def __init__(self, kernel_initializer="glorot_uniform", bias_initializer="zeros", **kwargs):
        super().__init__(**kwargs)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, input_shape):
        _, height, width, channels = input_shape
        self._waves = waves(height, width)
        shape = (self._waves.shape[-1], channels)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=self.kernel_initializer)
        self.bias = self.add_weight(name="bias", shape=(channels,), initializer=self.bias_initializer)

    def call(self, x):
        return (
            x
            + ops.matmul(ops.cast(self._waves, x.dtype), ops.cast(self.kernel, x.dtype))
            + ops.cast(self.bias, x.dtype)
        )

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }


def waves(height: int, width: int) -> np.ndarray:
    """Sines and cosines of the rows, then of the columns, of a map: (h, w, 64), float32."""
    lengths = _TEMPERATURE ** (2 * (np.arange(_NUM_WAVES) // 2) / _NUM_WAVES)

    def of_axis(length):
        angles = 2 * np.pi * np.arange(1, length + 1) / (length + 1e-6)
        angles = angles[:, None] / lengths
        angles[:, ::2], angles[:, 1::2] = np.sin(angles[:, ::2]), np.cos(angles[:, 1::2])
        return angles

    rows, columns = of_axis(height), of_axis(width)
    together = (
        np.broadcast_to(rows[:, None], (height, width, _NUM_WAVES)),
        np.broadcast_to(columns, (height, width, _NUM_WAVES)),
    )
    return np.concatenate(together, axis=-1).astype("float32")
