"""The evaluation of a model of any task, by what its task says: figures, charts, images, answers."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from mixmo_keras.common import arguments
from mixmo_keras.evaluation.batches import names_of_images, rows_at
from mixmo_keras.metrics.shown import Chart, Pictures
from mixmo_keras.metrics.summaries import for_json
from mixmo_keras.models import temperatures
from mixmo_keras.models.ensemble import EVALUATED_AT_ONCE, Ensemble
from mixmo_keras.training import predicting


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
        pictures: Maps of each of them, of a task with maps.
        answers: By its name, what an exported model would serve of each test image, (n, ...); of maps nothing is kept.
        test_names: The names of the test images, such as their files (n,), or `None`.
    """

    figures: dict[str, Any]
    charts: Sequence[Chart]
    doubtful_images: np.ndarray
    doubtful: np.ndarray
    in_words: Sequence[Sequence[str]]
    pictures: Pictures | None
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
            raise ValueError(
                f"`{argument}` is about one class an image (tasks.Classification), and the task of {model.name} is "
                f"{model.task}: leave it out."
            )
    if not model.task.columns:
        raise ValueError(f"{model.task} has no reports: `model.figures(x, y)` has the figures of {model.name}.")
    model.task.names(class_names)
    check_fitted(validation, temperature, coverage)
    task, average = model.task, model.average
    held_out = None if validation is None else predicting.sampled(model, _outputs(model, validation))
    fitted = temperatures.fit(model, held_out if temperature else None, None)
    figures, outputs, targets = _measured(model, test)
    images = {"test": len(targets), "validation": 0 if held_out is None else len(held_out[1])}
    figures |= {"images": images, "parameters": model.count_params()}
    if held_out is not None:
        fitted_on, tested = ((model.pooled(members), right) for members, right in (held_out, (outputs, targets)))
        if (sets := task.conformal_figures(fitted_on, tested, coverage or COVERAGE)) is not None:
            figures["conformal"] = sets
    figures = for_json({"name": name or model.name, "task": task.name, "temperature": fitted, **figures})
    doubtful = np.argsort(-task.doubt(average, outputs), kind="stable")[:num_images]
    pixels, right = (np.stack(part) for part in [*zip(*rows_at(test, doubtful), strict=True)][:2])
    of_doubtful, right = model.predict_with_labels(pixels, right, task.at_once(model.image_shape, EVALUATED_AT_ONCE))
    return TaskEvaluation(
        figures | {"headline": task.headline(figures)},
        task.charts(average, outputs, targets),
        pixels,
        doubtful,
        [task.in_words(members, average, target) for members, target in zip(of_doubtful, right, strict=True)],
        task.pictures(average, of_doubtful, right),
        {} if task.are_maps else _answers(model, outputs),
        names_of_images("test_names", test_names, len(targets)),
    )


def _outputs(model: Ensemble, data):
    return model.outputs_by_batch(data, None, EVALUATED_AT_ONCE, None)


def _measured(model: Ensemble, test) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """The task's figures, which count all of each batch, and a sample of outputs and targets."""
    kept = []

    def watched():
        for outputs, targets in _outputs(model, test):
            kept.append(model.task.sample(outputs, targets))
            yield outputs, targets

    figures = model.task.figures_of_batches(model.average, watched())
    return figures, *predicting.together(model, kept)


def _answers(model: Ensemble, outputs: np.ndarray) -> dict[str, np.ndarray]:
    served = model.task.served(keras.ops.convert_to_tensor(outputs, "float32"), model.average)
    return {key: keras.ops.convert_to_numpy(values) for key, values in served.items() if not key.startswith("member_")}


def check_fitted(validation, temperature: bool, coverage: float | None) -> None:
    """Raises `ValueError` for what is fitted on validation data, where there are none."""
    if arguments.boolean("temperature", temperature) and validation is None:
        raise ValueError("A temperature is fitted on validation data, never on the test set: pass `validation`.")
    if coverage is not None and validation is None:
        raise ValueError("Conformal sets of a `coverage` are fitted on validation data: pass `validation`.")
    if coverage is not None:
        arguments.number("coverage", coverage, above=0, below=1)
