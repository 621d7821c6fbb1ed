"""What an evaluation says of each class, of all of them alike, and of a threshold between two."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import softmax

from mixmo_keras.metrics import by_class
from mixmo_keras.models.temperatures import LEAST_IMAGES


def figures(
    logits: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    held_out: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, Any]:
    """The figures by class, which count all classes alike however many images they have.

    Args:
        logits: The ensemble's logits of the test images (n, K).
        labels: Their classes (n,).
        class_names: The names of the K classes.
        held_out: Logits (m, K) and classes (m,) of validation images, for a threshold between two classes.

    Returns:
        `classes`: of each class its `name`, the number of its `images`, `accuracy`, which is its recall, `precision`, `f1`
        and `auroc`.
        `balanced`: the means of these over classes, `balanced_accuracy`, `f1` and `auroc`.
        `by_chance`: how probable as many right answers are by chance.
        `threshold`: of two classes, where 50 validation images or more have both of them: the second one's name, `class`;
        the probability from which it is answered, `value`; `fitted_on`; and the figures of these answers to the test images.
    """
    found = by_class.class_figures(logits, labels)
    counts = np.bincount(labels, minlength=len(class_names))
    columns = {"accuracy": "recall", "precision": "precision", "f1": "f1", "auroc": "auroc"}
    classes = [
        {"name": name, "images": int(counts[k])} | {title: float(found[key][k]) for title, key in columns.items()}
        for k, name in enumerate(class_names)
    ]
    made: dict[str, Any] = {
        "classes": classes,
        "balanced": by_class.means(found),
        "by_chance": by_class.probability_by_chance(logits.argmax(-1), labels, len(class_names)),
    }
    if (threshold := _threshold(class_names, held_out)) is not None:
        made["threshold"] = threshold | by_class.threshold_figures(logits, labels, threshold["value"])
    return made


def _threshold(class_names: Sequence[str], held_out: tuple[np.ndarray, np.ndarray] | None) -> dict[str, Any] | None:
    if len(class_names) != 2 or held_out is None:
        return None
    logits, labels = held_out
    if len(labels) < LEAST_IMAGES or len(np.unique(labels)) < 2:
        return None
    value = by_class.best_threshold(softmax(logits.astype("float64"), axis=-1)[:, 1], labels)
    return {"class": class_names[1], "value": value, "fitted_on": len(labels)}
