"""Stochastic depth (Huang et al., 2016): in training a residual branch is left out for some rows, drawn for each step.

`StochasticDepth` computes the branch of all rows and drops some; `TakeRows` and `AddRows` around a branch compute it only
for the rows that keep it (efficient stochastic depth; Touvron et al., CVPR 2023). A backbone is told by a `DropPath`.
"""

import dataclasses

import keras
from keras import ops

from mixmo_keras import keras_internals, seeds
from mixmo_keras.common import arguments
from mixmo_keras.common.settings import Settings


@keras.saving.register_keras_serializable("mixmo_keras")
@dataclasses.dataclass(frozen=True)
class DropPath(Settings):
    """How a backbone leaves out its residual branches in training. Backbones take one as `drop_path`, or a rate.

    Args:
        rate: Probability in [0, 1) with which a row's branch is left out. Defaults to 0: no branch is.
        ramp: Whether the rate rises evenly from branch to branch and reaches `rate` at the last. Defaults to the same rate
            in every branch.
        efficient: Whether a branch is computed only for the rows that keep it: always max(⌊B·(1 − rate)⌋, 1) of B rows,
            which saves the others' compute (cosub). By default each row is dropped on its own.

    Raises:
        ValueError: a value is out of range, or `ramp` or `efficient` comes without a rate.
    """

    rate: float = 0.0
    ramp: bool = False
    efficient: bool = False

    def __post_init__(self):
        object.__setattr__(self, "rate", arguments.number("drop_path", self.rate, least=0, below=1))
        for option, keyword in (("ramp", "drop_path_ramp"), ("efficient", "efficient_drop_path")):
            value = arguments.boolean(keyword, getattr(self, option))
            object.__setattr__(self, option, value)
            if value and not self.rate:
                raise ValueError(f"`{option}` (`{keyword}`) has no meaning without a rate of `drop_path`.")

    @classmethod
    def of(cls, value: "DropPath | float") -> "DropPath":
        """Returns the `DropPath` of a rate; a `DropPath` is returned as it is."""
        return value if isinstance(value, DropPath) else cls(value)

    def rates(self, num_branches: int) -> list[float]:
        """Returns the rate of each of a network's branches, from the first to the last."""
        if not self.ramp:
            return [self.rate] * num_branches
        return [self.rate * (index + 1) / num_branches for index in range(num_branches)]


@keras.saving.register_keras_serializable("mixmo_keras")
class StochasticDepth(keras.layers.Layer):
    """Leaves out a residual branch for rows drawn with probability `rate`, in training; scales the others to keep the mean.

    What is drawn follows from (seed, step, replica), like everything in a step: the layer takes its seeds from the training
    step around it (`seeds.drawing`).

    Args:
        rate: Probability in [0, 1) with which a row's branch is left out.

    Call arguments:
        branch: (B, ...), what the branch adds to its shortcut.

    Returns:
        branch / (1 − rate) for the rows that keep it, 0 for the others; at inference `branch` itself.
    """

    def __init__(self, rate: float, **kwargs):
        super().__init__(**kwargs)
        self.rate = arguments.number("rate", rate, least=0, below=1)

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

    `AddRows` adds what the branch makes of them to their shortcuts. Batch norm in the branch sees these rows alone.

    Args:
        rate: Proportion in [0, 1) of the rows that the branch leaves out.

    Call arguments:
        x: (B, ...).

    Returns:
        The rows (k, ...) and their indices (k,) in the batch; at inference x and all indices.
    """

    def __init__(self, rate: float, **kwargs):
        super().__init__(**kwargs)
        self.rate = arguments.number("rate", rate, least=0, below=1)

    def build(self, input_shape):
        self.built = True

    def call(self, x, training=None):
        num_rows = ops.shape(x)[0]
        if not training or not self.rate:
            return x, ops.arange(num_rows, dtype="int32")
        shuffled = seeds.permutations(seeds.current(), 1, num_rows)[0]
        indices = ops.cast(shuffled[: self._num_kept(num_rows)], "int32")
        return ops.take(x, indices, axis=0), indices

    def _num_kept(self, num_rows):
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
        indices: (k,), which rows of the batch were taken.

    Returns:
        (B, ...).
    """

    def build(self, *input_shapes):
        self.built = True

    def call(self, branch, shortcut, indices, training=None):
        if not training:
            return shortcut + branch
        scale = ops.cast(ops.shape(shortcut)[0], branch.dtype) / ops.cast(ops.shape(branch)[0], branch.dtype)
        return ops.scatter_update(shortcut, indices[:, None], branch * scale, reduction="add")

    def compute_output_spec(self, branch, shortcut, indices, training=None):
        return keras.KerasTensor(shortcut.shape, shortcut.dtype)


def layers_of(network: keras.Model) -> list[keras.layers.Layer]:
    """Returns the layers of a network that leave something out in training."""
    layers = keras_internals.flatten_layers(network)
    return [layer for layer in layers if isinstance(layer, (StochasticDepth, TakeRows)) and layer.rate]
