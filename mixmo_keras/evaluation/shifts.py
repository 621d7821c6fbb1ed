"""Figures of images under shift: corrupted test images, and other test sets of the same classes."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mixmo_keras import metrics
from mixmo_keras.common import class_labels
from mixmo_keras.evaluation.corruptions import SEVERITIES
from mixmo_keras.models.ensemble import Ensemble

_OF_LOGITS = {
    "accuracy": metrics.accuracy,
    "nll": metrics.negative_log_likelihood,
    "ece": metrics.expected_calibration_error,
}


def figures(model: Ensemble, corrupted, reference_errors, other_test_sets: Mapping[str, Any] | None) -> dict[str, Any]:
    """What an evaluation says of images under shift; arguments as of `evaluate`, empty without any."""
    found = {}
    if corrupted is not None:
        found["corruptions"] = corruption_figures(model, corrupted, reference_errors)
    if other_test_sets is not None:
        found["other_test_sets"] = {
            name: figures_of_test_set(model, batches) for name, batches in other_test_sets.items()
        }
    return found


def corruption_figures(
    model: Ensemble, corrupted: Iterable[tuple[str, int, Any]], reference_errors: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Figures by corruption and severity, and their means over all.

    Args:
        model: The ensemble.
        corrupted: (corruption, severity, batches), severities 1 to 5.
        reference_errors: Another network's error by corruption, a mean over the severities, for the mean corruption error
            (`mean_corruption_error`), where all of its corruptions are given. Defaults to none.
    """
    results: dict[str, dict[int, list[float]]] = {}  # by corruption and severity, in this order
    num_images = 0
    for name, severity, batches in corrupted:
        member_logits, targets = model.predict_with_labels(batches)
        logits, labels, num_images = model.pooled(member_logits), class_labels.most(targets), len(targets)
        results.setdefault(name, {})[severity] = [function(logits, labels) for function in _OF_LOGITS.values()]
    incomplete = [name for name, severities in results.items() if sorted(severities) != list(SEVERITIES)]
    if incomplete or not results:
        raise ValueError(
            "Corruptions need severities 1 to 5, so that means can be compared; "
            f"{incomplete or 'none was given'} lack some."
        )
    by_figure = {
        figure: {name: [severities[severity][place] for severity in SEVERITIES] for name, severities in results.items()}
        for place, figure in enumerate(_OF_LOGITS)
    }
    figures: dict[str, Any] = {"images": num_images, **by_figure}
    figures |= {f"mean_{figure}": float(np.mean(list(values.values()))) for figure, values in by_figure.items()}
    if reference_errors is not None and set(reference_errors) <= set(results):
        figures["mean_corruption_error"] = mean_corruption_error(by_figure["accuracy"], reference_errors)
    return figures


def mean_corruption_error(accuracies: Mapping[str, list[float]], reference_errors: Mapping[str, float]) -> float:
    """mCE (Hendrycks and Dietterich, 2019): each corruption's error by the reference's, and the mean of these ratios.

    Args:
        accuracies: By corruption, those at the five severities, in [0, 1].
        reference_errors: By corruption, the reference's error, a mean over the severities, such as AlexNet's.

    Returns:
        1 for the reference itself, less for a network that is more robust.
    """
    ratios = [(1 - np.mean(accuracies[name])) / error for name, error in reference_errors.items()]
    return float(np.mean(ratios))


def figures_of_test_set(model: Ensemble, batches) -> dict[str, Any]:
    """Accuracy, NLL and ECE on another test set with the model's classes.

    Where it has some of the classes only, as ImageNet-A has 200, also the accuracy among these: that of the answer with the
    largest of their logits, as the authors of ImageNet-A count.
    """
    member_logits, targets = model.predict_with_labels(batches)
    logits, labels = model.pooled(member_logits), class_labels.most(targets)
    figures: dict[str, Any] = {"images": len(labels)}
    figures |= {name: function(logits, labels) for name, function in _OF_LOGITS.items()}
    classes = np.unique(labels)
    figures["classes"] = len(classes)
    if len(classes) < model.num_classes:
        answers = classes[logits[:, classes].argmax(-1)]
        figures["accuracy_among_its_classes"] = float(np.mean(answers == labels))
    return figures
