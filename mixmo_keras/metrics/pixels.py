"""Figures of label maps: of the classes of pixels, which are counted batch by batch, so that no map is kept.

`logits` are (n, H, W, K), `labels` (n, H, W) integers; pixels whose label is `ignore` count for nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from scipy.special import log_softmax

from mixmo_keras.common import arguments
from mixmo_keras.common.undefined import nan_where
from mixmo_keras.metrics.shown import Column, Pictures

NUM_BINS = 15  # of a calibration error
COLUMNS = {  # of a report's table, by the name in `PixelStatistics.figures`
    "miou": Column("mIoU", "intersection over union of pixels by class, the mean over classes that occur", True),
    "accuracy": Column(
        "accuracy", "share of pixels whose class is right; of a class, of the pixels that have it", True
    ),
    "nll": Column("NLL", "negative log-likelihood of a pixel in nats: punishes sure errors"),
    "ece": Column("ECE", "expected calibration error: by how much confidence and accuracy differ, in 15 bins"),
}
COLUMNS_OF_CLASSES = {
    "iou": Column("IoU", "pixels of a class that are found, over those that have it or are given it", True),
    "share": Column("share", "share of the pixels that have the class", True, "{:.2%}"),
}


class PixelStatistics:
    """Adds up what all figures of pixels follow from: a confusion matrix, and bins of confidence by predicted class.

    Args:
        num_classes: K.
        ignore: The label of pixels that don't count; `None` for none.
    """

    def __init__(self, num_classes: int, ignore: int | None):
        self.num_classes, self.ignore = num_classes, ignore
        self.confusion = np.zeros((num_classes, num_classes))  # pixels, by their class and the predicted one
        self.bins = np.zeros((num_classes, NUM_BINS, 3))  # pixels, sums of confidence and of right answers
        self.nll = np.zeros(num_classes)  # sums, by the pixels' class

    def update(self, logits, labels) -> None:
        """Adds the pixels of some maps."""
        labels = np.asarray(labels)
        counts = np.full(labels.shape, True) if self.ignore is None else labels != self.ignore
        labels, logs = labels[counts].astype(int), log_softmax(np.asarray(logits)[counts].astype("float64"), axis=-1)
        predicted = logs.argmax(-1)
        confidence = np.exp(logs[np.arange(len(labels)), predicted])
        number = self.num_classes
        self.confusion += np.bincount(labels * number + predicted, minlength=number**2).reshape(number, number)
        self.nll -= np.bincount(labels, logs[np.arange(len(labels)), labels], number)
        bins = predicted * NUM_BINS + np.clip(np.ceil(confidence * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
        for column, values in enumerate((np.ones(len(labels)), confidence, predicted == labels)):
            self.bins[..., column] += np.bincount(bins, values, number * NUM_BINS).reshape(number, NUM_BINS)

    def figures(self) -> dict[str, Any]:
        """All figures, NaN where they are undefined.

        Returns:
            `miou`, the mean intersection over union of the classes that occur in labels or predictions; `accuracy` of
            pixels, their `nll` in nats, and `ece` over 15 bins of confidence; and by class, under `classes`: `iou`,
            `accuracy` of the pixels that have it, their `nll`, `ece` of the pixels that are given it, and `share`.
        """
        right, of_class, given = np.diag(self.confusion), self.confusion.sum(1), self.confusion.sum(0)
        total = of_class.sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            gaps = np.abs(self.bins[..., 1] - self.bins[..., 2]).sum(1)
            by_class = {
                "iou": right / (of_class + given - right),
                "accuracy": right / of_class,
                "nll": self.nll / of_class,
                "ece": gaps / given,
                "share": of_class / total,
            }
            of_all = self.bins.sum(0)
            figures = {
                "miou": np.nanmean(by_class["iou"]) if total else np.nan,
                "accuracy": right.sum() / total,
                "nll": self.nll.sum() / total,
                "ece": np.abs(of_all[:, 1] - of_all[:, 2]).sum() / total,
            }
        values = {name: float(value) for name, value in figures.items()}
        return {**values, "classes": {name: one.tolist() for name, one in by_class.items()}}


@keras.saving.register_keras_serializable("mixmo_keras")
class PixelAccuracy(keras.metrics.Metric):
    """The share of pixels whose most probable class is their label, from labels (n, H, W) and logits (n, H, W, K).

    It is NaN where no pixel counts.

    Args:
        num_classes: K.
        ignore: The label of pixels that don't count; `None` for none.
    """

    def __init__(self, num_classes: int, ignore: int | None = None, name="pixel_accuracy", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.num_classes = arguments.integer("num_classes", num_classes, least=2)
        self.ignore = None if ignore is None else arguments.integer("ignore", ignore)
        self.confusion = self.add_variable((self.num_classes, self.num_classes), "zeros", name="confusion")

    def update_state(self, y_true, y_pred, sample_weight=None):
        labels = ops.cast(ops.reshape(y_true, ops.shape(y_pred)[:-1]), "int32")
        predicted = ops.cast(ops.argmax(y_pred, axis=-1), "int32")
        weights = ops.cast(ops.logical_and(labels >= 0, labels < self.num_classes), "float32")
        if self.ignore is not None:
            weights = ops.where(labels == self.ignore, 0.0, weights)
        if sample_weight is not None:
            weights *= ops.reshape(ops.cast(sample_weight, "float32"), (-1, 1, 1))
        pairs = ops.clip(labels, 0, self.num_classes - 1) * self.num_classes + predicted
        flat = (ops.reshape(values, (-1,)) for values in (weights, pairs))
        counted = ops.segment_sum(*flat, num_segments=self.num_classes**2)
        self.confusion.assign_add(ops.reshape(counted, (self.num_classes, self.num_classes)))

    def result(self):
        confusion = ops.convert_to_tensor(self.confusion)
        return self._of_pixels(confusion, ops.trace(confusion) / ops.maximum(ops.sum(confusion), 1e-12))

    def _of_pixels(self, confusion, value):
        return nan_where(ops.sum(confusion) == 0, value)

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes, "ignore": self.ignore}


@keras.saving.register_keras_serializable("mixmo_keras")
class MeanIoU(PixelAccuracy):
    """The mean over classes of intersection over union, of those that occur in labels or predictions.

    Args:
        num_classes, ignore: As in `PixelAccuracy`.
    """

    def __init__(self, num_classes: int, ignore: int | None = None, name="mean_iou", dtype=None):
        super().__init__(num_classes, ignore, name, dtype)

    def result(self):
        confusion = ops.convert_to_tensor(self.confusion)
        right = ops.diagonal(confusion)
        union = ops.sum(confusion, axis=0) + ops.sum(confusion, axis=1) - right
        occur = ops.cast(union > 0, "float32")
        mean = ops.sum(right / ops.maximum(union, 1e-12)) / ops.maximum(ops.sum(occur), 1.0)
        return self._of_pixels(confusion, mean)


def colors(num_classes: int) -> np.ndarray:
    """A colour for each class, (K, 3) from 0 to 255: those of PASCAL VOC, in which class 0 is black."""
    classes, found = np.arange(num_classes), np.zeros((num_classes, 3), int)
    for digit in range(8):  # three bits of the number, the lowest first, set the highest bits of the three channels
        for channel in range(3):
            found[:, channel] |= (classes >> (3 * digit + channel) & 1) << (7 - digit)
    return found.astype("uint8")


def headline(figures: Mapping[str, Any]) -> list[str]:
    """The main results in sentences, of the `figures` of a segmentation's evaluation."""
    ensemble, by_class, images = figures["ensemble"], figures["ensemble"]["classes"], figures["images"]["test"]
    if ensemble["accuracy"] is None:
        return [f"No pixel of the {images:,} test images counts: all have the ignored label."]
    known = [(iou, name) for iou, name in zip(by_class["iou"], figures["names"], strict=True) if iou is not None]
    frequent = int(np.argmax(by_class["share"]))
    sentences = [
        f"mIoU {ensemble['miou']:.3f} on {images:,} test images. {ensemble['accuracy']:.1%} of the pixels are right; always "
        f"answering {figures['names'][frequent]} would be right on {by_class['share'][frequent]:.1%}.",
        f"Hardest class: {min(known)[1]}, IoU {min(known)[0]:.3f}.",
    ]
    members = [member["miou"] for member in figures["members"]]
    if len(members) > 1:
        sentences.append(f"Members alone have an mIoU of {np.mean(members):.3f} on average.")
    if missing := [name for name, share in zip(figures["names"], by_class["share"], strict=True) if not share]:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} others" if len(missing) > 5 else "")
        sentences.append(f"No test pixel has class {shown}.")
    return sentences


def pictures(
    labels: np.ndarray, answers: Mapping[str, np.ndarray], ignore: int | None, names: Sequence[str], several: bool
) -> Pictures:
    """Label, prediction, confidence, and of several members where they disagree, as pixels.

    Args:
        labels: (n, H, W).
        answers: What is served of the images: `label_map`, `confidence`, `mutual_information`, (n, H, W) each.
        ignore: The label of pixels that don't count; `None` for none.
        names: Of the K classes.
        several: Whether there are several members.
    """
    of_classes = colors(len(names))

    def drawn(label_maps: np.ndarray) -> np.ndarray:
        counts = np.full(label_maps.shape, True) if ignore is None else label_maps != ignore
        return np.where(counts[..., None], of_classes[np.where(counts, label_maps, 0)], 255).astype("uint8")

    def grey(shares: np.ndarray) -> np.ndarray:
        return np.repeat((255 * shares[..., None]).astype("uint8"), 3, axis=-1)

    panels = {"label": drawn(labels), "prediction": drawn(answers["label_map"])}
    panels["confidence"] = grey(answers["confidence"])
    ignored = "" if ignore is None else ", white where pixels don't count"
    caption = f"From the left: image; label{ignored}; prediction; confidence, white where it is sure"
    if several:
        information = answers["mutual_information"]
        panels["disagreement"] = grey(information / max(information.max(), 1e-6))
        caption += "; disagreement of members, white where it is highest among these images"
    return Pictures(panels, dict(zip(names, of_classes, strict=True)), f"{caption}.")
