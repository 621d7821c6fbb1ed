"""Augmentation policies, drawn for each row from the step's seeds and done on the device: runs repeat and resume exactly.

Tables of operations and magnitudes are those of the papers' code, as torchvision has them.
"""

from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from mixmo_keras.common import arguments
from mixmo_keras.mixing.augmentation import Augmentation
from mixmo_keras.mixing.image_operations import NUMBER, operated
from mixmo_keras.mixing.three_augment import ColorJitter, ThreeAugment  # noqa: F401  public here too

_SIGNED = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness")
_OF_ALL = tuple(name for name in NUMBER if name != "Invert")  # RandAugment's and TrivialAugment's
POLICIES = {
    "cifar10": (
        (("Invert", 0.1, None), ("Contrast", 0.2, 6)),
        (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
        (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
        (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
        (("AutoContrast", 0.5, None), ("Equalize", 0.9, None)),
        (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
        (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
        (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
        (("Equalize", 0.6, None), ("Equalize", 0.5, None)),
        (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
        (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
        (("Equalize", 0.3, None), ("AutoContrast", 0.4, None)),
        (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
        (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
        (("Solarize", 0.5, 2), ("Invert", 0.0, None)),
        (("Equalize", 0.2, None), ("AutoContrast", 0.6, None)),
        (("Equalize", 0.2, None), ("Equalize", 0.6, None)),
        (("Color", 0.9, 9), ("Equalize", 0.6, None)),
        (("AutoContrast", 0.8, None), ("Solarize", 0.2, 8)),
        (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
        (("Solarize", 0.4, 5), ("AutoContrast", 0.9, None)),
        (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
        (("AutoContrast", 0.9, None), ("Solarize", 0.8, 3)),
        (("Equalize", 0.8, None), ("Invert", 0.1, None)),
        (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, None)),
    ),
    "imagenet": (
        (("Posterize", 0.4, 8), ("Rotate", 0.6, 9)),
        (("Solarize", 0.6, 5), ("AutoContrast", 0.6, None)),
        (("Equalize", 0.8, None), ("Equalize", 0.6, None)),
        (("Posterize", 0.6, 7), ("Posterize", 0.6, 6)),
        (("Equalize", 0.4, None), ("Solarize", 0.2, 4)),
        (("Equalize", 0.4, None), ("Rotate", 0.8, 8)),
        (("Solarize", 0.6, 3), ("Equalize", 0.6, None)),
        (("Posterize", 0.8, 5), ("Equalize", 1.0, None)),
        (("Rotate", 0.2, 3), ("Solarize", 0.6, 8)),
        (("Equalize", 0.6, None), ("Posterize", 0.4, 6)),
        (("Rotate", 0.8, 8), ("Color", 0.4, 0)),
        (("Rotate", 0.4, 9), ("Equalize", 0.6, None)),
        (("Equalize", 0.0, None), ("Equalize", 0.8, None)),
        (("Invert", 0.6, None), ("Equalize", 1.0, None)),
        (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
        (("Rotate", 0.8, 8), ("Color", 1.0, 2)),
        (("Color", 0.8, 8), ("Solarize", 0.8, 7)),
        (("Sharpness", 0.4, 7), ("Invert", 0.6, None)),
        (("ShearX", 0.6, 5), ("Equalize", 1.0, None)),
        (("Color", 0.4, 0), ("Equalize", 0.6, None)),
        (("Equalize", 0.4, None), ("Solarize", 0.2, 4)),
        (("Solarize", 0.6, 5), ("AutoContrast", 0.6, None)),
        (("Invert", 0.6, None), ("Equalize", 1.0, None)),
        (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
        (("Equalize", 0.8, None), ("Equalize", 0.6, None)),
    ),
}


class _Policy(Augmentation):
    """Draws operations, bins of magnitudes and signs (B, N) of each row; does them one after the other."""

    num_bins: int
    fill: float

    def __init__(self, fill: float = 128.0, **kwargs):
        super().__init__(**kwargs)
        self.fill = arguments.number("fill", fill, least=0, most=255)

    def magnitudes(self, height: int, width: int) -> np.ndarray:
        """(operations, bins): what each bin is for images of a size, in `image_operations.OPERATIONS`' units."""
        raise NotImplementedError(f"{type(self).__name__} must define `magnitudes`.")

    def apply(self, images, operations, bins, signs):
        """Images (B, H, W, C) after N operations, numbers (B, N), with magnitudes from bins (B, N) and signs, ±1."""
        table = ops.reshape(ops.convert_to_tensor(self.magnitudes(*images.shape[1:3]), "float32"), (-1,))
        signed = ops.convert_to_tensor([name in _SIGNED for name in NUMBER])
        for number in range(operations.shape[1]):
            operation = operations[:, number]
            magnitude = ops.take(table, operation * self.num_bins + bins[:, number])
            magnitude *= ops.where(ops.take(signed, operation), signs[:, number], 1.0)
            images = operated(images, operation, magnitude, self.fill)
        return images

    def get_config(self):
        return {**super().get_config(), "fill": self.fill}


@keras.saving.register_keras_serializable("mixmo_keras")
class TrivialAugment(_Policy):
    """TrivialAugment Wide (Müller and Hutter, ICCV 2021): one operation of fourteen, at one of 31 magnitudes, any as likely.

    Args:
        fill: The value of what comes in from outside an image.
    """

    num_bins = 31

    def draw(self, seed, num_rows):
        """Operations, bins and signs (B, 1)."""
        return (
            _integers(seed, (num_rows, 1), len(_OF_ALL)),
            _integers(seed, (num_rows, 1), self.num_bins),
            _signs(seed, (num_rows, 1)),
        )

    def magnitudes(self, height, width):
        move = (min(32, width), min(32, height))  # the paper's 32 pixels, but no further than a small image is wide
        return _magnitudes(self.num_bins, shear=0.99, move=move, angle=135, factor=0.99, bits=6)


@keras.saving.register_keras_serializable("mixmo_keras")
class RandAugment(_Policy):
    """RandAugment (Cubuk et al., 2019): N operations of fourteen, one after the other, all at one magnitude.

    Args:
        num_operations: N, at most 100.
        magnitude: From 0 to 30.
        fill: The value of what comes in from outside an image.
    """

    num_bins = 31

    def __init__(self, num_operations: int = 2, magnitude: int = 9, fill: float = 128.0, **kwargs):
        super().__init__(fill, **kwargs)
        self.num_operations = arguments.integer("num_operations", num_operations, least=1, most=100)
        self.magnitude = arguments.integer("magnitude", magnitude, least=0, most=self.num_bins - 1)

    def draw(self, seed, num_rows):
        """Operations, bins and signs (B, N)."""
        shape = (num_rows, self.num_operations)
        operations = _integers(seed, shape, len(_OF_ALL))
        return operations, ops.full_like(operations, self.magnitude), _signs(seed, shape)

    def magnitudes(self, height, width):
        return _of_autoaugment(self.num_bins, height, width)

    def get_config(self):
        return {**super().get_config(), "num_operations": self.num_operations, "magnitude": self.magnitude}


@keras.saving.register_keras_serializable("mixmo_keras")
class AutoAugment(_Policy):
    """AutoAugment (Cubuk et al., CVPR 2019): one of 25 pairs of operations, each with a probability and a magnitude.

    Args:
        policy: `"cifar10"` or `"imagenet"`: the data that the pairs were found on.
        fill: The value of what comes in from outside an image.
    """

    num_bins = 10

    def __init__(self, policy: str = "cifar10", fill: float = 128.0, **kwargs):
        super().__init__(fill, **kwargs)
        self.policy = arguments.choice("policy", policy, POLICIES)

    def draw(self, seed, num_rows):
        """Operations, bins and signs (B, 2); an operation that is left out is the identity."""
        pairs = POLICIES[self.policy]
        pair = _integers(seed, (num_rows,), len(pairs))
        of_pair = {
            "operations": [[NUMBER[name] for name, _, _ in one] for one in pairs],
            "bins": [[magnitude or 0 for _, _, magnitude in one] for one in pairs],
        }
        operations, bins = (ops.take(ops.convert_to_tensor(table, "int32"), pair, axis=0) for table in of_pair.values())
        probabilities = ops.convert_to_tensor([[probability for _, probability, _ in one] for one in pairs], "float32")
        done = keras.random.uniform((num_rows, 2), seed=seed) < ops.take(probabilities, pair, axis=0)
        return ops.where(done, operations, NUMBER["Identity"]), bins, _signs(seed, (num_rows, 2))

    def magnitudes(self, height, width):
        return _of_autoaugment(self.num_bins, height, width)

    def get_config(self):
        return {**super().get_config(), "policy": self.policy}


@keras.saving.register_keras_serializable("mixmo_keras")
class RandomErasing(Augmentation):
    """Fills a random part of some images (Zhong et al., AAAI 2020); a square of fixed size is Cutout.

    Args:
        probability: Of each image.
        scale: The least and the greatest share of the image's area.
        ratio: The least and the greatest height by width of the part, in pixels.
        fill: The value that it is filled with, from 0 to 255; rounded for images of integers.
    """

    def __init__(
        self, probability: float = 0.5, scale=(0.02, 0.4), ratio=(0.3, 1 / 0.3), fill: float = 128.0, **kwargs
    ):
        super().__init__(**kwargs)
        self.probability = arguments.number("probability", probability, above=0, most=1)
        self.scale = arguments.bounds("scale", scale, "share of the area within (0, 1]", most=1)
        self.ratio = arguments.bounds("ratio", ratio, "ratio")
        self.fill = arguments.number("fill", fill, least=0, most=255)

    def draw(self, seed, num_rows):
        """Shares of area, heights by widths, places (B, 2) as shares of what is free, and whether to erase: (B,)."""
        area = keras.random.uniform((num_rows,), *self.scale, seed=seed)
        least, greatest = np.log(self.ratio)
        ratio = ops.exp(keras.random.uniform((num_rows,), least, greatest, seed=seed))
        place = keras.random.uniform((num_rows, 2), seed=seed)
        return area, ratio, place, keras.random.uniform((num_rows,), seed=seed) < self.probability

    def apply(self, images, area, ratio, place, erased):
        """Images (B, H, W, C) with a part of whole pixels, no larger than the image, filled where told."""
        height, width = images.shape[1:3]
        high = ops.clip(ops.round(ops.sqrt(area * ratio * height * width)), 1, height)
        wide = ops.clip(ops.round(ops.sqrt(area / ratio * height * width)), 1, width)
        top, left = ops.floor(place[:, 0] * (height - high + 1)), ops.floor(place[:, 1] * (width - wide + 1))
        rows = ops.arange(height, dtype="float32")[None, :]
        columns = ops.arange(width, dtype="float32")[None, :]
        in_rows = ops.logical_and(rows >= top[:, None], rows < (top + high)[:, None])
        in_columns = ops.logical_and(columns >= left[:, None], columns < (left + wide)[:, None])
        part = ops.logical_and(in_rows[:, :, None], in_columns[:, None, :])
        part = ops.logical_and(part, ops.reshape(erased, (-1, 1, 1)))
        of_integers = "int" in keras.backend.standardize_dtype(images.dtype)
        fill = int(self.fill + 0.5) if of_integers else self.fill  # a cast would cut off
        return ops.where(part[..., None], ops.cast(fill, images.dtype), images)

    def move(self, maps, images, border, *drawn):
        """Maps as they are: what is filled still has its label."""
        return maps

    def get_config(self):
        config = {"probability": self.probability, "scale": self.scale, "ratio": self.ratio, "fill": self.fill}
        return {**super().get_config(), **config}


# by name, as recipes choose them
BY_NAME: dict[str, Callable[[], Augmentation]] = {
    "trivial_augment": TrivialAugment,
    "rand_augment": RandAugment,
    "auto_augment_cifar10": lambda: AutoAugment("cifar10"),
    "auto_augment_imagenet": lambda: AutoAugment("imagenet"),
    "three_augment": ThreeAugment,
}


def _of_autoaugment(num_bins: int, height: int, width: int) -> np.ndarray:
    """AutoAugment's and RandAugment's magnitudes; translations as shares of the 331 pixels that they were found on."""
    move = (150 / 331 * width, 150 / 331 * height)
    return _magnitudes(num_bins, shear=0.3, move=move, angle=30, factor=0.9, bits=4)


def _magnitudes(num_bins: int, shear: float, move: tuple[float, float], angle: float, factor: float, bits: int):
    """(operations, bins): from nothing in the first bin to the most in the last."""
    steps = np.linspace(0, 1, num_bins)
    most = dict(ShearX=shear, ShearY=shear, TranslateX=move[0], TranslateY=move[1], Rotate=angle)
    most |= dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), factor)
    table = np.stack([most.get(name, 0.0) * steps for name in NUMBER])
    table[NUMBER["Posterize"]] = 8 - np.round(bits * steps)
    table[NUMBER["Solarize"]] = 255 * (1 - steps)
    return table


def _integers(seed, shape, count: int):
    """Integers from 0 to count − 1, any as likely."""
    return ops.cast(ops.floor(keras.random.uniform(shape, 0, count, seed=seed)), "int32")


def _signs(seed, shape):
    """±1, either as likely."""
    return ops.where(keras.random.uniform(shape, seed=seed) < 0.5, -1.0, 1.0)
