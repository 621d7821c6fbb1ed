"""The figures of `functions` as Keras metrics, batch by batch, under any `tf.distribute` strategy, and on JAX.

They take labels, integers (n,) or (n, 1) or one-hot (n, K), and logits: of an ensemble (n, K) or of its members (n, M, K).
Of members' logits, `of="ensemble"` looks at their average, `of="members"` at the mean figure of a member, a number at that
member.
"""

import keras
from keras import ops

from mixmo_keras.networks.member_average import MemberAverage


class _OfLogits:
    """What the metrics here have in common: which logits they look at."""

    def _set_up(self, of, averaging):
        if of not in ("ensemble", "members") and (not isinstance(of, int) or of < 0):
            raise ValueError(f'`of` must be "ensemble", "members" or a member\'s number, got {of!r}.')
        self._of, self._average = of, MemberAverage(averaging)

    def _rows(self, y_true, y_pred, sample_weight=None):
        """Labels (rows,), float32 logits (rows, K), weights (rows,)."""
        labels, logits = _labels(y_true), ops.cast(y_pred, "float32")
        weights = ops.ones(ops.shape(labels)) if sample_weight is None else ops.reshape(sample_weight, (-1,))
        weights = ops.cast(weights, "float32")
        if len(logits.shape) == 2:
            if self._of != "ensemble":
                raise ValueError(f"of={self._of!r} needs logits of members (n, M, K), got shape {tuple(logits.shape)}.")
            return labels, logits, weights
        if self._of == "ensemble":
            return labels, self._average(logits), weights
        if self._of == "members":
            members = logits.shape[1]
            return ops.repeat(labels, members), ops.reshape(logits, (-1, logits.shape[2])), ops.repeat(weights, members)
        if self._of >= logits.shape[1]:
            raise ValueError(f"of={self._of} is no member: there are {logits.shape[1]}.")
        return labels, logits[:, self._of], weights

    def get_config(self):
        return {**super().get_config(), "of": self._of, "averaging": self._average.averaging}  # type: ignore[misc]


def _labels(y_true):
    if len(y_true.shape) == 2:
        y_true = ops.argmax(y_true, axis=-1) if y_true.shape[1] > 1 else ops.squeeze(y_true, axis=1)
    return ops.cast(y_true, "int32")


def _probabilities(logits):
    return ops.exp(ops.log_softmax(logits, axis=-1))  # Keras' softmax warns of a single class


def _answers(logits):
    """The first of the most probable classes, (..., ): of equal ones TensorFlow's argmax gives any."""
    classes = ops.arange(logits.shape[-1], dtype="int32")
    return ops.min(ops.where(logits == ops.max(logits, axis=-1, keepdims=True), classes, logits.shape[-1]), axis=-1)


def _confidence_and_right(labels, logits):
    return ops.max(_probabilities(logits), axis=-1), ops.cast(_answers(logits) == labels, "float32")


# -- means over rows ---------------------------------------------------------------------------------------------------


class _MeanOfRows(_OfLogits, keras.metrics.Mean):
    """The mean over images of a figure of each."""

    def __init__(self, of="ensemble", averaging="logits", name=None, dtype=None):
        super().__init__(name=name, dtype=dtype)
        self._set_up(of, averaging)

    def update_state(self, y_true, y_pred, sample_weight=None):
        labels, logits, weights = self._rows(y_true, y_pred, sample_weight)
        super().update_state(self._values(labels, logits), weights)

    def _values(self, labels, logits):
        raise NotImplementedError


@keras.saving.register_keras_serializable("mixmo_keras")
class Accuracy(_MeanOfRows):
    """Share of images whose most probable class is right."""

    def _values(self, labels, logits):
        return _confidence_and_right(labels, logits)[1]


@keras.saving.register_keras_serializable("mixmo_keras")
class TopKAccuracy(_MeanOfRows):
    """Share of images with fewer than k classes more probable than the right one."""

    def __init__(self, k: int = 5, of="ensemble", averaging="logits", name=None, dtype=None):
        super().__init__(of, averaging, name, dtype)
        self.k = k

    def _values(self, labels, logits):
        of_label = ops.take_along_axis(logits, labels[:, None], axis=-1)
        return ops.cast(ops.sum(ops.cast(logits > of_label, "int32"), axis=-1) < self.k, "float32")

    def get_config(self):
        return {**super().get_config(), "k": self.k}


@keras.saving.register_keras_serializable("mixmo_keras")
class NegativeLogLikelihood(_MeanOfRows):
    """Mean of −log of the probability given to the right class, in nats."""

    def _values(self, labels, logits):
        return -ops.take_along_axis(ops.log_softmax(logits, axis=-1), labels[:, None], axis=-1)[:, 0]


@keras.saving.register_keras_serializable("mixmo_keras")
class BrierScore(_MeanOfRows):
    """Mean of Σ_k (p_k − 1[k = label])², from 0 to 2."""

    def _values(self, labels, logits):
        targets = ops.one_hot(labels, logits.shape[-1], dtype="float32")
        return ops.sum(ops.square(_probabilities(logits) - targets), axis=-1)


# -- calibration -------------------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("mixmo_keras")
class ExpectedCalibrationError(_OfLogits, keras.metrics.Metric):
    """Mean distance of confidence and accuracy over equal-width bins of confidence. Source: `functions`."""

    def __init__(self, num_bins: int = 15, of="ensemble", averaging="logits", name=None, dtype=None):
        super().__init__(name=name, dtype=dtype)
        self._set_up(of, averaging)
        self.num_bins = num_bins
        self.gaps = self.add_variable((num_bins,), "zeros", name="gaps")
        self.count = self.add_variable((), "zeros", name="count")

    def update_state(self, y_true, y_pred, sample_weight=None):
        labels, logits, weights = self._rows(y_true, y_pred, sample_weight)
        confidence, right = _confidence_and_right(labels, logits)
        inside = ops.one_hot(_bin(confidence, self.num_bins), self.num_bins, dtype="float32")
        self.gaps.assign_add(ops.sum(inside * ((confidence - right) * weights)[:, None], axis=0))
        self.count.assign_add(ops.sum(weights))

    def result(self):
        return _share(ops.sum(ops.abs(self.gaps)), ops.convert_to_tensor(self.count))

    def get_config(self):
        return {**super().get_config(), "num_bins": self.num_bins}


@keras.saving.register_keras_serializable("mixmo_keras")
class ClasswiseCalibrationError(_OfLogits, keras.metrics.Metric):
    """The expected calibration error of each class's own probability, mean over `num_classes` classes."""

    def __init__(self, num_classes: int, num_bins: int = 15, of="ensemble", averaging="logits", name=None, dtype=None):
        super().__init__(name=name, dtype=dtype)
        self._set_up(of, averaging)
        self.num_classes, self.num_bins = num_classes, num_bins
        self.gaps = self.add_variable((num_classes, num_bins), "zeros", name="gaps")
        self.count = self.add_variable((), "zeros", name="count")

    def update_state(self, y_true, y_pred, sample_weight=None):
        labels, logits, weights = self._rows(y_true, y_pred, sample_weight)
        probabilities = _probabilities(logits)
        gaps = (probabilities - ops.one_hot(labels, self.num_classes, dtype="float32")) * weights[:, None]
        inside = ops.one_hot(_bin(probabilities, self.num_bins), self.num_bins, dtype="float32")
        self.gaps.assign_add(ops.einsum("nk,nkb->kb", gaps, inside))
        self.count.assign_add(ops.sum(weights))

    def result(self):
        return _share(ops.sum(ops.abs(self.gaps)) / self.num_classes, ops.convert_to_tensor(self.count))

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes, "num_bins": self.num_bins}


def _bin(confidence, num_bins: int):
    return ops.cast(ops.clip(ops.ceil(confidence * num_bins) - 1, 0, num_bins - 1), "int32")


def _share(total, count):
    """0 before any row, as Keras' means."""
    return ops.where(count > 0, total / ops.maximum(count, 1e-30), 0.0)


# -- by rank of confidence ---------------------------------------------------------------------------------------------


class _Ranked(_OfLogits, keras.metrics.Metric):
    """A figure that needs all confidences at once: they are kept, up to `capacity` images; NaN beyond.

    Rows of `sample_weight` 0 are left out; all others count once.
    """

    def __init__(self, capacity: int = 50_000, of="ensemble", averaging="logits", name=None, dtype=None):
        super().__init__(name=name, dtype=dtype)
        self._set_up(of, averaging)
        self.capacity = capacity
        # replicas write to places of their own, so that the sum over replicas is all of them
        self.confidence = self.add_variable((capacity + 1,), "zeros", name="confidence")
        self.right = self.add_variable((capacity + 1,), "zeros", name="right")
        self.valid = self.add_variable((capacity + 1,), "zeros", name="valid")
        self.count = self.add_variable((), "zeros", dtype="int32", name="count")

    def update_state(self, y_true, y_pred, sample_weight=None):
        labels, logits, weights = self._rows(y_true, y_pred, sample_weight)
        confidence, right = _confidence_and_right(labels, logits)
        valid = ops.cast(weights > 0, "int32")
        replica, num_replicas = _replica()
        places = (self.count + ops.cumsum(valid) - 1) * num_replicas + replica
        places = ops.where(valid > 0, ops.minimum(places, self.capacity), self.capacity + 1)
        for variable, values in ((self.confidence, confidence), (self.right, right), (self.valid, valid)):
            padded = ops.concatenate([variable, ops.zeros((1,))])  # one place more, for the rows that are left out
            variable.assign(ops.scatter_update(padded, places[:, None], ops.cast(values, "float32"))[:-1])
        self.count.assign_add(ops.sum(valid))

    def result(self):
        valid = ops.convert_to_tensor(self.valid)
        confidence = ops.where(valid > 0, ops.convert_to_tensor(self.confidence), float("inf"))
        value = self._figure(confidence[:-1], ops.convert_to_tensor(self.right)[:-1], valid[:-1])
        return ops.where(valid[-1] > 0, float("nan"), value)  # something lies in the last place: too many

    def _figure(self, confidence, right, valid):
        """Of confidences (capacity,), infinite where `valid` is 0."""
        raise NotImplementedError

    def get_config(self):
        return {**super().get_config(), "capacity": self.capacity}


def _replica():
    """The index of this replica, and how many there are."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        return ops.cast(context.replica_id_in_sync_group, "int32"), context.num_replicas_in_sync
    return 0, 1


def _ordered(confidence, right, valid):
    """Confidences rising, `right` as the mean of equal confidences, and `valid`; what is not valid at the end."""
    order = ops.argsort(confidence)
    confidence, right, valid = (ops.take(values, order) for values in (confidence, right, valid))
    total = ops.concatenate([ops.zeros((1,)), ops.cumsum(right)])
    first, last = (ops.searchsorted(confidence, confidence, side=side) for side in ("left", "right"))
    mean = (ops.take(total, last) - ops.take(total, first)) / ops.cast(ops.maximum(last - first, 1), "float32")
    return confidence, mean, valid


@keras.saving.register_keras_serializable("mixmo_keras")
class AdaptiveCalibrationError(_Ranked):
    """The expected calibration error over bins of equally many images."""

    def __init__(self, num_bins: int = 15, capacity: int = 50_000, **options):
        super().__init__(capacity, **options)
        self.num_bins = num_bins

    def _figure(self, confidence, right, valid):
        confidence, right, valid = _ordered(confidence, right, valid)
        count = ops.maximum(ops.sum(ops.cast(valid, "int32")), 1)
        bins = ops.minimum(ops.arange(self.capacity, dtype="int32") * self.num_bins // count, self.num_bins - 1)
        gaps = ops.where(valid > 0, confidence - right, 0.0)
        return ops.sum(ops.abs(ops.segment_sum(gaps, bins, self.num_bins))) / ops.cast(count, "float32")

    def get_config(self):
        return {**super().get_config(), "num_bins": self.num_bins}


@keras.saving.register_keras_serializable("mixmo_keras")
class AreaUnderRiskCoverage(_Ranked):
    """AURC: the share of errors among the c most confident images, mean over c."""

    def _figure(self, confidence, right, valid):
        _, right, valid = _ordered(-ops.where(valid > 0, confidence, float("-inf")), right, valid)
        rank = ops.arange(1, self.capacity + 1, dtype="float32")
        risks = ops.cumsum(ops.where(valid > 0, 1 - right, 0.0)) / rank
        return ops.sum(risks * valid) / ops.maximum(ops.sum(valid), 1.0)


class _ErrorDetection(_Ranked):
    """How well low confidence finds wrong answers; NaN without errors, and where all is wrong: `functions.detection`."""

    def _figure(self, confidence, right, valid):
        rights, wrongs = (ops.where((valid > 0) & mask, confidence, float("inf")) for mask in (right > 0, right == 0))
        counts = [ops.sum(ops.where(ops.isfinite(values), 1.0, 0.0)) for values in (rights, wrongs)]
        value = self._detection(ops.sort(rights), ops.sort(wrongs), *counts)
        return ops.where((counts[0] > 0) & (counts[1] > 0), value, float("nan"))

    def _detection(self, rights, wrongs, num_rights, num_wrongs):
        """Of rising confidences, infinite from the counts on."""
        raise NotImplementedError


def _number(sorted_values, values, side: str):
    """How many of the sorted values are below each value (`side="left"`), or not above it (`"right"`)."""
    return ops.cast(ops.searchsorted(sorted_values, values, side=side), "float32")


@keras.saving.register_keras_serializable("mixmo_keras")
class ErrorAUROC(_ErrorDetection):
    """Area under the ROC curve of finding wrong answers by low confidence."""

    def _detection(self, rights, wrongs, num_rights, num_wrongs):
        below = (_number(rights, wrongs, "left") + _number(rights, wrongs, "right")) / 2
        below = ops.where(ops.isfinite(wrongs), below / ops.maximum(num_rights, 1.0), 0.0)
        return 1 - ops.sum(below) / ops.maximum(num_wrongs, 1.0)


@keras.saving.register_keras_serializable("mixmo_keras")
class ErrorAUPR(_ErrorDetection):
    """Average precision of finding wrong answers by low confidence."""

    def _detection(self, rights, wrongs, num_rights, num_wrongs):
        found, mistaken = _number(wrongs, wrongs, "right"), _number(rights, wrongs, "right")
        precision = ops.where(ops.isfinite(wrongs), found / ops.maximum(found + mistaken, 1.0), 0.0)
        return ops.sum(precision) / ops.maximum(num_wrongs, 1.0)


@keras.saving.register_keras_serializable("mixmo_keras")
class ErrorFPR95(_ErrorDetection):
    """Share of the wrong answers that is accepted where 95 % of the right ones is."""

    def _detection(self, rights, wrongs, num_rights, num_wrongs):
        refused = ops.cast(num_rights, "int32") - ops.cast(ops.ceil(0.95 * num_rights - 1e-4), "int32")
        threshold = ops.take(rights, ops.minimum(refused, self.capacity - 1))
        return ops.sum(ops.cast(ops.isfinite(wrongs) & (wrongs >= threshold), "float32")) / ops.maximum(num_wrongs, 1.0)


# -- diversity ---------------------------------------------------------------------------------------------------------


class _OfPairs(keras.metrics.Metric):
    """A figure of what pairs of members have in common, mean over pairs; takes logits (n, M, K).

    Args:
        num_members: M of at least 2.
    """

    def __init__(self, num_members: int, name=None, dtype=None):
        super().__init__(name=name, dtype=dtype)
        if num_members < 2:
            raise ValueError(f"`num_members` must be at least 2: a single member has no diversity. Got {num_members}.")
        self.num_members = num_members
        self.sums = self.add_variable((self._num_sums, num_members, num_members), "zeros", name="sums")
        self.count = self.add_variable((), "zeros", name="count")

    _num_sums = 1

    def update_state(self, y_true, y_pred, sample_weight=None):
        if len(y_pred.shape) != 3 or y_pred.shape[1] != self.num_members:
            raise ValueError(f"Logits must be (n, {self.num_members}, K), of the members; got {tuple(y_pred.shape)}.")
        logits = ops.cast(y_pred, "float32")
        weights = ops.ones((ops.shape(logits)[0],)) if sample_weight is None else ops.reshape(sample_weight, (-1,))
        weights = ops.cast(weights, "float32")
        values = self._values(_labels(y_true), logits)
        self.sums.assign_add(ops.stack([ops.einsum("n,nij->ij", weights, value) for value in values]))
        self.count.assign_add(ops.sum(weights))

    def _values(self, labels, logits) -> list:
        """Of each image and pair, (n, M, M)."""
        raise NotImplementedError

    def _mean_over_pairs(self, values):
        pairs = self.num_members * (self.num_members - 1)
        return ops.sum(ops.where(ops.eye(self.num_members) > 0, 0.0, values)) / pairs

    def result(self):
        return _share(self._mean_over_pairs(self.sums[0]), ops.convert_to_tensor(self.count))

    def get_config(self):
        return {**super().get_config(), "num_members": self.num_members}


def _wrong(labels, logits):
    return ops.cast(_answers(logits) != labels[:, None], "float32")


@keras.saving.register_keras_serializable("mixmo_keras")
class RatioOfErrors(_OfPairs):
    """(N01 + N10)/N00: errors of one member alone over errors of both. NaN or infinite where no image is wrong for both."""

    _num_sums = 2

    def _values(self, labels, logits):
        first, second = _wrong(labels, logits)[:, :, None], _wrong(labels, logits)[:, None, :]
        return [first * (1 - second) + (1 - first) * second, first * second]

    def result(self):
        alone, both = self.sums[0], self.sums[1]
        return self._mean_over_pairs(alone / both)


@keras.saving.register_keras_serializable("mixmo_keras")
class QStatistic(_OfPairs):
    """Yule's Q of the members' errors: 0 if they err independently, 1 if together; NaN where its denominator is 0."""

    _num_sums = 4

    def _values(self, labels, logits):
        first, second = _wrong(labels, logits)[:, :, None], _wrong(labels, logits)[:, None, :]
        return [first * second, (1 - first) * (1 - second), first * (1 - second), (1 - first) * second]

    def result(self):
        both, none, one, other = (self.sums[number] for number in range(4))
        return self._mean_over_pairs((both * none - one * other) / (both * none + one * other))


@keras.saving.register_keras_serializable("mixmo_keras")
class Disagreement(_OfPairs):
    """Share of images for which two members give different answers."""

    def _values(self, labels, logits):
        answers = _answers(logits)
        return [ops.cast(answers[:, :, None] != answers[:, None, :], "float32")]


@keras.saving.register_keras_serializable("mixmo_keras")
class PairwiseKL(_OfPairs):
    """Mean over ordered pairs of members of KL(p_i ‖ p_j), in nats."""

    def _values(self, labels, logits):
        logs = ops.log_softmax(logits, axis=-1)
        cross = ops.einsum("nik,njk->nij", ops.exp(logs), logs)
        return [ops.diagonal(cross, axis1=1, axis2=2)[:, :, None] - cross]


@keras.saving.register_keras_serializable("mixmo_keras")
class MutualInformation(keras.metrics.Mean):
    """Entropy of the members' mean probabilities less their mean entropy, in nats; takes logits (n, M, K)."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        if len(y_pred.shape) != 3:
            raise ValueError(f"Logits must be (n, M, K), of the members; got {tuple(y_pred.shape)}.")
        from mixmo_keras.metrics import uncertainty

        super().update_state(uncertainty.mutual_information(ops.cast(y_pred, "float32")), sample_weight)
