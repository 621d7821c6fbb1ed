"""One class of K for each image: logits, softmax and cross-entropy."""

import dataclasses
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from mixmo_keras import metrics
from mixmo_keras.common import arguments, class_labels
from mixmo_keras.metrics import calibration, summaries, uncertainty
from mixmo_keras.networks.layers import MultiHead
from mixmo_keras.networks.member_average import MemberAverage
from mixmo_keras.tasks.task import Task
from mixmo_keras.training import losses

# in place of the lowest label: not indices (n,), but shares (n, K), are wrong; see `training.incidents`
_SHARES = 2.0**120


@keras.saving.register_keras_serializable("mixmo_keras")
@dataclasses.dataclass(frozen=True)
class Classification(Task):
    """One class of K: the softmax of an ensemble's logits (n, K) is its prediction.

    Targets are indices (n,) or (n, 1), which may be stored as floats, or shares of the classes (n, K), such as one-hot rows:
    `common.class_labels` states the rule.

    Args:
        num_classes: K ≥ 2.

    Example:

    ```python
    from mixmo_keras import tasks

    model = mixmo_keras.CutMixMo("wrn16_2", task=tasks.Classification(10))  # the same as num_classes=10
    ```
    """

    num_classes: int

    monitor: ClassVar[tuple[str, str]] = ("val_accuracy", "max")
    watched: ClassVar[str] = "accuracy"
    columns = summaries.COLUMNS
    named_output: ClassVar[str | None] = "label"
    outputs_in_words: ClassVar[str] = (
        "probabilities, label, class name, confidence, predictive entropy, mutual information (nats)"
    )

    def __post_init__(self):
        object.__setattr__(self, "num_classes", arguments.integer("num_classes", self.num_classes, least=2))

    @classmethod
    def of_names(cls, names):
        return cls(len(names))

    # -- the network -----------------------------------------------------------------------------------------------------

    def heads(self, num_members, shared, kernel_initializer, image_size):
        return MultiHead(num_members, self.num_classes, shared, kernel_initializer, name="heads")

    def pooling(self, averaging, temperature, applies_to):
        return MemberAverage(self.averaging_of(averaging), temperature, applies_to, dtype="float32", name="average")

    # -- targets ---------------------------------------------------------------------------------------------------------

    def check_shape(self, targets):
        class_labels.check_shape(targets, self.num_classes)

    def check(self, targets):
        class_labels.check(targets, self.num_classes)

    def wrong(self, targets):
        wrong = ops.any(class_labels.are_wrong(targets, self.num_classes))
        if class_labels.are_shares(targets):
            return wrong, _SHARES, 0.0
        targets = ops.cast(targets, "float32")
        return wrong, ops.min(targets), ops.max(targets)

    def error(self, first, second):
        if first == _SHARES:
            return class_labels.shares_error(self.num_classes)
        return class_labels.index_error(self.num_classes, first, second)

    def canonical(self, targets):
        return class_labels.squeezed(targets)

    def to_evaluate(self, targets, count):
        return class_labels.integers_or_shares("labels", targets, self.num_classes, count)

    def joined(self, parts):
        if len({part.ndim for part in parts}) > 1:  # shares of several classes in some batches only
            parts = [np.eye(self.num_classes)[part] if part.ndim == 1 else part for part in parts]
        return np.concatenate(parts)

    def in_form(self, targets, form):
        are_shares = class_labels.are_shares(targets)
        if form is None or form == are_shares:
            return targets, are_shares
        return class_labels.as_shares(targets, self.num_classes) if form else class_labels.as_indices(targets), form

    # -- training ----------------------------------------------------------------------------------------------------------

    def mix(self, targets, partners, shares):
        """share·label + (1 − share)·partner's label, (B, M, K), of labels (B, M) or (B, M, K)."""
        return super().mix(self._distribution(targets), self._distribution(partners), shares)

    def _distribution(self, labels):
        if len(labels.shape) == 2:
            return ops.one_hot(ops.cast(labels, "int32"), self.num_classes)
        return labels

    def loss(self, teaching=None):
        return losses.default(teaching)

    def checked_loss(self, loss, model):
        return losses.get(loss, soft_targets=model.batching.msda is not None)

    def metrics(self):
        return ["accuracy"]

    # -- after training ----------------------------------------------------------------------------------------------------

    def calibrate(self, average, member_outputs, targets, applies_to, label_noise):
        of_members = applies_to == "members" and average.averaging == "probabilities"
        if label_noise is not None and of_members:
            raise ValueError(
                "A temperature under `label_noise` is the ensemble's: pass temperature_applies_to='ensemble'."
            )
        if of_members:
            return calibration.fit_member_temperature(member_outputs, targets)
        logits = ops.convert_to_numpy(average.pool(ops.convert_to_tensor(member_outputs, "float32")))
        return calibration.fit(logits, targets, label_noise)

    def nll(self, average, member_outputs, targets):
        logits = ops.convert_to_numpy(average(ops.convert_to_tensor(member_outputs, "float32")))
        return metrics.negative_log_likelihood(logits, targets)

    def figures(self, average, member_outputs, targets) -> dict[str, Any]:
        """Of each member, of the ensemble with and without its temperature, and of the members' diversity.

        Of targets that are shares, NLL, Brier score and what is fitted on halves; all others take the class with the most.
        """
        outputs = ops.convert_to_tensor(member_outputs, "float32")
        logits, uncalibrated = (ops.convert_to_numpy(function(outputs)) for function in (average, average.pool))
        members = [metrics.network_figures(member_outputs[:, m], targets) for m in range(member_outputs.shape[1])]
        return {
            "members": members,
            "members_mean": {key: float(np.mean([member[key] for member in members])) for key in members[0]},
            "ensemble": metrics.network_figures(logits, targets),
            "uncalibrated": metrics.network_figures(uncalibrated, targets),
            "nll_c": calibration.calibrated_negative_log_likelihood(logits, targets) if len(targets) > 1 else None,
            "diversity": metrics.diversity_figures(member_outputs, class_labels.most(targets)),
        }

    def watch(self, outputs, targets):
        return metrics.accuracy(outputs, class_labels.most(targets))

    def why_only_classes(self):
        return None

    # -- serving ---------------------------------------------------------------------------------------------------------

    def served(self, member_outputs, average):
        return {
            **self.served_of_logits(average(member_outputs), average.threshold),
            "mutual_information": uncertainty.mutual_information(member_outputs),
            "member_logits": member_outputs,
            "member_probabilities": ops.softmax(member_outputs, axis=-1),
        }

    def served_of_logits(self, logits, threshold: float | None = None) -> dict[str, Any]:
        """The served outputs that follow from the logits (n, K) alone.

        With a `threshold`, the label is the second of two classes from this probability of it on, and else the first;
        confidence is the label's probability.
        """
        probabilities = ops.softmax(logits, axis=-1)
        label, confidence = ops.argmax(probabilities, axis=-1), ops.max(probabilities, axis=-1)
        if threshold is not None:
            is_second = probabilities[:, 1] >= threshold
            label = ops.cast(is_second, label.dtype)
            confidence = ops.where(is_second, probabilities[:, 1], probabilities[:, 0])
        return {
            "probabilities": probabilities,
            "label": label,
            "confidence": confidence,
            "predictive_entropy": uncertainty.predictive_entropy(logits),
        }

    def summary(self, images, names):
        shown = ", ".join(names[:20]) + (f", … ({len(names)} in all)" if len(names) > 20 else "")
        return f"Classifies {images} into {self.num_classes} classes: {shown}."

    def limits(self):
        return [
            "It knows its classes and no others: an image of anything else gets one of them too. On such images confidence "
            "is lower and entropy and mutual information are higher, on average only."
        ]
