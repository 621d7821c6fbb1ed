"""Building networks beside others: a copy of one, a dtype policy for a while."""

import contextlib

import keras


@contextlib.contextmanager
def dtype_policy(dtype):
    """Keras' global dtype policy for a while; `None` leaves it as it is."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(before if dtype is None else dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def copy_network(network: keras.Model) -> keras.Model:
    """A network of the same layers and weights that shares nothing with the first."""
    copied = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(network))
    copied.set_weights(network.get_weights())
    return copied
