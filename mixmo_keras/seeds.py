"""Random numbers that are a function of (seed, step, replica), so that runs repeat and a killed run resumes where it was."""

import contextlib
import contextvars
import hashlib
import random
from typing import Any

import keras
from keras import ops

from mixmo_keras.common import arguments


def resolve(seed: int | None) -> int:
    """Returns an integer seed as Python's, and for `None` a random one, which `keras.utils.set_random_seed` decides."""
    return random.randint(1, 10**9) if seed is None else arguments.integer("seed", seed)


def replica() -> tuple[Any, int]:
    """The index of the replica that computes this, and how many train in step: (0, 1) outside of a strategy, and on JAX."""
    if keras.backend.backend() != "tensorflow":
        return 0, 1
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context.replica_id_in_sync_group, context.num_replicas_in_sync


def derive(seed: int, *path: str | int) -> int:
    """A 30-bit integer seed that follows from `seed` and a path of labels, the same in every process."""
    digest = hashlib.blake2b("/".join(map(str, (seed, *path))).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") >> 2


class StepSeed(keras.random.SeedGenerator):
    """The seeds of one training step, for `keras.random` functions: a generator without state.

    Where `keras.random.SeedGenerator` counts in a variable, this one computes every seed from the model's seed, the step
    and the replica. `fork` gives independent streams by name, so that one more draw in one place moves no other.
    TensorFlow draws by another algorithm under XLA: `jit_compile` changes what is drawn from the same seeds.

    Args:
        seed: Python integer, the model's seed.
        step: Integer scalar (tensor or Python): the number of the training step.
        replica: Integer scalar: the replica's index among all that train in step.
        epoch: Integer scalar: the number of the epoch, which no seed follows from, for what alternates from epoch to epoch.
    """

    def __init__(self, seed: int, step=0, replica=0, epoch=0):  # no super().__init__: it would create a variable
        self._seed = seed
        self._path: tuple[str, ...] = ()
        self._step = step
        self._replica = replica
        self._epoch = epoch
        self._count = 0

    @property
    def step(self):
        """The number of the training step."""
        return self._step

    @property
    def epoch(self):
        """The number of the epoch."""
        return self._epoch

    def constant(self, label: str) -> int:
        """A 30-bit integer of this stream that is the same in every step, and on every replica."""
        return derive(self._seed, *self._path, label)

    def fork(self, label: str) -> "StepSeed":
        """An independent stream for the draws that `label` names."""
        fork = StepSeed(self._seed, self._step, self._replica, self._epoch)
        fork._path = (*self._path, label)
        return fork

    def uniform(self, shape, low: float = 0.0, high: float = 1.0):
        """float32 numbers from `low` to `high`. A test hands out numbers of its own here."""
        return keras.random.uniform(shape, low, high, seed=self, dtype="float32")

    def normal(self, shape):
        """float32 numbers of mean 0 and standard deviation 1."""
        return keras.random.normal(shape, seed=self, dtype="float32")

    def next(self, ordered: bool = True):
        """The next seed, an integer tensor of shape (2,): (stream and replica, step)."""
        del ordered  # a function of (seed, step, replica) is always ordered
        stream = derive(self._seed, *self._path, self._count)
        self._count += 1
        stream = ops.add(ops.cast(self._replica, "int32"), ops.cast(stream, "int32"))
        seed = ops.stack([stream, ops.cast(self._step, "int32")])
        return ops.cast(seed, "uint32") if keras.backend.backend() == "jax" else seed


_CURRENT: contextvars.ContextVar[StepSeed] = contextvars.ContextVar("the step's seeds")


@contextlib.contextmanager
def drawing(seed: StepSeed):
    """Lets layers deep inside a network draw from a step's seeds, with `current`."""
    token = _CURRENT.set(seed)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current() -> StepSeed:
    """The seeds that `drawing` gives.

    Raises:
        RuntimeError: there is no step around the layer that asks.
    """
    try:
        return _CURRENT.get()
    except LookupError as error:
        raise RuntimeError(
            "A layer draws random numbers outside a training step: call the network within `seeds.drawing(StepSeed(...))`."
        ) from error


def permutations(seed: StepSeed, count: int, size):
    """`count` independent uniform permutations of 0..size-1: integers (count, size)."""
    return ops.argsort(seed.uniform((count, size)), axis=-1)
