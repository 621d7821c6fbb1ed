"""What a transformer adds to tokens, and multiplies them by."""

import keras
from keras import layers, ops

from mixmo_keras.common import arguments


class _Learned(layers.Layer):
    """A layer with one learned weight.

    Args:
        initializer: Of the weight. Defaults to Keras' truncated normal.
    """

    def __init__(self, initializer="truncated_normal", **kwargs):
        super().__init__(**kwargs)
        self.initializer = keras.initializers.get(initializer)

    def get_config(self):
        return {**super().get_config(), "initializer": keras.initializers.serialize(self.initializer)}


@keras.saving.register_keras_serializable("mixmo_keras")
class PositionEmbedding(_Learned):
    """Adds a learned vector of each position to tokens (B, n, c).

    Args:
        initializer: Of the vectors. Defaults to Keras' truncated normal.
    """

    def build(self, input_shape):
        self.positions = self.add_weight(name="positions", shape=input_shape[1:], initializer=self.initializer)

    def call(self, tokens):
        return tokens + ops.cast(self.positions, tokens.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable("mixmo_keras")
class ClassToken(_Learned):
    """Puts one learned token, the same for all rows, before the tokens (B, n, c): (B, 1 + n, c).

    Args:
        initializer: Of the token. Defaults to Keras' truncated normal.
    """

    def build(self, input_shape):
        self.token = self.add_weight(name="token", shape=(1, input_shape[-1]), initializer=self.initializer)

    def call(self, tokens):
        token = ops.cast(self.token, tokens.dtype)
        token = ops.broadcast_to(token, (ops.shape(tokens)[0], *token.shape))
        return ops.concatenate([token, tokens], axis=1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[1] + 1, *input_shape[2:])


@keras.saving.register_keras_serializable("mixmo_keras")
class LayerScale(layers.Layer):
    """Multiplies every channel by a learned factor (Touvron et al., 2021, "Going deeper with image transformers").

    Args:
        initial: The factors' initial value, such as 1e-4.
    """

    def __init__(self, initial: float, **kwargs):
        super().__init__(**kwargs)
        self.initial = arguments.number("initial", initial, above=0)

    def build(self, input_shape):
        initializer = keras.initializers.Constant(self.initial)
        self.factors = self.add_weight(name="factors", shape=input_shape[-1:], initializer=initializer)

    def call(self, x):
        return x * ops.cast(self.factors, x.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "initial": self.initial}
