"""How unsure an ensemble is of each image, from its members' logits (n, M, K); every function gives (n,).

Written in `keras.ops`: the exported SavedModel computes the same. The higher, the stranger the image.
"""

from collections.abc import Callable

from keras import ops


def predictive_entropy(logits):
    """Entropy in nats of an ensemble's probabilities, from its logits (n, K): all uncertainty together."""
    logs = ops.log_softmax(logits, axis=-1)
    return -ops.sum(ops.exp(logs) * logs, axis=-1)


def mutual_information(member_logits):
    """Entropy of the members' mean probabilities less the mean of their entropies, in nats: what members don't agree upon.

    Depeweg et al., 2018. 0 for a single member.
    """
    logs = ops.log_softmax(member_logits, axis=-1)
    of_mean = ops.logsumexp(logs, axis=1) - ops.log(float(logs.shape[1]))
    total = -ops.sum(ops.exp(of_mean) * of_mean, axis=-1)
    return ops.maximum(total + ops.mean(ops.sum(ops.exp(logs) * logs, axis=-1), axis=1), 0.0)


def one_minus_confidence(logits):
    """1 − the probability of the most probable class, from an ensemble's logits (n, K) (Hendrycks and Gimpel, 2017)."""
    return 1 - ops.max(ops.softmax(logits, axis=-1), axis=-1)


def energy(logits):
    """−log Σ_k exp(logit_k), from logits (n, K) (Liu et al., 2020); of logarithms of probabilities it is always 0."""
    return -ops.logsumexp(logits, axis=-1)


def scores(member_logits, average: Callable) -> dict:
    """Every measure here by name, of members' logits (n, M, K) and what makes the ensemble's of them.

    The energy is that of the members' mean logits, however the ensemble averages: probabilities have lost it.
    """
    logits = average(member_logits)
    return {
        "max_probability": one_minus_confidence(logits),
        "entropy": predictive_entropy(logits),
        "energy": energy(ops.mean(member_logits, axis=1)),
        "mutual_information": mutual_information(member_logits),
    }
