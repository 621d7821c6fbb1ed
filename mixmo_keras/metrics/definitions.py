"""How a metric is defined: statistics of images that can be added up, and the number that follows from them.

A `MetricDefinition` has two methods:

    update(logits, labels, weights) -> statistics      of some images
    result(statistics) -> number                       of the statistics of all of them

The statistics of two sets of images add up to those of both together, so that one definition serves twice: the function of
whole arrays is `result(update(everything))` in NumPy's float64, and the Keras metric (`keras_metrics`) adds statistics batch
by batch and over replicas, in float32 on the device. Ranked metrics (`ranking.RankedDefinition`) need all images side
by side: their statistics are rows that are put one after the other.

Definitions are written in the names that NumPy and `keras.ops` share; `namespace` says which of both an array needs.
"""

import dataclasses
from typing import Any

import numpy as np
import scipy.special
from keras import ops

from mixmo_keras.common import arguments, class_labels

Statistics = dict[str, Any]


class _NumPy:
    """NumPy, with the functions of `keras.ops` that it lacks."""

    log_softmax = staticmethod(scipy.special.log_softmax)
    logsumexp = staticmethod(scipy.special.logsumexp)
    softmax = staticmethod(scipy.special.softmax)

    def cast(self, array, dtype):
        return np.asarray(array).astype(dtype)

    def __getattr__(self, name: str):
        return getattr(np, name)


_NUMPY = _NumPy()


def namespace(array) -> Any:
    """The functions for an array: NumPy's for NumPy's arrays, `keras.ops` for the tensors of a backend."""
    return _NUMPY if isinstance(array, (np.ndarray, np.generic)) else ops


MOST_BINS = 1000  # of a calibration error


@dataclasses.dataclass(frozen=True)
class MetricDefinition:
    """The definition of a metric of images, from their logits and labels.

    Options of a metric are fields of its dataclass. They are counts of at least 1; `num_bins` is at most 1,000, since each
    bin is a sum of its own over all images.

    Attributes:
        of_members: Whether the metric takes the logits of members (n, M, K) rather than those of one network (n, K).
        takes_shares: Whether the function of whole arrays takes shares of the classes (n, K) too.
    """

    of_members = False  # no annotation: an attribute of the class, not an option
    takes_shares = False

    def __post_init__(self):
        for field in dataclasses.fields(self):
            most = MOST_BINS if field.name == "num_bins" else None
            count = arguments.integer(field.name, getattr(self, field.name), least=1, most=most)
            object.__setattr__(self, field.name, count)

    def update(self, logits, labels, weights) -> Statistics:
        """The statistics of some images.

        Args:
            logits: Floats (n, K), or (n, M, K) for `of_members`. They need not be normalised: only their softmax matters.
            labels: Integers (n,), or `None` for metrics that don't use them.
            weights: The weight of each image, floats (n,).
        """
        raise NotImplementedError

    def result(self, statistics: Statistics):
        """The number that the statistics of all images give."""
        raise NotImplementedError

    def statistics_of(self, logits, labels=None) -> Statistics:
        """Checks whole arrays and returns their statistics in float64.

        Raises:
            ValueError: The logits are not finite, or the labels don't fit them.
        """
        logits = arguments.logits("member_logits" if self.of_members else "logits", logits, self.of_members)
        if labels is not None:
            checked = class_labels.integers_or_shares if self.takes_shares else class_labels.integers
            labels = checked("labels", labels, num_classes=logits.shape[-1], count=len(logits))
        return self.update(logits, labels, np.ones(len(logits)))

    def of_arrays(self, logits, labels=None) -> float:
        """The metric of whole arrays; NaN or infinite where it is undefined."""
        statistics = self.statistics_of(logits, labels)
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(self.result(statistics))


class MeanOverImages(MetricDefinition):
    """A metric that is the mean of one value for each image. A subclass defines `values` only."""

    def values(self, logits, labels):
        """The value of each image, (n,)."""
        raise NotImplementedError

    def update(self, logits, labels, weights):
        xp = namespace(logits)
        return {"total": xp.sum(self.values(logits, labels) * weights), "count": xp.sum(weights)}

    def result(self, statistics):
        return mean(statistics["total"], statistics["count"])


# -- functions that several metrics use ----------------------------------------------------------------------------------


def mean(total, count):
    """total / count; 0 before any image, as in Keras' metrics."""
    xp = namespace(total)
    return xp.where(count > 0, total / xp.maximum(count, 1e-30), 0.0)


def probabilities(logits):
    """The softmax over the last axis."""
    xp = namespace(logits)
    if xp is ops:
        return ops.exp(ops.log_softmax(logits, axis=-1))  # Keras' softmax warns of a single class
    return xp.softmax(logits, axis=-1)


def answers(logits):
    """The most probable class (...,) of logits (..., K); the first one where several are equally probable."""
    xp = namespace(logits)  # its argmax returns any of several equal classes on some devices
    classes = xp.arange(logits.shape[-1], dtype="int32")
    return xp.min(xp.where(logits == xp.max(logits, axis=-1, keepdims=True), classes, logits.shape[-1]), axis=-1)


def confidence_and_correctness(logits, labels):
    """The probability of the most probable class (n,), and 1 where it is the right one, 0 elsewhere (n,)."""
    xp = namespace(logits)
    right = answers(logits) == labels
    return xp.max(probabilities(logits), axis=-1), xp.cast(right, logits.dtype)
