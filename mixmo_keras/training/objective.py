"""What a training step minimises: the members' losses, what layers add, submodels that teach each other, L2."""

import dataclasses
from typing import Any, NamedTuple

import keras
from keras import ops

from mixmo_keras import seeds
from mixmo_keras.common.arguments import boolean, number
from mixmo_keras.common.settings import Settings, setting
from mixmo_keras.mixing.batch import Batch
from mixmo_keras.training import fine_tuning, losses
from mixmo_keras.training.co_training import CoTraining


@keras.saving.register_keras_serializable("mixmo_keras")
@dataclasses.dataclass(frozen=True)
class L2(Settings):
    """L2 regularisation λ·Σ‖W‖² over all trainable weights: minimised, but not in the loss that is shown.

    Args:
        rate: λ, of which 2λW is the gradient.
        normalization: Whether it covers the scales and shifts of normalisation layers too, as in MixMo.
    """

    rate: float = setting(3e-4, "λ of L2 regularisation", number, keyword="l2", least=0)
    normalization: bool = setting(
        True, "L2 of the scales and shifts of normalisation layers too", boolean, keyword="l2_normalization"
    )

    def covers(self, weight) -> bool:
        """Whether it regularises a weight."""
        return bool(self.rate) and (self.normalization or weight.name not in ("gamma", "beta"))

    def penalty(self, weights):
        """λ·Σ‖W‖² over those weights that it covers: a scalar."""
        squares = [ops.sum(ops.square(ops.convert_to_tensor(weight))) for weight in weights if self.covers(weight)]
        return self.rate * sum(squares) if squares else 0.0


class Objective(NamedTuple):
    """What a step is about."""

    minimised: Any  # scalar: the loss and L2
    loss: Any  #      scalar: what is logged
    logits: Any  #    the outputs (B, M, ...) of the members on their own images: logits (B, M, K), of classes


def objective(model, batch: Batch, seed: seeds.StepSeed) -> Objective:
    """One forward pass in training, and what it says.

    Args:
        model: a `MixMo`.
        batch: Its rows; twice, if it has `co_training`.
        seed: The step's seeds, from which the network draws (stochastic depth).
    """
    with seeds.drawing(seed.fork("network")), fine_tuning.core_in_its_mode(model):
        logits = model.member_logits(batch.images, batch.masks, training=True)
    loss = members_loss(model.loss, batch, logits, model.co_training) + sum(map(ops.sum, model.losses))
    return Objective(loss + model.l2.penalty(model.trainable_weights), loss, logits)


def members_loss(loss, batch: Batch, logits, co_training: CoTraining | None = None):
    """Σ_i w_i·ℓ(logits_i, y_i), mean over rows (MixMo, equation 3): a scalar.

    Args:
        loss: ℓ, a Keras loss (object or function).
        batch: Targets and weights of B rows.
        logits: Outputs (B, M, ...).
        co_training: How the two halves of the rows, which are the same but for stochastic depth, teach each other.
    """
    targets, member_logits = flatten_members(batch.targets, logits)
    values = losses.per_row(loss, targets, member_logits)
    if co_training is not None:
        values = co_training.values(values, member_logits)
    weights = batch.loss_weights if batch.sample_weight is None else batch.loss_weights * batch.sample_weight
    weighted = ops.reshape(values, ops.shape(weights)) * weights
    return ops.sum(ops.mean(weighted, axis=0))


def flatten_members(targets, logits):
    """Targets (B, M, ...) and outputs (B, M, ...) as B·M rows."""
    return ops.reshape(targets, (-1, *targets.shape[2:])), ops.reshape(logits, (-1, *logits.shape[2:]))
