"""What DeiT III and cosub augment images by besides crops and flips: 3-Augment, and colour jitter behind it."""

import keras
from keras import ops

from mixmo_keras.common import arguments
from mixmo_keras.mixing import image_operations
from mixmo_keras.mixing.augmentation import Augmentation

_REACH = 6  # pixels: three of the largest standard deviation


@keras.saving.register_keras_serializable("mixmo_keras")
class ThreeAugment(Augmentation):
    """3-Augment (Touvron et al., 2022, "DeiT III"): each image becomes grey, is solarised or is blurred, a third each.

    Args:
        threshold: The value from which on pixels are inverted.
        blur: The least and the greatest standard deviation of the Gaussian blur, in pixels.
    """

    def __init__(self, threshold: float = 128.0, blur=(0.1, 2.0), **kwargs):
        super().__init__(**kwargs)
        self.threshold = arguments.number("threshold", threshold, least=0, most=255)
        self.blur = arguments.bounds("blur", blur, "standard deviation in pixels", most=_REACH / 3)

    def draw(self, seed, num_rows):
        """Which of the three (B,), from 0 to 2; and standard deviations of the blur (B,)."""
        choices = ops.cast(ops.floor(keras.random.uniform((num_rows,), 0, 3, seed=seed)), "int32")
        return choices, keras.random.uniform((num_rows,), *self.blur, seed=seed)

    def apply(self, images, choices, deviations):
        """Images (B, H, W, C), each as drawn; (B,) both."""
        pixels = ops.cast(images, "float32")
        choices = ops.reshape(choices, (-1, 1, 1, 1))
        solarised = ops.where(pixels < self.threshold, pixels, 255.0 - pixels)
        changed = ops.where(choices == 1, solarised, _blurred(pixels, deviations))
        return _as(images, ops.where(choices == 0, image_operations.grey(pixels), changed))

    def get_config(self):
        return {**super().get_config(), "threshold": self.threshold, "blur": self.blur}


@keras.saving.register_keras_serializable("mixmo_keras")
class ColorJitter(Augmentation):
    """Changes brightness, contrast and colour of each image, in random order, each by a factor from 1 − s to 1 + s.

    Args:
        strength: s, above 0 and at most 1; 0.3 in DeiT III.
    """

    def __init__(self, strength: float = 0.3, **kwargs):
        super().__init__(**kwargs)
        self.strength = arguments.number("strength", strength, above=0, most=1)

    def draw(self, seed, num_rows):
        """The order (B, 3), of 0 for brightness, 1 for contrast and 2 for colour; and the factors (B, 3) in this order."""
        order = ops.argsort(keras.random.uniform((num_rows, 3), seed=seed), axis=-1)
        factors = keras.random.uniform((num_rows, 3), 1 - self.strength, 1 + self.strength, seed=seed)
        return ops.cast(order, "int32"), factors

    def apply(self, images, order, factors):
        """Images (B, H, W, C) after three changes, as drawn."""
        pixels = ops.cast(images, "float32")
        for number in range(3):
            change, factor = (ops.reshape(drawn[:, number], (-1, 1, 1, 1)) for drawn in (order, factors))
            grey = image_operations.grey(pixels)
            other = ops.where(change == 1, image_operations.mean_grey(grey), grey)
            pixels = image_operations.extrapolated(pixels, ops.where(change == 0, 0.0, other), factor)
        return _as(images, pixels)

    def get_config(self):
        return {**super().get_config(), "strength": self.strength}


def _blurred(pixels, deviations):
    """Pixels (B, H, W, C) blurred by a Gaussian of each row's standard deviation; the border's pixels go on outside."""
    offsets = ops.arange(-_REACH, _REACH + 1)
    squares = ops.square(ops.cast(offsets, "float32"))
    weights = ops.softmax(-squares[None, :] / (2 * ops.square(deviations)[:, None]), axis=-1)  # (B, offsets)
    for axis in (1, 2):
        length = pixels.shape[axis]
        shifted = [
            ops.take(pixels, ops.clip(ops.arange(length) + offset, 0, length - 1), axis=axis)
            for offset in range(-_REACH, _REACH + 1)
        ]
        pixels = sum(ops.reshape(weights[:, i], (-1, 1, 1, 1)) * part for i, part in enumerate(shifted))
    return pixels


def _as(images, pixels):
    """Pixels in the images' dtype, rounded for integers."""
    of_integers = keras.backend.is_int_dtype(images.dtype)
    return ops.cast(ops.clip(ops.round(pixels), 0, 255) if of_integers else pixels, images.dtype)
