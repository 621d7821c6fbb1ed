"""How far `fit` is: told to the compiled step, which can't ask for the epoch, through one small variable."""

import contextlib

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("mixmo_keras")
class Clock(keras.layers.Layer):
    """The variable, read inside the compiled step.

    `reading` is (progress at the epoch's start, the training step then, progress a step); (-1, 0, 0) before any `fit`.
    `epoch` is the epoch's number.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.reading = keras.Variable(
            np.array([-1.0, 0.0, 0.0]),
            trainable=False,
            autocast=False,
            dtype="float32",
            aggregation="mean",
            name="reading",
        )
        self.epoch = keras.Variable(
            0, trainable=False, autocast=False, dtype="int32", aggregation="only_first_replica", name="epoch"
        )
        self._reading_value = None
        self.built = True

    def load_own_variables(self, store):
        if len(store.keys()) == 1:  # a file of a version that did not count epochs
            self.reading.assign(store["0"])
        else:
            super().load_own_variables(store)

    def progress(self, step):
        """Share of training done at a training step, a float32 scalar in [0, 1]; -1 before any `fit`."""
        start, first_step, rate = self._read()
        return ops.minimum(start + rate * (ops.cast(step, "float32") - first_step), 1.0)

    def progress_a_step(self):
        """Share of training that a step is, a float32 scalar; 0 in a first epoch of unknown length."""
        return self._read()[2]

    def _read(self):
        reading = self.reading if self._reading_value is None else self._reading_value
        return ops.unstack(ops.convert_to_tensor(reading), 3)

    @contextlib.contextmanager
    def showing(self, reading):
        """Makes `progress` use a value of the variable: in a stateless scope that doesn't know it."""
        self._reading_value = reading
        try:
            yield
        finally:
            self._reading_value = None


class ClockCallback(keras.callbacks.Callback):
    """Sets the clock when an epoch begins. `MixMo.fit` adds it by itself, as the first one.

    Attributes:
        ended: Whether all epochs were trained.
    """

    def __init__(self):
        super().__init__()
        self.ended = False
        self._steps_per_epoch: int | None = None
        self._first_step = 0

    def on_train_begin(self, logs=None):
        self._steps_per_epoch = self.params.get("steps")
        self.ended = False

    def on_train_end(self, logs=None):
        self.ended = True

    def on_epoch_begin(self, epoch, logs=None):
        epochs, steps = self.params["epochs"], self._steps_per_epoch
        # a first epoch of unknown length stands still at its middle, so that a warm-up does not hold the rate at zero
        start, rate = (epoch / epochs, 1 / (epochs * steps)) if steps else ((epoch + 0.5) / epochs, 0.0)
        self._first_step = self._step() - self.model.steps_to_skip  # of an epoch that goes on in its middle
        self.model.clock.reading.assign(np.array([start, self._first_step, rate], "float32"))
        self.model.clock.epoch.assign(epoch)

    def on_epoch_end(self, epoch, logs=None):
        self._steps_per_epoch = self._steps_per_epoch or self._step() - self._first_step

    def _step(self) -> int:
        return int(ops.convert_to_numpy(self.model.step_counter))
