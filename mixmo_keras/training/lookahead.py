"""Weights that are drawn back to a slow average of themselves every few steps: Lookahead, as airbench94 has it."""

import dataclasses

import keras
from keras import ops

from mixmo_keras import keras_internals
from mixmo_keras.common import arguments
from mixmo_keras.common.settings import Settings, setting
from mixmo_keras.training import weight_averaging

_SLOW = "slow_weight"  # the name of the optimizer's variables


@keras.saving.register_keras_serializable("mixmo_keras")
@dataclasses.dataclass(frozen=True)
class Lookahead(Settings):
    """Every k-th step w ← s ← d·s + (1 − d)·w, and w ← s at the end of training, as `model.compile(lookahead=Lookahead())`.

    Zhang et al. (NeurIPS 2019), with the schedule of hlb-CIFAR10 and airbench94: d = decayᵏ·t³ at the share t of training,
    so that the weights w move freely at first and end as the slow average s. Batch norm's statistics are averaged along.

    Args:
        every: k, steps from one averaging to the next.
        decay: What d grows to is its k-th power, in [0, 1).
    """

    every: int = setting(5, "k, steps from one averaging to the next", arguments.integer, least=1)
    decay: float = setting(0.95, "what d grows to is its k-th power", arguments.number, least=0, below=1)

    def averaged(self, weight, slow, number, progress, ends):
        """A weight and its slow average after some updates.

        Args:
            weight: As the last update left it.
            slow: Its average until now; the first averaging, which has none, takes the weight.
            number: Number of updates.
            progress: Share of training done; negative before any `fit`.
            ends: Whether training ends with this update.
        """
        kept = self.decay**self.every * ops.clip(progress, 0.0, 1.0) ** 3
        kept = ops.where(number <= self.every, 0.0, kept)
        averages = ops.equal(number % self.every, 0)
        slow = ops.where(averages, kept * slow + (1 - kept) * weight, slow)
        ends = ops.logical_and(ends, number >= self.every)
        return ops.where(ops.logical_or(averages, ends), slow, weight), slow


def build(model) -> None:
    """Creates the slow averages in a built optimizer, once."""
    if model.lookahead is None or _slow_weights(model):
        return
    optimizer = keras_internals.inner_optimizer(model.optimizer)
    for weight in _weights(model):
        optimizer.add_variable(weight.shape, dtype=weight.dtype, name=_SLOW)


def update(model, step) -> None:
    """Averages the weights as they are after a training step; on JAX within a scope of the model's variables.

    Args:
        model: In training.
        step: The number of the training step, from 0.
    """
    if model.lookahead is None:
        return
    number = step + 1
    progress = model.clock.progress(number)
    ends = progress >= 1 - model.clock.progress_a_step() / 2  # in float32 it may end a little below 1
    for weight, slow in zip(_weights(model), _slow_weights(model), strict=True):
        values = ops.convert_to_tensor(weight), ops.convert_to_tensor(slow)
        averaged = model.lookahead.averaged(*values, number, progress, ends)
        for variable, value in zip((weight, slow), averaged, strict=True):
            variable.assign(value)


def _weights(model) -> list:
    return [*model.trainable_variables, *weight_averaging.statistics(model)]


def _slow_weights(model) -> list:
    return [variable for variable in model.optimizer.variables if variable.name == _SLOW]
