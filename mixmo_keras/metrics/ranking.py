"""Metrics that rank images by confidence: whether a network knows when it errs."""

import keras
import numpy as np

from mixmo_keras.common.undefined import nan_where
from mixmo_keras.metrics.definitions import MetricDefinition, confidence_and_correctness, namespace
from mixmo_keras.metrics.keras_metrics import RankedMetric


class RankedDefinition(MetricDefinition):
    """A metric that ranks all images, which can't be computed from sums.

    Its statistics are rows, one for each image: `confidence`; `right`, 1 or 0; and `counted`, 0 for images of weight 0 and
    for the rows of a Keras metric that are still empty, 1 for all others. The rows of two sets of images are concatenated.
    """

    def update(self, logits, labels, weights):
        confidence, right = confidence_and_correctness(logits, labels)
        counted = namespace(logits).cast(weights > 0, logits.dtype)
        return {"confidence": confidence, "right": right, "counted": counted}


def confidence_and_right(logits, labels) -> tuple[np.ndarray, np.ndarray]:
    """The probability of the most probable class (n,), and whether it is the right one (n,)."""
    rows = RankedDefinition().statistics_of(logits, labels)
    return rows["confidence"], rows["right"] > 0


def _behind_all(keys) -> float:
    """A number that is greater than all keys: rows that don't count are sorted behind the others by it.

    Tensors are probabilities, of Keras metrics; `enable_check_numerics` would stop at a constant of infinity in their graph.
    """
    return float("inf") if isinstance(keys, np.ndarray) else 2.0


def in_order(statistics, keys):
    """Sorts by rising keys: the keys, the mean of `right` over equal keys, and `counted`, whose zeros come last."""
    xp = namespace(keys)
    right, counted = statistics["right"], statistics["counted"]
    keys = xp.where(counted > 0, keys, _behind_all(keys))
    order = xp.argsort(keys)
    keys, right, counted = (xp.take(values, order) for values in (keys, right, counted))
    sums = xp.concatenate([xp.zeros((1,), dtype=keys.dtype), xp.cumsum(right)])
    first, last = (xp.searchsorted(keys, keys, side=side) for side in ("left", "right"))
    mean = (xp.take(sums, last) - xp.take(sums, first)) / xp.cast(xp.maximum(last - first, 1), keys.dtype)
    return keys, mean, counted


# -- detecting by a score ------------------------------------------------------------------------------------------------


class _Detection(RankedDefinition):
    """How well low confidence finds wrong answers; NaN where no answer is wrong, or all are."""

    def result(self, statistics):
        confidence, right, counted = (statistics[name] for name in ("confidence", "right", "counted"))
        xp = namespace(confidence)
        kinds = [(counted > 0) & of_kind for of_kind in (right > 0, right == 0)]
        rights, wrongs = (xp.sort(xp.where(kind, confidence, _behind_all(confidence))) for kind in kinds)
        num_rights, num_wrongs = (xp.sum(xp.cast(kind, "int32")) for kind in kinds)
        of_wrongs = self.of_wrongs(rights, wrongs, num_rights)
        total = xp.sum(xp.where(xp.arange(wrongs.shape[0], dtype="int32") < num_wrongs, of_wrongs, 0.0))
        value = total / xp.cast(xp.maximum(num_wrongs, 1), confidence.dtype)
        return nan_where((num_rights == 0) | (num_wrongs == 0), value)

    def of_wrongs(self, rights, wrongs, num_rights):
        """The value of each wrong answer, whose mean is the metric.

        Args:
            rights: The rising confidences of right answers, and behind them greater numbers.
            wrongs: The same of wrong answers.
            num_rights: The number of right answers.
        """
        raise NotImplementedError


def _number_below(values, rising, side: str = "left"):
    """How many of `rising` are below each value; with `side="right"`, how many are not above it."""
    xp = namespace(values)
    return xp.cast(xp.searchsorted(rising, values, side=side), values.dtype)


class _ErrorAUROC(_Detection):
    def of_wrongs(self, rights, wrongs, num_rights):
        xp = namespace(wrongs)
        below = (_number_below(wrongs, rights) + _number_below(wrongs, rights, "right")) / 2
        return 1 - below / xp.cast(xp.maximum(num_rights, 1), wrongs.dtype)


class _ErrorAUPR(_Detection):
    def of_wrongs(self, rights, wrongs, num_rights):
        # the threshold is the confidence of each wrong answer
        true_positives, false_positives = (_number_below(wrongs, rising, "right") for rising in (wrongs, rights))
        return true_positives / (true_positives + false_positives)


class _ErrorFPR95(_Detection):
    def of_wrongs(self, rights, wrongs, num_rights):
        xp = namespace(wrongs)
        accepted_from = xp.take(rights, num_rights // 20)  # below it are at most 5 % of the right ones
        return xp.cast(wrongs >= accepted_from, wrongs.dtype)


def detection(scores, positives) -> dict[str, float]:
    """How well a score tells positives (errors, images out of distribution) from the rest.

    Args:
        scores: (n,), higher for images that are more likely positive.
        positives: (n,) booleans.

    Returns:
        `auroc`; `aupr`, the average precision of finding the positives; `fpr95`, the share of the positives that is accepted
        where 95 % of the rest is. NaN where there are no positives, or nothing else.
    """
    scores, positives = np.asarray(scores, "float64"), np.asarray(positives)
    if not np.isin(positives, (0, 1)).all():
        raise ValueError(f"`positives` must be booleans (n,), got {positives[~np.isin(positives, (0, 1))][0]!r}.")
    positives = positives.astype(bool)
    if scores.ndim != 1 or scores.shape != positives.shape or not len(scores):
        raise ValueError(
            f"`scores` and `positives` must be (n,) both, n of at least 1, got {scores.shape} and {positives.shape}."
        )
    if not np.isfinite(scores).all():
        raise ValueError(f"`scores` must be finite, got {scores[~np.isfinite(scores)][0]}.")
    rows = {"confidence": -scores, "right": np.where(positives, 0.0, 1.0), "counted": np.ones(len(scores))}
    figures = {"auroc": _ErrorAUROC(), "aupr": _ErrorAUPR(), "fpr95": _ErrorFPR95()}
    return {name: float(figure.result(rows)) for name, figure in figures.items()}


def misclassification_detection(logits, labels) -> dict[str, float]:
    """`detection` of wrong answers by low confidence."""
    confidence, right = confidence_and_right(logits, labels)
    return detection(-confidence, ~right)


@keras.saving.register_keras_serializable("mixmo_keras")
class ErrorAUROC(RankedMetric):
    """Area under the ROC curve of finding wrong answers by low confidence, as in `misclassification_detection`.

    Arguments as in `keras_metrics.RankedMetric`, which says what is kept.
    """

    definition = _ErrorAUROC()


@keras.saving.register_keras_serializable("mixmo_keras")
class ErrorAUPR(RankedMetric):
    """Average precision of finding wrong answers by low confidence, as in `misclassification_detection`.

    Arguments as in `keras_metrics.RankedMetric`, which says what is kept.
    """

    definition = _ErrorAUPR()


@keras.saving.register_keras_serializable("mixmo_keras")
class ErrorFPR95(RankedMetric):
    """Share of the wrong answers that is accepted where 95 % of the right ones are, as in `misclassification_detection`.

    Arguments as in `keras_metrics.RankedMetric`, which says what is kept.
    """

    definition = _ErrorFPR95()


# -- risk and coverage ---------------------------------------------------------------------------------------------------


class _AreaUnderRiskCoverage(RankedDefinition):
    def risks(self, statistics):
        """The share of errors among the 1, 2, … most confident images, and whether there are as many images."""
        keys, right, counted = in_order(statistics, -statistics["confidence"])
        xp = namespace(keys)
        rank = xp.arange(1, keys.shape[0] + 1, dtype=keys.dtype)
        return xp.cumsum(xp.where(counted > 0, 1 - right, 0.0)) / rank, counted

    def result(self, statistics):
        risks, counted = self.risks(statistics)
        xp = namespace(risks)
        return xp.sum(risks * counted) / xp.maximum(xp.sum(counted), 1.0)


def risk_coverage(logits, labels) -> tuple[np.ndarray, np.ndarray]:
    """Coverage 1/n, …, 1 and the share of errors among so many most confident images; equal confidences in any order."""
    definition = _AreaUnderRiskCoverage()
    risks, _ = definition.risks(definition.statistics_of(logits, labels))
    return np.arange(1, len(risks) + 1) / len(risks), risks


def area_under_risk_coverage(logits, labels) -> float:
    """AURC: the mean risk over coverages (Geifman and El-Yaniv, 2017); lower is better, 0 without errors."""
    return _AreaUnderRiskCoverage().of_arrays(logits, labels)


@keras.saving.register_keras_serializable("mixmo_keras")
class AreaUnderRiskCoverage(RankedMetric):
    """`area_under_risk_coverage` as a Keras metric. Arguments as in `keras_metrics.RankedMetric`."""

    definition = _AreaUnderRiskCoverage()
