"""What holds for every test: quiet logs, set before TensorFlow is imported; random numbers that follow from its name."""

import contextlib
import ctypes
import gc
import os
import zlib

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(autouse=True)
def _random_numbers(request):
    """Whatever ran before in the same process, and whatever seed it left behind."""
    import keras

    keras.utils.set_random_seed(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture(autouse=True, scope="session")
def _libraries_stay():
    """Leaves the half million objects of TensorFlow and Keras out of every later search for garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _free_memory():
    """Frees the graphs of a module's models, and gives their memory back: else a process grows by megabytes a model.

    TensorFlow keeps the gradient function of every `tf.custom_gradient` that it ever traced in a registry, and with it the
    graph. Keras' optimizers have one in each step (the sum over replicas, which our models leave out), and so have some of
    its operations. Each has a name of its own and is needed while its graph is traced, not later.
    """
    yield
    from tensorflow.python.framework import ops

    registered = ops.gradient_registry._registry
    for name in [name for name in registered if name.startswith(("CustomGradient-", "PartitionedCall-"))]:
        del registered[name]
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc has it
        ctypes.CDLL(None).malloc_trim(0)
