"""Making room when a cluster asks for it: SIGTERM saves a checkpoint and ends the process."""

import signal
import threading

import keras
import numpy as np

from mixmo_keras.common.console import say
from mixmo_keras.training import distribution
from mixmo_keras.training.checkpoint_files import Position, values_of

_ASK_WORKERS_EVERY = 50  # steps: they wait for each other then


class Preemption(keras.callbacks.Callback):
    """Ends a run that gets SIGTERM, as clusters send it to what must make room: saves a checkpoint and exits with 0.

    A context that installs the signal's handler, and a callback to put first: see `Checkpoints.on_sigterm`. One process
    stops after the step at hand; several workers ask each other every 50 steps. In another thread than the main one the
    signal is not handled: the process ends as it does without this.

    Args:
        checkpoints: The `Checkpoints` that saves.
    """

    def __init__(self, checkpoints):
        super().__init__()
        self._checkpoints = checkpoints
        self._received = False
        self._epoch = self._steps_done = 0
        self._metrics: list[np.ndarray] | None = None

    def __enter__(self) -> "Preemption":
        self._received = False
        if threading.current_thread() is threading.main_thread():  # Python lets no other thread handle signals
            self._before = signal.signal(signal.SIGTERM, self._receive)
        return self

    def __exit__(self, *exception) -> None:
        if threading.current_thread() is threading.main_thread():
            # None stands for a handler that was not set from Python
            signal.signal(signal.SIGTERM, signal.SIG_DFL if self._before is None else self._before)

    def _receive(self, number, frame) -> None:
        self._received = True

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._steps_done, self._metrics = epoch, 0, None

    def on_train_batch_end(self, batch, logs=None):
        self._steps_done = batch + 1
        alone = self._num_workers() == 1
        if (alone or self._steps_done % _ASK_WORKERS_EVERY == 0) and self._asked_to_stop():
            self._stop()

    def on_test_begin(self, logs=None):
        self._metrics = values_of(self.model.metrics_variables)  # of the epoch; validation will overwrite them

    def on_test_batch_end(self, batch, logs=None):
        if self._received and self._num_workers() == 1:
            self.model.stop_evaluating = True

    def on_epoch_end(self, epoch, logs=None):
        if self._asked_to_stop():
            self._stop()

    def _asked_to_stop(self) -> bool:
        if self._num_workers() == 1:
            return self._received
        return any(distribution.across_workers(distribution.of_model(self.model), int(self._received)))

    def _num_workers(self) -> int:
        return distribution.num_workers(distribution.of_model(self.model))

    def _stop(self) -> None:
        if self.model.steps_to_skip:  # the newest checkpoint is further than this
            path = self._checkpoints.files().get(self._checkpoints.position)
        else:
            path = self._checkpoints.save(Position(self._epoch, self._steps_done), self._metrics)
        say(f"\nSIGTERM: stopped in epoch {self._epoch + 1} after step {self._steps_done}, saved in {path}.")
        raise SystemExit(0)
