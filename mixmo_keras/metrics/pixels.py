"""Figures of label maps: of the classes of pixels, which are counted batch by batch, so that no map is kept.

`logits` are (n, H, W, K), `labels` (n, H, W) integers; pixels whose label is `ignore` count for nothing.
"""

from typing import Any

import keras
import numpy as np
from keras import ops
from scipy.special import log_softmax

from mixmo_keras.common import arguments

NUM_BINS = 15  # of a calibration error


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
        return ops.trace(confusion) / ops.maximum(ops.sum(confusion), 1e-12)

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
        return ops.sum(right / ops.maximum(union, 1e-12)) / ops.maximum(ops.sum(occur), 1.0)
