"""What a model trains on: images and labels by name, as `tf.data` pipelines. Needs TensorFlow."""

from mixmo_keras.datasets.corrupted import ALEXNET_ERRORS, corrupted_versions, load_corrupted
from mixmo_keras.datasets.pipeline import batches, in_memory, steps_per_epoch
from mixmo_keras.datasets.registry import (
    DATASETS,
    SPLITS,
    Info,
    Source,
    check,
    describe,
    info,
    load,
    load_right,
    tensorflow_dataset,
)

__all__ = [
    "ALEXNET_ERRORS",
    "DATASETS",
    "SPLITS",
    "Info",
    "Source",
    "batches",
    "check",
    "corrupted_versions",
    "describe",
    "in_memory",
    "info",
    "load",
    "load_corrupted",
    "load_right",
    "steps_per_epoch",
    "tensorflow_dataset",
]
