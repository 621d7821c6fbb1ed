"""Measures of uncertainty: how unsure an ensemble is of each image, from its members' logits (n, M, K); each gives (n,).

Higher is less sure. The functions take NumPy arrays or tensors, so that the exported SavedModel computes the same. Arrays
must hold finite logits of at least one image, or a `ValueError` is raised. Of tensors only the shape is checked.
"""

from collections.abc import Callable

from keras import KerasTensor, ops

from mixmo_keras.common import arguments
from mixmo_keras.metrics.definitions import namespace


def predictive_entropy(logits):
    """Entropy in nats of an ensemble's probabilities, from its logits (n, K): all uncertainty together."""
    logits = _checked(logits)
    xp = namespace(logits)
    logs = xp.log_softmax(logits, axis=-1)
    return -xp.sum(xp.exp(logs) * logs, axis=-1)


def mutual_information(member_logits):
    """Entropy of the members' mean probabilities less the mean of their entropies, in nats (Depeweg et al., 2018).

    It is high where members disagree, and 0 for a single member.
    """
    return information_of_members(_checked(member_logits, of_members=True))


def information_of_members(member_logits):
    """`mutual_information` without checks, so that it takes logits of no image too."""
    xp = namespace(member_logits)
    logs = xp.log_softmax(member_logits, axis=-1)
    of_mean = xp.logsumexp(logs, axis=1) - xp.log(float(logs.shape[1]))
    total = -xp.sum(xp.exp(of_mean) * of_mean, axis=-1)
    return xp.maximum(total + xp.mean(xp.sum(xp.exp(logs) * logs, axis=-1), axis=1), 0.0)


def one_minus_confidence(logits):
    """1 − the probability of the most probable class, from an ensemble's logits (n, K) (Hendrycks and Gimpel, 2017)."""
    logits = _checked(logits)
    xp = namespace(logits)
    return 1 - xp.max(xp.softmax(logits, axis=-1), axis=-1)


def energy(logits):
    """−log Σ_k exp(logit_k), from logits (n, K) (Liu et al., 2020); of logarithms of probabilities it is always 0."""
    logits = _checked(logits)
    xp = namespace(logits)
    return -xp.logsumexp(logits, axis=-1)


def scores(member_logits, average: Callable) -> dict:
    """Returns every measure of uncertainty of this module, (n,) each, by name. Higher is less sure.

    Args:
        member_logits: (n, M, K).
        average: A function that makes the ensemble's logits (n, K) of the members', such as a model's `average` layer.

    The energy is that of the members' mean logits, however the ensemble averages: of averaged probabilities it is always 0.
    """
    member_logits = ops.convert_to_tensor(_checked(member_logits, of_members=True), "float32")
    logits = average(member_logits)
    return {
        "max_probability": one_minus_confidence(logits),
        "entropy": predictive_entropy(logits),
        "energy": energy(ops.mean(member_logits, axis=1)),
        "mutual_information": mutual_information(member_logits),
    }


def _checked(logits, of_members: bool = False):
    """Checks the shape of logits, (n, K) or (n, M, K) for `of_members`, and the values of arrays."""
    name = "member_logits" if of_members else "logits"
    if not (ops.is_tensor(logits) or isinstance(logits, KerasTensor)):
        return arguments.logits(name, logits, of_members)
    if len(logits.shape) != (3 if of_members else 2):
        raise ValueError(
            f"`{name}` must be {'(n, M, K)' if of_members else '(n, K)'}, got shape {tuple(logits.shape)}."
        )
    return logits
