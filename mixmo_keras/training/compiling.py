"""What a model's `compile` and `fit` must see to, so that Keras' training loop does what the step needs."""

import contextlib
import warnings
from collections.abc import Mapping

import keras

from mixmo_keras import keras_internals
from mixmo_keras.common import arguments
from mixmo_keras.training import data_checks, distribution, schedules, steps, weight_averaging
from mixmo_keras.training import fine_tuning as tuning
from mixmo_keras.training import lookahead as lookaheads
from mixmo_keras.training.fine_tuning import FineTuning
from mixmo_keras.training.incidents import IncidentsCallback
from mixmo_keras.training.lookahead import Lookahead
from mixmo_keras.training.monitors import MonitorsCallback
from mixmo_keras.training.progress import ClockCallback
from mixmo_keras.training.sharpness import SAM

OWN = (
    "sharpness",
    "average_from",
    "fine_tuning",
    "rates",
    "lookahead",
    "decay_kernels_only",
)  # settings of `compile` that Keras doesn't have


def set_own(
    model,
    optimizer,
    sharpness: SAM | None,
    average_from: float | None,
    fine_tuning: FineTuning | None,
    rates: Mapping[str, float] | None,
    lookahead: Lookahead | None,
    decay_kernels_only: bool,
) -> None:
    """Gives a model the settings of `compile` that are this package's, after their checks."""
    model.sharpness = arguments.instance("sharpness", sharpness, (SAM, type(None)), "a mixmo_keras.SAM or None")
    model.average_from = weight_averaging.checked(average_from, optimizer)
    model.fine_tuning = tuning.check(model, fine_tuning)
    model.rates = tuning.check_rates(model, rates)
    expected = "a mixmo_keras.Lookahead or None"
    model.lookahead = arguments.instance("lookahead", lookahead, (Lookahead, type(None)), expected)
    model.decay_kernels_only = arguments.boolean("decay_kernels_only", decay_kernels_only)
    inner = keras_internals.inner_optimizer(keras.optimizers.get(optimizer))
    if decay_kernels_only and not getattr(inner, "weight_decay", None):
        raise ValueError(
            "`decay_kernels_only` needs an optimizer that decays weights, such as keras.optimizers.AdamW(weight_decay=0.05)."
        )


def listed(metrics) -> list | None:
    """The metrics of `compile` as a list, as Keras expects them; one may come alone, such as "accuracy"."""
    if isinstance(metrics, Mapping):
        raise ValueError(
            "`metrics` must be a list, such as ['accuracy'], for the model's one output; got a dictionary for "
            f"{', '.join(map(str, metrics))}."
        )
    if isinstance(metrics, str) or callable(metrics):
        return [metrics]
    return list(metrics) if metrics else None


def build_averages(model) -> None:
    """Creates the averages of weights and statistics in a built optimizer, once."""
    weight_averaging.build(model)
    lookaheads.build(model)


def check(model, optimizer, options: dict) -> None:
    """Raises for options of `compile` that can't be combined with the model or its strategy."""
    if options.get("loss_weights") is not None:
        raise ValueError("`loss_weights` has no meaning here: the members' weights follow their mixing ratios.")
    inner = keras_internals.inner_optimizer(keras.optimizers.get(optimizer))
    if inner.weight_decay and model.l2.rate:
        warnings.warn(
            f"The optimizer decays weights (weight_decay={inner.weight_decay:g}) and so does the model's L2 "
            f"(l2={model.l2.rate:g}): build the model with l2=0 to leave it to the optimizer.",
            stacklevel=4,
        )
    if options.get("jit_compile") is True and not _augmentation_compiles(model):
        raise ValueError(
            f"jit_compile=True can't be combined with augmentation={model.batching.augmentation!r}: XLA has no kernel for "
            "what turns, shifts or zooms images. Leave `jit_compile` out, or augment in tf.data."
        )
    if distribution.num_replicas(model) == 1:
        return
    if model.lookahead is not None:
        raise ValueError(
            "`lookahead` is for one replica: under several replicas of a tf.distribute strategy each would average its own "
            "weights. Leave it out; `keras.optimizers.SGD(use_ema=True)` averages under any strategy."
        )
    if getattr(inner, "gradient_accumulation_steps", None):
        raise ValueError(
            "Keras' optimizers can't accumulate gradients under several replicas of a tf.distribute strategy: leave "
            "`gradient_accumulation_steps` out. More rows a step, or more replicas, do the same."
        )
    if options.get("jit_compile") is True and model.synchronized_batch_norm:
        raise ValueError(
            "jit_compile=True can't be combined with synchronized_batch_norm=True under several replicas: XLA can't "
            "compile what they exchange in the middle of a step."
        )


def prepare(model, options: dict) -> None:
    """Attaches a compiled model's schedule to its progress, and settles XLA and the all-reduce under several replicas."""
    if keras.backend.backend() == "tensorflow":  # for one replica too: TensorFlow never frees a graph that has it
        keras_internals.leave_all_reduce_to_the_step(model.optimizer)
    if distribution.num_replicas(model) > 1 and options.get("jit_compile", "auto") == "auto" and not model.run_eagerly:
        model.jit_compile = steps.has_accelerator()  # Keras leaves XLA off under every strategy
    if model.jit_compile and not _augmentation_compiles(model):
        warnings.warn(
            f"XLA is off: it has no kernel for augmentation={model.batching.augmentation!r}. In tf.data it would stay on.",
            stacklevel=4,
        )
        model.jit_compile = False
    tuning.prepare(model)
    schedule = keras_internals.learning_rate_schedule(model.optimizer)
    if isinstance(schedule, schedules.ProgressSchedule):  # a copy: another model may use it too
        keras_internals.set_learning_rate_schedule(model.optimizer, schedule.attached(model.clock.progress))


def _augmentation_compiles(model) -> bool:
    """Whether XLA can compile the augmentation, which is part of the step."""
    return getattr(model.batching.augment, "supports_jit", True)


@contextlib.contextmanager
def replicas_apart(model):
    """Keeps Keras from compiling what replicas exchange, which XLA can't: the train step compiles the rest by itself."""
    jit_compile = model.jit_compile
    if distribution.num_replicas(model) > 1:
        model.jit_compile = False
    try:
        yield
    finally:
        model.jit_compile = jit_compile


def check_callbacks(model, callbacks) -> None:
    """Raises where a callback would set a learning rate that follows a schedule: Keras notices after an epoch."""
    schedule = keras_internals.learning_rate_schedule(model.optimizer)
    setting = (keras.callbacks.ReduceLROnPlateau, keras.callbacks.LearningRateScheduler)
    if not isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        return
    for callback in callbacks:
        if isinstance(callback, setting):
            raise ValueError(
                f"{type(callback).__name__} sets the learning rate, which follows the schedule {type(schedule).__name__}: "
                "compile with an optimizer of a constant rate, such as keras.optimizers.SGD(0.01, momentum=0.9)."
            )


def with_own_callbacks(model, callbacks, fit_options: Mapping | None = None, of_data=()):
    """The callbacks of `fit` or `evaluate` behind those that watch data and model, so that they never see a broken one.

    Args:
        model: Whose they are.
        callbacks: As Keras takes them.
        fit_options: Further arguments of `fit`; `None` for `evaluate`.
        of_data: Callbacks that watch the data.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        if not any(isinstance(callback, IncidentsCallback) for callback in callbacks.callbacks):
            raise ValueError(
                "`callbacks` must be a list of callbacks, for the model to add its own; got a CallbackList."
            )
        return callbacks  # of a `fit` that is watched already
    if callbacks is None:
        callbacks = []
    elif not isinstance(callbacks, (list, tuple)):
        callbacks = [callbacks]
    own = [ClockCallback()] if hasattr(model, "clock") else []
    own += [tuning.FreezeCore()] if getattr(model, "fine_tuning", None) else []
    if fit_options is not None:
        validates = fit_options.get("validation_data") is not None or bool(fit_options.get("validation_split"))
        own.append(MonitorsCallback(callbacks, validates))
    return [*own, *of_data, IncidentsCallback(), *callbacks]


def follow_trainable(model) -> None:
    """Drops a model's compiled step where other weights are trainable than those that it trains.

    Raises:
        ValueError: no weight is trainable, or some that the optimizer does not know.
    """
    if not model.compiled:
        return  # Keras says so
    if not model.trainable_weights:
        raise ValueError(
            f"{model.name} has nothing to train: all its weights are frozen. Call `evaluate` to measure it as it is, or set "
            "model.trainable = True and call `compile` again."
        )
    known = {id(weight) for weight in keras_internals.weights_of(model.optimizer)}
    if known and (unknown := [weight.path for weight in model.trainable_weights if id(weight) not in known]):
        raise ValueError(
            f"{len(unknown)} weights, such as {unknown[0]}, were frozen when the model was compiled, and the optimizer does "
            "not know them: call `compile` again to train them."
        )
    trained = tuple(map(id, model.trainable_weights))
    if model._trained not in (None, trained):
        model.train_function = None
    model._trained = trained


def follow_labels(model, x, y, validation=None) -> None:
    """Drops a model's compiled steps where labels come with another rank than before.

    TensorFlow would trace the next step for labels of any rank, which no step can take.

    Args:
        model: Whose steps they are.
        x, y: Images and labels, or a dataset of both and nothing.
        validation: `fit`'s `validation_data`.
    """
    if not isinstance(validation, (tuple, list)):
        validation = (validation,)
    for images, labels in ((x, y), (validation[0], validation[1] if len(validation) > 1 else None)):
        rank = data_checks.rank_of_labels(images, labels)
        if None not in (rank, model._rank_of_labels) and rank != model._rank_of_labels:
            model.train_function = model.test_function = None
        model._rank_of_labels = rank or model._rank_of_labels
