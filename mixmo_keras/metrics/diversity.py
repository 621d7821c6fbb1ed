"""Metrics of diversity: how members differ, from their logits (n, M, K)."""

import itertools

import keras

from mixmo_keras.common import arguments
from mixmo_keras.metrics import uncertainty
from mixmo_keras.metrics.definitions import MeanOverImages, MetricDefinition, answers, mean, namespace
from mixmo_keras.metrics.keras_metrics import MembersMetric, PairsMetric


class _OfPairs(MetricDefinition):
    """The mean over pairs of members; the statistics have an entry for each of the M(M − 1)/2 pairs."""

    of_members = True

    def of_each_member(self, logits, labels):
        """The values of the members that are compared: (n, M, ...)."""
        raise NotImplementedError

    def compare(self, first, second) -> dict:
        """The values (n,) to sum over images, by name, from the values (n, ...) of two members."""
        raise NotImplementedError

    def of_each_pair(self, statistics):
        """The metric of each pair, (M(M − 1)/2,)."""
        raise NotImplementedError

    def update(self, logits, labels, weights):
        xp = namespace(logits)
        values = self.of_each_member(logits, labels)
        pairs = itertools.combinations(range(logits.shape[1]), 2)
        compared = [self.compare(values[:, first], values[:, second]) for first, second in pairs]
        sums = {
            name: xp.stack([xp.sum(xp.cast(of_pair[name], weights.dtype) * weights) for of_pair in compared])
            for name in compared[0]
        }
        return {**sums, "count": xp.sum(weights)}

    def result(self, statistics):
        return namespace(statistics["count"]).mean(self.of_each_pair(statistics))

    def of_arrays(self, logits, labels=None) -> float:
        """NaN for a single member."""
        if arguments.logits("member_logits", logits, of_members=True).shape[1] == 1:
            return float("nan")
        return super().of_arrays(logits, labels)


class _MeanOfPairs(_OfPairs):
    """A mean over images and over pairs. `compare` returns the value of each image as `total`."""

    def of_each_pair(self, statistics):
        return mean(statistics["total"], statistics["count"])


class _OfErrors(_OfPairs):
    """A metric that depends only on which members are wrong."""

    def of_each_member(self, logits, labels):
        return answers(logits) != labels[:, None]


# -- errors --------------------------------------------------------------------------------------------------------------


class _RatioOfErrors(_OfErrors):
    def compare(self, first, second):
        return {"alone": first != second, "both": first & second}

    def of_each_pair(self, statistics):
        return statistics["alone"] / statistics["both"]


def ratio_of_errors(member_logits, labels) -> float:
    """Diversity: (N01 + N10)/N00, errors of one member alone over errors of both, mean over the pairs of members.

    It is 0 for members that always err together. NaN for a single member, infinite where no image is wrong for both.
    """
    return _RatioOfErrors().of_arrays(member_logits, labels)


@keras.saving.register_keras_serializable("mixmo_keras")
class RatioOfErrors(PairsMetric):
    """`ratio_of_errors` as a Keras metric. `num_members` is M ≥ 2."""

    definition = _RatioOfErrors()


class _QStatistic(_OfErrors):
    def compare(self, first, second):
        return {"both": first & second, "none": ~(first | second), "first": first & ~second, "second": ~first & second}

    def of_each_pair(self, statistics):
        together, apart = (statistics[a] * statistics[b] for a, b in (("both", "none"), ("first", "second")))
        return (together - apart) / (together + apart)


def q_statistic(member_logits, labels) -> float:
    """Yule's Q, (N11·N00 − N01·N10)/(N11·N00 + N01·N10), mean over pairs: 0 if they err independently, 1 if together.

    NaN for a single member, and where the denominator is 0.
    """
    return _QStatistic().of_arrays(member_logits, labels)


@keras.saving.register_keras_serializable("mixmo_keras")
class QStatistic(PairsMetric):
    """`q_statistic` as a Keras metric. `num_members` is M ≥ 2."""

    definition = _QStatistic()


# -- answers and probabilities -------------------------------------------------------------------------------------------


class _Disagreement(_MeanOfPairs):
    def of_each_member(self, logits, labels):
        return answers(logits)

    def compare(self, first, second):
        return {"total": first != second}


def disagreement(member_logits) -> float:
    """Share of images for which two members give different answers, mean over pairs; NaN for a single member."""
    return _Disagreement().of_arrays(member_logits)


@keras.saving.register_keras_serializable("mixmo_keras")
class Disagreement(PairsMetric):
    """`disagreement` as a Keras metric. `num_members` is M ≥ 2."""

    definition = _Disagreement()


class _PairwiseKL(_MeanOfPairs):
    def of_each_member(self, logits, labels):
        return namespace(logits).log_softmax(logits, axis=-1)

    def compare(self, first, second):
        xp = namespace(first)
        return {"total": xp.sum((xp.exp(first) - xp.exp(second)) * (first - second), axis=-1) / 2}


def pairwise_kl(member_logits) -> float:
    """Mean over images and ordered pairs of members of KL(p_i ‖ p_j), in nats; NaN for a single member."""
    return _PairwiseKL().of_arrays(member_logits)


@keras.saving.register_keras_serializable("mixmo_keras")
class PairwiseKL(PairsMetric):
    """`pairwise_kl` as a Keras metric. `num_members` is M ≥ 2."""

    definition = _PairwiseKL()


class _MutualInformation(MeanOverImages):
    of_members = True

    def values(self, logits, labels):
        return uncertainty.information_of_members(logits)


def mutual_information(member_logits) -> float:
    """`uncertainty.mutual_information`, high where members disagree, mean over images; 0 for a single member."""
    return _MutualInformation().of_arrays(member_logits)


@keras.saving.register_keras_serializable("mixmo_keras")
class MutualInformation(MembersMetric):
    """`mutual_information` as a Keras metric, of logits (n, M, K)."""

    definition = _MutualInformation()
