"""Stochastic depth (Huang et al., 2016): in training a residual branch is left out for some rows, drawn for each step."""

import keras
from keras import ops

from mixmo_keras import seeds


@keras.saving.register_keras_serializable("mixmo_keras")
class StochasticDepth(keras.layers.Layer):
    """Leaves out a residual branch for rows drawn with probability `rate`, in training; scales the others to keep the mean.

    What is drawn follows from (seed, step, replica), like everything in a step: the layer takes its seeds from the training
    step around it (`seeds.drawing`).

    Args:
        rate: probability in [0, 1) with which a row's branch is left out.

    Call arguments:
        branch: (B, ...), what the branch adds to its shortcut.

    Returns:
        branch / (1 − rate) for the rows that keep it, 0 for the others; at inference `branch` itself.
    """

    def __init__(self, rate: float, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"`rate` must be a probability within [0, 1), got {rate}.")
        self.rate = rate

    def build(self, input_shape):
        self.built = True

    def call(self, branch, training=None):
        if not training or not self.rate:
            return branch
        shape = (ops.shape(branch)[0], *[1] * (len(branch.shape) - 1))
        drawn = keras.random.uniform(shape, seed=seeds.current(), dtype="float32")
        kept = ops.cast(drawn >= self.rate, branch.dtype)
        return branch * kept / (1 - self.rate)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


def layers_of(network: keras.Model) -> list[StochasticDepth]:
    """The layers of a network that leave something out."""
    return [layer for layer in network._flatten_layers() if isinstance(layer, StochasticDepth) and layer.rate]
