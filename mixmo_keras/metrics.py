"""Figures of an ensemble from its logits and labels, in NumPy.

`logits` is (n, K), of the ensemble or of one member, `member_logits` (n, M, K), `labels` (n,) integers.
"""

import itertools

import numpy as np
from scipy.special import log_softmax, softmax


def accuracy(logits, labels) -> float:
    """Share of images whose most probable class is right."""
    return float(np.mean(np.argmax(logits, axis=-1) == labels))


def negative_log_likelihood(logits, labels) -> float:
    """Mean of −log of the probability given to the right class, in nats."""
    return float(-np.mean(log_softmax(np.asarray(logits, "float64"), axis=-1)[np.arange(len(labels)), labels]))


def expected_calibration_error(logits, labels, num_bins: int = 15) -> float:
    """Mean distance of confidence and accuracy over `num_bins` equal-width bins of confidence, weighted by their images.

    The bins are (0, 1/num_bins], …, (1 − 1/num_bins, 1], as in MixMo's evaluation.
    """
    probabilities = softmax(np.asarray(logits, "float64"), axis=-1)
    confidence, right = probabilities.max(-1), probabilities.argmax(-1) == labels
    bins = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    gaps = np.bincount(bins, weights=confidence - right, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(labels))


def ratio_of_errors(member_logits, labels) -> float:
    """Diversity: (N01 + N10)/N00, errors of one member alone over errors of both, mean over the pairs of members.

    It is 0 for members that always err together. NaN for a single member, infinite where no image is wrong for both.
    """
    wrong = np.argmax(member_logits, axis=-1) != np.asarray(labels)[:, None]
    ratios = []
    for first, second in itertools.combinations(range(wrong.shape[1]), 2):
        alone, both = np.sum(wrong[:, first] ^ wrong[:, second]), np.sum(wrong[:, first] & wrong[:, second])
        ratios.append(alone / both if both else (np.inf if alone else np.nan))
    return float(np.mean(ratios)) if ratios else float("nan")
