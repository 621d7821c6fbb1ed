"""Figures of mixtures of Gaussians, the predictions of an ensemble of D numbers for each image.

`mixture` is (n, M, D, 2): the mean and the variance of each member, which all count alike. `targets` are (n, D).
"""

from typing import Any

import numpy as np
from scipy.special import logsumexp, ndtr

QUANTILES = np.linspace(0.05, 0.95, 19)  # at which an ensemble's quantiles are compared with targets


def moments(mixture) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean (n, D) of mixtures, and the two parts of their variance, (n, D) each.

    Aleatoric is the mean of the members' variances, epistemic the variance of their means (Lakshminarayanan et al., 2017;
    Depeweg et al., 2018).
    """
    means, variances = np.moveaxis(np.asarray(mixture, "float64"), -1, 0)
    return means.mean(1), variances.mean(1), means.var(1)


def scaled(mixture, scale: float) -> np.ndarray:
    """The same mixtures drawn out from their means by a factor, which all their deviations are multiplied by."""
    mixture = np.asarray(mixture, "float64")
    center = mixture[..., :1].mean(1, keepdims=True)
    return np.concatenate([center + scale * (mixture[..., :1] - center), scale**2 * mixture[..., 1:]], axis=-1)


def negative_log_likelihood(mixture, targets) -> np.ndarray:
    """−log of the mixture's density at each target, (n, D), in nats."""
    means, variances = np.moveaxis(np.asarray(mixture, "float64"), -1, 0)
    errors = np.asarray(targets, "float64")[:, None] - means
    logs = -0.5 * (np.log(2 * np.pi * variances) + errors**2 / variances)
    return np.log(means.shape[1]) - logsumexp(logs, axis=1)


def crps(mixture, targets) -> np.ndarray:
    """The continuous ranked probability score of each target, (n, D), in its unit (Grimit et al., 2006, equation 5)."""
    means, variances = np.moveaxis(np.asarray(mixture, "float64"), -1, 0)
    to_target = _absolute(np.asarray(targets, "float64")[:, None] - means, variances).mean(1)
    pairs = _absolute(means[:, :, None] - means[:, None], variances[:, :, None] + variances[:, None])
    return to_target - 0.5 * pairs.mean((1, 2))


def _absolute(mean, variance):
    """The mean of |x| of x ~ N(mean, variance)."""
    deviation = np.sqrt(variance)
    ratio = mean / deviation
    density = np.exp(-0.5 * ratio**2) / np.sqrt(2 * np.pi)
    return 2 * deviation * density + mean * (2 * ndtr(ratio) - 1)


def shares_below(mixture, targets) -> np.ndarray:
    """The mixture's probability of a value up to the target, (n, D): uniform where predictions are right."""
    means, variances = np.moveaxis(np.asarray(mixture, "float64"), -1, 0)
    return ndtr((np.asarray(targets, "float64")[:, None] - means) / np.sqrt(variances)).mean(1)


def quantile_error(mixture, targets) -> np.ndarray:
    """How far quantiles are from what they say, (D,): mean over 19 of |share of targets below − the quantile's number|."""
    below = shares_below(mixture, targets)
    return np.abs((below[None] <= QUANTILES[:, None, None]).mean(1) - QUANTILES[:, None]).mean(0)


def fit_scale(mixture, targets) -> float:
    """The factor of all deviations with the highest likelihood of Gaussians of the mixtures' mean and variance.

    It is the root of the mean squared error in deviations, √mean((y − μ)²/σ²).
    """
    mean, aleatoric, epistemic = moments(mixture)
    scale = float(np.sqrt((((np.asarray(targets, "float64") - mean) ** 2) / (aleatoric + epistemic)).mean()))
    return max(scale, 1e-3)  # of predictions that are all right, no scale is too low


def conformal_width(mixture, targets, coverage: float) -> np.ndarray:
    """Half the width of intervals, in deviations, that hold a new target with a chosen probability: (D,).

    Split-conformal, normalised by the deviation (Lei et al., 2018): the ⌈(n + 1)·coverage⌉-th smallest |y − μ|/σ.

    Raises:
        ValueError: too few images for this coverage.
    """
    mean, aleatoric, epistemic = moments(mixture)
    scores = np.sort(np.abs(np.asarray(targets, "float64") - mean) / np.sqrt(aleatoric + epistemic), axis=0)
    rank = int(np.ceil((len(scores) + 1) * coverage - 1e-9))
    if rank > len(scores):
        least = int(np.ceil(coverage / (1 - coverage) - 1e-9))
        raise ValueError(f"Intervals of {coverage:g} need at least {least} images, got {len(scores)}.")
    return scores[rank - 1]


def mixture_figures(mixture, targets, half_width) -> dict[str, Any]:
    """All figures of predictions: the mean over targets, and under `targets` each target's.

    Args:
        mixture: (n, M, D, 2).
        targets: (n, D).
        half_width: Half the width of intervals in deviations, (D,).

    Returns:
        `rmse`, `mae`, `nll` in nats, `crps`; `coverage`, the share of targets within their interval, and `width` of it;
        `quantile_error`; and the mean `aleatoric` and `epistemic` deviation. All in the targets' units.
    """
    mean, aleatoric, epistemic = moments(mixture)
    errors, half = np.asarray(targets, "float64") - mean, np.asarray(half_width) * np.sqrt(aleatoric + epistemic)
    by_target = {
        "rmse": np.sqrt((errors**2).mean(0)),
        "mae": np.abs(errors).mean(0),
        "nll": negative_log_likelihood(mixture, targets).mean(0),
        "crps": crps(mixture, targets).mean(0),
        "coverage": (np.abs(errors) <= half).mean(0),
        "width": 2 * half.mean(0),
        "quantile_error": quantile_error(mixture, targets),
        "aleatoric": np.sqrt(aleatoric).mean(0),
        "epistemic": np.sqrt(epistemic).mean(0),
    }
    means = {name: float(values.mean()) for name, values in by_target.items()}
    return {**means, "targets": {name: values.tolist() for name, values in by_target.items()}}
