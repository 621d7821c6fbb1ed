"""What holds for every test: quiet logs, set before TensorFlow is imported; and random numbers that follow from its name."""

import os
import zlib

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(autouse=True)
def _random_numbers(request):
    """Whatever ran before in the same process, and whatever seed it left behind."""
    import keras

    keras.utils.set_random_seed(zlib.crc32(request.node.nodeid.encode()))
