"""Fits a temperature on held-out data, and applies it only where it helps."""

from collections.abc import Callable
from typing import Any

import numpy as np

from mixmo_keras import metrics, multiplexing
from mixmo_keras.metrics import calibration
from mixmo_keras.models.ensemble import Ensemble

LEAST_IMAGES = 50  # fewer say little about a temperature


def fit(model: Ensemble, held_out, label_noise: float | str | None) -> dict[str, Any]:
    """Fits the model's temperature on held-out data (member logits, labels) and returns its figures.

    The temperature is not applied where there are too few images, or where cross-fitting shows that it does harm: each half
    of the data, under the temperature of the other half, has a higher NLL than without a temperature. Then `not_applied` has
    the value and the reason. Without held-out data, the model keeps its temperature.
    """
    figures: dict[str, Any] = {"before": float(model.temperature), "value": float(model.temperature), "fitted_on": 0}
    if held_out is None:
        return figures
    member_logits, labels = held_out
    reason = None
    if label_noise is None:

        def nll_on(measured, fitted):
            if fitted is not None:
                with calibration.trying():
                    model.calibrate_on(member_logits[fitted], labels[fitted])
            return metrics.negative_log_likelihood(model.pooled(member_logits[measured]), labels[measured])

        reason = _worse_on_halves(nll_on, len(labels))
        model.temperature = figures["before"]
    model.calibrate_on(member_logits, labels, label_noise=label_noise)
    if reason := _too_few(labels) or reason:
        figures["not_applied"] = {"value": float(model.temperature), "why": reason}
        model.temperature = figures["before"]
        return figures
    figures |= {"value": float(model.temperature), "fitted_on": len(labels)}
    if label_noise is not None:
        estimated, rate = label_noise == "estimate", label_noise
        if estimated:
            logits = model.pooled(member_logits, calibrated=False)
            _, rate = calibration.fit_temperature_under_noise(logits, labels)
        figures["label_noise"] = {"rate": rate, "estimated": estimated}
    return figures


def fit_multiplexed(model, logits, held_out, label_noise: float | str | None) -> dict[str, Any]:
    """The same of M images a pass, whose logits are passed in."""
    before = model.multiplexed_temperature
    figures: dict[str, Any] = {"before": before, "value": before, "fitted_on": 0}
    if held_out is None:
        return figures
    labels = held_out[1]
    if reason := _too_few(labels):
        return figures | {"not_applied": {"value": None, "why": reason}}
    reason = None
    if label_noise is None:

        def nll_on(measured, fitted):
            if fitted is not None:
                with calibration.trying():
                    multiplexing.calibrate_on(model, logits[fitted], labels[fitted])
            return metrics.negative_log_likelihood(logits[measured] / model.multiplexed_temperature, labels[measured])

        reason = _worse_on_halves(nll_on, len(labels))
    model.multiplexed_temperature = before
    multiplexing.calibrate_on(model, logits, labels, label_noise)
    if reason:
        figures["not_applied"] = {"value": model.multiplexed_temperature, "why": reason}
        model.multiplexed_temperature = before
        return figures
    return figures | {"value": model.multiplexed_temperature, "fitted_on": len(labels)}


def _too_few(labels) -> str | None:
    if len(labels) >= LEAST_IMAGES:
        return None
    return f"{len(labels)} validation images are too few to fit it on, {LEAST_IMAGES} are the least"


def _worse_on_halves(nll_on: Callable[[Any, Any], float], count: int) -> str | None:
    """Why a temperature makes things worse on images that it was not fitted on; None where it does not.

    Args:
        nll_on: The NLL of the images of these indices, under the temperature fitted on those; on None, as it is.
        count: Number of images.
    """
    if count < LEAST_IMAGES:
        return None  # which is reason enough
    order = np.random.default_rng(0).permutation(count)
    without = nll_on(order, None)
    halves = order[: count // 2], order[count // 2 :]
    total = sum(len(measured) * nll_on(measured, fitted) for fitted, measured in (halves, halves[::-1]))
    if total / count <= without:
        return None
    return (
        f"each half of the validation images has a higher NLL under the other half's temperature, "
        f"{total / count:.4f}, than without, {without:.4f}"
    )
