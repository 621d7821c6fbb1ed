"""Stochastic depth (Huang et al., 2016): in training a residual branch is left out for some rows, drawn for each step.

`StochasticDepth` computes the branch of all rows and drops some; `TakeRows` and `AddRows` around a branch compute it only
for the rows that keep it (efficient stochastic depth; Touvron et al., CVPR 2023). A backbone is told by a `DropPath`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mixmo_keras import keras_internals, seeds
from mixmo_keras.common import arguments
from mixmo_keras.common.settings import Settings, setting

_RATES = ("rate", "drop_prob", "drop_path_rate")  # what libraries call it


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

    rate: float = setting(
        0.0, "rate of stochastic depth in every block", arguments.number, keyword="drop_path", least=0, below=1
    )
    ramp: bool = setting(
        False, "the rate rises evenly from block to block", arguments.boolean, keyword="drop_path_ramp"
    )
    efficient: bool = setting(
        False, "compute a block for the rows alone that keep it", arguments.boolean, keyword="efficient_drop_path"
    )

    def __post_init__(self):
        super().__post_init__()
        for option, keyword in (("ramp", "drop_path_ramp"), ("efficient", "efficient_drop_path")):
            if getattr(self, option) and not self.rate:
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


def rate_of(layer: Any) -> float | None:
    """Returns the rate at which a layer of another library leaves out whole rows in training.

    These are layers whose class is called `StochasticDepth` or ends in `DropPath`, and `Dropout` with a noise shape
    (None, 1, ..., 1). `None` for any other layer, and for a rate of 0.
    """
    if not isinstance(layer, keras.layers.Layer) or isinstance(layer, StochasticDepth):
        return None
    name, shape = type(layer).__name__, getattr(layer, "noise_shape", None)
    if isinstance(layer, keras.layers.Dropout):
        leaves_out_rows = shape is not None and len(shape) > 1 and shape[0] is None and set(shape[1:]) == {1}
    else:
        leaves_out_rows = (name == "StochasticDepth" or name.endswith("DropPath")) and not layer.weights
    if not leaves_out_rows or not getattr(layer, "scale_by_keep", True):  # ours scales the rows that keep the branch
        return None
    rates = [getattr(layer, key) for key in _RATES if isinstance(getattr(layer, key, None), (int, float))]
    return float(rates[0]) if rates and 0 < rates[0] < 1 else None


def require(networks: Sequence[keras.Model], option: str) -> None:
    """Raises where none of a backbone's networks has stochastic depth that follows a training step's seeds.

    Args:
        networks: Encoder and core.
        option: What needs it, for the message.
    """
    if any(map(layers_of, networks)):
        return
    within = [layer for network in networks for layer in keras_internals.flatten_layers(network)]
    if unknown := [layer for layer in within if rate_of(layer)]:
        raise ValueError(
            f"`{option}` needs a network whose two passes differ, by draws that follow the training step. The stochastic "
            f"depth of this one, {type(unknown[0]).__name__}, is another library's. It is replaced in a Keras model "
            "that is passed whole, in layers that can be made again from their `get_config`. Pass the model in place of its "
            "parts, or build it with mixmo_keras.StochasticDepth."
        )
    raise ValueError(
        f"`{option}` needs a network whose two passes differ: a backbone with stochastic depth. This one has none; dropout "
        'of single features does not count. Pass drop_path=0.2 with a name, such as "convnext_tiny" or "vit_small16". Or '
        "build your network with mixmo_keras.StochasticDepth(0.2) at the end of each residual branch, or with its library's "
        "stochastic depth, such as `drop_path` of keras_hub's Swin transformer."
    )
