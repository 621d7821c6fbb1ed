"""Labels that each hold or don't: one of them (`Binary`) or several (`MultiLabel`), by sigmoids."""

import dataclasses
import warnings
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from mixmo_keras.common import arguments
from mixmo_keras.metrics import several_labels
from mixmo_keras.networks.layers import MultiHead
from mixmo_keras.networks.sigmoid_average import SigmoidAverage
from mixmo_keras.tasks.task import Task, number_or_names
from mixmo_keras.training import losses


@keras.saving.register_keras_serializable("mixmo_keras")
class LabelCrossEntropy(keras.losses.Loss):
    """Sigmoid cross-entropy of logits (n, K) with targets in [0, 1], the mean over labels.

        −w·y·log σ(z) − (1 − y)·log σ(−z)

    Args:
        positive_weight: w of each label, a number for all or K of them: how much more a label counts where it holds. With
            w ≠ 1 probabilities become those of data where it held w times as often. Defaults to 1.
    """

    def __init__(self, positive_weight=1.0, name="label_cross_entropy", reduction="sum_over_batch_size", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.positive_weight = _checked_weight(positive_weight)

    def call(self, y_true, y_pred):
        y_true = ops.reshape(ops.cast(y_true, y_pred.dtype), ops.shape(y_pred))
        weight = ops.cast(ops.convert_to_tensor(self.positive_weight, "float32"), y_pred.dtype)
        values = weight * y_true * ops.log_sigmoid(y_pred) + (1 - y_true) * ops.log_sigmoid(-y_pred)
        return -ops.mean(values, axis=-1)

    def get_config(self):
        return {**super().get_config(), "positive_weight": self.positive_weight}


def _checked_weight(weight) -> float | tuple[float, ...]:
    if isinstance(weight, (list, tuple, np.ndarray)) and np.ndim(weight) == 1:
        return tuple(arguments.number("positive_weight", one, above=0) for one in weight)
    return arguments.number("positive_weight", weight, above=0, otherwise=", or one for each label")


@keras.saving.register_keras_serializable("mixmo_keras")
def label_accuracy(y_true, y_pred):
    """The share of an image's labels (n,) of which targets (n, K) and logits (n, K) say the same, at one half."""
    y_true = ops.reshape(ops.cast(y_true, "float32"), ops.shape(y_pred))
    return ops.mean(ops.cast(ops.equal(y_pred >= 0, y_true >= 0.5), "float32"), axis=-1)


@keras.saving.register_keras_serializable("mixmo_keras")
@dataclasses.dataclass(frozen=True)
class MultiLabel(Task):
    """Several labels an image, each of which holds or doesn't: the sigmoids of an ensemble's logits (n, K).

    Targets are (n, K): 0 or 1, or the probability that a label holds, such as the share of experts who say so. Figures that
    count images take a probability of one half and more for 1. `calibrate` fits a temperature for all labels, and for each
    the threshold of the highest F1.

    Args:
        labels: K, or the labels' names.
        positive_weight: How much more a label counts in the loss where it holds: a number, or one for each label. With
            weights, probabilities are those of data where the label held as many times more often. Defaults to 1.
        temperature_by_label: Whether `calibrate` fits a temperature for each label, and none for all. It needs more
            validation images, and may reorder an image's labels. Defaults to False.

    Example:

    ```python
    from mixmo_keras import tasks

    model = mixmo_keras.MIMO("wrn16_2", task=tasks.MultiLabel(["cat", "dog", "person"]))
    ```
    """

    labels: int | tuple[str, ...]
    positive_weight: float | tuple[float, ...] = dataclasses.field(default=1.0, compare=False)
    temperature_by_label: bool = dataclasses.field(default=False, compare=False)

    also_fitted: ClassVar[str] = "thresholds"
    watched: ClassVar[str] = "label_accuracy"
    kind: ClassVar[str] = "label"
    parts: ClassVar[str] = "labels"
    columns = several_labels.COLUMNS
    outputs_in_words: ClassVar[str] = (
        "by label: probabilities, whether it holds at its threshold, predictive entropy, mutual information (nats)"
    )

    def __post_init__(self):
        object.__setattr__(self, "labels", number_or_names("labels", self.labels))
        weight = _checked_weight(self.positive_weight)
        if isinstance(weight, tuple) and len(weight) != self.num_labels:
            raise ValueError(f"`positive_weight` must be a number, or {self.num_labels} of them, got {len(weight)}.")
        object.__setattr__(self, "positive_weight", weight)
        by_label = arguments.boolean("temperature_by_label", self.temperature_by_label)
        object.__setattr__(self, "temperature_by_label", by_label)

    @property
    def num_labels(self) -> int:
        """K."""
        return self.labels if isinstance(self.labels, int) else len(self.labels)

    # -- the network -----------------------------------------------------------------------------------------------------

    def heads(self, num_members, shared, kernel_initializer, image_size):
        return MultiHead(num_members, self.num_labels, shared, kernel_initializer, name="heads")

    def pooling(self, averaging, temperature, applies_to):
        averaging = self.averaging_of(averaging)
        return SigmoidAverage(self.num_labels, averaging, temperature, applies_to, dtype="float32", name="average")

    # -- targets ---------------------------------------------------------------------------------------------------------

    def check_shape(self, targets):
        shape = tuple(targets.shape)
        if len(shape) != 2 or shape[1] not in (None, self.num_labels):
            raise ValueError(
                f"Targets must be (n, {self.num_labels}), 0 or 1 or a probability for each label of {self}; got shape "
                f"{shape}. Indices of one class an image are for tasks.Classification."
            )

    def check(self, targets):
        wrong = ~((targets >= 0) & (targets <= 1))
        if wrong.any():
            raise self.error(float(targets.min()), float(targets.max()))

    def wrong(self, targets):
        targets = ops.cast(targets, "float32")
        right = ops.logical_and(targets >= 0, targets <= 1)  # NaN is never right
        return ops.logical_not(ops.all(right)), ops.min(targets), ops.max(targets)

    def error(self, first, second):
        found = "the data hold NaN" if np.isnan(first) else f"the data hold targets from {first:g} to {second:g}"
        return ValueError(f"Targets of {self} must be 0, 1 or probabilities between; {found}.")

    def to_evaluate(self, targets, count):
        return super().to_evaluate(targets, count).astype("float32")

    # -- training ----------------------------------------------------------------------------------------------------------

    def check_settings(self, msda, co_training):
        if co_training is not None and co_training.teaching != "sigmoid":
            raise ValueError(
                f"teaching={co_training.teaching!r} is about one class an image: submodels teach each other labels with "
                "teaching='sigmoid'."
            )

    def check_fit(self, options):
        if options.get("class_weight") is not None:
            raise ValueError(
                f"`class_weight` weighs images by their one class; {self} has several labels an image: use "
                "`positive_weight` of the task, or `sample_weight`."
            )

    def prepare(self, model, x, y, steps):
        """Warns of labels that never, or always, hold in an array."""
        if y is None or not hasattr(y, "shape"):
            return
        targets = ops.convert_to_numpy(y).reshape(len(y), -1)
        for value, word in ((1, "never holds"), (0, "always holds")):
            for label in np.flatnonzero((targets == 1 - value).all(0)):
                warnings.warn(
                    f"Label {self.names(None)[label]!r} {word} in the training data: nothing can be learnt of it.",
                    stacklevel=3,
                )

    def loss(self, teaching=None):
        return LabelCrossEntropy(self.positive_weight)

    def checked_loss(self, loss, model):
        loss = keras.losses.get(loss)
        name, from_logits = losses.name_of(loss), getattr(loss, "from_logits", None)
        of_classes = isinstance(loss, losses.CrossEntropy) or "categorical" in name
        if of_classes or (name.startswith("binary_") and not from_logits):
            what = (
                "is about one class an image" if of_classes else "expects probabilities, and the model returns logits"
            )
            raise ValueError(
                f"{name or type(loss).__name__} {what}. Leave `loss` out for the sigmoid cross-entropy of {self}, or pass a "
                "loss object with from_logits=True that returns one value a row."
            )
        return losses.checked_reduction(loss)

    def metrics(self):
        return [label_accuracy]

    # -- after training ----------------------------------------------------------------------------------------------------

    def calibrate(self, average, member_outputs, targets, applies_to, label_noise):
        if label_noise is not None:
            raise ValueError(f"`label_noise` is about one class an image: a temperature of {self} does without.")
        outputs = ops.convert_to_tensor(member_outputs, "float32")
        pooled = _array(average.pool(outputs))
        of_members = applies_to == "members" and average.averaging == "probabilities"

        def logits_at(temperature) -> np.ndarray:
            return _array(average.pool(outputs / temperature)) if of_members else pooled / temperature

        if self.temperature_by_label:
            average.label_temperatures = several_labels.fit_temperatures(logits_at, targets)
            return 1.0
        average.label_temperatures = np.ones(self.num_labels)
        return several_labels.fit_temperature(logits_at, targets)

    def nll(self, average, member_outputs, targets):
        return float(several_labels.cross_entropy(_pooled(average, member_outputs), targets).mean())

    def fit_answers(self, average, member_outputs, targets):
        probabilities = _array(ops.sigmoid(_pooled(average, member_outputs)))
        average.thresholds = several_labels.best_thresholds(probabilities, targets)

    def figures(self, average, member_outputs, targets) -> dict[str, Any]:
        """Of each member at thresholds of one half, and of the ensemble with its temperature and thresholds."""
        logits = _pooled(average, member_outputs)
        halves = np.full(self.num_labels, 0.5)
        members = [
            several_labels.label_figures(member_outputs[:, m], targets, halves) for m in range(member_outputs.shape[1])
        ]
        return {
            "ensemble": several_labels.label_figures(logits, targets, average.thresholds),
            "members": members,
            "names": self.names(None),
            "label_temperatures": average.label_temperatures.tolist(),
        }

    def charts(self, average, member_outputs, targets):
        return several_labels.charts(_array(average(member_outputs)), targets, self.names(None))

    def headline(self, figures):
        ensemble, images = figures["ensemble"], figures["images"]["test"]
        names, found = figures["names"], ensemble["labels"]["auroc"]
        if ensemble["auroc"] is None:
            return [f"Of {images:,} test images, each label holds in all or in none: no figure can rank them."]
        mean = f"{ensemble['auroc']:.3f}{' on average' if len(names) > 1 else ''}"
        said = [
            f"Ranks an image that has a label above one without it with a probability of {mean} (AUROC; 0.5 is chance), on "
            f"{images:,} test images."
        ]
        known = [(value, name) for value, name in zip(found, names, strict=True) if value is not None]
        if len(known) > 1:
            said.append(f"Hardest label: {min(known)[1]}, AUROC {min(known)[0]:.3f}.")
        return said

    def doubt(self, average, member_outputs):
        return _array(ops.sum(_entropy(ops.sigmoid(average(member_outputs))), axis=-1))

    def in_words(self, member_outputs, average, target):
        probabilities, names = _array(ops.sigmoid(average(member_outputs[None])))[0], self.names(None)
        least_sure = int(np.abs(probabilities - 0.5).argmin())
        holds = [name for name, value in zip(names, several_labels.holds(target), strict=True) if value]
        return [", ".join(holds) or "none", f"{names[least_sure]} {probabilities[least_sure]:.0%}"]

    def conformal_figures(self, held_out, tested, coverage):
        (logits, targets), (test_logits, test_targets) = held_out, tested
        figures = several_labels.conformal_figures(logits, targets, test_logits, test_targets, coverage)
        return {"coverage_asked": coverage, "fitted_on": len(targets), **figures}

    # -- serving ---------------------------------------------------------------------------------------------------------

    def served(self, member_outputs, average):
        logits, members = average(member_outputs), ops.sigmoid(member_outputs)
        probabilities = ops.sigmoid(logits)
        of_mean = _entropy(ops.mean(members, axis=1))
        return {
            "probabilities": probabilities,
            "labels": average.hold(probabilities),
            "predictive_entropy": _entropy(probabilities),
            "mutual_information": ops.maximum(of_mean - ops.mean(_entropy(members), axis=1), 0.0),
            "member_logits": member_outputs,
            "member_probabilities": members,
        }

    def summary(self, images, names):
        which = "whether a label holds" if len(names) == 1 else f"which of {len(names)} labels hold"
        return f"Says of {images} {which}: {', '.join(names)}."

    def limits(self):
        return ["It says of any image how probable its labels are, of one that is nothing of the kind too."]


def _pooled(average, member_outputs) -> np.ndarray:
    return _array(average(ops.convert_to_tensor(member_outputs, "float32")))


def _array(values) -> np.ndarray:
    return ops.convert_to_numpy(values)


def _entropy(probabilities):
    """−p·log p − (1 − p)·log(1 − p), in nats."""
    p = ops.clip(probabilities, 1e-7, 1 - 1e-7)
    return -(p * ops.log(p) + (1 - p) * ops.log(1 - p))


@keras.saving.register_keras_serializable("mixmo_keras")
@dataclasses.dataclass(frozen=True)
class Binary(MultiLabel):
    """One label, which holds or doesn't: the sigmoid of an ensemble's logit (n, 1).

    As `MultiLabel(1)`, with targets (n,) or (n, 1), and with `class_weight` of `fit` for targets that are 0 or 1.

    Args:
        labels: 1, or the name of the label in a list, such as `["defect"]`.
        positive_weight: As in `MultiLabel`.
    """

    labels: int | tuple[str, ...] = 1

    def __post_init__(self):
        super().__post_init__()
        if self.num_labels != 1:
            raise ValueError(f"Binary has one label, got {self.labels!r}: use tasks.MultiLabel for several.")

    def check_shape(self, targets):
        shape = tuple(targets.shape)
        if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] not in (None, 1)):
            raise ValueError(
                f"Targets must be (n,) or (n, 1), 0 or 1 or a probability for each image; got shape {shape}."
            )

    def canonical(self, targets):
        return targets[:, None] if len(targets.shape) == 1 else targets

    def check_fit(self, options):
        """Keras' `class_weight` is right for one label."""
