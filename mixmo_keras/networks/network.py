"""What is needed to build networks: a copy of one, a dtype policy for a while, the normalisation of images."""

import contextlib
import logging

import keras

_logger = logging.getLogger(__name__)

CIFAR_NORMALIZATION = ((0.4914, 0.4824, 0.4467), (0.2023, 0.1994, 0.2010))


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


def normalization_layer(normalization, channels: int) -> keras.layers.Layer:
    """The layer that normalises raw pixels, as `MixMo` takes `normalization`: (mean, std), `"auto"` or `None`."""
    if normalization is None:
        return keras.layers.Rescaling(1.0, name="normalize")
    if isinstance(normalization, str):
        if normalization != "auto":
            raise ValueError(f'`normalization` must be (mean, std), "auto" or None, got {normalization!r}.')
        normalization = CIFAR_NORMALIZATION if channels == 3 else (0.5, 0.5)
        _logger.info("normalization='auto': mean and standard deviation %s for %d channels", normalization, channels)
    if not isinstance(normalization, (tuple, list)) or len(normalization) != 2:
        raise ValueError(f'`normalization` must be (mean, std), "auto" or None, got {normalization!r}.')
    mean, std = (
        [float(v) for v in part] if hasattr(part, "__len__") else [float(part)] * channels for part in normalization
    )
    if len(mean) != channels or len(std) != channels:
        raise ValueError(
            f"`normalization` must have one mean and std, or one for each of {channels} channels; got {normalization}."
        )
    if not all(value > 0 for value in std):
        raise ValueError(f"`normalization` must have positive standard deviations, got {std}.")
    scale = [1 / (255 * s) for s in std]
    offset = [-m / s for m, s in zip(mean, std, strict=True)]
    return keras.layers.Rescaling(scale, offset, name="normalize")
