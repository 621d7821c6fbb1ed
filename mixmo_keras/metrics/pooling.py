"""How the members' logits become the ensemble's."""

from keras import ops

AVERAGING = ("logits", "probabilities")


def average(logits, averaging: str):
    """The ensemble's logits (B, K) of its members' (B, M, K): the mean of them, or the logarithm of mean probabilities."""
    if averaging == "logits":
        return ops.mean(logits, axis=1)
    log_members = ops.cast(ops.log(float(logits.shape[1])), logits.dtype)
    return ops.logsumexp(ops.log_softmax(logits, axis=-1), axis=1) - log_members


def average_sigmoids(logits, averaging: str):
    """The same of labels that each hold or don't: the mean of logits, or the logit of the sigmoids' mean."""
    if averaging == "logits":
        return ops.mean(logits, axis=1)
    # log of the mean σ(z), less log of the mean σ(−z): the number of members cancels out
    return ops.logsumexp(ops.log_sigmoid(logits), axis=1) - ops.logsumexp(ops.log_sigmoid(-logits), axis=1)
