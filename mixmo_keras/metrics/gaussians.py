"""Figures of mixtures of Gaussians, the predictions of an ensemble of D numbers for each image.

`mixture` is (n, M, D, 2): the mean and the variance of each member, which all count alike. `targets` are (n, D).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import logsumexp, ndtr

from mixmo_keras.metrics.shown import Chart, Column, Series

QUANTILES = np.linspace(0.05, 0.95, 19)  # at which an ensemble's quantiles are compared with targets
COLUMNS = {  # of a report's table, by the name in `mixture_figures`
    "rmse": Column("RMSE", "root of the mean squared error, in the target's unit", form="{:.4g}"),
    "mae": Column("MAE", "mean absolute error, in the target's unit", form="{:.4g}"),
    "nll": Column("NLL", "negative log-likelihood of the mixture in nats; it depends on the unit"),
    "crps": Column("CRPS", "continuous ranked probability score: the absolute error of a distribution", form="{:.4g}"),
    "coverage": Column("coverage", "share of targets within their interval", True, "{:.2%}"),
    "width": Column("width", "mean width of intervals, in the target's unit", form="{:.4g}"),
    "quantile_error": Column("quantile error", "mean gap of quantiles between their number and the share below them"),
    "aleatoric": Column("aleatoric", "mean deviation that members see in the data", form="{:.4g}"),
    "epistemic": Column("epistemic", "mean deviation of the members from one another", form="{:.4g}"),
}


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


def charts(mixture, targets, names: Sequence[str], most: int = 6) -> list[Chart]:
    """The charts of predictions: by target, predicted and true; reliability of quantiles; error by deviation."""
    mean, aleatoric, epistemic = moments(mixture)
    targets, deviations = np.asarray(targets, "float64"), np.sqrt(aleatoric + epistemic)
    below, shown = shares_below(mixture, targets), range(min(len(names), most))
    shares = (below[None] <= QUANTILES[:, None, None]).mean(1)
    scatter = [
        Chart(
            f"Predicted and true: {names[place]}",
            "A point for each test image; on the dashed line the prediction is right.",
            ("predicted", "true"),
            [Series("", mean[:, place], targets[:, place])],
            kind="points",
            diagonal=True,
        )
        for place in shown
    ]
    return [
        *scatter,
        Chart(
            "Reliability of quantiles",
            "Share of targets below a quantile; on the dashed line it is what the quantile says.",
            ("quantile", "share of targets below"),
            [Series(names[place], QUANTILES, shares[:, place]) for place in shown],
            diagonal=True,
        ),
        Chart(
            "Error by deviation",
            "Root of the mean squared error of images by their predicted deviation, in ten groups of as many; on the dashed "
            "line the deviation says how large errors are.",
            ("predicted deviation", "RMSE"),
            [
                Series(names[place], *_error_by_deviation(deviations[:, place], (targets - mean)[:, place]))
                for place in shown
            ],
            diagonal=True,
        ),
    ]


def _error_by_deviation(deviations, errors, num_groups: int = 10) -> tuple[np.ndarray, np.ndarray]:
    groups = np.array_split(np.argsort(deviations, kind="stable"), min(num_groups, len(errors)))
    roots = [[np.sqrt((values[group] ** 2).mean()) for group in groups] for values in (deviations, errors)]
    return np.array(roots[0]), np.array(roots[1])
