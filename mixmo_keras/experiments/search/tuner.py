"""KerasTuners that say what they do, go on after a kill, and record trials that fail."""

import contextlib
import io
import os
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np

from mixmo_keras import keras_internals
from mixmo_keras.common import arguments, files
from mixmo_keras.common.console import say
from mixmo_keras.experiments.search.hypermodel import MixMoHyperModel
from mixmo_keras.tasks import Classification

CLUSTER = (
    "KERASTUNER_TUNER_ID",
    "KERASTUNER_ORACLE_IP",
    "KERASTUNER_ORACLE_PORT",
)  # the environment of a chief or worker
NEEDED = {  # what KerasTuner reads of its files
    "oracle.json": ("ongoing_trials", "start_order", "end_order", "hyperparameters", "seed"),
    "trial.json": ("trial_id", "hyperparameters", "metrics", "score", "status"),
}
STATE = ("oracle.json", "tuner*.json")  # by which KerasTuner goes on
OBJECTIVES = {"nll": ("val_loss", "min"), "accuracy": Classification.monitor}
TUNERS: dict[str, type[keras_tuner.Tuner]] = {
    "random": keras_tuner.RandomSearch,
    "bayesian": keras_tuner.BayesianOptimization,
    "hyperband": keras_tuner.Hyperband,
}


def tuner(
    hypermodel: MixMoHyperModel,
    kind: str,
    folder: str | os.PathLike,
    max_trials: int | None = None,
    objective: str = "nll",
    max_epochs: int | None = None,
    seed: int = 0,
    fresh: bool = False,
) -> keras_tuner.Tuner:
    """A KerasTuner that prints a line for each trial, goes on after a kill, and records trials that fail.

    Args:
        hypermodel: What is tuned.
        kind: `"random"`, `"bayesian"` or `"hyperband"`.
        folder: Folder to write into. An earlier search that is there is gone on with: finished trials are not run again.
        max_trials: Maximum number of trials. Defaults to 20. Hyperband has its own rule and takes none.
        objective: `"nll"` or `"accuracy"`, on validation data, of the best epoch. The accuracy is that of classes.
        max_epochs: Maximum number of epochs that Hyperband gives a trial. Defaults to 10. The others take none: they give
            every trial the epochs that `search` is told.
        seed: Seed of the choice of trials.
        fresh: Whether to start over: the folder is removed with all that an earlier search left in it. One that holds no
            search is refused.

    Raises:
        ValueError: invalid arguments, a damaged file of an earlier search, a folder that holds no search and would be
            removed, a chief or worker that lacks an address.
    """
    arguments.instance("folder", folder, (str, os.PathLike), "the path of a folder")
    arguments.choice("kind", kind, TUNERS)
    arguments.choice("objective", objective, OBJECTIVES)
    hyperband = kind == "hyperband"
    if max_trials is not None and hyperband:
        raise ValueError(f"`max_trials` has no meaning for Hyperband, which has its own rule; got {max_trials}.")
    if max_epochs is not None and not hyperband:
        raise ValueError(f"`max_epochs` is Hyperband's; got {max_epochs} for {kind!r}: tell `search` how many epochs.")
    if hyperband:
        limit = {"max_epochs": 10 if max_epochs is None else arguments.integer("max_epochs", max_epochs, least=1)}
    else:
        limit = {"max_trials": 20 if max_trials is None else arguments.integer("max_trials", max_trials, least=1)}
    arguments.instance("hypermodel", hypermodel, MixMoHyperModel, "a search.MixMoHyperModel")
    if objective == "accuracy" and hypermodel.task.why_only_classes():
        raise ValueError(
            f"objective 'accuracy' is about one class an image, and the task is {hypermodel.task}: use 'nll'."
        )
    folder, fresh = Path(folder), arguments.boolean("fresh", fresh)
    check_cluster()
    (_check_removable if fresh else _check_project)(folder)
    # it would say "Reloading Tuner from"
    with contextlib.redirect_stdout(io.StringIO()), keras_internals.trials_found_literally():
        made = _reporting(TUNERS[kind])(
            hypermodel,
            objective=keras_tuner.Objective(*OBJECTIVES[objective]),
            directory=str(folder.parent),
            project_name=folder.name,
            overwrite=fresh,
            seed=arguments.integer("seed", seed, least=0),
            max_consecutive_failed_trials=10**6,  # they are recorded, and the search goes on
            **limit,
        )
    made.oracle.verbose = 0
    return made


def check_cluster() -> None:
    """Raises `ValueError` where the environment variables of KerasTuner's distributed search don't fit together."""
    given = {name: os.environ.get(name) for name in CLUSTER}
    if any(given.values()) and not all(given.values()):
        missing = ", ".join(name for name, value in given.items() if not value)
        raise ValueError(
            f"A distributed search needs the environment variables {', '.join(CLUSTER)}: set {missing} too."
        )
    if (port := given["KERASTUNER_ORACLE_PORT"]) and not (port.isdecimal() and 0 < int(port) < 2**16):
        raise ValueError(
            f"The environment variable KERASTUNER_ORACLE_PORT must be a port from 1 to 65535, got {port!r}."
        )


def _check_project(folder: Path) -> None:
    """Raises `ValueError` where a file of KerasTuner's in a search's folder is damaged: it would end in a traceback."""
    advice = "remove the folder, or start over with --fresh"
    for path in sorted(path for pattern in (*STATE, "trial_*/trial.json") for path in folder.glob(pattern)):
        content = files.read_json_object(path, advice)
        if missing := [name for name in NEEDED.get(path.name, ()) if name not in content]:
            raise ValueError(f"{path} is damaged, it has no {', '.join(missing)}: {advice}.")


def _check_removable(folder: Path) -> None:
    """Raises `ValueError` where a folder that a fresh search would remove holds anything but a search."""
    found = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    is_search = any(fnmatch(name, pattern) for name in found for pattern in STATE)
    # trials alone are a search that was killed before it had a state
    others = [name for name in found if not name.startswith("trial_")]
    if others and not is_search:
        raise ValueError(
            f"`folder` must be that of a search to start over in, got {folder}, which would be removed and holds "
            f"{', '.join(others[:3])}: pass a folder of its own."
        )


def score(trial) -> float | None:
    """A trial's objective, `None` where it failed."""
    return trial.score if trial.score is not None and np.isfinite(trial.score) else None


def failure(trial) -> str:
    """Why a trial failed, in a line."""
    return (trial.message or "the objective is NaN").strip().splitlines()[-1][:200]


def settings(trial) -> dict[str, Any]:
    """What was chosen, without what only Hyperband's own bookkeeping needs and what doesn't exist for M = 1."""
    hp = trial.hyperparameters
    return {name: value for name, value in hp.values.items() if not name.startswith("tuner/") and hp.is_active(name)}


def _reporting(base: type[keras_tuner.Tuner]) -> type[keras_tuner.Tuner]:
    class Reporting(base):
        def on_trial_end(self, trial):
            super().on_trial_end(trial)
            say(_line(self.oracle.get_trial(trial.trial_id)))

    return Reporting


def _line(trial) -> str:
    """What is printed of a trial."""
    value = score(trial)
    outcome = f"failed: {failure(trial)}" if value is None else f"{value:.4f} (epoch {trial.best_step + 1})"
    chosen = ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in settings(trial).items()
    )
    return f"trial {trial.trial_id}: {outcome}, {chosen}"
