"""Checkpoints from which a run that was killed goes on as if it had never stopped, bit for bit on one CPU.

What follows from a seed and the step needs no saving: initial weights, order of the images (`datasets.batches` with
`first_epoch`), augmentation, pairs, masks. What is left are variables, which a checkpoint holds all of, and the position.

    checkpoints = mixmo_keras.checkpoints.Checkpoints("runs/my_run/checkpoints")
    position = checkpoints.restore(model)
    train = datasets.batches(images, 64, training=True, first_epoch=position.epoch)
    with checkpoints.on_sigterm() as preemption:
        model.fit(train, steps_per_epoch=700, epochs=300, initial_epoch=position.epoch,
                  callbacks=[preemption, ..., checkpoints])
"""

import dataclasses
import json
import os
import re
import signal
import time
import warnings
import zipfile
import zlib
from pathlib import Path

import keras
import numpy as np

from mixmo_keras.training.monitor import check

_ASK_WORKERS_EVERY = 50  # steps: they wait for each other then
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)  # what reading such a file raises


@dataclasses.dataclass(frozen=True, order=True)
class Position:
    """Where a run stands: `epoch` epochs and `step` steps of the next one are done."""

    epoch: int = 0
    step: int = 0


class Checkpoints(keras.callbacks.Callback):
    """Saves all that `fit` would need to go on: the weights, and the variables of optimizer, metrics and monitor.

    A file appears complete or not at all, and the last `keep` stay. Saves when an epoch begins, when training ends, and
    every `every_steps` steps. Several workers all take part, and the first one writes: into a folder that all can read.
    Put it last among the callbacks, after those that change weights, such as `keras.callbacks.SwapEMAWeights`.

    Args:
        folder: where the files are, `epoch-0003-step-000120.npz`; made when it is needed.
        every_steps: also save so often in the middle of an epoch; `None` for not.
        keep: the number of files to keep, at least 1.
    """

    def __init__(self, folder: str | os.PathLike, every_steps: int | None = None, keep: int = 2):
        super().__init__()
        if every_steps is not None and every_steps < 1:
            raise ValueError(f"`every_steps` must be at least 1, or None, got {every_steps}.")
        if keep < 1:
            raise ValueError(f"`keep` must be at least 1, got {keep}.")
        self.folder = Path(folder)
        self.every_steps = every_steps
        self.keep = keep
        self.position = Position()
        self._seconds = 0.0
        self._started: float | None = None
        self._metrics: list[np.ndarray] = []

    @property
    def seconds(self) -> float:
        """Time spent in `fit` by this run and by those that it goes on from."""
        return self._seconds + (0.0 if self._started is None else time.monotonic() - self._started)

    def files(self) -> dict[Position, Path]:
        """The checkpoints in the folder by position, the oldest first."""
        found = {}
        for path in self.folder.glob("epoch-*-step-*.npz") if self.folder.exists() else ():
            if match := re.fullmatch(r"epoch-(\d+)-step-(\d+)\.npz", path.name):
                found[Position(*map(int, match.groups()))] = path
        return dict(sorted(found.items()))

    def restore(self, model) -> Position:
        """Loads the newest checkpoint into a compiled model of the same kind.

        A damaged one is passed over with a warning, and renamed, `.damaged`, once another has been loaded.

        Returns:
            Where to go on: for `initial_epoch` of `fit` and `first_epoch` of `datasets.batches`. `fit` passes over the
            steps of a position in the middle of an epoch by itself. (0, 0) where there is no checkpoint.

        Raises:
            ValueError: the files are of another model, all of them are damaged, or workers found different ones.
        """
        files, damaged = self.files(), []
        for position, path in reversed(files.items()):
            try:
                header, arrays = read(path)
            except _DAMAGED as error:
                warnings.warn(f"Checkpoint {path} is damaged ({error}); the one before it is tried.", stacklevel=2)
                damaged.append(path)
                continue
            self._load(model, path, header, arrays)
            self.position, self._seconds = position, header["seconds"]
            break
        else:
            if files:
                raise ValueError(f"All checkpoints in {self.folder} are damaged. To start over, remove the folder.")
        if _writes(model):
            for half_written in self.folder.glob(".*.npz.part"):  # by a run that was killed while it wrote
                half_written.unlink(missing_ok=True)
            for path in damaged:
                os.replace(path, path.with_name(f"{path.name}.damaged"))
        _check_workers_agree(model, self.position, self.folder)
        model.steps_to_skip = self.position.step
        return self.position

    def _load(self, model, path: Path, header: dict, arrays: list[np.ndarray]) -> None:
        model._build_optimizer()
        variables = _variables(model)
        expected = _described(model)
        if header["variables"] != expected:
            saved = dict(header["variables"])
            other = next((name for name, shape in expected if saved.get(name) != shape), "none of this one's")
            raise ValueError(
                f"Checkpoint {path} is of another model or optimizer: it has {len(saved)} variables, this one "
                f"{len(expected)}; the first that differs is {other}."
            )
        for variable, array in zip(variables, arrays, strict=False):
            variable.assign(array)
        self._metrics = arrays[len(variables) :]

    def save(self, position: Position, metrics: list[np.ndarray] | None = None) -> Path:
        """Writes a checkpoint of the model in training. `metrics` are their variables' values, if not the present ones.

        Raises:
            FloatingPointError: the loss has become NaN; nothing is written then.
        """
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()
        check(self.model)
        path = self.folder / f"epoch-{position.epoch:04d}-step-{position.step:06d}.npz"
        variables = _variables(self.model)
        header = {"variables": _described(self.model), "seconds": self.seconds}
        metrics = _values(self.model.metrics_variables) if metrics is None else metrics
        arrays = _values(variables) + metrics  # every worker reads: some variables are sums over all of them
        if _writes(self.model):
            write(path, header, arrays)
            for old in list(self.files().values())[: -self.keep]:
                old.unlink(missing_ok=True)
        self.position = position
        return path

    def on_sigterm(self) -> "Preemption":
        """A context for `fit`, and a callback to put first: on SIGTERM saves a checkpoint and ends the process with 0."""
        return Preemption(self)

    # -- during `fit` ------------------------------------------------------------------------------------------------------

    def on_train_begin(self, logs=None):
        if newer := [path for position, path in self.files().items() if position > self.position]:
            raise ValueError(
                f"{newer[-1]} is of a run that has come further than this one, whose checkpoints would be lost beside it. "
                "Call `restore` before `fit` to go on from it, or choose another folder."
            )
        self._started = time.monotonic()
        self._epoch: int | None = None

    def on_epoch_begin(self, epoch, logs=None):
        if self._metrics and self.model.steps_to_skip:
            for variable, value in zip(self.model.metrics_variables, self._metrics, strict=True):
                variable.assign(value)
        self._metrics = []
        if self._epoch is not None:  # not the epoch that was just restored
            self.save(Position(epoch))
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        assert self._epoch is not None
        here = Position(self._epoch, batch + 1)
        if self.every_steps and here > self.position:
            since = self.position.step if self.position.epoch == here.epoch else 0
            if here.step // self.every_steps > since // self.every_steps:
                self.save(here)

    def on_train_end(self, logs=None):
        if self._epoch is not None:
            self.save(Position(self._epoch + 1))
        assert self._started is not None
        self._seconds, self._started = self.seconds, None


class Preemption(keras.callbacks.Callback):
    """Ends a run that gets SIGTERM, as clusters send it to what must make room: saves a checkpoint and exits with 0.

    A context that installs the signal's handler, and a callback to put first: see `Checkpoints.on_sigterm`. One process
    stops after the step at hand; several workers ask each other every 50 steps.
    """

    def __init__(self, checkpoints: Checkpoints):
        super().__init__()
        self._checkpoints = checkpoints
        self._received = False
        self._epoch = self._steps_done = 0
        self._metrics: list[np.ndarray] | None = None

    def __enter__(self) -> "Preemption":
        self._before = signal.signal(signal.SIGTERM, self._receive)
        return self

    def __exit__(self, *exception) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def _receive(self, number, frame) -> None:
        self._received = True

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._steps_done, self._metrics = epoch, 0, None

    def on_train_batch_end(self, batch, logs=None):
        self._steps_done = batch + 1
        alone = _num_workers(self.model) == 1
        if (alone or self._steps_done % _ASK_WORKERS_EVERY == 0) and self._asked_to_stop():
            self._stop()

    def on_test_begin(self, logs=None):
        self._metrics = _values(self.model.metrics_variables)  # of the epoch; validation will overwrite them

    def on_test_batch_end(self, batch, logs=None):
        if self._received and _num_workers(self.model) == 1:
            self.model.stop_evaluating = True

    def on_epoch_end(self, epoch, logs=None):
        if self._asked_to_stop():
            self._stop()

    def _asked_to_stop(self) -> bool:
        if _num_workers(self.model) == 1:
            return self._received
        from mixmo_keras.training import distribution

        return any(distribution.across_workers(self.model.distribute_strategy, int(self._received)))

    def _stop(self) -> None:
        if self.model.steps_to_skip:  # the newest checkpoint is further than this
            path = self._checkpoints.files().get(self._checkpoints.position)
        else:
            path = self._checkpoints.save(Position(self._epoch, self._steps_done), self._metrics)
        print(
            f"\nSIGTERM: stopped in epoch {self._epoch + 1} after step {self._steps_done}, saved in {path}.", flush=True
        )
        raise SystemExit(0)


class Skipping:
    """A train function that passes over the next `model.steps_to_skip` steps: those that a checkpoint has in it already.

    Their batches are read and dropped, so that the ones after them are those that the interrupted run would have seen.
    """

    def __init__(self, model, function):
        self.model, self.function = model, function

    @classmethod
    def of(cls, model, function):
        return function if isinstance(function, cls) else cls(model, function)

    def __call__(self, *state_and_iterator):
        model = self.model
        if model.steps_to_skip <= 0:
            return self.function(*state_and_iterator)
        *state, iterator = state_and_iterator
        for _ in range(model.steps_per_execution):
            next(iterator)
            model.steps_to_skip -= 1
        if not state:
            return model.get_metrics_result()
        metrics = zip(model.metrics_variables, state[0][-1], strict=True)  # JAX: the variables are empty meanwhile
        with keras.StatelessScope(state_mapping=list(metrics)):
            return model.get_metrics_result(), *state


def write(path: Path, header: dict, arrays: list[np.ndarray]) -> None:
    """Writes a header (JSON) and arrays as an npz file, beside it first and then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {**header, "dtypes": [array.dtype.name for array in arrays]}
    part = path.with_name(f".{path.name}.part")
    try:
        with open(part, "wb") as file:
            named = {f"a{index}": array for index, array in enumerate(arrays)}
            np.savez(file, header=np.array(json.dumps(header)), **named)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read(path: str | os.PathLike) -> tuple[dict, list[np.ndarray]]:
    """The header and the arrays of `write`; every array's checksum is compared on the way."""
    with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
        header = json.loads(str(file["header"]))
        arrays = [file[f"a{index}"] for index in range(len(header["dtypes"]))]
    # NumPy writes types that it doesn't know, such as bfloat16, as plain bytes
    return header, [array.view(np.dtype(name)) for array, name in zip(arrays, header["dtypes"], strict=True)]


def warm_start(model, path: str | os.PathLike) -> None:
    """Gives a model the weights of a checkpoint (`.npz`) or of a saved model (`.keras`), and nothing else of it.

    Optimizer, step and schedule begin anew: for a run that diverged, to start again from weights that were good, with a
    lower learning rate.

    Raises:
        ValueError: the file is of another model, or can't be read.
    """
    weights = _weights(model)
    suffix = Path(path).suffix
    if suffix not in (".npz", ".keras"):
        raise ValueError(f"A warm start takes a checkpoint (.npz) or a saved model (.keras), got {path}.")
    if suffix == ".npz":
        try:
            header, arrays = read(path)
        except _DAMAGED as error:
            raise ValueError(f"{path} is not a checkpoint, or a damaged one: {error}") from error
        saved = {name: array for (name, _), array in zip(header["variables"], arrays, strict=False)}
    else:
        other = keras.models.load_model(path, compile=False)
        if not isinstance(other, type(model)):
            raise ValueError(f"{path} is of another model: a {type(other).__name__}, not a {type(model).__name__}.")
        named = _weights(other)
        saved = dict(zip(named, _values(named.values()), strict=True))
    for name, variable in weights.items():
        if name not in saved or saved[name].shape != tuple(variable.shape):
            raise ValueError(f"{path} is of another model: it has no {name} of shape {tuple(variable.shape)}.")
    for name, variable in weights.items():
        variable.assign(saved[name])


def _variables(model) -> list:
    return [*model.variables, *model.optimizer.variables]


def _described(model) -> list[list]:
    """Names and shapes of `_variables`. Names by place: Keras numbers layers differently from process to process."""
    names = [f"model/{index}/{variable.name}" for index, variable in enumerate(model.variables)]
    names += [f"optimizer/{index}" for index, _ in enumerate(model.optimizer.variables)]
    return [[name, list(variable.shape)] for name, variable in zip(names, _variables(model), strict=True)]


def _weights(model) -> dict:
    """What the model predicts with, weights and batch norm's averages, by the names of `_described`."""
    monitor = {id(variable) for variable in model.monitor.variables}
    named = {f"model/{index}/{variable.name}": variable for index, variable in enumerate(model.variables)}
    return {name: variable for name, variable in named.items() if id(variable) not in monitor}


def _values(variables) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def _num_workers(model) -> int:
    if not hasattr(model, "distribute_strategy"):
        return 1
    from mixmo_keras.training import distribution

    return distribution.num_workers(model.distribute_strategy)


def _writes(model) -> bool:
    if not hasattr(model, "distribute_strategy"):
        return True
    from mixmo_keras.training import distribution

    return distribution.is_chief(model.distribute_strategy)


def _check_workers_agree(model, position: Position, folder: Path) -> None:
    if _num_workers(model) == 1:
        return
    from mixmo_keras.training import distribution

    strategy = model.distribute_strategy
    epochs = distribution.across_workers(strategy, position.epoch)
    steps = distribution.across_workers(strategy, position.step)
    if len(set(zip(epochs, steps, strict=True))) > 1:
        found = ", ".join(f"epoch {epoch} step {step}" for epoch, step in zip(epochs, steps, strict=True))
        raise ValueError(
            f"The workers found different checkpoints ({found}): {folder} must be one folder that all share."
        )
