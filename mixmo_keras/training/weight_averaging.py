"""A moving average of all that predicts: of the weights, which Keras' optimizers keep, and of batch norm's statistics.

An optimizer with `use_ema=True` averages the trainable weights over the steps, w̄ ← m·w̄ + (1 − m)·w. Batch norm's moving
mean and variance are those of the weights as they are, not of the averaged ones, so the training step keeps an average of
them too, with the same momentum m, in variables of the optimizer, which checkpoints and saved models hold.

With `average_from` the average is stochastic weight averaging's (SWA; Izmailov et al., UAI 2018): the plain mean of the
weights after each step from that share of training on, which is m = k/(k + 1) after k such steps.
"""

import contextlib
import weakref

import keras
import numpy as np
from keras import ops

from mixmo_keras import keras_internals
from mixmo_keras.common import arguments
from mixmo_keras.training.checkpoint_files import values_of

_STATISTICS = ("moving_mean", "moving_variance")  # the names of batch norm's variables
_AVERAGE, _COUNT = "statistic_average", "averaged_steps"  # the names of the optimizer's variables
_ENTERED: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # own momentum and replicas within `averaging_by`


class SwapAveragedWeights(keras.callbacks.Callback):
    """Puts the averaged weights, with averaged batch-norm statistics, into the model wherever they are to be judged or kept.

    They are in the model during validation, from the end of an epoch until the next one begins, so that a `ModelCheckpoint`
    behind this callback saves them, and when `fit` ends. In between, training goes on from the weights as they were, to the
    last bit. For an optimizer with `use_ema=True`. `keras.callbacks.SwapEMAWeights` swaps trainable weights alone: they
    would be judged with the statistics of others.

    Raises:
        ValueError: when `fit` or `evaluate` begins, if the optimizer keeps no averages.

    Example:

    ```python
    model.compile(keras.optimizers.SGD(model.schedule, 0.9, nesterov=True, use_ema=True, ema_momentum=0.999))
    model.fit(train, validation_data=validation, epochs=300, callbacks=[SwapAveragedWeights()])
    ```
    """

    def __init__(self):
        super().__init__()
        self._put_aside: list[np.ndarray] | None = (
            None  # the weights that train, while the averaged ones are in the model
        )
        self._for_test = False

    def on_train_begin(self, logs=None):
        self._check()
        self._put_aside, self._for_test = None, False

    def on_epoch_begin(self, epoch, logs=None):
        self._swap_out()

    def on_test_begin(self, logs=None):
        self._check()
        self._for_test = self._swap_in()

    def on_test_end(self, logs=None):
        if self._for_test:
            self._swap_out()
        self._for_test = False

    def on_epoch_end(self, epoch, logs=None):
        self._swap_in()

    def on_train_end(self, logs=None):
        self._swap_in()  # Keras has put in the averaged weights, without statistics, if no epoch was left to train
        self._put_aside = None

    def on_interruption(self, ended: bool):
        """Puts the weights that train back into the model where an error ends training; the averaged ones stay behind it."""
        if not ended:
            self._swap_out()
        self._put_aside, self._for_test = None, False

    def _check(self) -> None:
        if not _averages_weights(self.model):
            raise ValueError(
                "SwapAveragedWeights needs an optimizer that averages weights, such as keras.optimizers.SGD(use_ema=True)."
            )

    def _swap_in(self) -> bool:
        """Puts the averaged weights into the model, and says whether they had not been there."""
        steps = int(ops.convert_to_numpy(keras_internals.step_counter(self.model.optimizer)))
        if self._put_aside is not None or not steps:  # before the first step there is nothing to average
            return False
        variables, averages = zip(*_pairs(self.model), strict=True)
        self._put_aside = values_of(variables)
        _assign(variables, values_of(averages))
        return True

    def _swap_out(self) -> None:
        if self._put_aside is not None:
            _assign([variable for variable, _ in _pairs(self.model)], self._put_aside)
        self._put_aside = None


def checked(average_from: float | None, optimizer) -> float | None:
    """A share of training after which weights are averaged alike, of an optimizer that averages them; or `None`."""
    if average_from is None:
        return None
    average_from = arguments.number("average_from", average_from, least=0, below=1, otherwise=", or None")
    if not getattr(keras_internals.inner_optimizer(keras.optimizers.get(optimizer)), "use_ema", False):
        raise ValueError(
            f"`average_from` (={average_from:g}) needs an optimizer that averages weights, such as "
            "keras.optimizers.SGD(use_ema=True)."
        )
    return average_from


def momentum_of(model, step):
    """The momentum of the mean since `average_from` at a step, k/(k + 1) after k averaged ones; None without it.

    It is 0 until then, so that the average is the weights as they are.
    """
    if model.average_from is None:
        return None
    num_averaged = ops.convert_to_tensor(_num_averaged(model))
    return ops.where(_averages_now(model, step), num_averaged / (num_averaged + 1), 0.0)


@contextlib.contextmanager
def averaging_by(model, momentum):
    """Gives the optimizer a momentum while it updates; its own where there is None.

    Replicas of TensorFlow's strategies trace their steps in turn, in threads that wait for one another within the update:
    the last one to leave gives the optimizer its own momentum back, which the first one found.
    """
    if momentum is None:
        yield
        return
    optimizer = keras_internals.inner_optimizer(model.optimizer)
    own, entered = _ENTERED.get(optimizer, (optimizer.ema_momentum, 0))
    _ENTERED[optimizer] = own, entered + 1
    optimizer.ema_momentum = momentum
    try:
        yield
    finally:
        own, entered = _ENTERED.pop(optimizer)
        if entered > 1:
            _ENTERED[optimizer] = own, entered - 1
        else:
            optimizer.ema_momentum = own


def _averages_now(model, step):
    """Whether a step is behind `average_from`, to half a step."""
    return model.clock.progress(step) >= model.average_from - model.clock.progress_a_step() / 2


def _num_averaged(model):
    """The optimizer's variable that counts the steps which the mean is of."""
    return next(variable for variable in model.optimizer.variables if variable.name == _COUNT)


def build(model) -> None:
    """Creates the variables for averages of batch norm's statistics, and for a mean's count, in a built optimizer, once."""
    if _averages_weights(model) and not _averages_of_statistics(model):
        for statistic in statistics(model):
            optimizer = keras_internals.inner_optimizer(model.optimizer)
            optimizer.add_variable(statistic.shape, dtype=statistic.dtype, name=_AVERAGE)
    if model.average_from is not None and not any(variable.name == _COUNT for variable in model.optimizer.variables):
        keras_internals.inner_optimizer(model.optimizer).add_variable((), dtype="float32", name=_COUNT)


def update(model, step) -> None:
    """Averages batch norm's statistics as they are after a training step, where the optimizer averages the weights.

    Args:
        model: In training, within `averaging_by`; on JAX within a scope of its variables.
        step: The number of the training step, from 0.
    """
    if not _averages_weights(model):
        return
    optimizer = keras_internals.inner_optimizer(model.optimizer)
    # as Keras does for the weights: the average begins with their values, anew until the first update
    begins = ops.equal(step // (optimizer.gradient_accumulation_steps or 1), 0)
    for statistic, average in zip(statistics(model), _averages_of_statistics(model), strict=True):
        kept = ops.cast(ops.where(begins, 0.0, optimizer.ema_momentum), statistic.dtype)
        average.assign(kept * average + (1 - kept) * statistic)
    if model.average_from is not None:
        count = _num_averaged(model)
        count.assign(ops.where(_averages_now(model, step), count + 1, 0.0))


def _pairs(model) -> list[tuple]:
    """(variable, average) of each trainable weight and of batch norm's statistics."""
    of_statistics = zip(statistics(model), _averages_of_statistics(model), strict=True)
    return [*keras_internals.averaged_weights(model.optimizer), *of_statistics]


def _averages_weights(model) -> bool:
    return bool(getattr(keras_internals.inner_optimizer(model.optimizer), "use_ema", False))


def statistics(model) -> list:
    """Batch norm's moving means and variances."""
    return [variable for variable in model.non_trainable_variables if variable.name in _STATISTICS]


def _averages_of_statistics(model) -> list:
    return [variable for variable in model.optimizer.variables if variable.name == _AVERAGE]


def _assign(variables, values: list[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
