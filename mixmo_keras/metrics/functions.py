"""Figures of an ensemble from its logits and labels, in NumPy and scikit-learn.

`logits` is (n, K), of the ensemble or of one member, `member_logits` (n, M, K), `labels` (n,) integers. Logits need not be
normalised: what counts is their softmax. What can't be said (no error to detect, a single member) is NaN.
"""

import itertools
from collections.abc import Callable

import numpy as np
from scipy.special import log_softmax, softmax

# -- how right ---------------------------------------------------------------------------------------------------------


def accuracy(logits, labels) -> float:
    """Share of images whose most probable class is right."""
    return float(np.mean(np.argmax(logits, axis=-1) == labels))


def top_k_accuracy(logits, labels, k: int = 5) -> float:
    """Share of images with fewer than k classes more probable than the right one; 1 where there are only k classes."""
    logits = np.asarray(logits)
    of_label = np.take_along_axis(logits, np.asarray(labels)[:, None], axis=-1)
    return float(np.mean((logits > of_label).sum(-1) < k))


def negative_log_likelihood(logits, labels) -> float:
    """Mean of −log of the probability given to the right class, in nats."""
    return float(-np.mean(log_softmax(np.asarray(logits, "float64"), axis=-1)[np.arange(len(labels)), labels]))


def brier_score(logits, labels) -> float:
    """Mean of Σ_k (p_k − 1[k = label])²: from 0 to 2, the sum over classes as Brier (1950) has it."""
    probabilities = softmax(np.asarray(logits, "float64"), axis=-1)
    return float(np.mean(np.sum((probabilities - np.eye(probabilities.shape[-1])[labels]) ** 2, axis=-1)))


# -- calibration -------------------------------------------------------------------------------------------------------


def expected_calibration_error(logits, labels, num_bins: int = 15) -> float:
    """Mean distance of confidence and accuracy over `num_bins` equal-width bins of confidence, weighted by their images.

    The bins are (0, 1/num_bins], …, (1 − 1/num_bins, 1], as in MixMo's evaluation.
    """
    return _binned_gap(*confidence_and_right(logits, labels), num_bins)


def adaptive_calibration_error(logits, labels, num_bins: int = 15) -> float:
    """As `expected_calibration_error`, over bins of equally many images: rank i of n falls into bin ⌊i·num_bins/n⌋.

    Images of the same confidence count as their mean, so that the order of the images doesn't matter.
    """
    confidence, right = confidence_and_right(logits, labels)
    order = np.argsort(confidence)
    bins = np.arange(len(confidence)) * num_bins // len(confidence)
    gaps = np.bincount(bins, weights=confidence[order] - _mean_of_ties(confidence, right)[order], minlength=num_bins)
    return float(np.abs(gaps).sum() / len(confidence))


def classwise_calibration_error(logits, labels, num_bins: int = 15) -> float:
    """The expected calibration error of each class's own probability, mean over classes (Kull et al., 2019, equation 4)."""
    probabilities = softmax(np.asarray(logits, "float64"), axis=-1)
    labels = np.asarray(labels)
    classes = range(probabilities.shape[-1])
    return float(np.mean([_binned_gap(probabilities[:, k], labels == k, num_bins) for k in classes]))


def confidence_and_right(logits, labels) -> tuple[np.ndarray, np.ndarray]:
    """The probability of the most probable class (n,), and whether it is the right one (n,)."""
    probabilities = softmax(np.asarray(logits, "float64"), axis=-1)
    return probabilities.max(-1), probabilities.argmax(-1) == labels


def reliability(logits, labels, num_bins: int = 15) -> np.ndarray:
    """Of each equal-width bin of confidence its images, their mean confidence and accuracy: (num_bins, 3), NaN if empty."""
    confidence, right = confidence_and_right(logits, labels)
    bins = _bins(confidence, num_bins)
    count = np.bincount(bins, minlength=num_bins)
    sums = [np.bincount(bins, weights=values, minlength=num_bins) for values in (confidence, right)]
    with np.errstate(invalid="ignore"):
        return np.stack([count, *[total / count for total in sums]], axis=1)


def _binned_gap(confidence, right, num_bins: int) -> float:
    gaps = np.bincount(_bins(confidence, num_bins), weights=confidence - right, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(confidence))


def _bins(confidence, num_bins: int) -> np.ndarray:
    return np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)


# -- knowing when it errs ----------------------------------------------------------------------------------------------


def detection(scores, strange) -> dict[str, float]:
    """How well a score tells the strange (errors, images from elsewhere) from the rest.

    Args:
        scores: (n,), higher for what seems stranger.
        strange: (n,) booleans.

    Returns:
        `auroc`; `aupr`, the average precision of finding the strange; `fpr95`, the share of the strange that is accepted
        where 95 % of the rest is. NaN where there is none or nothing but strange.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score  # machines that only train may lack it

    scores, strange = np.asarray(scores, "float64"), np.asarray(strange, bool)
    if strange.all() or not strange.any():
        return {"auroc": np.nan, "aupr": np.nan, "fpr95": np.nan}
    rest = np.sort(scores[~strange])
    accepted = rest[int(np.ceil(0.95 * len(rest) - 1e-9)) - 1]
    return {
        "auroc": float(roc_auc_score(strange, scores)),
        "aupr": float(average_precision_score(strange, scores)),
        "fpr95": float(np.mean(scores[strange] <= accepted)),
    }


def misclassification_detection(logits, labels) -> dict[str, float]:
    """`detection` of wrong answers by low confidence."""
    confidence, right = confidence_and_right(logits, labels)
    return detection(-confidence, ~right)


def risk_coverage(logits, labels) -> tuple[np.ndarray, np.ndarray]:
    """Coverage 1/n, …, 1 and the share of errors among so many most confident images; equal confidences in any order."""
    confidence, right = confidence_and_right(logits, labels)
    wrong = 1 - _mean_of_ties(confidence, right)
    rank = np.arange(1, len(confidence) + 1)
    return rank / len(confidence), np.cumsum(wrong[np.argsort(-confidence)]) / rank


def area_under_risk_coverage(logits, labels) -> float:
    """AURC: the mean risk over coverages (Geifman and El-Yaniv, 2017); lower is better, 0 without errors."""
    return float(risk_coverage(logits, labels)[1].mean())


def _mean_of_ties(keys, values) -> np.ndarray:
    """Each value replaced by the mean of those with an equal key."""
    _, group = np.unique(keys, return_inverse=True)
    return (np.bincount(group, weights=values) / np.bincount(group))[group]


# -- diversity ---------------------------------------------------------------------------------------------------------


def ratio_of_errors(member_logits, labels) -> float:
    """Diversity: (N01 + N10)/N00, errors of one member alone over errors of both, mean over the pairs of members.

    It is 0 for members that always err together. NaN for a single member, infinite where no image is wrong for both.
    """

    def ratio(first, second):
        alone, both = np.sum(first ^ second), np.sum(first & second)
        return alone / both if both else (np.inf if alone else np.nan)

    return _over_pairs(ratio, _wrong(member_logits, labels))


def disagreement(member_logits) -> float:
    """Share of images for which two members give different answers, mean over pairs; NaN for a single member."""
    return _over_pairs(lambda first, second: np.mean(first != second), np.argmax(member_logits, axis=-1))


def q_statistic(member_logits, labels) -> float:
    """Yule's Q, (N11·N00 − N01·N10)/(N11·N00 + N01·N10), mean over pairs: 0 if they err independently, 1 if together.

    NaN for a single member, and where the denominator is 0.
    """

    def statistic(first, second):
        together = np.sum(first & second) * np.sum(~first & ~second)
        apart = np.sum(first & ~second) * np.sum(~first & second)
        return (together - apart) / (together + apart) if together + apart else np.nan

    return _over_pairs(statistic, _wrong(member_logits, labels))


def pairwise_kl(member_logits) -> float:
    """Mean over images and ordered pairs of members of KL(p_i ‖ p_j), in nats; NaN for a single member."""
    logs = log_softmax(np.asarray(member_logits, "float64"), axis=-1)

    def both_ways(first, second):
        return np.mean(np.sum((np.exp(first) - np.exp(second)) * (first - second), axis=-1)) / 2

    return _over_pairs(both_ways, logs)


def mutual_information(member_logits) -> float:
    """Entropy of the members' mean probabilities less the mean of their entropies, in nats, mean over images.

    What the members don't agree upon (Depeweg et al., 2018); 0 for a single member.
    """
    logs = log_softmax(np.asarray(member_logits, "float64"), axis=-1)
    probabilities = np.exp(logs)
    mean = probabilities.mean(1)
    entropies = -np.sum(probabilities * logs, axis=-1).mean(1)
    return float(np.mean(-np.sum(mean * np.log(np.clip(mean, 1e-300, None)), axis=-1) - entropies))


def _wrong(member_logits, labels) -> np.ndarray:
    return np.argmax(member_logits, axis=-1) != np.asarray(labels)[:, None]


def _over_pairs(function: Callable, of_members) -> float:
    """The mean of a function of two members' values over all pairs; `of_members` is (n, M, ...)."""
    pairs = itertools.combinations(range(of_members.shape[1]), 2)
    values = [function(of_members[:, first], of_members[:, second]) for first, second in pairs]
    return float(np.mean(values)) if values else float("nan")


# -- all at once -------------------------------------------------------------------------------------------------------


def network_figures(logits, labels) -> dict[str, float]:
    """Every figure here that needs one network's logits."""
    detected = misclassification_detection(logits, labels)
    return {
        "accuracy": accuracy(logits, labels),
        "top5": top_k_accuracy(logits, labels),
        "nll": negative_log_likelihood(logits, labels),
        "brier": brier_score(logits, labels),
        "ece": expected_calibration_error(logits, labels),
        "adaptive_ece": adaptive_calibration_error(logits, labels),
        "classwise_ece": classwise_calibration_error(logits, labels),
        **{f"errors_{name}": value for name, value in detected.items()},
        "aurc": area_under_risk_coverage(logits, labels),
    }


def diversity_figures(member_logits, labels) -> dict[str, float]:
    """Every figure here that compares members."""
    return {
        "ratio_of_errors": ratio_of_errors(member_logits, labels),
        "disagreement": disagreement(member_logits),
        "q_statistic": q_statistic(member_logits, labels),
        "pairwise_kl": pairwise_kl(member_logits),
        "mutual_information": mutual_information(member_logits),
    }
