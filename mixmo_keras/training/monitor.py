"""What `fit` tells the training step (progress), and what the step tells `fit` (bad labels, bad images, a loss gone NaN).

A compiled step can neither ask for the epoch nor raise an error, so both go through two small variables.
"""

import contextlib
import warnings

import keras
import numpy as np
from keras import ops

_LOSS, _LABEL, _IMAGE = range(3)  # rows of `incidents`
_CHECK_EVERY = 50  # executions: reading a variable waits for the device


@keras.saving.register_keras_serializable("mixmo_keras")
class Monitor(keras.layers.Layer):
    """The two variables, written and read inside the compiled step.

    clock: (progress at the epoch's start, the training step then, progress a step); (-1, 0, 0) before any `fit`.
    incidents: a row for each kind of trouble, (1 once it happened, two numbers about it); the first one stays.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        options = dict(trainable=False, autocast=False, dtype="float32")
        self.clock = keras.Variable(np.array([-1.0, 0.0, 0.0]), name="clock", aggregation="mean", **options)
        # each replica notes its own; reading sums over replicas, so that a row's flag counts those that noted something
        self.incidents = keras.Variable(
            np.zeros((3, 3)), name="incidents", synchronization="on_read", aggregation="sum", **options
        )
        self._clock_value = None
        self.built = True

    def progress(self, step):
        """Share of training done at a training step, a float32 scalar in [0, 1]; -1 before any `fit`."""
        clock = self.clock if self._clock_value is None else self._clock_value
        start, first_step, rate = ops.unstack(ops.convert_to_tensor(clock), 3)
        return ops.minimum(start + rate * (ops.cast(step, "float32") - first_step), 1.0)

    @contextlib.contextmanager
    def reading(self, clock):
        """Makes `progress` read a value of the clock: in a stateless scope that doesn't know the variable."""
        self._clock_value = clock
        try:
            yield
        finally:
            self._clock_value = None

    def note(self, step, loss=None, labels=None, num_classes=None, images=None):
        """Notes the first step with a non-finite loss, the first labels that aren't among 0..num_classes − 1, odd images."""
        none = ops.zeros((3,))
        rows = [none, none, none]

        def row(happened, first, second=0.0):
            values = [ops.cast(value, "float32") for value in (happened, first, second)]
            return ops.where(happened, ops.stack(values), none)

        if loss is not None:
            rows[_LOSS] = row(ops.logical_not(ops.isfinite(loss)), step)
        if labels is not None:
            labels = ops.cast(labels, "float32")
            low, high = ops.min(labels), ops.max(labels)
            whole = ops.all(ops.equal(labels, ops.floor(labels)))  # false for NaN
            valid = ops.logical_and(ops.logical_and(low >= 0, high < num_classes), whole)
            rows[_LABEL] = row(ops.logical_not(valid), low, high)
        if images is not None:
            low, high = ops.cast(ops.min(images), "float32"), ops.cast(ops.max(images), "float32")
            rows[_IMAGE] = row(ops.logical_or(ops.logical_or(low < 0, high > 255), high <= 1), low, high)
        noted = ops.convert_to_tensor(self.incidents)
        self.incidents.assign(ops.where(noted[:, :1] > 0, noted, ops.stack(rows)))

    def incident(self, kind: int):
        """The two numbers of an incident, averaged over the replicas that noted it, or `None`."""
        flag, first, second = ops.convert_to_numpy(self.incidents)[kind]
        return (float(first / flag), float(second / flag)) if flag > 0 else None

    def clear(self) -> None:
        """Forgets all incidents."""
        self.incidents.assign(np.zeros((3, 3), "float32"))


def label_error(num_classes: int, low: float, high: float) -> ValueError:
    """The error to raise for integer labels of which the lowest and the highest are given."""
    return ValueError(
        f"Labels must be integers from 0 to {num_classes - 1} for num_classes={num_classes}; "
        f"the data holds labels from {low:g} to {high:g}."
    )


class MonitorCallback(keras.callbacks.Callback):
    """Sets the clock, and turns incidents into one error or warning. `MixMo.fit` and `evaluate` add it by themselves."""

    def __init__(self):
        super().__init__()
        self._epoch_steps: int | None = None
        self._executions = 0
        self._warned_of_images = False
        self._in_fit = False

    def on_train_begin(self, logs=None):
        self._in_fit = True
        self._epoch_steps = self.params.get("steps")
        self.model.monitor.clear()

    def on_epoch_begin(self, epoch, logs=None):
        epochs, steps = self.params["epochs"], self._epoch_steps
        # a first epoch of unknown length stands still at its middle, so that a warm-up does not hold the rate at zero
        start, rate = (epoch / epochs, 1 / (epochs * steps)) if steps else ((epoch + 0.5) / epochs, 0.0)
        step = float(ops.convert_to_numpy(self.model.step_counter))
        step -= self.model.steps_to_skip  # of an epoch that goes on in its middle
        self.model.monitor.clock.assign(np.array([start, step, rate], "float32"))
        self._executions, self._first_step = 0, step

    def on_train_batch_end(self, batch, logs=None):
        if self._executions % _CHECK_EVERY == 0:
            self._check()
        self._executions += 1

    def on_epoch_end(self, epoch, logs=None):
        if not self._executions:
            raise ValueError(f"The training dataset is empty: `fit` saw no batch in epoch {epoch + 1}.")
        self._check()
        if not self._epoch_steps:
            self._epoch_steps = int(ops.convert_to_numpy(self.model.step_counter) - self._first_step)

    def on_test_begin(self, logs=None):
        self._test_batches = 0
        if not self._in_fit:
            self.model.monitor.clear()

    def on_test_batch_end(self, batch, logs=None):
        self._test_batches += 1

    def on_test_end(self, logs=None):
        if not self._test_batches:
            raise ValueError("The dataset to evaluate on is empty: `evaluate` saw no batch.")
        self._check()

    def _check(self):
        check(self.model)
        images = self.model.monitor.incident(_IMAGE)
        if images and not self._warned_of_images:
            self._warned_of_images = True
            warnings.warn(
                f"The model expects raw pixels, 0 to 255, and normalises them itself; a batch's values run from "
                f"{images[0]:.4g} to {images[1]:.4g}. Pass raw pixels, or `normalization=None` to turn normalisation off.",
                stacklevel=2,
            )


def check(model) -> None:
    """Raises an error where a step has noted one.

    Raises:
        ValueError: labels out of range.
        FloatingPointError: the loss, or the gradient, became NaN or infinite.
    """
    if keras.backend.backend() == "jax":
        model.jax_state_sync()  # `fit` keeps the variables' values to itself during an epoch
    monitor = model.monitor
    if labels := monitor.incident(_LABEL):
        monitor.clear()
        raise label_error(model.num_classes, *labels)
    if loss := monitor.incident(_LOSS):
        monitor.clear()
        rate = float(ops.convert_to_numpy(model.optimizer.learning_rate))
        raise FloatingPointError(
            f"The loss became NaN or infinite at step {loss[0] + 1:.0f} (learning rate now {rate:.3g}). Training "
            "stopped; the model's weights are not usable. If no image holds NaN, a lower learning rate, a longer "
            "warm-up or gradient clipping help."
        )
