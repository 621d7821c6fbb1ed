"""The training step on JAX: the same step without state, every variable's value passed in and out."""

import jax
import keras
from keras import ops

from mixmo_keras import seeds


def train_step(model, state, data):
    """One step. `state` is Keras': values of the trainable, non-trainable, optimizer and metrics variables."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )

    def scope(*values):
        mapping = [pair for group, some in zip(groups, values, strict=True) for pair in zip(group, some, strict=True)]
        return keras.StatelessScope(state_mapping=mapping)

    def current(scope, group, values):
        return [
            value if (new := scope.get_current_value(variable)) is None else new
            for variable, value in zip(group, values, strict=True)
        ]

    trainable, others, optimizer, metrics = state

    def scaled_loss(trainable):
        with scope(trainable, others, optimizer, metrics) as during:
            step = ops.convert_to_tensor(model.step_counter)
            seed = seeds.StepSeed(model.seed, step)
            batch = model.pair(x, y, sample_weight, seed, model.monitor.progress(step))
            logits = model.training_logits(batch, seed)
            loss = model.member_loss(batch, logits)
            scaled = model.optimizer.scale_loss(loss)
        return scaled, (loss, batch, logits, step, current(during, groups[1], others))

    gradients, (loss, batch, logits, step, others) = jax.grad(scaled_loss, has_aux=True)(trainable)
    with scope(trainable, others, optimizer, metrics) as during:
        scale = model.optimizer.scale_loss(1.0)
        gradients = [
            gradient if gradient is None or not rate else gradient + scale * rate * weight
            for gradient, weight, rate in zip(gradients, trainable, model.l2_rates(), strict=True)
        ]
        clock = ops.convert_to_tensor(model.monitor.clock)
    with model.monitor.reading(clock):
        trainable, optimizer = model.optimizer.stateless_apply(optimizer, gradients, trainable)
    with scope(trainable, others, optimizer, metrics) as during:
        logs = model.update_metrics(x, y, step, model.sound_loss(loss, gradients), batch, logits)
    state = tuple(
        current(during, group, values)
        for group, values in zip(groups, (trainable, others, optimizer, metrics), strict=True)
    )
    return logs, state
