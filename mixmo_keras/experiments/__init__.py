"""One run from settings to report, and many: the engine of the recipes, the search, the pilot.

What needs Keras is imported on first use, so that a command line answers `--help`, or says what is wrong with it, at once.
"""

import importlib
import os
from typing import TYPE_CHECKING

from mixmo_keras.experiments.command_line import main, parse, quiet_imports
from mixmo_keras.experiments.recipe import Recipe

if TYPE_CHECKING:
    from mixmo_keras.experiments import tables
    from mixmo_keras.experiments.results import finished_runs, print_table
    from mixmo_keras.experiments.running import build, run, run_missing

__all__ = ["Recipe", "build", "finished_runs", "main", "parse", "print_table", "run", "run_missing", "tables"]

# before TensorFlow is imported: its notes about the machine are no news for who trains on it
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_ON_FIRST_USE = {
    "build": "running",
    "finished_runs": "results",
    "print_table": "results",
    "run": "running",
    "run_missing": "running",
    "tables": "",
}


def __getattr__(name: str):
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module 'mixmo_keras.experiments' has no attribute {name!r}")
    if not _ON_FIRST_USE[name]:
        return importlib.import_module(f"mixmo_keras.experiments.{name}")
    with quiet_imports():
        return getattr(importlib.import_module(f"mixmo_keras.experiments.{_ON_FIRST_USE[name]}"), name)
