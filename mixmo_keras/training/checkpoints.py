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

import os
import re
import time
import warnings
from pathlib import Path

import keras
import numpy as np

from mixmo_keras.common import arguments, files, numbering
from mixmo_keras.training import distribution, positions
from mixmo_keras.training.checkpoint_files import DAMAGED, Position, read_of_model, values_of, write
from mixmo_keras.training.incidents import raise_incidents
from mixmo_keras.training.preemption import Preemption


class Checkpoints(keras.callbacks.Callback):
    """Saves all that `fit` would need to go on: the weights, and the variables of optimizer, metrics and monitor.

    A file appears complete or not at all, and the last `keep` stay. Saves when an epoch begins, when training ends, and
    every `every_steps` steps. Several workers all take part, and the first one writes: into a folder that all can read.
    Put it last among the callbacks, after those that change weights, such as `SwapAveragedWeights`.

    Build the model with a `seed`: what is drawn follows from it, and without one differs each time a model is built.

    Args:
        folder: Where the files are, `epoch-0003-step-000120.npz`; made when it is needed.
        every_steps: Also save so often in the middle of an epoch; `None` for not.
        keep: The number of files to keep, at least 1.
    """

    def __init__(self, folder: str | os.PathLike, every_steps: int | None = None, keep: int = 2):
        super().__init__()
        self.folder = Path(arguments.instance("folder", folder, (str, os.PathLike), "the path of a folder"))
        self.every_steps = None if every_steps is None else arguments.integer("every_steps", every_steps, least=1)
        self.keep = arguments.integer("keep", keep, least=1)
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
        saved, damaged = self.files(), []
        for position, path in reversed(saved.items()):
            try:
                header, arrays = read_of_model(path)
            except DAMAGED as error:
                warnings.warn(f"Checkpoint {path} is damaged ({error}); the one before it is tried.", stacklevel=2)
                damaged.append(path)
                continue
            self._load(model, path, header, arrays)
            self.position, self._seconds = position, header["seconds"]
            model.clock.epoch.assign(position.epoch if position.step else max(position.epoch - 1, 0))
            break
        else:
            if saved:
                raise ValueError(f"All checkpoints in {self.folder} are damaged. To start over, remove the folder.")
        if distribution.is_chief(distribution.of_model(model)):
            for half_written in self.folder.glob(f"{files.PART}*.npz"):  # by a run that was killed while it wrote
                half_written.unlink(missing_ok=True)
            for path in damaged:
                os.replace(path, path.with_name(f"{path.name}.damaged"))
        _check_workers_agree(model, self.position, self.folder)
        model.steps_to_skip = self.position.step
        return self.position

    def _load(self, model, path: Path, header: dict, arrays: list[np.ndarray]) -> None:
        model.build_optimizer()
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
        raise_incidents(self.model)
        path = self.folder / f"epoch-{position.epoch:04d}-step-{position.step:06d}.npz"
        variables = _variables(self.model)
        header = {"variables": _described(self.model), "seconds": self.seconds}
        metrics = values_of(self.model.metrics_variables) if metrics is None else metrics
        arrays = values_of(variables) + metrics  # every worker reads: some variables are sums over all of them
        if distribution.is_chief(distribution.of_model(self.model)):
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
        if not self.model.steps_to_skip:  # else once more, if this epoch is interrupted before its first step
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
        self._stop_clock()

    def on_interruption(self, ended: bool):
        """Stops the clock where an error ends training."""
        self._stop_clock()

    def _stop_clock(self) -> None:
        self._seconds, self._started = self.seconds, None


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


# by how many members it has, or by what classes: the way on from a network that is not the same
_BEGIN = (
    "A trained network is what another begins as, not what it is warm-started from: mixmo_keras.from_classifier("
    '"last.keras"), or --backbone RUN/last.keras.'
)


def warm_start(model, path: str | os.PathLike) -> None:
    """Gives a model the weights of a checkpoint (`.npz`) or of a saved model (`.keras`) of its own kind, and nothing else.

    Learned positions of a saved model of another image size are interpolated: see `positions.interpolated`.

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
            header, arrays = read_of_model(path)
        except DAMAGED as error:
            raise ValueError(f"{path} is not a checkpoint, or a damaged one: {error}") from error
        saved = {name: array for (name, _), array in zip(header["variables"], arrays, strict=False)}
    else:
        other = keras.models.load_model(path, compile=False)
        if not isinstance(other, type(model)):
            raise ValueError(
                f"{path} is of another model: a {type(other).__name__}, not a {type(model).__name__}. {_BEGIN}"
            )
        numbering.check_numbers(other.class_names, model.class_names, str(path))
        saved = _weights_for(model, other)
    _assign(weights, saved, path)


def begin_as(model, other) -> None:
    """Gives a model the weights of another of its kind; of another image size, with its learned positions interpolated.

    Raises:
        ValueError: other weights than positions have other shapes.
    """
    _assign(_weights(model), _weights_for(model, other), other.name)


def _weights_for(model, other) -> dict[str, np.ndarray]:
    """The weights of another model by name, with positions as this model has them."""
    named = _weights(other)
    values = dict(zip(named, values_of(named.values()), strict=True))
    return values | positions.interpolated(other, named, model, _weights(model))


def _assign(weights: dict, saved: dict[str, np.ndarray], source) -> None:
    """Gives variables their values by name; raises before any is changed where they don't fit."""
    for name, variable in weights.items():
        if name not in saved or saved[name].shape != tuple(variable.shape):
            raise ValueError(
                f"{source} is of another model: it has no {name} of shape {tuple(variable.shape)}. Of a network of another "
                f"image size, only learned positions are interpolated, from a .keras file. {_BEGIN}"
            )
        if not np.isfinite(saved[name].astype("float64")).all():
            raise ValueError(f"{source} holds NaN or infinite weights ({name}): begin with an earlier checkpoint.")
    for name, variable in weights.items():
        variable.assign(saved[name])


def _of_model(model) -> list:
    """The model's variables that are kept: not the number of the epoch, which the position says."""
    return [variable for variable in model.variables if variable is not model.clock.epoch]


def _variables(model) -> list:
    return [*_of_model(model), *model.optimizer.variables]


def _described(model) -> list[list]:
    """Names and shapes of `_variables`. Names by place: Keras numbers layers differently from process to process."""
    names = [f"model/{index}/{variable.name}" for index, variable in enumerate(_of_model(model))]
    names += [f"optimizer/{index}" for index, _ in enumerate(model.optimizer.variables)]
    return [[name, list(variable.shape)] for name, variable in zip(names, _variables(model), strict=True)]


def _weights(model) -> dict:
    """What training changes, weights and batch norm's averages, by the names of `_described`: no temperatures, no clock."""
    layers = (model.clock, model.incidents, model.average, model.temperature_of_multiplexed)
    others = {id(variable) for layer in layers for variable in layer.variables}
    named = {f"model/{index}/{variable.name}": variable for index, variable in enumerate(_of_model(model))}
    return {name: variable for name, variable in named.items() if id(variable) not in others}


def _check_workers_agree(model, position: Position, folder: Path) -> None:
    strategy = distribution.of_model(model)
    epochs = distribution.across_workers(strategy, position.epoch)
    steps = distribution.across_workers(strategy, position.step)
    if len(set(zip(epochs, steps, strict=True))) > 1:
        found = ", ".join(f"epoch {epoch} step {step}" for epoch, step in zip(epochs, steps, strict=True))
        raise ValueError(
            f"The workers found different checkpoints ({found}): {folder} must be one folder that all share."
        )
