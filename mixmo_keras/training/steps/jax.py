"""The training step on JAX: the same step without state, every variable's value passed in and out."""

import contextlib

import jax
import keras
from keras import ops

from mixmo_keras import seeds
from mixmo_keras.training import fine_tuning, lookahead, weight_averaging
from mixmo_keras.training.objective import objective


def train_step(model, state, data):
    """One step. `state` is Keras': values of the trainable, non-trainable, optimizer and metrics variables."""
    variables = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )

    def scope(*values):
        pairs = zip(variables, values, strict=True)
        mapping = [pair for one in pairs for pair in zip(*one, strict=True)]
        return keras.StatelessScope(state_mapping=mapping, collect_losses=True)

    def after(scope, number, values):
        """The values of a group of variables when a scope ends."""
        now = [scope.get_current_value(variable) for variable in variables[number]]
        return [before if value is None else value for value, before in zip(now, values, strict=True)]

    trainable, others, optimizer, metrics = state

    def scaled_objective(trainable, batch=None):
        with scope(trainable, others, optimizer, metrics) as forward:
            step = ops.convert_to_tensor(model.step_counter)
            seed = seeds.StepSeed(model.seed, step, epoch=ops.convert_to_tensor(model.clock.epoch))
            if batch is None:
                batch = model.make_batch(data, seed)
            aim = objective(model, batch, seed)
            scaled = model.optimizer.scale_loss(aim.minimised)
        return scaled, (batch, aim, step, after(forward, 1, others))

    differentiated = jax.grad(scaled_objective, has_aux=True)
    gradients, (batch, aim, step, moved) = differentiated(trainable)
    if model.sharpness:
        climbed = fine_tuning.of_what_moves(model, gradients)
        gradients, _ = differentiated(model.sharpness.uphill(trainable, climbed), batch)
    others = moved
    with scope(trainable, others, optimizer, metrics):
        reading, momentum = ops.convert_to_tensor(model.clock.reading), weight_averaging.momentum_of(model, step)
    with model.clock.showing(reading), weight_averaging.averaging_by(model, momentum):
        trainable, optimizer = model.optimizer.stateless_apply(optimizer, gradients, trainable)
        with scope(trainable, others, optimizer, metrics) as averaging:
            weight_averaging.update(model, step)
            lookahead.update(model, step)
        trainable, others, optimizer = (
            after(averaging, number, group) for number, group in enumerate((trainable, others, optimizer))
        )
    with scope(trainable, others, optimizer, metrics) as finish:
        logs = model.finish_step(data, step, batch, aim, gradients)
    values = (trainable, others, optimizer, metrics)
    return logs, tuple(after(finish, number, group) for number, group in enumerate(values))


def has_accelerator() -> bool:
    """Whether JAX computes on anything but a CPU."""
    return jax.default_backend() != "cpu"


def accelerator_multiplies_bfloat16() -> bool:
    """Whether the first accelerator has units for bfloat16: a TPU, or a GPU of compute capability 8 or more."""
    return float(getattr(jax.devices()[0], "compute_capability", 8)) >= 8


def in_known_shapes(model, *state_and_data):
    """The data as they are: on JAX their shapes are known when a step is traced."""
    return state_and_data


def clear_shape_errors(model) -> contextlib.AbstractContextManager:
    """Nothing: on JAX shapes are checked when a step is traced."""
    return contextlib.nullcontext()


def noting(model, note, state, data):
    """Lets a step without a loss note something in the model's variables; returns what Keras' own step takes then."""
    trainable, others = state
    with keras.StatelessScope(zip(model.non_trainable_variables, others, strict=True)) as scope:
        note()
    now = [scope.get_current_value(variable) for variable in model.non_trainable_variables]
    others = [before if value is None else value for value, before in zip(now, others, strict=True)]
    return (trainable, others), data
