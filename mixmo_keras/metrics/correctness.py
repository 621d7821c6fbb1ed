"""Metrics of correctness: accuracy, likelihood, Brier score."""

import dataclasses

import keras

from mixmo_keras.metrics.definitions import MeanOverImages, answers, namespace, probabilities
from mixmo_keras.metrics.keras_metrics import NetworkMetric


class _Accuracy(MeanOverImages):
    def values(self, logits, labels):
        return namespace(logits).cast(answers(logits) == labels, logits.dtype)


def accuracy(logits, labels) -> float:
    """Share of images whose most probable class is right."""
    return _Accuracy().of_arrays(logits, labels)


@keras.saving.register_keras_serializable("mixmo_keras")
class Accuracy(NetworkMetric):
    """`accuracy` as a Keras metric. Arguments as in `NetworkMetric`."""

    definition = _Accuracy()


@dataclasses.dataclass(frozen=True)
class _TopKAccuracy(MeanOverImages):
    k: int = 5

    def values(self, logits, labels):
        xp = namespace(logits)
        above = logits > xp.take_along_axis(logits, labels[:, None], axis=-1)
        return xp.cast(xp.sum(xp.cast(above, "int32"), axis=-1) < self.k, logits.dtype)


def top_k_accuracy(logits, labels, k: int = 5) -> float:
    """Share of images with fewer than k classes more probable than the right one; 1 where there are only k classes."""
    return _TopKAccuracy(k).of_arrays(logits, labels)


@keras.saving.register_keras_serializable("mixmo_keras")
class TopKAccuracy(NetworkMetric):
    """`top_k_accuracy` as a Keras metric.

    Args:
        k: As in `top_k_accuracy`. Defaults to 5.
        **options: `of`, `averaging`, `name` and `dtype`, as in `NetworkMetric`.
    """

    def __init__(self, k: int = 5, **options):
        self.definition = _TopKAccuracy(k)
        super().__init__(**options)


class _NegativeLogLikelihood(MeanOverImages):
    takes_shares = True

    def values(self, logits, labels):
        xp = namespace(logits)
        if len(labels.shape) == 2:
            return -xp.sum(labels * xp.log_softmax(logits, axis=-1), axis=-1)
        return -xp.take_along_axis(xp.log_softmax(logits, axis=-1), labels[:, None], axis=-1)[:, 0]


def negative_log_likelihood(logits, labels) -> float:
    """Mean of −log of the probability given to the right class, in nats; of shares of classes, the cross-entropy."""
    return _NegativeLogLikelihood().of_arrays(logits, labels)


@keras.saving.register_keras_serializable("mixmo_keras")
class NegativeLogLikelihood(NetworkMetric):
    """`negative_log_likelihood` as a Keras metric. Arguments as in `NetworkMetric`."""

    definition = _NegativeLogLikelihood()


class _BrierScore(MeanOverImages):
    takes_shares = True

    def values(self, logits, labels):
        xp = namespace(logits)
        if len(labels.shape) == 2:
            return xp.sum(xp.square(probabilities(logits) - labels), axis=-1)
        targets = xp.cast(labels[:, None] == xp.arange(logits.shape[-1], dtype="int32"), logits.dtype)
        return xp.sum(xp.square(probabilities(logits) - targets), axis=-1)


def brier_score(logits, labels) -> float:
    """Mean of Σ_k (p_k − 1[k = label])²: from 0 to 2, the sum over classes as Brier (1950) has it.

    Of shares of classes (n, K), the mean of Σ_k (p_k − share_k)².
    """
    return _BrierScore().of_arrays(logits, labels)


@keras.saving.register_keras_serializable("mixmo_keras")
class BrierScore(NetworkMetric):
    """`brier_score` as a Keras metric. Arguments as in `NetworkMetric`."""

    definition = _BrierScore()
