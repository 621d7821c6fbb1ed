"""Figures by class, which say more than accuracy where classes have very different numbers of images.

`logits` are (n, K), `labels` (n,). An image's answer is its most probable class, unless a threshold decides between two.
"""

import math
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import softmax

from mixmo_keras.common import arguments, class_labels
from mixmo_keras.metrics.ranking import detection


def confusion(answers, labels, num_classes: int) -> np.ndarray:
    """The number of images (K, K) by class (rows) and answer (columns)."""
    counts = np.zeros((num_classes, num_classes), int)
    np.add.at(counts, (np.asarray(labels), np.asarray(answers)), 1)
    return counts


def rates(answers, labels, num_classes: int) -> dict[str, np.ndarray]:
    """Precision, recall and F1 of each class (K,).

    Precision is the share of its answers that are right, NaN of a class that is never answered; recall the share of its
    images that are answered rightly, NaN of a class without images; F1 their harmonic mean, 0 without a right answer.
    """
    counts = confusion(answers, labels, num_classes)
    right, answered, images = counts.diagonal(), counts.sum(0), counts.sum(1)
    with np.errstate(invalid="ignore"):
        return {
            "precision": np.where(answered > 0, right / np.maximum(answered, 1), np.nan),
            "recall": np.where(images > 0, right / np.maximum(images, 1), np.nan),
            "f1": np.where(answered + images > 0, 2 * right / np.maximum(answered + images, 1), np.nan),
        }


def class_figures(logits, labels) -> dict[str, np.ndarray]:
    """`rates` of the most probable class, and `auroc` (K,): how well a class's probability tells its images from all others.

    The AUROC is 0.5 by chance, 1 at best, and NaN of a class that none or all of the images have.
    """
    logits, labels = _checked(logits, labels)
    probabilities = softmax(logits, axis=-1)
    num_classes = logits.shape[-1]
    auroc = [detection(probabilities[:, k], labels == k)["auroc"] for k in range(num_classes)]
    return {**rates(logits.argmax(-1), labels, num_classes), "auroc": np.array(auroc)}


def means(by_class: dict[str, np.ndarray]) -> dict[str, float]:
    """The means over classes, each counting alike, of those that are defined: of recall it is the balanced accuracy."""
    names = {"recall": "balanced_accuracy", "f1": "f1", "auroc": "auroc"}
    return {
        name: float(np.nanmean(by_class[key])) if np.isfinite(by_class[key]).any() else math.nan
        for key, name in names.items()
    }


# -- two classes -----------------------------------------------------------------------------------------------------------


def best_threshold(probabilities, labels) -> float:
    """The probability of the second class from which it is answered, for the highest balanced accuracy on some images.

    It lies half way between two probabilities; of several that are as good, the one nearest to one half.

    Args:
        probabilities: Of the second class, (n,).
        labels: 0 or 1, (n,).

    Raises:
        ValueError: one of the classes has no image.
    """
    probabilities = np.asarray(probabilities, "float64")
    is_second = class_labels.integers("labels", labels, 2, len(probabilities)) == 1
    if is_second.all() or not is_second.any():
        raise ValueError("A threshold between two classes needs images of both.")
    levels = np.unique(probabilities)
    candidates = np.concatenate([[0.5], (levels[:-1] + levels[1:]) / 2])
    # of the sorted probabilities of each class, those that lie below a candidate
    below_second, below_first = (
        np.searchsorted(np.sort(probabilities[of_class]), candidates) for of_class in (is_second, ~is_second)
    )
    balanced = (1 - below_second / is_second.sum() + below_first / (~is_second).sum()) / 2
    best = np.flatnonzero(balanced >= balanced.max() - 1e-12)
    return float(candidates[best[np.abs(candidates[best] - 0.5).argmin()]])


def threshold_figures(logits, labels, threshold: float) -> dict[str, Any]:
    """The figures of answers by a threshold on the second class's probability.

    Args:
        logits: (n, 2).
        labels: (n,).
        threshold: The probability from which the second class is answered.

    Returns:
        `accuracy`, `balanced_accuracy`, and `precision`, `recall` and `f1` as lists of both classes.
    """
    logits, labels = _checked(logits, labels)
    answers = (softmax(logits, axis=-1)[:, 1] >= threshold).astype(int)
    by_class = rates(answers, labels, 2)
    return {
        "accuracy": float((answers == labels).mean()),
        "balanced_accuracy": float(np.nanmean(by_class["recall"])),
        **{name: values.tolist() for name, values in by_class.items()},
    }


# -- guessing --------------------------------------------------------------------------------------------------------------


def probability_by_chance(answers, labels, num_classes: int) -> float:
    """How probable at least as many right answers are where the same answers are dealt out to the images at random.

    Low where answers have to do with the labels, whatever the classes' sizes: a network that always answers the same class
    has 1. Of two classes it is Fisher's exact test, of one side; of more the normal distribution with the exact mean and
    variance over all permutations, less half an answer.

    Args:
        answers: (n,).
        labels: (n,).
        num_classes: K.
    """
    counts = confusion(answers, labels, num_classes)
    total, right = int(counts.sum()), int(counts.trace())
    answered, images = counts.sum(0).astype("float64"), counts.sum(1).astype("float64")
    if num_classes == 2:
        return float(stats.hypergeom.sf(counts[1, 1] - 1, total, int(images[1]), int(answered[1])))
    together = (answered * images).sum()
    squares = together - (answered * images * (answered + images)).sum() / total + (together / total) ** 2
    if total < 2 or squares <= 1e-9:  # all permutations have as many right answers
        return 1.0
    return float(stats.norm.sf((right - 0.5 - together / total) / math.sqrt(squares / (total - 1))))


def _checked(logits, labels) -> tuple[np.ndarray, np.ndarray]:
    logits = arguments.logits("logits", logits)
    return logits, class_labels.integers("labels", labels, logits.shape[-1], len(logits))
