"""A tiny model and targets of each task, for tests and for a process on JAX."""

import numpy as np
import tiny

from mixmo_keras import tasks

X, _ = tiny.data(24)


def targets_and_tasks():
    """By name, a task and targets (24, ...)."""
    random = np.random.default_rng(0)
    return {
        "binary": (tasks.Binary(), random.choice([0, 1 / 3, 2 / 3, 1], 24)),
        "multi_label": (tasks.MultiLabel(["cat", "dog", "cow"]), (random.random((24, 3)) < 0.5).astype("int64")),
        "segmentation": (tasks.Segmentation(["a", "b", "c"], width=8), random.choice([0, 1, 2, 255], (24, 8, 8))),
        "regression": (tasks.Regression(2), random.normal([5, 1000], [0.1, 300], (24, 2))),
    }


def model(task, **options):
    defaults = dict(num_classes=None, task=task, augmentation=None, batch_repetitions=1, learning_rate=0.01)
    return tiny.model(**defaults | options)
