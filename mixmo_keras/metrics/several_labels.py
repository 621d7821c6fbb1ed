"""Figures of labels that each hold or don't, apart from one another, by the sigmoid of their logits.

`logits` and `targets` are (n, K): a target is 0, 1, or the probability that the label holds. Figures that count images take
a label for one that holds from a probability of one half.
"""

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit

from mixmo_keras.metrics.calibration import TEMPERATURES
from mixmo_keras.metrics.ranking import detection
from mixmo_keras.metrics.shown import Chart, Column, Series

_logger = logging.getLogger(__name__)
NUM_BINS = 15  # of a calibration error
COLUMNS = {  # of a report's table, by the name in `label_figures`
    "auroc": Column(
        "AUROC", "probability that an image of a label is ranked above one without it; 0.5 is chance", True
    ),
    "average_precision": Column(
        "AP", "average precision; by chance it is the share of images that have the label", True
    ),
    "f1": Column("F1", "harmonic mean of precision and recall of a label, at its threshold", True),
    "accuracy": Column("accuracy", "share of labels that are said rightly, at their thresholds", True, "{:.2%}"),
    "nll": Column("NLL", "negative log-likelihood of a label in nats: punishes sure errors"),
    "ece": Column("ECE", "expected calibration error: by how much probabilities and shares differ, in 15 bins"),
}


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


def reliability(logits, targets) -> tuple[np.ndarray, np.ndarray]:
    """The mean probability and the mean target of the bins that hold any of all labels' probabilities."""
    probabilities, targets = expit(np.asarray(logits, "float64")).ravel(), np.asarray(targets, "float64").ravel()
    bins = np.minimum((probabilities * NUM_BINS).astype(int), NUM_BINS - 1)
    counts, *sums = (np.bincount(bins, weights, NUM_BINS) for weights in (None, probabilities, targets))
    full = counts > 0
    return sums[0][full] / counts[full], sums[1][full] / counts[full]


def precision_and_recall(scores, right) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall of a label, of all images down to each in the order of their scores (n,)."""
    hits = np.cumsum(np.asarray(right)[np.argsort(-np.asarray(scores), kind="stable")])
    return hits / np.arange(1, len(hits) + 1), hits / max(hits[-1], 1)


def charts(logits, targets, names: Sequence[str], most: int = 10) -> list[Chart]:
    """The charts of an ensemble's logits (n, K): reliability, and precision by recall of some labels."""
    curves = []
    for label in np.flatnonzero(holds(targets).any(0))[:most]:
        precision, recall = precision_and_recall(logits[:, label], holds(targets)[:, label])
        curves.append(Series(names[label], recall, precision))
    shown = "" if len(names) <= most else f" Of the first {most} labels."
    return [
        Chart(
            "Reliability",
            "How often labels of a probability hold, in 15 bins; on the dashed line probability is share, below it the "
            "model is too sure.",
            ("probability", "share that holds"),
            [Series("", *reliability(logits, targets))],
            diagonal=True,
        ),
        Chart(
            "Precision and recall",
            "Share of right ones among the images that are said to have a label, by the share of those that are found: a "
            f"threshold chooses a point.{shown}",
            ("recall", "precision"),
            curves,
        ),
    ]


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


def fit_temperatures(logits_at: Callable[[float], np.ndarray], targets) -> list[float]:
    """The temperature of each label (K,) by its own cross-entropy; arguments as in `fit_temperature`."""
    labels = [slice(label, label + 1) for label in range(targets.shape[1])]
    return [
        fit_temperature(functools.partial(lambda label, value: logits_at(value)[:, label], label), targets[:, label])
        for label in labels
    ]


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


# -- conformal sets ------------------------------------------------------------------------------------------------------


def fit_conformal(logits, targets, coverage: float) -> np.ndarray:
    """The highest score of a label's answer that a set takes in, (K,): infinite where there are too few images.

    Split-conformal, each label on its own: the ⌈(n + 1)·coverage⌉-th smallest score of the right answers of held-out images.
    """
    scores = _scores_of_answers(logits)
    right = np.where(holds(targets), scores[..., 1], scores[..., 0])
    rank = int(np.ceil((len(right) + 1) * coverage - 1e-9))
    return np.sort(right, axis=0)[rank - 1] if rank <= len(right) else np.full(right.shape[1], np.inf)


def conformal_sets(logits, highest) -> np.ndarray:
    """Which answers are in each label's set: booleans (n, K, 2), whether "it doesn't hold" is, and whether "it holds" is.

    Args:
        logits: (n, K).
        highest: Of scores, (K,), as `fit_conformal` gives them.
    """
    return _scores_of_answers(logits) <= np.asarray(highest)[:, None]


def _scores_of_answers(logits) -> np.ndarray:
    """One less the probability of "it doesn't hold" and of "it holds", (n, K, 2)."""
    probabilities = expit(np.asarray(logits, "float64"))
    return np.stack([probabilities, 1 - probabilities], axis=-1)


def conformal_figures(held_out_logits, held_out_targets, logits, targets, coverage: float) -> dict[str, Any]:
    """Of each label's sets, fitted on held-out images: `coverage` of the right answers, share `undecided` with both."""
    sets = conformal_sets(logits, fit_conformal(held_out_logits, held_out_targets, coverage))
    right = np.where(holds(targets), sets[..., 1], sets[..., 0])
    figures = {"coverage": right.mean(0), "undecided": sets.all(-1).mean(0), "empty": (~sets.any(-1)).mean(0)}
    means = {name: float(values.mean()) for name, values in figures.items()}
    return {**means, "labels": {name: values.tolist() for name, values in figures.items()}}
