"""How unsure an ensemble is of each image, from its members' logits (n, M, K); every function gives (n,).

Of NumPy arrays or of tensors alike: the exported SavedModel computes the same. The higher, the stranger the image.
"""

from collections.abc import Callable

from keras import ops

from mixmo_keras.metrics.figures import namespace


def predictive_entropy(logits):
    """Entropy in nats of an ensemble's probabilities, from its logits (n, K): all uncertainty together."""
    xp = namespace(logits)
    logs = xp.log_softmax(logits, axis=-1)
    return -xp.sum(xp.exp(logs) * logs, axis=-1)


def mutual_information(member_logits):
    """Entropy of the members' mean probabilities less the mean of their entropies, in nats: what members don't agree upon.

    Depeweg et al., 2018. 0 for a single member.
    """
    xp = namespace(member_logits)
    logs = xp.log_softmax(member_logits, axis=-1)
    of_mean = xp.logsumexp(logs, axis=1) - xp.log(float(logs.shape[1]))
    total = -xp.sum(xp.exp(of_mean) * of_mean, axis=-1)
    return xp.maximum(total + xp.mean(xp.sum(xp.exp(logs) * logs, axis=-1), axis=1), 0.0)


def one_minus_confidence(logits):
    """1 − the probability of the most probable class, from an ensemble's logits (n, K) (Hendrycks and Gimpel, 2017)."""
    xp = namespace(logits)
    return 1 - xp.max(xp.softmax(logits, axis=-1), axis=-1)


def energy(logits):
    """−log Σ_k exp(logit_k), from logits (n, K) (Liu et al., 2020); of logarithms of probabilities it is always 0."""
    xp = namespace(logits)
    return -xp.logsumexp(logits, axis=-1)


def scores(member_logits, average: Callable) -> dict:
    """Every measure here by name, of members' logits (n, M, K) and what makes the ensemble's of them.

    The energy is that of the members' mean logits, however the ensemble averages: probabilities have lost it.
    """
    member_logits = ops.convert_to_tensor(member_logits)
    logits = average(member_logits)
    return {
        "max_probability": one_minus_confidence(logits),
        "entropy": predictive_entropy(logits),
        "energy": energy(ops.mean(member_logits, axis=1)),
        "mutual_information": mutual_information(member_logits),
    }
