"""Means and differences with their standard errors, and when a difference is larger than chance explains.

Values belong to training runs that differ in their seed (one accuracy for each), or to test images (1 where the answer is
right, 0 elsewhere). A difference is paired where both sides have the same seeds or the same images.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SURE = 2  # standard errors
Z_95 = 1.96  # standard errors on either side of a 95 % interval


class Difference(NamedTuple):
    """The mean of a difference, and its standard error."""

    mean: float
    error: float

    @property
    def is_sure(self) -> bool:
        """Whether the difference, of either sign, is larger than two standard errors."""
        return abs(self.mean) > SURE * self.error

    def in_points(self) -> str:
        """The difference with its sign and its standard error, in percentage points, such as "+3.0 ± 1.0"."""
        return f"{100 * self.mean:+.1f} ± {100 * self.error:.1f}"

    def size_in_points(self) -> str:
        """The same without the sign."""
        return f"{100 * abs(self.mean):.1f} ± {100 * self.error:.1f}"


# -- means ---------------------------------------------------------------------------------------------------------------


def mean_and_deviation(values: Sequence[float]) -> tuple[float | None, float | None]:
    """The mean, `None` of no values, and the standard deviation (n − 1 degrees of freedom), `None` of fewer than two."""
    mean = float(np.mean(values)) if len(values) else None
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else None


def standard_error(values) -> float:
    """The standard error of the mean of values (n,); 0 of a single value, whose spread is unknown."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def standard_error_of_share(share: float, count: int) -> float:
    """The binomial standard error of the share of `count` images that are right.

    Where all or none are right the formula would give 0, as if nothing could differ on other images. The variance of an
    image is therefore taken to be at least 1 / count, that of one image which is the exception.
    """
    return math.sqrt(max(share * (1 - share), min(1 / count, 0.25)) / count)


def share_interval(share: float, count: int, z: float = Z_95) -> tuple[float, float]:
    """The interval of the share of `count` images that are right (Wilson, 1927), z standard errors wide."""
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return float(max(middle - half, 0.0)), float(min(middle + half, 1.0))


def accuracy_interval(accuracies: Sequence[float], count: int) -> tuple[float, float]:
    """The 95 % interval of a model's accuracy, from its runs' accuracies on `count` images: over images, and over seeds."""
    mean = float(np.mean(accuracies))
    if len(accuracies) == 1:
        return share_interval(mean, count)
    half = Z_95 * math.hypot(standard_error_of_share(mean, count), standard_error(accuracies))
    return max(mean - half, 0.0), min(mean + half, 1.0)


def is_above_guessing(accuracy: float, chance: float, count: int) -> bool:
    """Whether more of `count` images are right than when each is guessed, right with probability `chance`."""
    return Difference(accuracy - chance, standard_error_of_share(chance, count)).is_sure and accuracy > chance


# -- differences ---------------------------------------------------------------------------------------------------------


def paired(ours, theirs) -> Difference:
    """The mean of ours less theirs, value by value.

    Args:
        ours: Numbers or booleans (n,), of n seeds or n images.
        theirs: The same of the other side, in the same order.
    """
    each = np.asarray(ours, "float64") - np.asarray(theirs, "float64")
    return Difference(float(each.mean()), standard_error(each))


def of_accuracies(ours: Sequence[float], theirs: Sequence[float], counts: tuple[int, int]) -> Difference:
    """How much more accurate one model is than another, where it is unknown which images they answered rightly.

    Args:
        ours: The accuracy of each of our runs. With several, the spread over seeds is part of the error.
        theirs: The accuracy of each of their runs.
        counts: The numbers of images that ours and theirs were tested on.
    """
    over_images = [
        standard_error_of_share(float(np.mean(accuracies)), count)
        for accuracies, count in zip((ours, theirs), counts, strict=True)
    ]
    error = math.hypot(*over_images, standard_error(ours), standard_error(theirs))
    return Difference(float(np.mean(ours) - np.mean(theirs)), error)


def of_answers(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> Difference:
    """How much more accurate one model is than another on the same images, paired image by image.

    Images that both answer alike add nothing to the error, so that it is smaller than that of `of_accuracies`.

    Args:
        ours: For each of our runs, whether the answer to each image is right (n,).
        theirs: The same for each of their runs.
    """
    over_images = paired(np.mean(ours, axis=0), np.mean(theirs, axis=0))
    over_seeds = [standard_error(np.mean(answers, axis=1)) for answers in (ours, theirs)]
    return Difference(over_images.mean, math.hypot(over_images.error, *over_seeds))
