"""A task of one's own in one file: grades."""

import dataclasses

import keras
import numpy as np
from keras import ops

from mixmo_keras import tasks


@keras.saving.register_keras_serializable("tests")
@dataclasses.dataclass(frozen=True)
class Ordinal(tasks.MultiLabel):
    """Grades from 0 to K: label k of `MultiLabel` says whether the grade is above k (Niu et al., CVPR 2016)."""

    def check_shape(self, targets):
        if len(targets.shape) != 1:
            raise ValueError(f"Grades must be (n,), got {tuple(targets.shape)}.")

    def check(self, targets):
        if not np.isin(targets, range(self.num_labels + 1)).all():
            raise ValueError(f"Grades must be integers from 0 to {self.num_labels}.")

    def wrong(self, targets):
        targets = ops.cast(targets, "float32")
        wrong = ops.logical_or(targets < 0, targets > self.num_labels)
        return ops.any(wrong), ops.min(targets), ops.max(targets)

    def prepare(self, model, x, y, steps):
        pass

    def canonical(self, targets):
        return ops.cast(targets[:, None] > np.arange(self.num_labels), "float32")

    def in_form(self, targets, form):
        return (targets if len(targets.shape) == 2 else self.canonical(targets)), form

    def to_evaluate(self, targets, count):
        self.check(np.asarray(targets))
        return ops.convert_to_numpy(self.canonical(ops.convert_to_tensor(targets)))

    def served(self, member_outputs, average):
        above = ops.sigmoid(average(member_outputs))
        return {"grade": ops.sum(above, axis=-1), "member_logits": member_outputs}
