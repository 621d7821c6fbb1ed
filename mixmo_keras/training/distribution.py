"""Which `tf.distribute` strategy trains, which replica or worker this is, and what workers must agree on.

A model trains under the strategy in whose scope it is built:

    with mixmo_keras.distribution.strategy("auto").scope():
        model = mixmo_keras.CutMixMo(backbone="wrn28_10")
    model.fit(train, epochs=300)

Batch sizes are those of all replicas together. Keras 3 shards a `tf.data.Dataset` by itself: every worker reads the whole
of it and keeps its part of each batch, so that all must see the same order (`datasets.batches` takes a seed).
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from typing import TYPE_CHECKING

import keras

from mixmo_keras.common import arguments

if TYPE_CHECKING:  # imported in the functions that need it: training on JAX does without
    import tensorflow as tf

STRATEGIES = ("auto", "none", "mirrored", "multi_worker")


def strategy(name: str = "auto", num_devices: int | None = None) -> tf.distribute.Strategy:
    """The strategy of a name, for the devices at hand.

    Args:
        name: `"none"`: one device. `"mirrored"`: the devices of this machine. `"multi_worker"`: the machines that the
            environment variable TF_CONFIG lists. `"auto"`: `"multi_worker"` where TF_CONFIG lists several workers, else
            `"mirrored"` where there are several GPUs or `num_devices` asks for several devices, else `"none"`.
        num_devices: How many of this machine's GPUs to use; `None` for all. Where there is no GPU, so many logical devices
            are made of its CPU, to try out what several GPUs would do.

    Raises:
        ValueError: unknown name, no such devices, or TF_CONFIG that can't be read or lists fewer than two workers; several
            devices where Keras runs on another backend than TensorFlow, which knows no such strategies.
        RuntimeError: TensorFlow has started, and its devices can't be divided any more.
    """
    import tensorflow as tf

    arguments.choice("strategy", name, STRATEGIES)
    if num_devices is not None:
        num_devices = arguments.integer("num_devices", num_devices, least=1)
    num_configured = len(_configured_workers())
    several = name in ("mirrored", "multi_worker") or (num_devices or 1) > 1 or (name == "auto" and num_configured > 1)
    if several and (backend := keras.backend.backend()) != "tensorflow":
        raise ValueError(
            f"Strategies of tf.distribute train on TensorFlow, and Keras runs on {backend!r}: pass strategy='none', or set "
            "the environment variable KERAS_BACKEND=tensorflow."
        )
    if name == "multi_worker" and num_configured < 2:
        raise ValueError(
            "strategy 'multi_worker' needs the environment variable TF_CONFIG with at least two workers, such as "
            """'{"cluster": {"worker": ["host0:12345", "host1:12345"]}, "task": {"type": "worker", "index": 0}}'; """
            f"it lists {num_configured}."
        )
    if name == "none" and num_devices not in (None, 1):
        raise ValueError(f"strategy 'none' trains on one device, got num_devices={num_devices}.")
    if name == "multi_worker" or (name == "auto" and num_configured > 1):
        return _multi_worker(num_devices)
    gpus = tf.config.list_physical_devices("GPU")
    if name == "mirrored" or (name == "auto" and (num_devices or len(gpus)) > 1):
        return _mirrored(tuple(_gpus(gpus, num_devices) if gpus else _cpus(num_devices or 1)))
    return tf.distribute.get_strategy()


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    """The strategy of some devices, one for the whole process.

    Each strategy numbers its collectives from the same number on, and TensorFlow keeps the shapes of each number: a second
    strategy of the same devices would wait for ever, or fail with "Shape mismatch in the collective".
    """
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(list(devices))


# -- of a model ----------------------------------------------------------------------------------------------------------


def of_model(model) -> tf.distribute.Strategy | None:
    """The strategy in whose scope a model was built; `None` on JAX, which has no such thing."""
    return getattr(model, "distribute_strategy", None)


def scope(model) -> contextlib.AbstractContextManager:
    """Returns the scope of the model's strategy, in which its new variables must be made; without strategy, one that does
    nothing.
    """
    strategy = of_model(model)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def num_replicas(model) -> int:
    """Replicas that train a model in step."""
    strategy = of_model(model)
    return 1 if strategy is None else strategy.num_replicas_in_sync


# -- of a strategy -------------------------------------------------------------------------------------------------------


def num_workers(strategy: tf.distribute.Strategy | None) -> int:
    """Processes that train in step: 1 but under a multi-worker strategy."""
    if strategy is None:
        return 1
    import tensorflow as tf

    resolver = strategy.cluster_resolver
    if resolver is None or not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 1
    return max(len(workers(resolver.cluster_spec().as_dict())), 1)


def is_chief(strategy: tf.distribute.Strategy | None) -> bool:
    """Whether this process is the one that writes files: the only one, or the first of several workers."""
    if strategy is None or num_workers(strategy) == 1:
        return True
    resolver = strategy.cluster_resolver
    if "chief" in resolver.cluster_spec().as_dict():
        return resolver.task_type == "chief"
    return resolver.task_id == 0


def across_workers(strategy: tf.distribute.Strategy | None, value: int) -> list[int]:
    """Gathers an integer from each worker: returns the list of all workers' integers, the same in every worker.

    All workers must call this at the same point: each waits for the others.
    """
    if strategy is None or num_workers(strategy) == 1:
        return [int(value)]
    import tensorflow as tf

    gathered = _gather(strategy)(tf.constant([value], tf.int64)).numpy()
    replicas_each = len(gathered) // num_workers(strategy)
    return [int(number) for number in gathered[::replicas_each]]


def workers(cluster: dict) -> list[str]:
    """Addresses of the processes that train, of a cluster as TF_CONFIG has it."""
    return [address for job in ("chief", "worker") for address in cluster.get(job, [])]


@functools.cache
def _gather(strategy: tf.distribute.Strategy):
    """The function that gathers a value of each replica, traced once."""
    import tensorflow as tf

    return tf.function(lambda value: strategy.gather(strategy.run(tf.identity, (value,)), axis=0))


def _configured_workers() -> list[str]:
    configuration = os.environ.get("TF_CONFIG")
    if not configuration:
        return []
    try:
        return workers(json.loads(configuration).get("cluster", {}))
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"The environment variable TF_CONFIG must be JSON with a cluster: {error}.") from error


def _multi_worker(num_devices: int | None) -> tf.distribute.Strategy:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus and num_devices is not None:
        _gpus(gpus, num_devices)  # checked
        tf.config.set_visible_devices(gpus[:num_devices], "GPU")
    elif num_devices not in (None, 1):
        raise ValueError(f"num_devices={num_devices}: without GPUs a worker of several has one device, its CPU.")
    return tf.distribute.MultiWorkerMirroredStrategy()


def _gpus(gpus: list, num_devices: int | None) -> list[str]:
    if num_devices is not None and num_devices > len(gpus):
        raise ValueError(f"num_devices={num_devices}, but this machine has {len(gpus)} GPUs.")
    return [f"GPU:{index}" for index in range(num_devices or len(gpus))]


def _cpus(num_devices: int) -> list[str]:
    import tensorflow as tf

    if num_devices > 1:
        (cpu,) = tf.config.list_physical_devices("CPU")
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * num_devices)
        except RuntimeError as error:  # TensorFlow has started
            if len(tf.config.list_logical_devices("CPU")) < num_devices:
                raise RuntimeError(
                    f"num_devices={num_devices}: the CPU can't be divided any more, since TensorFlow has started. Call "
                    "distribution.strategy before anything that computes."
                ) from error
    return [f"CPU:{index}" for index in range(num_devices)]
