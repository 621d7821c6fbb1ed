"""Callbacks that wait for a figure that no epoch logs, such as "val_acc": Keras' own only warn of them, after an epoch."""

import difflib
import string

import keras


class MonitorsCallback(keras.callbacks.Callback):
    """Raises before the first step where one of Keras' callbacks monitors a figure that `fit` doesn't log.

    Args:
        callbacks: Those that were passed to `fit`.
        validates: Whether `fit` has validation data.
    """

    def __init__(self, callbacks, validates: bool):
        super().__init__()
        self._callbacks, self._validates = callbacks, validates

    def on_train_begin(self, logs=None):
        needed = [(type(callback).__name__, name) for callback in self._callbacks for name in _figures_needed(callback)]
        if not needed or any(_may_log(callback) for callback in self._callbacks):
            return  # or the names of all figures can't be known
        known = ["loss", *(name for name in self.model.get_metrics_result() if name != "loss")]
        known += [f"val_{name}" for name in known] if self._validates else []
        for callback, name in needed:
            if name not in {*known, "epoch", "batch", "learning_rate"}:
                raise ValueError(f"{callback} needs {name!r}, {self._why_missing(name, known)}")

    def _why_missing(self, name: str, known: list[str]) -> str:
        if name.startswith("val_") and not self._validates:
            return "a figure on validation data: pass `validation_data` or `validation_split` to `fit`."
        alike = difflib.get_close_matches(name, known, n=1)
        advice = f" Did you mean {alike[0]!r}?" if alike else ""
        return f"which `fit` doesn't log; it logs {', '.join(known)}.{advice}"


def _may_log(callback) -> bool:
    """Whether a callback may add figures to those of an epoch: any that isn't Keras' own, and functions."""
    is_of_keras = type(callback).__module__.split(".")[0] == "keras"
    return not is_of_keras or isinstance(callback, keras.callbacks.LambdaCallback)


def _figures_needed(callback) -> set[str]:
    """The names of the figures that a callback of Keras' looks up after each epoch."""
    if not isinstance(callback, keras.callbacks.ModelCheckpoint):
        monitored = getattr(callback, "monitor", None)
        return {monitored} if isinstance(monitored, str) else set()
    if callback.save_freq != "epoch":
        return set()
    in_path = {name for _, name, _, _ in string.Formatter().parse(str(callback.filepath)) if name}
    return in_path | ({callback.monitor} if callback.save_best_only else set())
