"""What an error or Ctrl-C in the midst of `fit` or `evaluate` leaves behind: the weights of the steps that were taken, only.

Where training ends by an error, Keras calls no callback any more. So the methods that train and evaluate undo here what was
for the time of their call alone.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import keras

from mixmo_keras import keras_internals
from mixmo_keras.training import steps
from mixmo_keras.training.checkpoint_files import values_of
from mixmo_keras.training.progress import ClockCallback


@contextlib.contextmanager
def undone(model, callbacks: Any = ()) -> Iterator[None]:
    """Undoes, where the block raises, what is for the time of the block alone; says clearly where shapes differ.

    Put back are the clock, frozen layers, steps to skip, what was noted of bad data, metrics, and what Keras keeps between
    epochs. A callback with a method `on_interruption(ended)` is told; `ended` says whether all epochs were trained.

    Args:
        model: An `Ensemble`.
        callbacks: Of the call. A `CallbackList` is that of a `fit` around, which undoes more.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        yield
        return
    before = _state_of(model)
    try:
        with (
            keras_internals.state_of_fit(model),
            keras_internals.variables_stay(model),
            steps.clear_shape_errors(model),
        ):
            yield
    except BaseException:
        _put_back(model, before)
        _tell(callbacks)
        raise


def _state_of(model) -> dict[str, Any]:
    if not hasattr(model, "clock"):
        return {}
    return {"clock": values_of([model.clock.reading]), "steps_to_skip": model.steps_to_skip}


def _put_back(model, before: dict[str, Any]) -> None:
    model.incidents.clear()
    if model.compiled:
        model.reset_metrics()
    if not before:
        return
    model.clock.reading.assign(before["clock"][0])
    if model.steps_to_skip:  # no step was taken yet: all are to be skipped again
        model.steps_to_skip = before["steps_to_skip"]
    if model.core_frozen:
        model.core_frozen, model.train_function = False, None


def _tell(callbacks: Iterable) -> None:
    callbacks = list(callbacks or ())
    ended = any(callback.ended for callback in callbacks if isinstance(callback, ClockCallback))
    for callback in callbacks:
        if hasattr(callback, "on_interruption"):
            callback.on_interruption(ended)
