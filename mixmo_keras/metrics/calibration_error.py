"""Calibration errors: how far confidence is from accuracy. `calibration` fits what corrects it."""

import dataclasses

import keras
import numpy as np

from mixmo_keras.common import arguments
from mixmo_keras.metrics import ranking
from mixmo_keras.metrics.definitions import MetricDefinition, confidence_and_correctness, mean, namespace, probabilities
from mixmo_keras.metrics.keras_metrics import NetworkMetric, RankedMetric


def _bins(confidence, num_bins: int):
    """The number of each confidence's bin, of (0, 1/num_bins], …, (1 − 1/num_bins, 1], in floats."""
    xp = namespace(confidence)
    return xp.clip(xp.ceil(confidence * num_bins) - 1, 0, num_bins - 1)


def _sum_by_bin(values, bins, num_bins: int):
    """Sums over the images of each bin: (num_bins, c) of values (n, c) and bins (n, c) or (n, 1)."""
    xp = namespace(values)
    return xp.stack([xp.sum(xp.where(bins == number, values, 0.0), axis=0) for number in range(num_bins)])


# -- bins of equal width -------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _ExpectedCalibrationError(MetricDefinition):
    num_bins: int = 15

    def update(self, logits, labels, weights):
        confidence, right = confidence_and_correctness(logits, labels)
        rows = namespace(logits).stack([weights, confidence * weights, right * weights], axis=1)
        return {"bins": _sum_by_bin(rows, _bins(confidence, self.num_bins)[:, None], self.num_bins)}

    def result(self, statistics):
        bins = statistics["bins"]  # (num_bins, 3): images, and the sums of their confidence and correctness
        xp = namespace(bins)
        return mean(xp.sum(xp.abs(bins[:, 1] - bins[:, 2])), xp.sum(bins[:, 0]))


def expected_calibration_error(logits, labels, num_bins: int = 15) -> float:
    """Mean distance of confidence and accuracy over `num_bins` equal-width bins of confidence, weighted by their images.

    The bins are (0, 1/num_bins], …, (1 − 1/num_bins, 1], as in MixMo's evaluation; there are at most 1,000.
    """
    return _ExpectedCalibrationError(num_bins).of_arrays(logits, labels)


@keras.saving.register_keras_serializable("mixmo_keras")
class ExpectedCalibrationError(NetworkMetric):
    """`expected_calibration_error` as a Keras metric.

    Args:
        num_bins: As in `expected_calibration_error`. Defaults to 15.
        **options: `of`, `averaging`, `name` and `dtype`, as in `NetworkMetric`.
    """

    def __init__(self, num_bins: int = 15, **options):
        self.definition = _ExpectedCalibrationError(num_bins)
        super().__init__(**options)


def reliability(logits, labels, num_bins: int = 15) -> np.ndarray:
    """The number of images, mean confidence and accuracy of each equal-width bin of confidence: (num_bins, 3), NaN if empty.

    There are at most 1,000 bins.
    """
    bins = _ExpectedCalibrationError(num_bins).statistics_of(logits, labels)["bins"]
    with np.errstate(invalid="ignore"):
        return np.concatenate([bins[:, :1], bins[:, 1:] / bins[:, :1]], axis=1)


@dataclasses.dataclass(frozen=True)
class _ClasswiseCalibrationError(MetricDefinition):
    num_bins: int = 15

    def update(self, logits, labels, weights):
        xp = namespace(logits)
        of_classes = probabilities(logits)
        targets = xp.cast(labels[:, None] == xp.arange(logits.shape[-1], dtype="int32"), logits.dtype)
        gaps = (of_classes - targets) * weights[:, None]
        return {"gaps": _sum_by_bin(gaps, _bins(of_classes, self.num_bins), self.num_bins), "count": xp.sum(weights)}

    def result(self, statistics):
        gaps = statistics["gaps"]  # (num_bins, K)
        xp = namespace(gaps)
        return mean(xp.sum(xp.abs(gaps)) / gaps.shape[1], statistics["count"])


def classwise_calibration_error(logits, labels, num_bins: int = 15) -> float:
    """The expected calibration error of each class's probability, mean over classes (Kull et al., 2019, equation 4).

    There are at most 1,000 bins.
    """
    return _ClasswiseCalibrationError(num_bins).of_arrays(logits, labels)


@keras.saving.register_keras_serializable("mixmo_keras")
class ClasswiseCalibrationError(NetworkMetric):
    """`classwise_calibration_error` as a Keras metric.

    Args:
        num_classes: K.
        num_bins: As in `classwise_calibration_error`. Defaults to 15.
        **options: `of`, `averaging`, `name` and `dtype`, as in `NetworkMetric`.
    """

    def __init__(self, num_classes: int, num_bins: int = 15, **options):
        self.definition = _ClasswiseCalibrationError(num_bins)
        self.num_classes = arguments.integer("num_classes", num_classes, least=1)
        super().__init__(**options)

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}


# -- bins of equally many images -----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _AdaptiveCalibrationError(ranking.RankedDefinition):
    num_bins: int = 15

    def result(self, statistics):
        confidence, right, counted = ranking.in_order(statistics, statistics["confidence"])
        xp = namespace(confidence)
        count = xp.maximum(xp.sum(xp.cast(counted, "int32")), 1)
        bins = xp.minimum(xp.arange(confidence.shape[0], dtype="int32") * self.num_bins // count, self.num_bins - 1)
        gaps = xp.where(counted > 0, confidence - right, 0.0)
        gaps = _sum_by_bin(gaps[:, None], bins[:, None], self.num_bins)
        return xp.sum(xp.abs(gaps)) / xp.cast(count, gaps.dtype)


def adaptive_calibration_error(logits, labels, num_bins: int = 15) -> float:
    """As `expected_calibration_error`, over bins of equally many images: rank i of n falls into bin ⌊i·num_bins/n⌋.

    Images of the same confidence count as their mean, so that the order of the images doesn't matter. There are at most
    1,000 bins.
    """
    return _AdaptiveCalibrationError(num_bins).of_arrays(logits, labels)


@keras.saving.register_keras_serializable("mixmo_keras")
class AdaptiveCalibrationError(RankedMetric):
    """`adaptive_calibration_error` as a Keras metric.

    Args:
        num_bins: As in `adaptive_calibration_error`. Defaults to 15.
        **options: `capacity`, `of`, `averaging`, `name` and `dtype`, as in `keras_metrics.RankedMetric`.
    """

    def __init__(self, num_bins: int = 15, **options):
        self.definition = _AdaptiveCalibrationError(num_bins)
        super().__init__(**options)
