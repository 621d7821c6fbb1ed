"""Finding wrong labels: ranks labelled images by how strongly an ensemble contradicts their labels.

A single network that is trained for long learns wrong labels by heart and agrees with them. Members that never see an image
alone learn fewer labels by heart, so that their answers reveal wrong labels even among the training images.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.special import log_softmax

from mixmo_keras import metrics
from mixmo_keras.common import arguments, class_labels, files
from mixmo_keras.models.ensemble import EVALUATED_AT_ONCE, Ensemble

RANKED_BY = "margin"
MEASURES = ("self_confidence", "margin", "agreement")


@dataclasses.dataclass(frozen=True)
class LabelIssues:
    """How suspicious the label of each of n images is, by three measures. Higher is more suspicious.

    Attributes:
        labels: The labels that the images have (n,).
        predicted: The most probable class (n,) of the ensemble.
        suspicion: By measure (n,). `self_confidence`: one less the probability p of the label. `margin`: the highest
            probability of another class, less p (Northcutt et al. 2021, arXiv:1911.00068; -1 to 1). `agreement`: the
            share of members whose most probable class is the one other class that most of them name.
    """

    labels: np.ndarray
    predicted: np.ndarray
    suspicion: dict[str, np.ndarray]

    def order(self, by: str = RANKED_BY) -> np.ndarray:
        """The indices (n,) of the images, the most suspicious first. Ties are broken by the margin, then by the order."""
        arguments.choice("by", by, MEASURES)
        return np.lexsort((-self.suspicion["margin"], -self.suspicion[by]))


def rank(member_logits, logits, labels) -> LabelIssues:
    """Compares an ensemble's answers with the labels that the images have.

    Args:
        member_logits: The members' logits (n, M, K).
        logits: The ensemble's logits (n, K).
        labels: The labels (n,) that may be wrong.

    Raises:
        ValueError: shapes that don't fit each other, or labels that are no classes.
    """
    member_logits = arguments.logits("member_logits", member_logits, of_members=True)
    logits = arguments.logits("logits", logits)
    if logits.shape != member_logits[:, 0].shape:
        raise ValueError(
            f"`member_logits` must be (n, M, K) and `logits` (n, K), got {member_logits.shape} and {logits.shape}."
        )
    num_images, num_classes = logits.shape
    labels = class_labels.integers("labels", labels, num_classes, num_images)
    probabilities = np.exp(log_softmax(logits, axis=-1))
    images = np.arange(num_images)
    of_label = probabilities[images, labels]
    of_others, votes = probabilities.copy(), _votes(member_logits)
    of_others[images, labels] = votes[images, labels] = -np.inf
    suspicion = {
        "self_confidence": 1 - of_label,
        "margin": of_others.max(-1) - of_label,
        "agreement": votes.max(-1),
    }
    return LabelIssues(labels, logits.argmax(-1), suspicion)


def find(model: Ensemble, x, y=None, batch_size: int = EVALUATED_AT_ONCE) -> LabelIssues:
    """Ranks the labels of images by the answers of a model. The images may be those that it was trained on.

    Args:
        model: A trained `MixMo` or `DeepEnsemble`.
        x: Images (n, H, W, C), raw pixels; or batches of (images, labels), always in the same order.
        y: The labels (n,) that may be wrong, if x is images.
        batch_size: Number of images in a batch, if x is images.
    """
    arguments.instance("model", model, Ensemble, "a model of mixmo_keras, such as MixMo or DeepEnsemble")
    member_logits, labels = model.predict_with_labels(x, y, batch_size)
    return rank(member_logits, model.pooled(member_logits), labels)


def detection_figures(issues: LabelIssues, right_labels) -> dict[str, float | int | dict]:
    """How well the wrong labels are found, where the right ones are known.

    Args:
        issues: What `rank` or `find` gave.
        right_labels: The right classes (n,).

    Returns:
        `images`: the number of labels. `wrong`: the number w of wrong labels. For each measure, `auroc` and `aupr` (average
        precision) of finding the wrong labels, as in `metrics.detection`, and `found`, the share of wrong labels among the
        w most suspicious ones.
    """
    wrong = issues.labels != class_labels.integers("right_labels", right_labels, count=len(issues.labels))
    figures: dict = {"images": len(wrong), "wrong": int(wrong.sum())}
    for measure in MEASURES:
        detected = metrics.detection(issues.suspicion[measure], wrong)
        first = issues.order(measure)[: figures["wrong"]]
        found = float(wrong[first].mean()) if len(first) else float("nan")
        figures[measure] = {"auroc": detected["auroc"], "aupr": detected["aupr"], "found": found}
    return figures


def write_csv(
    issues: LabelIssues,
    path: str | os.PathLike,
    class_names: Sequence[str],
    right_labels=None,
    names: Sequence[str] | None = None,
) -> Path:
    """Writes a CSV file for correcting labels, the most suspicious first, whole or not at all.

    Its columns are the image's index in its split, its file where there are `names`, the class of the label, the class that
    the ensemble predicts, the three measures, and the right class where it is known.

    Args:
        issues: What `rank` or `find` gave.
        path: The file.
        class_names: The names of the K classes.
        right_labels: The right classes (n,).
        names: The images' names (n,), such as those of their files.
    """
    class_names = arguments.names("class_names", class_names)
    known, num_images = right_labels is not None, len(issues.labels)
    if known:
        right_labels = class_labels.integers("right_labels", right_labels, len(class_names), num_images)
    if names is not None and len(names := arguments.names("names", names)) != num_images:
        raise ValueError(f"`names` must be one for each image, got {len(names)} for {num_images} images.")
    file = [] if names is None else ["file"]
    rows = [["index", *file, "labelled", "predicted", *MEASURES, *(["right"] if known else [])]]
    for index in issues.order():
        name = [] if names is None else [names[index]]
        classes = [class_names[issues.labels[index]], class_names[issues.predicted[index]]]
        measures = [f"{issues.suspicion[measure][index]:.6f}" for measure in MEASURES]
        right = [class_names[right_labels[index]]] if known else []
        rows.append([str(index), *name, *classes, *measures, *right])
    return files.write_csv(path, rows)


def _votes(member_logits: np.ndarray) -> np.ndarray:
    """The share of members (n, K) whose most probable class is each class."""
    return (member_logits.argmax(-1)[:, :, None] == np.arange(member_logits.shape[-1])).mean(1)
