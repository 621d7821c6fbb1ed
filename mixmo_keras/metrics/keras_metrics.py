"""Keras metrics, updated batch by batch, under any `tf.distribute` strategy, and on JAX.

A class names the `definition` of its metric, and adds up the statistics of that definition. It takes labels, integers (n,)
or (n, 1) or one-hot (n, K), and logits, of an ensemble (n, K) or of its members (n, M, K). Invalid ones raise a
`ValueError`. A compiled step can't raise: there the result is NaN where labels are no classes, where logits are NaN or
infinite, or where weights are negative, NaN or infinite.
"""

import dataclasses
import numbers

import keras
import numpy as np
from keras import ops

from mixmo_keras import seeds
from mixmo_keras.common import arguments, class_labels
from mixmo_keras.common.undefined import nan_where
from mixmo_keras.metrics.definitions import MetricDefinition
from mixmo_keras.metrics.pooling import AVERAGING, average

_ANY_NUM_CLASSES = 1000  # the shapes of most statistics don't depend on K


class _KerasMetric(keras.metrics.Metric):
    """A metric whose statistics are sums, each in a variable.

    Attributes:
        definition: The definition of the metric. A metric with options sets it before it calls `super().__init__`.
    """

    definition: MetricDefinition

    def __init__(self, name=None, dtype=None):
        super().__init__(name=name, dtype=dtype)
        self._add_variables()

    def _logits_of_no_image(self) -> np.ndarray:
        """Logits (0, K) or (0, M, K). Their statistics have the shapes of the sums."""
        raise NotImplementedError

    def _statistics_of_no_image(self) -> dict[str, np.ndarray]:
        return self.definition.update(self._logits_of_no_image(), np.zeros(0, "int32"), np.zeros(0))

    def _add_variables(self) -> None:
        self.statistics = {
            name: self.add_variable(zeros.shape, "zeros", name=name)
            for name, zeros in self._statistics_of_no_image().items()
        }

    def _rows(self, y_true, y_pred, sample_weight):
        """Labels (rows,), logits (rows, K) or (rows, M, K) and weights (rows,) for the definition."""
        raise NotImplementedError

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_pred = _checked_logits(y_pred)
        count = y_pred.shape[0]  # None where a step is traced for any
        num_classes = y_pred.shape[-1]
        y_true = ops.convert_to_tensor(_checked_labels(y_true, count, num_classes))
        labels = ops.where(class_labels.are_wrong(y_true, num_classes), -1, class_labels.as_indices(y_true))
        if sample_weight is None:
            weights = ops.ones(ops.shape(labels))
        else:
            weights = ops.broadcast_to(ops.reshape(_checked_weights(sample_weight, count), (-1,)), ops.shape(labels))
        self._add(*self._rows(labels, ops.cast(y_pred, "float32"), ops.cast(weights, "float32")))

    def _add(self, labels, logits, weights):
        broken = ops.any(_broken(labels, logits, weights))
        for name, value in self.definition.update(logits, _classes(labels, logits), weights).items():
            value = ops.cast(value, self.statistics[name].dtype)
            self.statistics[name].assign_add(nan_where(broken, value))

    def result(self):
        statistics = {name: ops.convert_to_tensor(value) for name, value in self.statistics.items()}
        broken = sum(ops.sum(ops.cast(ops.isnan(values), "int32")) for values in statistics.values())
        return nan_where(broken > 0, self.definition.result(statistics))

    def get_config(self):
        return {**super().get_config(), **dataclasses.asdict(self.definition)}


class NetworkMetric(_KerasMetric):
    """A metric of one network's logits.

    Args:
        of: The network, where logits are those of members: `"ensemble"`, the average of the members; `"members"`, the rows
            of all members together; or a member's number. Defaults to `"ensemble"`.
        averaging: How the ensemble is averaged, `"logits"` or `"probabilities"`. Defaults to `"logits"`.
    """

    num_classes = _ANY_NUM_CLASSES

    def __init__(self, of: str | int = "ensemble", averaging: str = "logits", name=None, dtype=None):
        super().__init__(name, dtype)
        if isinstance(of, numbers.Integral):
            of = arguments.integer("of", of, least=0)
        else:
            arguments.choice("of", of, ("ensemble", "members"), ", or a member's number")
        self.of, self.averaging = of, arguments.choice("averaging", averaging, AVERAGING)

    def _logits_of_no_image(self):
        return np.zeros((0, self.num_classes))

    def _rows(self, labels, logits, weights):
        if len(logits.shape) == 2:
            if self.of != "ensemble":
                raise ValueError(f"of={self.of!r} needs logits of members (n, M, K), got shape {tuple(logits.shape)}.")
            return labels, logits, weights
        if self.of == "ensemble":
            return labels, average(logits, self.averaging), weights
        num_members = logits.shape[1]
        if self.of == "members":
            logits = ops.reshape(logits, (-1, logits.shape[2]))
            return ops.repeat(labels, num_members), logits, ops.repeat(weights, num_members)
        if self.of >= num_members:
            raise ValueError(f"of={self.of} is no member: there are {num_members}.")
        return labels, logits[:, self.of], weights

    def get_config(self):
        return {**super().get_config(), "of": self.of, "averaging": self.averaging}


MOST_KEPT = 10_000_000  # images; their rows are counted in 32 bits


class RankedMetric(NetworkMetric):
    """A metric that ranks all images: it keeps a row of statistics for each image.

    Images of `sample_weight` 0 are left out; all others count once.

    Args:
        capacity: The number of images that are kept, over all replicas. With more images the result is NaN. At most ten
            million, 40 MB for each statistic. Defaults to 50,000.
        **options: `of`, `averaging`, `name` and `dtype`, as in `NetworkMetric`.
    """

    def __init__(self, capacity: int = 50_000, **options):
        self.capacity = arguments.integer("capacity", capacity, least=1, most=MOST_KEPT)
        super().__init__(**options)

    def _add_variables(self):
        # the last row takes what does not fit
        shape = (self.capacity + 1,)
        self.statistics = {
            name: self.add_variable(shape, "zeros", name=name) for name in self._statistics_of_no_image()
        }
        self.count = self.add_variable((), "zeros", dtype="int32", name="count")

    def _add(self, labels, logits, weights):
        counted = ops.cast(ops.not_equal(weights, 0), "int32")  # invalid weights count too, so that they are noticed
        # replicas write to rows of their own, so that the sum over replicas holds the rows of all
        replica, num_replicas = seeds.replica()
        replica = ops.cast(replica, "int32")
        rows = (self.count + ops.cumsum(counted) - 1) * num_replicas + replica
        rows = ops.where(counted > 0, ops.minimum(rows, self.capacity), self.capacity + 1)
        broken = _broken(labels, logits, weights)
        for name, values in self.definition.update(logits, _classes(labels, logits), weights).items():
            variable = self.statistics[name]
            padded = ops.concatenate([variable, ops.zeros((1,), variable.dtype)])  # a last row for what is left out
            values = nan_where(broken, ops.cast(values, variable.dtype))
            variable.assign(ops.scatter_update(padded, rows[:, None], values)[:-1])
        self.count.assign_add(ops.sum(counted))

    def result(self):
        statistics = {name: ops.convert_to_tensor(rows) for name, rows in self.statistics.items()}
        counted = statistics["counted"]
        unknown = ops.logical_or(counted[-1] > 0, ops.any(ops.isnan(counted)))  # too many, or broken ones
        value = self.definition.result({name: rows[:-1] for name, rows in statistics.items()})
        return nan_where(unknown, value)

    def get_config(self):
        return {**super().get_config(), "capacity": self.capacity}


class MembersMetric(_KerasMetric):
    """A metric of the logits of members (n, M, K)."""

    def _logits_of_no_image(self):
        return np.zeros((0, 2, _ANY_NUM_CLASSES))

    def _rows(self, labels, logits, weights):
        if len(logits.shape) != 3:
            raise ValueError(f"Logits must be (n, M, K), of the members; got {tuple(logits.shape)}.")
        return labels, logits, weights


class PairsMetric(MembersMetric):
    """A metric of pairs of members.

    Args:
        num_members: M, of at least 2: a single member has no diversity.
    """

    def __init__(self, num_members: int, name=None, dtype=None):
        self.num_members = arguments.integer("num_members", num_members, least=2)
        super().__init__(name, dtype)

    def _logits_of_no_image(self):
        return np.zeros((0, self.num_members, _ANY_NUM_CLASSES))

    def _rows(self, labels, logits, weights):
        if len(logits.shape) != 3 or logits.shape[1] != self.num_members:
            raise ValueError(f"Logits must be (n, {self.num_members}, K), of the members; got {tuple(logits.shape)}.")
        return labels, logits, weights

    def get_config(self):
        return {**super().get_config(), "num_members": self.num_members}


# -- invalid labels, logits and weights: refused outside of a compiled step, NaN within it --------------------------------


def _is_tensor(values) -> bool:
    return ops.is_tensor(values) or isinstance(values, keras.KerasTensor)


def _known(values) -> np.ndarray | None:
    """Values as an array; `None` of tensors in a graph, which have no values yet."""
    if isinstance(values, keras.KerasTensor):
        return None
    try:
        return np.asarray(values)
    except (NotImplementedError, TypeError):  # TensorFlow's and JAX's answers
        return None


def _checked_logits(y_pred):
    known = _known(y_pred)
    if known is None or (_is_tensor(y_pred) and not known.size):  # a replica may have no image
        return y_pred
    checked = arguments.logits("y_pred", known, of_members=known.ndim == 3)
    return y_pred if _is_tensor(y_pred) else checked


def _checked_labels(y_true, count: int | None, num_classes: int):
    known = _known(y_true)
    if known is None:
        _check_count("y_true", y_true, count)
        return y_true
    if _is_tensor(y_true) and known.ndim == 2 and known.shape[1] == num_classes > 1:
        _check_count("y_true", y_true, count)
        if class_labels.are_wrong(known, num_classes).any():
            raise ValueError("`y_true` must be classes or rows of their shares, got rows that don't sum to one.")
        return y_true
    checked = class_labels.integers("y_true", known, num_classes, count)
    return y_true if _is_tensor(y_true) else checked


def _checked_weights(sample_weight, count: int | None):
    known = _known(sample_weight)
    _check_count("sample_weight", sample_weight if known is None else known, count)
    if known is None:
        return sample_weight
    if known.dtype.kind not in "biufV" or not _are_weights(known.astype("float64"), np).all():
        raise ValueError(f"`sample_weight` must be finite numbers of at least 0, got {known!r:.80}.")
    return sample_weight if _is_tensor(sample_weight) else known


def _check_count(name: str, values, count: int | None) -> None:
    """Raises where the number of values is known and isn't the number of images; a scalar holds for all images."""
    found = values.shape[0] if len(values.shape) else None
    if None not in (found, count) and found != count:
        raise ValueError(f"`{name}` must be one for each image, got {found} for {count} images.")


def _are_weights(weights, xp=ops):
    return xp.logical_and(xp.isfinite(weights), weights >= 0)


def _broken(labels, logits, weights):
    """Whether each image that counts has an invalid label, logits or weight: (rows,)."""
    finite = ops.all(ops.isfinite(logits), axis=tuple(range(1, len(logits.shape))))
    sound = ops.logical_and(ops.logical_and(finite, labels >= 0), _are_weights(weights))
    return ops.logical_and(ops.not_equal(weights, 0), ops.logical_not(sound))


def _classes(labels, logits):
    """Labels clipped to the classes, so that indexing stays within bounds."""
    return ops.clip(labels, 0, logits.shape[-1] - 1)
