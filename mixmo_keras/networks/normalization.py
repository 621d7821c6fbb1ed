"""Normalisation of raw pixels, which is a layer of the model: what it may be, usual constants, the layer.

A normalisation is (mean, standard deviation) of pixels in [0, 1], each a number or one for each channel; `"auto"`; or
`None` for images that the network takes as they are.
"""

import logging
from typing import Any

import keras
import numpy as np

from mixmo_keras import arguments

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


def layer(normalization: Any, channels: int) -> keras.layers.Layer:
    """Returns the layer that takes raw pixels (n, H, W, C) from 0 to 255 to normalised ones."""
    of_channels = statistics(normalization, channels)
    if of_channels is None:
        return keras.layers.Rescaling(1.0, name="normalize")
    mean, std = of_channels
    scale = [1 / (255 * s) for s in std]
    offset = [-m / s for m, s in zip(mean, std, strict=True)]
    return keras.layers.Rescaling(scale, offset, name="normalize")


def _numbers(name: str, value: Any) -> float | tuple[float, ...]:
    """A number, or one for each channel, as Python's."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if isinstance(value, (list, tuple)) and value:
        return tuple(arguments.number(f"normalization's {name}", one) for one in value)
    return arguments.number(f"normalization's {name}", value, otherwise=" or one for each channel")


def _each(part: float | tuple[float, ...]) -> tuple[float, ...]:
    return part if isinstance(part, tuple) else (part,)
