"""The compiled model of a recipe."""

import typing
from typing import Any

from mixmo_keras import datasets
from mixmo_keras.common import numbering, trained
from mixmo_keras.experiments import augmentation
from mixmo_keras.experiments.option_defaults import Default
from mixmo_keras.experiments.option_values import parse_rates
from mixmo_keras.experiments.recipe import Recipe, method_options
from mixmo_keras.experiments.task import task_of
from mixmo_keras.mixing.msda import MSDA
from mixmo_keras.models.by_name import model_of
from mixmo_keras.models.methods import defaults
from mixmo_keras.models.mixmo import MixMo
from mixmo_keras.training import losses, optimizers
from mixmo_keras.training.fine_tuning import FineTuning
from mixmo_keras.training.lookahead import Lookahead
from mixmo_keras.training.schedules import PUBLISHED, ProgressSchedule, with_warmup
from mixmo_keras.training.sharpness import SAM


def build(recipe: Recipe, info: datasets.Info, asked: Recipe | None = None) -> MixMo:
    """The compiled model of a resolved recipe.

    Args:
        recipe: The resolved recipe.
        info: Of its dataset.
        asked: The recipe before it was resolved, by which options about a core without weights are refused, and not left
            out as defaults are. Defaults to a recipe that asks for none.
    """
    resolved: Any = recipe  # mypy can't know that its options have their values
    options, task = {name: getattr(recipe, name) for name in method_options()}, task_of(recipe, info)
    own = defaults(recipe.method)
    if options["averaging"] == own.get("averaging") and options["averaging"] not in task.averagings:
        options["averaging"] = Default.METHOD  # the method's is that of classes: the task has its own
    model = model_of(
        recipe.method,
        recipe.backbone,
        task=task,
        input_shape=info.image_shape,
        normalization=(0.0, 1.0) if recipe.normalization == "unit" else info.normalization,
        pretrained=recipe.pretrained,
        encoder_noise=recipe.encoder_noise,
        augmentation=augmentation.of_recipe(recipe),
        already_repeated=recipe.pixel_augmentation is not None and recipe.batch_repetitions != 1,
        msda=resolved.msda and MSDA(resolved.msda, resolved.msda_probability, resolved.msda_alpha),
        synchronized_batch_norm=recipe.synchronized_batch_norm,
        seed=recipe.seed,
        dtype=recipe.dtype,
        name=recipe.method,
        **{name: value for name, value in options.items() if value is not Default.METHOD},
    )
    optimizer = optimizers.named(
        typing.cast(str, recipe.optimizer),
        schedule_of(recipe),
        recipe.momentum,
        recipe.weight_decay,
        global_clipnorm=recipe.clip_norm,
        use_ema=recipe.averages_weights,
        ema_momentum=0.99 if recipe.ema is None else recipe.ema,
        gradient_accumulation_steps=recipe.accumulation,
    )
    loss = losses.default(resolved.teaching, recipe.label_smoothing) if recipe.label_smoothing else None
    if recipe.loss is not None:
        loss = losses.BY_NAME[recipe.loss](recipe.label_smoothing)
    jit_compile = "auto" if recipe.jit_compile is None else recipe.jit_compile
    model.compile(
        optimizer,
        loss,
        jit_compile=jit_compile,
        sharpness=None if recipe.sam is None else SAM(recipe.sam, recipe.adaptive_sam),
        average_from=recipe.average_from,
        fine_tuning=_fine_tuning(asked, recipe, model),
        rates=None if recipe.rates is None else parse_rates(recipe.rates),
        lookahead=None if recipe.lookahead is None else Lookahead(recipe.lookahead),
        decay_kernels_only=recipe.weight_decay is not None,
    )
    numbering.check_numbers(model.class_names, info.class_names, str(recipe.backbone))  # of a classifier's file
    model.class_names = info.class_names
    return model


def schedule_of(recipe: Recipe) -> ProgressSchedule:
    """The learning rate of a resolved recipe over training."""
    resolved: Any = recipe  # mypy can't know that its options have their values
    schedule = PUBLISHED[resolved.schedule].schedule(resolved.learning_rate)
    return schedule if recipe.warmup_epochs is None else with_warmup(schedule, recipe.warmup_epochs / recipe.epochs)


def _fine_tuning(asked: Recipe | None, recipe: Recipe, model: MixMo) -> FineTuning | None:
    """What is special about the core; nothing where it has no weights."""
    if model.core.trainable_weights:
        return FineTuning.of(*(getattr(recipe, name) for name in trained.OF_CORE))
    for name in trained.OF_CORE:
        if (value := getattr(asked, name, None)) is not None:
            raise ValueError(
                f"`{name}` (={value:g}) is about the core of {recipe.backbone}, no weight of which is trained: leave it out."
            )
    return None
