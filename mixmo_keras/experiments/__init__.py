"""One run from settings to report, and many: the engine of the recipes, the search, the pilot."""

from mixmo_keras.experiments import tables
from mixmo_keras.experiments.building import build
from mixmo_keras.experiments.command_line import main, parse
from mixmo_keras.experiments.recipe import Recipe
from mixmo_keras.experiments.results import finished_runs, print_table
from mixmo_keras.experiments.running import run, run_missing

__all__ = ["Recipe", "build", "finished_runs", "main", "parse", "print_table", "run", "run_missing", "tables"]
