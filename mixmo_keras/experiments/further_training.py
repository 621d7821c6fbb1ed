"""How searches and pilots compile a model, so that a network of others is trained further as recipes do it."""

import dataclasses
from typing import Any

from mixmo_keras.common import trained
from mixmo_keras.models import by_name
from mixmo_keras.models.mixmo import MixMo
from mixmo_keras.training import optimizers
from mixmo_keras.training.fine_tuning import FineTuning
from mixmo_keras.training.schedules import ProgressSchedule


def learning_rate(network: Any, images_a_step: float) -> float:
    """The rate of a network: that of `trained.FURTHER` for one of others, and the schedules' own for all the rest."""
    if trained.is_of_others(network):
        return trained.FURTHER["learning_rate"]
    return by_name.schedule(network, images_a_step).base


def compile_model(
    model: MixMo, network: Any, schedule: ProgressSchedule, epochs: int, fine_tuning: FineTuning | None = None
) -> None:
    """Compiles a model for a training of so many epochs.

    Args:
        model: What is compiled, with its method's defaults until now.
        network: The backbone as which it was named. One of others has the optimizer of `trained.FURTHER`.
        schedule: The learning rate's.
        epochs: Of the training, by which the core of a network of others stays as it is at first.
        fine_tuning: Of the core. Defaults to what recipes have.
    """
    if not trained.is_of_others(network):
        if fine_tuning is not None:
            model.compile(fine_tuning=fine_tuning)
        return
    further = trained.further(epochs)
    if fine_tuning is None and model.core.trainable_weights:
        fine_tuning = FineTuning.of(*(further.get(name) for name in trained.OF_CORE))
    model.compile(optimizers.named(further["optimizer"], schedule, optimizers.MOMENTUM, None), fine_tuning=fine_tuning)


def freeze_at_first(model: MixMo, epochs: int) -> None:
    """Freezes the core of a model that `compile_model` gave a `FineTuning` for the first of so many epochs."""
    if model.fine_tuning is not None:
        frozen = trained.further(epochs)["freeze_epochs"] or 0
        model.fine_tuning = dataclasses.replace(model.fine_tuning, frozen_epochs=frozen)
