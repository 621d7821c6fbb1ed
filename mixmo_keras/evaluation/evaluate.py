"""The evaluation of a trained ensemble: `evaluate` gives an `Evaluation`, which `report.write` turns into a report.

Nothing is fitted on the test set. The temperature and the conformal sets are fitted on validation data, and the figures
include the number of images that they were fitted on.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from mixmo_keras import metrics, multiplexing
from mixmo_keras.common import arguments, class_labels, numbering
from mixmo_keras.evaluation import answers, by_task, classes, label_issues, shifts
from mixmo_keras.evaluation.batches import images_at, names_of_images, numpy_batches
from mixmo_keras.evaluation.by_task import COVERAGE, TaskEvaluation, check_fitted
from mixmo_keras.evaluation.label_issues import LabelIssues
from mixmo_keras.metrics import calibration, uncertainty
from mixmo_keras.metrics.summaries import for_json
from mixmo_keras.models import temperatures
from mixmo_keras.models.ensemble import Ensemble

MOST_SHOWN = 1000  # images of a kind in a report
POOL = 1000  # test images among which partners are drawn


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`.

    Attributes:
        figures: All numbers, ready for JSON; `None` in place of undefined ones.
        member_logits: The members' logits of the test images, (n, M, K).
        logits: The ensemble's logits, with its temperature, (n, K).
        labels: The right classes, (n,).
        class_names: The K classes' names.
        uncertainty: By measure, the scores of the test images (n,), and the scores of the images out of distribution (m,)
            or `None`.
        disagreement: The images that members disagree on most: their indices in the test set, and their pixels.
        confidently_wrong: The images whose wrong answers are the surest: indices and pixels; empty where all are right.
        label_issues: How suspicious the labels of training images are, or `None`.
        suspicious_images: The images with the most suspicious labels, or `None`: their indices in the labelled data, and
            their pixels.
        right_labels: The right classes of those training images, where they are known.
        test_names: The names of the test images, such as their files (n,), or `None`.
        labelled_names: The names of the labelled images, or `None`.
    """

    figures: dict[str, Any]
    member_logits: np.ndarray
    logits: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    uncertainty: dict[str, tuple[np.ndarray, np.ndarray | None]]
    disagreement: tuple[np.ndarray, np.ndarray]
    confidently_wrong: tuple[np.ndarray, np.ndarray]
    label_issues: LabelIssues | None = None
    suspicious_images: tuple[np.ndarray, np.ndarray] | None = None
    right_labels: np.ndarray | None = None
    test_names: Sequence[str] | None = None
    labelled_names: Sequence[str] | None = None


def evaluate(
    model: Ensemble,
    test,
    class_names: Sequence[str],
    validation=None,
    temperature: bool = False,
    multiplexed: bool = False,
    coverage: float | None = None,
    out_of_distribution=None,
    out_of_distribution_name: str | None = None,
    corrupted: Iterable[tuple[str, int, Any]] | None = None,
    reference_errors: Mapping[str, float] | None = None,
    other_test_sets: Mapping[str, Any] | None = None,
    name: str | None = None,
    num_disagreements: int = 18,
    labelled=None,
    right_labels=None,
    label_noise: float | str | None = None,
    test_names: Sequence[str] | None = None,
    labelled_names: Sequence[str] | None = None,
) -> Evaluation | TaskEvaluation:
    """Evaluates an ensemble, or a single network, on test data.

    Of another task than classes, by what the task says: `by_task.TaskEvaluation`.

    Args:
        model: A `MixMo` or a `DeepEnsemble`.
        test: Batches of (images, labels), always in the same order.
        class_names: The names of the model's K classes, or of the task's labels or targets.
        validation: Batches that nothing was trained on: for the conformal sets, and the temperature.
        temperature: Whether to fit a temperature on `validation` and to set it in the model. Defaults to False.
        multiplexed: Whether to evaluate M images a pass too (`predict_multiplexed`), their partners drawn at random; to fit
            the temperature of this mode beside the other; and to say what partners do to an answer. Defaults to False.
        coverage: The coverage asked of the conformal sets, within (0, 1). Defaults to 0.9.
        out_of_distribution: Batches of (images, labels) of another kind, to be told from the test images.
        out_of_distribution_name: The name of these images. Defaults to "elsewhere".
        corrupted: (corruption, severity, batches) one after the other, severities 1 to 5, as `corrupted_batches` gives.
        reference_errors: Errors of another network by corruption, such as `datasets.ALEXNET_ERRORS`, for the mean
            corruption error. Defaults to none.
        other_test_sets: By name, batches of (images, labels) of the model's classes, or of some of them.
        name: The model's name in the report. Defaults to `model.name`.
        num_disagreements: Number of images to keep of each kind: the most disputed ones, the surest wrong answers and the
            most suspicious labels. At most 1,000. Defaults to 18.
        labelled: Batches of (images, labels), always in the same order, usually the training images. Their labels are
            ranked by how suspicious they are, see `label_issues`.
        right_labels: The right classes (n,) of the labelled images, where they are known.
        label_noise: The rate of wrong labels among those that the temperature is fitted on, or `"estimate"`; see
            `Ensemble.calibrate`. Defaults to labels that are right.
        test_names: The names of the test images (n,), such as those of their files, for the report. Defaults to none.
        labelled_names: The same of the `labelled` images.

    Raises:
        ValueError: The data don't fit the model, class names are in another order than the model's, a corruption lacks a
            severity, validation data are missing, or names of images are not one for each.
        FloatingPointError: Logits are not finite.
    """
    arguments.instance("model", model, Ensemble, "a model of mixmo_keras, such as MixMo or DeepEnsemble")
    if model.task.why_only_classes():
        others = dict(out_of_distribution=out_of_distribution, corrupted=corrupted, labelled=labelled)
        others |= dict(right_labels=right_labels, label_noise=label_noise, multiplexed=multiplexed or None)
        shown = name, num_disagreements, test_names
        return by_task.evaluate(model, test, class_names, validation, temperature, coverage, others, *shown)
    _check(model, class_names, validation, temperature, coverage)
    _check_names(name, out_of_distribution, out_of_distribution_name)
    _check_labels(temperature, labelled, right_labels, label_noise, labelled_names)
    num_disagreements = arguments.integer("num_disagreements", num_disagreements, least=1, most=MOST_SHOWN)
    if arguments.boolean("multiplexed", multiplexed):
        multiplexing.check(model)
        multiplexing.warn_where_little_trained(model)
    class_names = arguments.names("class_names", class_names)
    numbering.check_numbers(model.class_names, class_names, model.name)
    held_out, fitted, fitted_multiplexed = _fit_temperatures(model, validation, temperature, multiplexed, label_noise)
    (member_logits, targets), multiplexed_logits = _answers(model, test, multiplexed)
    labels = class_labels.most(targets)
    test_names = names_of_images("test_names", test_names, len(labels))
    logits = model.pooled(member_logits)
    scores, scores_elsewhere = _scores(model, member_logits), _scores_elsewhere(model, out_of_distribution)

    images = {"test": len(labels), "validation": 0 if held_out is None else len(held_out[1])}
    figures: dict[str, Any] = {"name": name or model.name, "images": images, "parameters": model.count_params()}
    figures |= {"temperature": fitted, **model.task.figures(model.average, member_logits, targets)}
    figures["answers"] = answers.figures(member_logits, logits, labels, class_names)
    held_out_logits = None if held_out is None else (model.pooled(held_out[0]), class_labels.most(held_out[1]))
    figures |= classes.figures(logits, labels, class_names, held_out_logits)
    if held_out is not None:
        figures["conformal"] = _conformal_figures(model, *held_out, logits, labels, coverage or COVERAGE)
    if out_of_distribution is not None:
        figures["out_of_distribution"] = _detection(out_of_distribution_name or "elsewhere", scores, scores_elsewhere)
    if multiplexed:
        of_passes = _multiplexed_figures(model, test, multiplexed_logits, logits, labels)
        figures["multiplexed"] = {"temperature": fitted_multiplexed, **of_passes}
    figures |= shifts.figures(model, corrupted, reference_errors, other_test_sets)
    dispute = scores.get("mutual_information", scores["entropy"])  # a single network has no mutual information
    issues = None if labelled is None else label_issues.find(model, labelled)
    if issues is not None:
        labelled_names = names_of_images("labelled_names", labelled_names, len(issues.labels))
        figures["label_issues"] = _label_figures(issues, right_labels)
    return Evaluation(
        for_json(figures),
        member_logits,
        logits,
        labels,
        tuple(class_names),
        uncertainty={measure: (scores[measure], scores_elsewhere.get(measure)) for measure in scores},
        disagreement=images_at(test, np.argsort(-dispute, kind="stable")[:num_disagreements]),
        confidently_wrong=images_at(test, answers.confidently_wrong(logits, labels, num_disagreements)),
        label_issues=issues,
        suspicious_images=None if issues is None else images_at(labelled, issues.order()[:num_disagreements]),
        right_labels=right_labels,
        test_names=test_names,
        labelled_names=labelled_names,
    )


# -- checks of the arguments -------------------------------------------------------------------------------------------


def _check(model, class_names, validation, temperature, coverage) -> None:
    num_classes = len(arguments.names("class_names", class_names))
    if num_classes != model.num_classes:
        raise ValueError(
            f"The dataset has {num_classes} classes, the model {model.num_classes}: is it the one it was trained on?"
        )
    check_fitted(validation, temperature, coverage)


def _check_names(name, out_of_distribution, out_of_distribution_name) -> None:
    for argument, value in (("name", name), ("out_of_distribution_name", out_of_distribution_name)):
        arguments.instance(argument, value, (str, type(None)), "a name or None")
    if out_of_distribution_name is not None and out_of_distribution is None:
        raise ValueError(
            f"`out_of_distribution_name` (={out_of_distribution_name!r}) names nothing without `out_of_distribution`."
        )


def _check_labels(temperature: bool, labelled, right_labels, label_noise: float | str | None, labelled_names) -> None:
    if labelled_names is not None and labelled is None:
        raise ValueError("`labelled_names` are those of `labelled` images: pass these too.")
    if label_noise is not None and not temperature:
        raise ValueError("`label_noise` is about the labels that a temperature is fitted on: pass temperature=True.")
    if right_labels is not None and labelled is None:
        raise ValueError("`right_labels` are those of `labelled` images: pass these too.")


# -- the network's answers ---------------------------------------------------------------------------------------------


def _answers(model, batches, multiplexed: bool) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray | None]:
    """(members' logits, labels), and the logits of M images a pass without temperature, or None."""
    if not multiplexed:
        return model.predict_with_labels(batches), None
    member_logits, labels, logits = multiplexing.predict_both_with_labels(model, batches)
    return (member_logits, labels), logits


def _fit_temperatures(
    model, validation, temperature: bool, multiplexed: bool, label_noise
) -> tuple[tuple[np.ndarray, np.ndarray] | None, dict[str, Any], dict[str, Any] | None]:
    """(members' logits, labels) of held-out data or None, and what was fitted on them, for each mode."""
    held_out, of_passes = None, None
    if validation is not None:
        held_out, of_passes = _answers(model, validation, multiplexed and temperature)
    to_fit_on = held_out if temperature else None
    fitted = temperatures.fit(model, to_fit_on, label_noise)
    if not multiplexed:
        return held_out, fitted, None
    return held_out, fitted, temperatures.fit_multiplexed(model, of_passes, to_fit_on, label_noise)


# -- figures by subject ------------------------------------------------------------------------------------------------


def _conformal_figures(
    model: Ensemble, held_out_member_logits, held_out_labels, logits, labels, coverage: float
) -> dict[str, Any]:
    held_out_logits, held_out_labels = model.pooled(held_out_member_logits), class_labels.most(held_out_labels)
    figures: dict[str, Any] = {"coverage_asked": float(coverage), "fitted_on": len(held_out_labels)}
    for method in calibration.CONFORMAL_METHODS:
        sets = calibration.ConformalSets.fit(held_out_logits, held_out_labels, coverage, method).sets(logits)
        figures[method] = {
            "coverage": float(sets[np.arange(len(labels)), labels].mean()),
            "mean_size": float(sets.sum(-1).mean()),
            "empty": float((sets.sum(-1) == 0).mean()),
        }
    return figures


def _multiplexed_figures(model, test, multiplexed_logits, logits, labels) -> dict[str, Any]:
    chosen = np.sort(np.random.default_rng(0).permutation(len(labels))[:POOL])
    images = images_at(test, chosen)[1]
    return multiplexing.figures.figures(model, multiplexed_logits, logits, labels, images, labels[chosen])


# -- uncertainty: telling other images, and the images that members disagree on ----------------------------------------


def _scores(model: Ensemble, member_logits) -> dict[str, np.ndarray]:
    """Every measure of uncertainty of each image."""
    tensor = keras.ops.convert_to_tensor(member_logits, "float32")
    scores = uncertainty.scores(tensor, model.average)
    if model.num_members == 1:
        del scores["mutual_information"]  # of one member there is none
    return {measure: keras.ops.convert_to_numpy(values) for measure, values in scores.items()}


def _scores_elsewhere(model: Ensemble, batches) -> dict[str, np.ndarray]:
    """The same for images out of distribution, whose labels mean something else; empty without such images."""
    if batches is None:
        return {}
    labelled = ((images, np.zeros(len(images), int)) for images, *_ in numpy_batches(batches))
    return _scores(model, model.predict_with_labels(labelled)[0])


def _detection(name: str, scores: dict, scores_elsewhere: dict) -> dict[str, Any]:
    """How well each measure of uncertainty tells the images out of distribution from the test images."""
    measures = {}
    for measure, values in scores.items():
        both = np.concatenate([values, scores_elsewhere[measure]])
        measures[measure] = metrics.detection(both, np.arange(len(both)) >= len(values))
    return {"dataset": name, "images": len(both) - len(values), "measures": measures}


def _label_figures(issues: LabelIssues, right_labels) -> dict[str, Any]:
    """How many labels the ensemble contradicts, and how well the wrong ones are found where the right ones are known."""
    figures: dict[str, Any] = {
        "images": len(issues.labels),
        "contradicted": int((issues.predicted != issues.labels).sum()),
    }
    return figures if right_labels is None else figures | label_issues.detection_figures(issues, right_labels)
