"""The evaluation of a model of any task, by what its task says: figures, charts, images, answers."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from mixmo_keras.common import arguments
from mixmo_keras.evaluation.batches import images_at, names_of_images
from mixmo_keras.metrics.shown import Chart
from mixmo_keras.metrics.summaries import for_json
from mixmo_keras.models.ensemble import Ensemble
from mixmo_keras.models.temperatures import LEAST_IMAGES


@dataclasses.dataclass(frozen=True)
class TaskEvaluation:
    """The result of `evaluate` for another task than classes.

    Attributes:
        figures: All numbers, ready for JSON, `None` in place of undefined ones; and the main results in sentences,
            `headline`.
        charts: As `Task.charts` gives them.
        doubtful_images: The test images that the model is least sure about, (m, H, W, C).
        doubtful: Their indices in the test set, (m,).
        in_words: What is true of each of them, and what is predicted, in short lines.
        answers: By its name, what an exported model would serve of each test image, (n, ...).
        test_names: The names of the test images, such as their files (n,), or `None`.
    """

    figures: dict[str, Any]
    charts: Sequence[Chart]
    doubtful_images: np.ndarray
    doubtful: np.ndarray
    in_words: Sequence[Sequence[str]]
    answers: Mapping[str, np.ndarray]
    test_names: Sequence[str] | None = None


COVERAGE = 0.9  # of conformal sets, unless another is asked for


def evaluate(
    model: Ensemble,
    test,
    class_names: Sequence[str],
    validation,
    temperature: bool,
    coverage: float | None,
    others: Mapping[str, Any],
    name: str | None = None,
    num_images: int = 18,
    test_names: Sequence[str] | None = None,
) -> TaskEvaluation:
    """Evaluates a model by its task; arguments as in `evaluation.evaluate`.

    Args:
        others: Arguments that are about classes, of which none may be given.
        num_images: Number of images to show.

    Raises:
        ValueError: as `evaluation.evaluate`; an argument about classes.
    """
    for argument, value in others.items():
        if value is not None:
            raise ValueError(f"`{argument}` is about one class an image, and the task of {model.name} is {model.task}.")
    if not model.task.columns:
        raise ValueError(f"{model.task} has no reports: `model.figures(x, y)` has the figures of {model.name}.")
    model.task.names(class_names)
    check_fitted(validation, temperature, coverage)
    held_out = None if validation is None else model.predict_with_labels(validation)
    fitted = _calibrated(model, held_out if temperature else None)
    outputs, targets = model.predict_with_labels(test)
    figures = _figures(model, outputs, targets, held_out, coverage or COVERAGE)
    figures = for_json({"name": name or model.name, "task": model.task.name, "temperature": fitted, **figures})
    tensor = keras.ops.convert_to_tensor(outputs, "float32")
    doubt = np.argsort(-model.task.doubt(model.average, tensor), kind="stable")[:num_images]
    indices, pixels = images_at(test, doubt)
    served = model.task.served(tensor, model.average)
    return TaskEvaluation(
        figures | {"headline": model.task.headline(figures)},
        model.task.charts(model.average, outputs, targets),
        pixels,
        indices,
        [model.task.in_words(outputs[index], model.average, targets[index]) for index in indices],
        {key: keras.ops.convert_to_numpy(values) for key, values in served.items() if not key.startswith("member_")},
        names_of_images("test_names", test_names, len(targets)),
    )


def check_fitted(validation, temperature: bool, coverage: float | None) -> None:
    """Raises `ValueError` for what is fitted on validation data, where there are none."""
    if arguments.boolean("temperature", temperature) and validation is None:
        raise ValueError("A temperature is fitted on validation data, never on the test set: pass `validation`.")
    if coverage is not None and validation is None:
        raise ValueError("Conformal sets of a `coverage` are fitted on validation data: pass `validation`.")
    if coverage is not None:
        arguments.number("coverage", coverage, above=0, below=1)


def _figures(model: Ensemble, outputs, targets, held_out, coverage: float) -> dict[str, Any]:
    images = {"test": len(targets), "validation": 0 if held_out is None else len(held_out[1])}
    figures = {"images": images, "parameters": model.count_params()}
    figures |= model.task.figures(model.average, outputs, targets)
    if held_out is not None:
        of_held_out, of_tests = ((model.pooled(members), right) for members, right in (held_out, (outputs, targets)))
        if (sets := model.task.conformal_figures(of_held_out, of_tests, coverage)) is not None:
            figures["conformal"] = sets
    return figures


def _calibrated(model: Ensemble, held_out) -> dict[str, Any]:
    """Calibrates on held-out images, where there are enough, and returns the figures of the temperature."""
    before = float(model.temperature)
    figures: dict[str, Any] = {"before": before, "value": before, "fitted_on": 0}
    if held_out is None:
        return figures
    outputs, targets = held_out
    if len(targets) < LEAST_IMAGES:
        why = f"{len(targets)} validation images are too few to fit it on, {LEAST_IMAGES} are the least"
        return figures | {"not_applied": {"value": None, "why": why}}
    model.calibrate_on(outputs, targets)
    return figures | {"value": float(model.temperature), "fitted_on": len(targets)}
