"""A tiny model and targets of each task, for tests and for a process on JAX."""

import keras
import numpy as np
import tiny

import mixmo_keras
from mixmo_keras import tasks
from mixmo_keras.training.checkpoints import Checkpoints

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


METHODS = {
    "single": lambda network, **options: mixmo_keras.SingleNetwork(network, **options),
    "mimo": lambda network, **options: mixmo_keras.MIMO(network, num_members=2, batch_repetitions=1, **options),
    "linear_mixmo": lambda network, **options: mixmo_keras.LinearMixMo(network, batch_repetitions=1, **options),
    "cut_mixmo": lambda network, **options: mixmo_keras.CutMixMo(network, batch_repetitions=1, **options),
    "cosub": lambda network, **options: _cosub(network, **options),
    "deep_ensemble": lambda network, **options: mixmo_keras.DeepEnsemble(
        [mixmo_keras.SingleNetwork(network, **options | {"seed": seed}) for seed in (1, 2)]
    ),
}


def _cosub(network, task, **options):
    """Submodels that teach each other; of numbers, which they can't teach, the same without."""
    if isinstance(task, tasks.Regression):
        return mixmo_keras.CoSub(network, task=task, drop_path=0.0, co_training=None, **options)
    teaching = "softmax" if task.are_maps else "sigmoid"
    own = dict(input_shape=tiny.SHAPE, drop_path=0.2, teaching=teaching, batch_repetitions=1)
    return mixmo_keras.CoSub("wrn10_1", task=task, **own, **options)


def by_method(name: str, method: str, **options):
    """A tiny model of a task by a method, and its targets."""
    task, y = targets_and_tasks()[name]
    before = keras.config.dtype_policy()
    try:  # a backbone is of the policy that it is built under
        keras.config.set_dtype_policy(options.get("dtype", before))
        network = tiny.backbone()
    finally:
        keras.config.set_dtype_policy(before)
    return METHODS[method](network, task=task, augmentation=None, **{"seed": 3} | options), y


def fit(model, y, **options):
    """Trains a model; of a deep ensemble each network."""
    for network in model.networks() if isinstance(model, mixmo_keras.DeepEnsemble) else [model]:
        network.fit(X, y, batch_size=8, shuffle=False, verbose=0, **options)


def resumed(name: str, method: str, folder, callbacks=()):
    """A model after two epochs, which go on from the checkpoints in a folder."""
    made, y = by_method(name, method)
    checkpoints = Checkpoints(folder, every_steps=1)
    position = checkpoints.restore(made)
    fit(made, y, epochs=2, initial_epoch=position.epoch, callbacks=[checkpoints, *callbacks])
    return made
