"""Fits a temperature on held-out data, and applies it only where it helps: one rule for models, evaluations and tasks."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from mixmo_keras import metrics, multiplexing
from mixmo_keras.common import arguments
from mixmo_keras.metrics import calibration
from mixmo_keras.networks.member_average import TEMPERATURE_APPLIES_TO
from mixmo_keras.training import predicting

LEAST_IMAGES = 50  # of one class each; fewer say little about a temperature, or a threshold
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
        held_out = [*predicting.sampled(model, model.outputs_by_batch(x, y, batch_size, steps))]
        logits = None
    fitted = {"the temperature": fit(model, held_out, label_noise, applies_to)}
    if logits is not None:
        fitted["the temperature of several images a pass"] = fit_multiplexed(model, logits, held_out, label_noise)
    for name, figures in fitted.items():
        if refused := figures.get("not_applied"):
            _logger.warning("%s: %s stays at %g: %s.", model.name, name, figures["value"], refused["why"])
    return model.temperature


def fit_on(model, member_outputs, targets, applies_to: str | None, label_noise: float | str | None) -> None:
    """Fits the temperature of an ensemble and sets it, whether it helps or not; arguments as in `Ensemble.calibrate_on`."""
    predicting.check_member_logits(model, member_outputs)
    if applies_to is None:
        applies_to = model.average.temperature_applies_to
    arguments.choice("temperature_applies_to", applies_to, TEMPERATURE_APPLIES_TO)
    model.temperature = model.task.calibrate(model.average, member_outputs, targets, applies_to, label_noise)
    model.apply_temperature_to(applies_to)


def fit(model, held_out, label_noise: float | str | None, applies_to: str | None = None) -> dict[str, Any]:
    """Fits the temperature of an ensemble on held-out data (member outputs, targets) and returns its figures.

    The temperature is not applied where there are too few images, or where cross-fitting shows that it does harm: each half
    of the data, under the temperature of the other half, has a higher NLL than without a temperature. Then `not_applied` has
    the value and the reason. Thresholds and intervals are fitted in either case. Without held-out data, the model keeps its
    temperature.

    Args:
        model: An `Ensemble`.
        held_out: The members' outputs (n, M, ...) and targets.
        label_noise: As in `Ensemble.calibrate`.
        applies_to: `temperature_applies_to` there. Defaults to what the model has.
    """
    if held_out is None:
        return _as_it_is(model.temperature)
    member_outputs, targets = held_out
    average, task = model.average, model.task
    before, applied_to = average.get_weights(), average.temperature_applies_to  # a task may have further weights

    def calibrate(images) -> None:
        fit_on(model, member_outputs[images], targets[images], applies_to, label_noise)

    def nll(images) -> float:
        return task.nll(average, member_outputs[images], targets[images])

    def restore() -> None:
        average.set_weights(before)
        model.apply_temperature_to(applied_to)

    figures = _fit(model, "temperature", calibrate, nll, restore, len(targets), task.least_to_calibrate, label_noise)
    if task.also_fitted:
        task.fit_answers(average, member_outputs, targets)
        figures["also_fitted"] = {"what": task.also_fitted, "on": len(targets)}
    if label_noise is not None and figures["fitted_on"]:
        estimated, rate = label_noise == "estimate", label_noise
        if estimated:
            logits = model.pooled(member_outputs, calibrated=False)
            _, rate = calibration.fit_temperature_under_noise(logits, targets)
        figures["label_noise"] = {"rate": rate, "estimated": estimated}
    return figures


def fit_multiplexed(model, logits, held_out, label_noise: float | str | None) -> dict[str, Any]:
    """The same of several images a pass, whose logits (n, K) without temperature are passed in."""
    if held_out is None:
        return _as_it_is(model.multiplexed_temperature)
    labels, before = held_out[1], model.multiplexed_temperature

    def calibrate(images) -> None:
        multiplexing.calibrate_on(model, logits[images], labels[images], label_noise)

    def nll(images) -> float:
        return metrics.negative_log_likelihood(logits[images] / model.multiplexed_temperature, labels[images])

    def restore() -> None:
        model.multiplexed_temperature = before

    attribute = "multiplexed_temperature"
    return _fit(model, attribute, calibrate, nll, restore, len(labels), LEAST_IMAGES, label_noise)


def _as_it_is(temperature: float) -> dict[str, Any]:
    return {"before": float(temperature), "value": float(temperature), "fitted_on": 0}


def _fit(
    model, attribute: str, calibrate: Callable, nll: Callable, restore: Callable, count: int, least: int, label_noise
) -> dict[str, Any]:
    """Fits a temperature and applies it where it helps.

    Args:
        model: Whose it is.
        attribute: The model's attribute that holds it.
        calibrate: Fits it on the images of these indices.
        nll: The negative log-likelihood of the images of these indices under it.
        restore: Sets what was there before.
        count: Number of images.
        least: The least number of images to fit it on.
        label_noise: Of the labels; where some are wrong, halves tell nothing.
    """
    figures = _as_it_is(getattr(model, attribute))
    reason = None
    if count < least:
        reason = f"{count} validation images are too few to fit it on, {least} are the least"
    elif label_noise is None:
        reason = _worse_on_halves(calibrate, nll, count)
        restore()
    calibrate(np.arange(count))
    value = float(getattr(model, attribute))
    if reason:
        restore()
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
