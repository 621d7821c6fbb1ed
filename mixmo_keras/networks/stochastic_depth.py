"""Stochastic depth (Huang et al., 2016): in training a residual branch is left out for some rows, drawn for each step.

`StochasticDepth` computes the branch of all rows and drops some; `TakeRows` and `AddRows` around a branch compute it for the
rows that keep it only (efficient stochastic depth; Touvron et al., CVPR 2023).
"""

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


@keras.saving.register_keras_serializable("mixmo_keras")
class TakeRows(keras.layers.Layer):
    """Draws the rows that a residual branch is computed for, in training: max(⌊B·(1 − rate)⌋, 1) of B, as many every time.

    `AddRows` puts what the branch makes of them back. Batch norm in the branch sees these rows alone.

    Args:
        rate: share in [0, 1) of rows that the branch leaves out.

    Call arguments:
        x: (B, ...).

    Returns:
        The rows (k, ...) and their places (k,) in the batch; at inference x and all places.
    """

    def __init__(self, rate: float, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"`rate` must be a share within [0, 1), got {rate}.")
        self.rate = rate

    def build(self, input_shape):
        self.built = True

    def call(self, x, training=None):
        num_rows = ops.shape(x)[0]
        if not training or not self.rate:
            return x, ops.arange(num_rows, dtype="int32")
        places = ops.cast(seeds.permutations(seeds.current(), 1, num_rows)[0, : self._kept(num_rows)], "int32")
        return ops.take(x, places, axis=0), places

    def _kept(self, num_rows):
        if isinstance(num_rows, int):
            return max(int(num_rows * (1 - self.rate)), 1)
        return ops.maximum(ops.cast(ops.cast(num_rows, "float32") * (1 - self.rate), "int32"), 1)

    def compute_output_spec(self, x, training=None):
        return keras.KerasTensor((None, *x.shape[1:]), x.dtype), keras.KerasTensor((None,), "int32")

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


@keras.saving.register_keras_serializable("mixmo_keras")
class AddRows(keras.layers.Layer):
    """Adds a branch that was computed for the rows of `TakeRows` to a shortcut, times B/k in training, to keep the mean.

    Call arguments:
        branch: (k, ...), of the rows taken.
        shortcut: (B, ...).
        places: (k,), the rows' in the batch.

    Returns:
        (B, ...).
    """

    def build(self, *input_shapes):
        self.built = True

    def call(self, branch, shortcut, places, training=None):
        if not training:
            return shortcut + branch
        scale = ops.cast(ops.shape(shortcut)[0], branch.dtype) / ops.cast(ops.shape(branch)[0], branch.dtype)
        return ops.scatter_update(shortcut, places[:, None], branch * scale, reduction="add")

    def compute_output_spec(self, branch, shortcut, places, training=None):
        return keras.KerasTensor(shortcut.shape, shortcut.dtype)


def layers_of(network: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a network that leave something out."""
    layers = network._flatten_layers()
    return [layer for layer in layers if isinstance(layer, (StochasticDepth, TakeRows)) and layer.rate]
