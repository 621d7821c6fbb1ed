"""Everything that can be said of a trained ensemble: `evaluate` gives an `Evaluation`, which `report.write` makes readable.

The test set is only read here. What is fitted, the temperature and the conformal sets, is fitted on validation data, and the
figures say on how many images.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from mixmo_keras import metrics
from mixmo_keras.evaluation import corruptions
from mixmo_keras.metrics import calibration, uncertainty
from mixmo_keras.models.ensemble import Ensemble


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        figures: all numbers, ready for JSON; `None` for what can't be said.
        member_logits: of the test images, (n, M, K).
        logits: of the ensemble, with its temperature, (n, K).
        labels: (n,).
        class_names: (K,).
        uncertainty: by measure, of the test images and of those from elsewhere: (n,), (m,) or `None`.
        disagreement: the images that members disagree on most, with their numbers in the test set.
    """

    figures: dict[str, Any]
    member_logits: np.ndarray
    logits: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    uncertainty: dict[str, tuple[np.ndarray, np.ndarray | None]]
    disagreement: tuple[np.ndarray, np.ndarray]


def evaluate(
    model: Ensemble,
    test,
    class_names: Sequence[str],
    validation=None,
    temperature: bool = False,
    coverage: float | None = None,
    strangers=None,
    strangers_name: str | None = None,
    corrupted: Iterable[tuple[str, int, Any]] | None = None,
    name: str | None = None,
    num_disagreements: int = 18,
) -> Evaluation:
    """Evaluates an ensemble, or a single network, on test data.

    Args:
        model: a `MixMo` or a `DeepEnsemble`.
        test: batches of (images, labels), always in the same order.
        class_names: of the model's K classes.
        validation: batches that nothing was trained on: for the conformal sets, and the temperature.
        temperature: whether to fit a temperature on `validation` and to set it in the model.
        coverage: of the conformal sets; `None` for 0.9.
        strangers: batches of (images, labels) of another kind, to be told from the test images; their labels are not used.
        strangers_name: what to call them; `None` for "elsewhere".
        corrupted: (corruption, severity, batches) one after the other, such as `corrupted_batches` gives; severities 1 to 5.
        name: of the model in the report.
        num_disagreements: how many images to keep that members disagree on most.

    Raises:
        ValueError: data that don't fit the model, a corruption without all severities, fitting without validation data.
        FloatingPointError: logits that are not finite.
    """
    if len(class_names) != model.num_classes:
        raise ValueError(
            f"The dataset has {len(class_names)} classes, the model {model.num_classes}: is it the one it was trained on?"
        )
    if temperature and validation is None:
        raise ValueError("A temperature is fitted on validation data, never on the test set: pass `validation`.")
    if coverage is not None and validation is None:
        raise ValueError("Conformal sets of a `coverage` are fitted on validation data: pass `validation`.")
    if strangers_name is not None and strangers is None:
        raise ValueError(f"`strangers_name` (={strangers_name!r}) names nothing without `strangers`.")
    held_out = None if validation is None else model.predict_with_labels(validation)
    before = model.temperature
    if temperature:
        model.calibrate_on(*held_out)  # type: ignore[misc]
    member_logits, labels = model.predict_with_labels(test)
    logits = model.pooled(member_logits)
    members = [metrics.network_figures(member_logits[:, member], labels) for member in range(model.num_members)]
    figures: dict[str, Any] = {
        "name": name or model.name,
        "images": {"test": len(labels), "validation": 0 if held_out is None else len(held_out[1])},
        "parameters": model.count_params(),
        "members": members,
        "members_mean": {key: float(np.mean([member[key] for member in members])) for key in members[0]},
        "ensemble": metrics.network_figures(logits, labels),
        "uncalibrated": metrics.network_figures(model.pooled(member_logits, calibrated=False), labels),
        "temperature": {
            "value": model.temperature,
            "fitted_on": len(held_out[1]) if temperature and held_out is not None else 0,
            "before": before,
        },
        "nll_c": calibration.calibrated_negative_log_likelihood(logits, labels) if len(labels) > 1 else None,
        "diversity": metrics.diversity_figures(member_logits, labels),
        "classes": [
            {"name": str(class_name), "images": int((labels == k).sum()), "accuracy": _accuracy_of(logits, labels, k)}
            for k, class_name in enumerate(class_names)
        ],
    }
    if held_out is not None:
        asked = 0.9 if coverage is None else coverage
        figures["conformal"] = _conformal(model.pooled(held_out[0]), held_out[1], logits, labels, asked)
    own = _scores(model, member_logits)
    others: dict[str, np.ndarray | None] = dict.fromkeys(own)
    if strangers is not None:
        others = {**_scores(model, _member_logits(model, strangers))}
        figures["out_of_distribution"] = {
            "dataset": strangers_name or "elsewhere",
            "images": len(next(iter(others.values()))),  # type: ignore[arg-type]
            "measures": {measure: _detected(own[measure], others[measure]) for measure in own},
        }
    if corrupted is not None:
        figures["corruptions"] = _of_corruptions(model, corrupted)
    disputed = own.get("mutual_information", own["entropy"])  # which a single network has none of
    numbers = np.argsort(-disputed, kind="stable")[:num_disagreements]
    return Evaluation(
        _without_nan(figures),
        member_logits,
        logits,
        labels,
        tuple(class_names),
        {measure: (own[measure], others[measure]) for measure in own},
        (numbers, _images(test, numbers)),
    )


def corrupted_batches(batches, names: Sequence[str] | None = None, seed: int = 0):
    """The same images under every corruption at every severity: (corruption, severity, batches of (images, labels)).

    Args:
        batches: of (images, labels), a `tf.data.Dataset` or any that can be iterated again and again.
        names: of `corruptions.CORRUPTIONS`; `None` for all.
        seed: of what is drawn.
    """
    for name in corruptions.CORRUPTIONS if names is None else names:
        for severity in range(1, 6):
            yield (
                name,
                severity,
                [
                    (corruptions.corrupt(images, name, severity, seed + number), labels)
                    for number, (images, labels) in enumerate(_numpy(batches))
                ],
            )


# -- parts of it -------------------------------------------------------------------------------------------------------


def _numpy(batches):
    return batches.as_numpy_iterator() if hasattr(batches, "as_numpy_iterator") else iter(batches)


def _accuracy_of(logits, labels, k: int) -> float | None:
    of_class = labels == k
    return metrics.accuracy(logits[of_class], labels[of_class]) if of_class.any() else None


def _conformal(held_out_logits, held_out_labels, logits, labels, coverage: float) -> dict[str, Any]:
    found: dict[str, Any] = {"coverage_asked": coverage, "fitted_on": len(held_out_labels)}
    for method in calibration.CONFORMAL_METHODS:
        sets = calibration.ConformalSets.fit(held_out_logits, held_out_labels, coverage, method).sets(logits)
        found[method] = {
            "coverage": float(sets[np.arange(len(labels)), labels].mean()),
            "mean_size": float(sets.sum(-1).mean()),
            "empty": float((sets.sum(-1) == 0).mean()),
        }
    return found


def _scores(model: Ensemble, member_logits) -> dict[str, np.ndarray]:
    tensor = keras.ops.convert_to_tensor(member_logits, "float32")
    found = uncertainty.scores(tensor, model.average)
    if model.num_members == 1:
        del found["mutual_information"]  # of one member there is none
    return {measure: keras.ops.convert_to_numpy(values) for measure, values in found.items()}


def _member_logits(model: Ensemble, batches) -> np.ndarray:
    """Of images whose labels mean something else."""
    labelled = ((images, np.zeros(len(images), int)) for images, *_ in _numpy(batches))
    return model.predict_with_labels(labelled)[0]


def _detected(own, others) -> dict[str, float]:
    return metrics.detection(np.concatenate([own, others]), np.arange(len(own) + len(others)) >= len(own))


def _of_corruptions(model: Ensemble, corrupted) -> dict[str, Any]:
    found: dict[str, dict[int, tuple[float, float]]] = {}
    images = 0
    for name, severity, batches in corrupted:
        member_logits, labels = model.predict_with_labels(batches)
        logits, images = model.pooled(member_logits), len(labels)
        scores = metrics.accuracy(logits, labels), metrics.negative_log_likelihood(logits, labels)
        found.setdefault(name, {})[severity] = scores
    missing = [name for name, severities in found.items() if sorted(severities) != [1, 2, 3, 4, 5]]
    if missing or not found:
        raise ValueError(
            f"Corruptions need severities 1 to 5, so that means can be compared; {missing or 'none was given'} lack some."
        )
    accuracy, nll = (
        {name: [found[name][severity][number] for severity in range(1, 6)] for name in found} for number in (0, 1)
    )
    return {
        "images": images,
        "accuracy": accuracy,
        "nll": nll,
        "mean_accuracy": float(np.mean(list(accuracy.values()))),
        "mean_nll": float(np.mean(list(nll.values()))),
    }


def _images(batches, numbers) -> np.ndarray:
    """Those of such numbers, in their order."""
    wanted, first, found = set(numbers.tolist()), 0, {}
    for images, *_ in _numpy(batches):
        found.update({n: images[n - first] for n in range(first, first + len(images)) if n in wanted})
        first += len(images)
    return np.stack([found[number] for number in numbers.tolist()])


def _without_nan(values):
    """Numbers that JSON can hold: `None` in place of NaN and infinite ones."""
    if isinstance(values, dict):
        return {key: _without_nan(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [_without_nan(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values
