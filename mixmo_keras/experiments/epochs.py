"""What a run says while it trains, when it will be done and how accurate each member is; and when it ends early."""

import datetime
import time
from collections.abc import Callable, Mapping, Sequence

import keras

from mixmo_keras.common.durations import duration
from mixmo_keras.models.ensemble import EVALUATED_AT_ONCE
from mixmo_keras.training import predicting

WATCHED = 5.0  # seconds of training by which the length of an epoch is estimated


class Expectation(keras.callbacks.Callback):
    """Says how long an epoch takes and when the last one ends: after the first steps, and again after the second epoch.

    The first step is traced and compiled, and validation comes at the end of an epoch: the estimate has neither, the second
    epoch validation.

    Args:
        report: A function that gets each line. Defaults to `print`.
        clock: A function that gives seconds. Defaults to `time.monotonic`.
    """

    def __init__(self, report: Callable[[str], None] = print, clock: Callable[[], float] = time.monotonic):
        super().__init__()
        self._report, self._clock = report, clock
        self._epoch, self._whole_epochs, self._steps = 0, 0, 0
        self._first_step_ended: float | None = None
        self._estimated = self._only_read = False
        self._epoch_began = self._epoch_took = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        if self._whole_epochs == 2:  # here, since Keras' progress bar of an epoch ends after `on_epoch_end`
            self._estimated = True
            left = (self.params["epochs"] - epoch) * self._epoch_took
            self._say(f"an epoch took {duration(self._epoch_took)}, validation included", left)
        self._epoch, self._epoch_began = epoch, self._clock()

    def on_train_batch_begin(self, batch, logs=None):
        self._only_read = self.model.steps_to_skip > 0  # in an epoch that goes on in its middle

    def on_train_batch_end(self, batch, logs=None):
        if self._estimated or self._only_read:
            return
        now = self._clock()
        if self._first_step_ended is None:
            self._first_step_ended = now
            return
        self._steps += 1
        if now - self._first_step_ended < WATCHED or not self.params.get("steps"):
            return
        self._estimated = True
        steps, a_step = self.params["steps"], (now - self._first_step_ended) / self._steps
        left = (self.params["epochs"] - self._epoch) * steps - (batch + 1)
        self._say(f"\nan epoch of {steps:,} steps takes about {duration(steps * a_step)}", left * a_step)

    def on_epoch_end(self, epoch, logs=None):
        self._whole_epochs += 1
        self._epoch_took = self._clock() - self._epoch_began

    def _say(self, what: str, seconds_left: float) -> None:
        end = datetime.datetime.now() + datetime.timedelta(seconds=seconds_left)
        day = "" if end.date() == datetime.date.today() else f"{end:%a %d %b} "
        self._report(f"{what}: epoch {self.params['epochs']} ends in about {duration(seconds_left)}, {day}{end:%H:%M}")


class EarlyStopping(keras.callbacks.Callback):
    """Ends `fit` after some epochs without a new best; what a run has behind it counts, so that one goes on as it was.

    Args:
        patience: The number of epochs.
        monitor: The figure that is watched, such as "val_accuracy".
        mode: Whether its `"max"` or its `"min"` is the best.
        log: The epochs that the run has behind it.
    """

    def __init__(self, patience: int, monitor: str, mode: str, log: Sequence[Mapping[str, float]]):
        super().__init__()
        self._patience, self._monitor = patience, monitor
        self._best = {"max": max, "min": min}[mode]
        self._values = [row[monitor] for row in log]

    def is_over(self) -> bool:
        """Whether the last epochs, as many as `patience`, brought no new best."""
        if not self._values:
            return False
        best = self._values.index(self._best(self._values))
        return len(self._values) - 1 - best >= self._patience

    def on_epoch_end(self, epoch, logs=None):
        self._values.append(logs[self._monitor])
        if self.is_over():
            self.model.stop_training = True


class MemberFigures(keras.callbacks.Callback):
    """Adds what a task watches, such as accuracy, of each member on validation data: `val_member_0_accuracy` and so on.

    It goes before what writes logs, and takes one more pass over the validation data.

    Args:
        validation: Batches of (images, targets).
    """

    def __init__(self, validation):
        super().__init__()
        self._validation = validation

    def on_epoch_end(self, epoch, logs=None):
        if logs is None or self.model.num_members == 1:
            return
        batches = self.model.outputs_by_batch(self._validation, None, EVALUATED_AT_ONCE, None)
        outputs, targets = predicting.sampled(self.model, batches)  # of maps by some pixels of each image
        task = self.model.task
        for member in range(self.model.num_members):
            logs[f"val_member_{member}_{task.watched}"] = task.watch(outputs[:, member], targets)
