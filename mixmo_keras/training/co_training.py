"""Submodel co-training (cosub; Touvron et al., CVPR 2023): two random submodels of one network learn from each other.

Stochastic depth makes two passes of the same rows two submodels z1 and z2. They learn the labels y and each other's answers:

    L = λ·½[ℓ(z1, y) + ℓ(z2, y)] + (1 − λ)·½[ℓ(z1, stop(σ(z2))) + ℓ(z2, stop(σ(z1)))]
"""

from keras import ops

TEACHING = ("softmax", "sigmoid")


def twice(rows):
    """Rows (B, ...) and the same again, (2B, ...); `None` stays `None`."""
    return None if rows is None else ops.concatenate([rows, rows], axis=0)


def co_training_loss(label_values, logits, weight: float, teaching: str):
    """The loss of both submodels for each row of a batch.

    Args:
        label_values: ℓ(z, y) of both passes, (2n,): the first n rows are z1's.
        logits: of both passes, (2n, K).
        weight: λ in (0, 1]: the labels' share.
        teaching: what ℓ and σ are between the submodels: `"softmax"` cross-entropy, as in the paper, or `"sigmoid"` binary
            cross-entropy, the mean over classes, as in its code.

    Returns:
        (n,).
    """
    first, second = ops.split(logits, 2, axis=0)
    taught = (_taught(first, second, teaching) + _taught(second, first, teaching)) / 2
    return weight * ops.mean(ops.stack(ops.split(label_values, 2, axis=0)), axis=0) + (1 - weight) * taught


def _taught(student, teacher, teaching: str):
    """Cross-entropy of a student's logits (n, K) with its teacher's answers, from which no gradient flows back: (n,)."""
    teacher = ops.stop_gradient(teacher)
    if teaching == "softmax":
        return -ops.sum(ops.softmax(teacher, axis=-1) * ops.log_softmax(student, axis=-1), axis=-1)
    return ops.mean(ops.binary_crossentropy(ops.sigmoid(teacher), student, from_logits=True), axis=-1)
