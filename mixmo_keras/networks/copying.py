"""A copy of a network, and the dtype policy under which networks are built."""

import contextlib
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def dtype_policy(dtype: str | keras.DTypePolicy | None) -> Iterator[None]:
    """Sets Keras' global dtype policy until the block ends. `None` leaves it as it is."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(before if dtype is None else dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def copy_network(network: keras.Model) -> keras.Model:
    """Returns a network of the same layers and weights that shares nothing with the first."""
    copied = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(network))
    copied.set_weights(network.get_weights())
    return copied
