"""Keras' metrics that a user compiles, each given what it expects: the model's logits, or their softmax.

The rule: a metric of `keras.metrics` that compares probabilities, or numbers, with labels gets the softmax of the logits,
and labels as shares (n, K), or as indices where it is sparse. With from_logits=True it gets the logits. So do those that
only ask which classes are the most probable (accuracy, top-k), and all metrics of one's own: classes, functions, and
subclasses of Keras' with an `update_state` of their own. The same holds for Keras' losses that are used as metrics.
"""

from typing import Any

import keras
from keras import ops

from mixmo_keras import keras_internals
from mixmo_keras.common import class_labels
from mixmo_keras.training import losses

_kinds = keras.metrics
_OF_PROBABILITIES = (
    *(_kinds.AUC, _kinds.Precision, _kinds.Recall, _kinds.PrecisionAtRecall, _kinds.RecallAtPrecision),
    *(_kinds.SensitivityAtSpecificity, _kinds.SpecificityAtSensitivity),
    *(_kinds.TruePositives, _kinds.TrueNegatives, _kinds.FalsePositives, _kinds.FalseNegatives),
    *(_kinds.FBetaScore, _kinds.F1Score, _kinds.BinaryAccuracy, _kinds.BinaryIoU),
    *(_kinds.BinaryCrossentropy, _kinds.CategoricalCrossentropy, _kinds.SparseCategoricalCrossentropy),
    *(_kinds.KLDivergence, _kinds.Poisson, _kinds.CosineSimilarity, _kinds.LogCoshError, _kinds.R2Score),
    *(_kinds.MeanSquaredError, _kinds.RootMeanSquaredError, _kinds.MeanSquaredLogarithmicError),
    *(_kinds.MeanAbsoluteError, _kinds.MeanAbsolutePercentageError),
    *(_kinds.PearsonCorrelation, _kinds.ConcordanceCorrelation),
)
_SPARSE = "sparse_categorical_crossentropy"
_FUNCTIONS = (*losses.OF_PROBABILITIES, *losses.OF_OTHER_TASKS)  # Keras' losses, which are metrics too


def check(*metrics: Any) -> None:
    """Raises `ValueError` for Keras' metrics that take predicted classes; `metrics` are as `compile` takes them."""
    for metric in keras.tree.flatten(metrics):
        if isinstance(metric, str) and metric.lower() not in ("accuracy", "acc"):
            metric = keras.metrics.get(metric)
        if type(metric) is keras.metrics.Accuracy:
            raise ValueError(
                "keras.metrics.Accuracy compares predicted classes with labels, and the model returns logits: pass "
                '"accuracy", or keras.metrics.SparseCategoricalAccuracy().'
            )
        if _compares_areas(metric) and metric.sparse_y_pred:
            kind = "OneHotMeanIoU" if isinstance(metric, keras.metrics.MeanIoU) else "OneHotIoU"
            raise ValueError(
                f"keras.metrics.{type(metric).__name__} takes predicted classes, and the model returns logits: pass "
                f"keras.metrics.{kind}, which takes the most probable class."
            )


def update(model, labels, logits, sample_weight=None) -> None:
    """Updates a model's compiled metrics with a batch.

    Args:
        model: Compiled.
        labels: (n,), (n, 1) or (n, K).
        logits: (n, K).
        sample_weight: (n,), or `None`.
    """
    probabilities = None
    for metric, is_weighted in keras_internals.compiled_metrics(model, labels, logits):
        labels_of_metric, answers = labels, logits
        if takes_probabilities(metric):
            probabilities = ops.softmax(logits, axis=-1) if probabilities is None else probabilities
            labels_of_metric, answers = _in_form(labels, _is_sparse(metric), logits.shape[-1]), probabilities
        elif _compares_areas(metric):
            labels_of_metric = _in_form(labels, metric.sparse_y_true, logits.shape[-1])
        metric.update_state(labels_of_metric, answers, sample_weight=sample_weight if is_weighted else None)


def takes_probabilities(metric: keras.metrics.Metric) -> bool:
    """Whether a metric is known to take probabilities, and is not told that it gets logits."""
    if getattr(metric, "from_logits", None) or getattr(metric, "_from_logits", None):
        return False
    if type(metric) is keras.metrics.MeanMetricWrapper:
        function, options = keras_internals.wrapped_by(metric)
        if options.get("from_logits") or getattr(function, "from_logits", None):
            return False
        name = losses.name_of(function)
        own = getattr(function, "fn", function)
        return name in _FUNCTIONS and keras.losses.get(name) is own
    base = next((base for base in _OF_PROBABILITIES if isinstance(metric, base)), None)
    return base is not None and type(metric).update_state is base.update_state


def _compares_areas(metric: Any) -> bool:
    """Whether a metric is of the intersections and unions of classes, which are the most probable ones."""
    return isinstance(metric, keras.metrics.IoU) and not isinstance(metric, keras.metrics.BinaryIoU)


def _in_form(labels, is_sparse: bool, num_classes: int):
    return class_labels.as_indices(labels) if is_sparse else class_labels.as_shares(labels, num_classes)


def _is_sparse(metric: keras.metrics.Metric) -> bool:
    if type(metric) is keras.metrics.MeanMetricWrapper:
        return losses.name_of(keras_internals.wrapped_by(metric)[0]) == _SPARSE
    return isinstance(metric, keras.metrics.SparseCategoricalCrossentropy)
