"""KerasTuners that say what they do, go on after a kill, and record trials that fail."""

import contextlib
import io
import os
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np

from mixmo_keras import arguments
from mixmo_keras.experiments.search.hypermodel import MixMoHyperModel

OBJECTIVES = {"nll": ("val_loss", "min"), "accuracy": ("val_accuracy", "max")}
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
        objective: `"nll"` or `"accuracy"`, on validation data, of the best epoch.
        max_epochs: Maximum number of epochs that Hyperband gives a trial. Defaults to 10. The others take none: they give
            every trial the epochs that `search` is told.
        seed: Seed of the choice of trials.
        fresh: Whether to start over.
    """
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
    folder = Path(folder)
    with contextlib.redirect_stdout(io.StringIO()):  # "Reloading Tuner from"
        made = _reporting(TUNERS[kind])(
            hypermodel,
            objective=keras_tuner.Objective(*OBJECTIVES[objective]),
            directory=str(folder.parent),
            project_name=folder.name,
            overwrite=arguments.boolean("fresh", fresh),
            seed=arguments.integer("seed", seed, least=0),
            max_consecutive_failed_trials=10**6,  # they are recorded, and the search goes on
            **limit,
        )
    made.oracle.verbose = 0
    return made


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
            print(_line(self.oracle.get_trial(trial.trial_id)), flush=True)

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
