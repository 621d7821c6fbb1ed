"""Figures of labels that each hold or don't, apart from one another, by the sigmoid of their logits.

`logits` and `targets` are (n, K): a target is 0, 1, or the probability that the label holds. Figures that count images take
a label for one that holds from a probability of one half.
"""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit

from mixmo_keras.metrics.calibration import TEMPERATURES
from mixmo_keras.metrics.ranking import detection

_logger = logging.getLogger(__name__)
NUM_BINS = 15  # of a calibration error


def holds(targets) -> np.ndarray:
    """Whether each label holds, booleans (n, K)."""
    return np.asarray(targets) >= 0.5


def cross_entropy(logits, targets) -> np.ndarray:
    """−y·log σ(z) − (1 − y)·log σ(−z), (n, K), in nats."""
    logits, targets = np.asarray(logits, "float64"), np.asarray(targets, "float64")
    return -(targets * log_expit(logits) + (1 - targets) * log_expit(-logits))


def calibration_errors(logits, targets) -> np.ndarray:
    """Of each label (K,), Σ_bins share·|mean probability − mean target| over 15 bins of the probability."""
    probabilities, targets = expit(np.asarray(logits, "float64")), np.asarray(targets, "float64")
    bins = np.minimum((probabilities * NUM_BINS).astype(int), NUM_BINS - 1)
    gaps = np.zeros((NUM_BINS, logits.shape[1]))
    for label in range(logits.shape[1]):
        np.add.at(gaps[:, label], bins[:, label], (probabilities - targets)[:, label])
    return np.abs(gaps).sum(0) / len(targets)


def f1_scores(predicted, targets) -> np.ndarray:
    """Of each label (K,), 2·TP / (2·TP + FP + FN) of predictions, booleans (n, K); 0 without a true positive."""
    right = holds(targets)
    true_positives = (predicted & right).sum(0)
    return 2 * true_positives / np.maximum(predicted.sum(0) + right.sum(0), 1)


def best_thresholds(probabilities, targets) -> np.ndarray:
    """The threshold of each label (K,) with the highest F1: half way between two probabilities, the lowest such one.

    Where a label never holds, 0.5: no threshold is better than another.
    """
    probabilities, right = np.asarray(probabilities, "float64"), holds(targets)
    thresholds = np.full(right.shape[1], 0.5)
    for label in np.flatnonzero(right.any(0)):
        order = np.argsort(-probabilities[:, label], kind="stable")
        falling, hits = probabilities[order, label], np.cumsum(right[order, label])
        scores = 2 * hits / (np.arange(1, len(hits) + 1) + hits[-1])  # of all images down to each
        ends = np.append(falling[:-1] > falling[1:], True)  # images of one probability lie on one side
        last = len(hits) - 1 - int(np.argmax(np.where(ends, scores, -1)[::-1]))
        below = falling[last + 1] if last + 1 < len(hits) else 0.0
        thresholds[label] = (falling[last] + below) / 2
    return thresholds


def fit_temperature(logits_at: Callable[[float], np.ndarray], targets) -> float:
    """The temperature within `calibration.TEMPERATURES` that minimises the mean cross-entropy of all labels.

    It is 1 where that is no worse, and where all answers are right, for which no temperature is too low.

    Args:
        logits_at: Gives the ensemble's logits (n, K) at a temperature.
        targets: (n, K).
    """
    targets = np.asarray(targets, "float64")
    if np.isin(targets, (0, 1)).all() and ((logits_at(1.0) >= 0) == holds(targets)).all():
        return 1.0

    def mean_loss(log_temperature: float) -> float:
        return float(cross_entropy(logits_at(float(np.exp(log_temperature))), targets).mean())

    bounds = tuple(np.log(TEMPERATURES))
    best = minimize_scalar(mean_loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    if best.x > bounds[1] - 0.01:
        _logger.warning("The best temperature lies beyond %s: the targets are not what these logits say.", TEMPERATURES)
    return float(np.exp(best.x)) if best.fun < mean_loss(0.0) else 1.0


def label_figures(logits, targets, thresholds) -> dict[str, Any]:
    """All figures of one network's logits: the mean over labels, and under `labels` each label's.

    Args:
        logits: (n, K).
        targets: (n, K).
        thresholds: Of the probabilities, (K,), from which a label is said to hold.

    Returns:
        `auroc`, `average_precision` (NaN for a label that never or always holds, which their means leave out), `f1` at the
        thresholds, `accuracy` at the thresholds, `nll` in nats, `ece`, and `share`, how often a label holds.
    """
    logits, right = np.asarray(logits, "float64"), holds(targets)
    predicted = expit(logits) >= np.asarray(thresholds)
    ranked = [detection(logits[:, label], right[:, label]) for label in range(logits.shape[1])]
    by_label = {
        "auroc": np.array([one["auroc"] for one in ranked]),
        "average_precision": np.array([one["aupr"] for one in ranked]),
        "f1": f1_scores(predicted, targets),
        "accuracy": (predicted == right).mean(0),
        "nll": cross_entropy(logits, targets).mean(0),
        "ece": calibration_errors(logits, targets),
        "share": np.asarray(targets, "float64").mean(0),
    }
    means = {
        name: float(np.nanmean(values)) if np.isfinite(values).any() else np.nan for name, values in by_label.items()
    }
    return {**means, "labels": {name: values.tolist() for name, values in by_label.items()}}
