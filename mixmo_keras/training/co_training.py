"""Submodel co-training (cosub; Touvron et al., CVPR 2023): two random submodels of one network learn from each other.

Stochastic depth makes two passes of the same rows two submodels z1 and z2. They learn the labels y and each other's answers:

    L = λ·½[ℓ(z1, y) + ℓ(z2, y)] + (1 − λ)·½[ℓ(z1, stop(σ(z2))) + ℓ(z2, stop(σ(z1)))]
"""

import dataclasses

import keras
from keras import ops

from mixmo_keras.common.arguments import choice, number
from mixmo_keras.common.settings import Settings, setting

TEACHING = ("softmax", "sigmoid")


@keras.saving.register_keras_serializable("mixmo_keras")
@dataclasses.dataclass(frozen=True)
class CoTraining(Settings):
    """Whether and how two submodels teach each other. Needs a backbone with stochastic depth.

    Args:
        label_share: λ in (0, 1], the labels' share of the loss.
        teaching: What ℓ and σ are between the submodels: `"softmax"` cross-entropy, as in the paper, or `"sigmoid"` binary
            cross-entropy, the mean over classes, as in its code. With `"sigmoid"` the default loss is
            `losses.SigmoidCrossEntropy`.
    """

    label_share: float = setting(
        0.5,
        "λ, the labels' share where submodels teach each other; none for one pass",
        number,
        keyword="co_training",
        above=0,
        most=1,
        otherwise=", the labels' share of the loss",
    )
    teaching: str = setting("softmax", "how submodels teach: " + " or ".join(TEACHING), choice, known=TEACHING)

    def values(self, label_values, logits):
        """The loss of every row of both passes, whose mean is L.

        Args:
            label_values: ℓ(z, y) of both passes, (2n,): the first n rows are z1's.
            logits: Of both passes, (2n, K), or of pixels (2n, H, W, K).

        Returns:
            (2n,).
        """
        first, second = ops.split(ops.stop_gradient(logits), 2, axis=0)
        teachers = ops.concatenate([second, first], axis=0)  # of each row its counterpart in the other pass
        taught = self._taught(logits, teachers)
        if len(taught.shape) > 1:  # of pixels
            taught = ops.mean(taught, axis=tuple(range(1, len(taught.shape))))
        return self.label_share * label_values + (1 - self.label_share) * taught

    def _taught(self, students, teachers):
        """Cross-entropy of students' logits (n, K) with the answers of their teachers' (n, K): (n,)."""
        if self.teaching == "softmax":
            return -ops.sum(ops.softmax(teachers, axis=-1) * ops.log_softmax(students, axis=-1), axis=-1)
        return ops.mean(ops.binary_crossentropy(ops.sigmoid(teachers), students, from_logits=True), axis=-1)
