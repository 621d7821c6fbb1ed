"""Searching the number of members, the width and the loss weights' root with KerasTuner: each depends on the others.

The hypermodel counts rows, not images: whatever M and b a trial has, a step has as many rows, so that trials of one width
cost the same. Every trial is judged on validation data.
"""

from mixmo_keras.experiments.cost import cost
from mixmo_keras.experiments.search.hypermodel import MixMoHyperModel, Space
from mixmo_keras.experiments.search.results import command, pareto, plot, results, table
from mixmo_keras.experiments.search.tuner import OBJECTIVES, TUNERS, tuner

__all__ = [
    "OBJECTIVES",
    "TUNERS",
    "MixMoHyperModel",
    "Space",
    "command",
    "cost",
    "pareto",
    "plot",
    "results",
    "table",
    "tuner",
]
