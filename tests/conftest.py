"""What holds for every test: quiet logs, set before TensorFlow is imported; random numbers that follow from its name."""

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


@pytest.fixture(autouse=True, scope="module")
def _no_garbage():
    """TensorFlow takes the longer to free a model's graphs, the more of them there are: minutes if left to pile up."""
    yield
    gc.collect()
