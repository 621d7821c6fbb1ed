"""Normalisation of raw pixels, which is a layer of the model: what it may be, usual constants, the layer.

A normalisation is (mean, standard deviation) of pixels in [0, 1], each a number or one for each channel; `"auto"`; or
`None` for images that the network takes as they are.
"""

import copy
import logging
from typing import Any

import keras
import numpy as np
from keras import ops

from mixmo_keras import keras_internals
from mixmo_keras.common import arguments
from mixmo_keras.networks.copying import copy_network

_logger = logging.getLogger(__name__)

Statistics = tuple[float | tuple[float, ...], float | tuple[float, ...]]

CIFAR: Statistics = ((0.4914, 0.4824, 0.4467), (0.2023, 0.1994, 0.2010))
IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF: Statistics = (0.5, 0.5)  # [0, 1] becomes [−1, 1]


def checked(normalization: Any) -> Statistics | str | None:
    """Returns a normalisation as plain Python numbers, which a configuration can hold.

    Raises:
        ValueError: the value is no normalisation, is not finite, has a standard deviation that is not positive, or is in
            units of 0 to 255.
    """
    if normalization is None or (isinstance(normalization, str) and normalization == "auto"):
        return normalization
    if not isinstance(normalization, (tuple, list)) or len(normalization) != 2:
        raise ValueError(f'`normalization` must be (mean, std), "auto" or None, got {normalization!r}.')
    mean, std = (_numbers(name, value) for name, value in zip(("mean", "std"), normalization, strict=True))
    if min(_each(std)) <= 0:
        raise ValueError(f"`normalization` must have positive standard deviations, got {std}.")
    if max(_each(mean) + _each(std)) > 1:
        raise ValueError(
            f"`normalization` must be of pixels in [0, 1], got mean {mean} and std {std}: divide what was measured on "
            "pixels from 0 to 255 by 255."
        )
    return mean, std


def statistics(normalization: Any, channels: int) -> tuple[list[float], list[float]] | None:
    """Returns mean and standard deviation of each channel, or `None` where nothing is normalised.

    `"auto"` is CIFAR's for three channels and (0.5, 0.5) for any other number of them, which is logged.
    """
    normalization = checked(normalization)
    if normalization is None:
        return None
    if normalization == "auto":
        normalization = CIFAR if channels == 3 else HALF
        _logger.info("normalization='auto': mean and standard deviation %s for %d channels", normalization, channels)
    mean, std = (list(part) if isinstance(part, tuple) else [part] * channels for part in normalization)
    if len(mean) != channels or len(std) != channels:
        raise ValueError(
            f"`normalization` must have one mean and std, or one for each of {channels} channels; got {normalization}."
        )
    return mean, std


def layer(
    normalization: Any,
    channels: int,
    preprocessing: keras.Model | None = None,
    dtype: keras.DTypePolicy | None = None,
) -> keras.layers.Layer:
    """Returns the layer that takes raw pixels (n, H, W, C) from 0 to 255 to what encoders take.

    Args:
        normalization: (mean, standard deviation), `"auto"` or `None`.
        channels: C.
        preprocessing: The backbone's own, beside which there must be no other.
        dtype: The policy of the layer, which is the encoder's. Defaults to Keras' global one.
    """
    if preprocessing is not None:
        if normalization not in ("auto", None):
            raise ValueError(
                f"`normalization` (={normalization!r}) would normalise images a second time: the backbone has preprocessing "
                f"of its own ({', '.join(one.name for one in preprocessing.operations[1:])}). Leave `normalization` out."
            )
        return Preprocessing(preprocessing, dtype=dtype, name="normalize")
    of_channels = statistics(normalization, channels)
    if of_channels is None:
        return keras.layers.Rescaling(1.0, dtype=dtype, name="normalize")
    mean, std = of_channels
    scale = [1 / (255 * s) for s in std]
    offset = [-m / s for m, s in zip(mean, std, strict=True)]
    return keras.layers.Rescaling(scale, offset, dtype=dtype, name="normalize")


@keras.saving.register_keras_serializable("mixmo_keras")
class Preprocessing(keras.layers.Layer):
    """A network's own preprocessing, of each image, at inference as in training. It is not trained.

    Args:
        network: A built model from raw images (H, W, C) to what encoders take. It is a template: the layer has a copy.

    Call arguments:
        images: (n, H, W, C), or (B, M, H, W, C).
    """

    def __init__(self, network: keras.Model, **kwargs):
        super().__init__(autocast=False, **kwargs)  # pixels from 0 to 255 keep what half precision would round
        arguments.instance("network", network, keras.Model, "a built keras.Model")
        self.network = copy_network(network)
        for layer in keras_internals.flatten_layers(self.network):
            layer.trainable = False

    def call(self, images):
        rows = ops.reshape(images, (-1, *self.network.input_shape[1:]))
        prepared = ops.cast(self.network(rows, training=False), self.compute_dtype)
        return ops.reshape(prepared, (-1, *images.shape[1:-3], *self.network.output_shape[1:]))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-3], *self.network.output_shape[1:])

    def get_config(self):
        return {**super().get_config(), "network": keras.saving.serialize_keras_object(self.network)}

    @classmethod
    def from_config(cls, config):
        network = keras.saving.deserialize_keras_object(copy.deepcopy(config["network"]))
        return cls(**{**config, "network": network})


def _numbers(name: str, value: Any) -> float | tuple[float, ...]:
    """A number, or one for each channel, as Python's."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if isinstance(value, (list, tuple)) and value:
        return tuple(arguments.number(f"normalization's {name}", one) for one in value)
    return arguments.number(f"normalization's {name}", value, otherwise=" or one for each channel")


def _each(part: float | tuple[float, ...]) -> tuple[float, ...]:
    return part if isinstance(part, tuple) else (part,)
