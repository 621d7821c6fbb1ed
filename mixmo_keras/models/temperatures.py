"""Fits a temperature on held-out data, and applies it only where it helps: the one rule of models and of evaluations."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from mixmo_keras import metrics, multiplexing
from mixmo_keras.common import arguments
from mixmo_keras.metrics import calibration
from mixmo_keras.training import predicting

LEAST_IMAGES = 50  # fewer say little about a temperature
# of fewer images one division into halves is much left to chance
FEW_IMAGES, DIVISIONS = 1000, 10

_logger = logging.getLogger(__name__)


def calibrate(
    model,
    x,
    y,
    batch_size: int,
    applies_to: str | None,
    label_noise: float | str | None,
    multiplexed: bool | None,
    steps,
) -> float:
    """What `Ensemble.calibrate` does; arguments as there. Logs why a temperature is not applied."""
    if multiplexed is None:
        multiplexed = model.why_not_multiplexed() is None
    if arguments.boolean("multiplexed", multiplexed):
        *held_out, logits = multiplexing.predict_both_with_labels(model, x, y, batch_size, steps=steps)
    else:
        batches = model.outputs_by_batch(x, y, batch_size, steps)
        held_out, logits = [*predicting.together(model, (model.task.for_calibration(*one) for one in batches))], None
    if model.task.why_only_classes() is not None:  # what else these fit has rules of its own
        return model.calibrate_on(*held_out, applies_to, label_noise)
    applied_to = model.average.temperature_applies_to
    fitted = {"the temperature": fit(model, held_out, label_noise, applies_to)}
    if "not_applied" in fitted["the temperature"]:
        model.apply_temperature_to(applied_to)
    if logits is not None:
        fitted["the temperature of several images a pass"] = fit_multiplexed(model, logits, held_out, label_noise)
    for name, figures in fitted.items():
        if refused := figures.get("not_applied"):
            _logger.warning("%s: %s stays at %g: %s.", model.name, name, figures["value"], refused["why"])
    return model.temperature


def fit(model, held_out, label_noise: float | str | None, applies_to: str | None = None) -> dict[str, Any]:
    """Fits the temperature of an ensemble on held-out data (member logits, labels) and returns its figures.

    The temperature is not applied where there are too few images, or where cross-fitting shows that it does harm: each half
    of the data, under the temperature of the other half, has a higher NLL than without a temperature. Then `not_applied` has
    the value and the reason. Without held-out data, the model keeps its temperature.

    Args:
        model: An `Ensemble`.
        held_out: The members' logits (n, M, K) and labels.
        label_noise: As in `Ensemble.calibrate`.
        applies_to: `temperature_applies_to` there. Defaults to what the model has.
    """
    if held_out is None:
        return _as_it_is(model.temperature)
    member_logits, labels = held_out
    options = {} if applies_to is None else {"temperature_applies_to": applies_to}

    def calibrate(images) -> None:
        model.calibrate_on(member_logits[images], labels[images], label_noise=label_noise, **options)

    def nll(images) -> float:
        return metrics.negative_log_likelihood(model.pooled(member_logits[images]), labels[images])

    figures = _fit(model, "temperature", calibrate, nll, len(labels), label_noise)
    if label_noise is not None and figures["fitted_on"]:
        estimated, rate = label_noise == "estimate", label_noise
        if estimated:
            logits = model.pooled(member_logits, calibrated=False)
            _, rate = calibration.fit_temperature_under_noise(logits, labels)
        figures["label_noise"] = {"rate": rate, "estimated": estimated}
    return figures


def fit_multiplexed(model, logits, held_out, label_noise: float | str | None) -> dict[str, Any]:
    """The same of several images a pass, whose logits (n, K) without temperature are passed in."""
    if held_out is None:
        return _as_it_is(model.multiplexed_temperature)
    labels = held_out[1]

    def calibrate(images) -> None:
        multiplexing.calibrate_on(model, logits[images], labels[images], label_noise)

    def nll(images) -> float:
        return metrics.negative_log_likelihood(logits[images] / model.multiplexed_temperature, labels[images])

    return _fit(model, "multiplexed_temperature", calibrate, nll, len(labels), label_noise)


def _as_it_is(temperature: float) -> dict[str, Any]:
    return {"before": float(temperature), "value": float(temperature), "fitted_on": 0}


def _fit(model, attribute: str, calibrate: Callable, nll: Callable, count: int, label_noise) -> dict[str, Any]:
    """Fits a temperature and applies it where it helps.

    Args:
        model: Whose it is.
        attribute: The model's attribute that holds it.
        calibrate: Fits it on the images of these indices.
        nll: The negative log-likelihood of the images of these indices under it.
        count: Number of images.
        label_noise: Of the labels; where some are wrong, halves tell nothing.
    """
    figures = _as_it_is(getattr(model, attribute))
    reason = None
    if count < LEAST_IMAGES:
        reason = f"{count} validation images are too few to fit it on, {LEAST_IMAGES} are the least"
    elif label_noise is None:
        reason = _worse_on_halves(calibrate, nll, count)
        setattr(model, attribute, figures["before"])
    calibrate(np.arange(count))
    value = float(getattr(model, attribute))
    if reason:
        setattr(model, attribute, figures["before"])
        return figures | {"not_applied": {"value": value, "why": reason}}
    return figures | {"value": value, "fitted_on": count}


def _worse_on_halves(calibrate: Callable, nll: Callable, count: int) -> str | None:
    """Why a temperature makes things worse on images that it was not fitted on; None where it does not."""
    random = np.random.default_rng(0)
    without, divisions = nll(np.arange(count)), DIVISIONS if count < FEW_IMAGES else 1
    total = 0.0
    for _ in range(divisions):
        order = random.permutation(count)
        halves = order[: count // 2], order[count // 2 :]
        for fitted, measured in (halves, halves[::-1]):
            with calibration.trying():
                calibrate(fitted)
            total += len(measured) * nll(measured)
    of_halves = total / (divisions * count)
    if of_halves <= without:
        return None
    return (
        f"each half of the validation images has a higher NLL under the other half's temperature, "
        f"{of_halves:.4f}, than without, {without:.4f}"
    )
