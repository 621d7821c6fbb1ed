"""The training step on TensorFlow, under any `tf.distribute` strategy."""

import keras
import tensorflow as tf

from mixmo_keras import seeds


def train_step(model, data):
    """One step on one replica: forward, loss and backward compiled by XLA where asked for, then the update.

    Keras compiles the whole step where there is one replica. With several, the gradients' all-reduce is part of the
    update and XLA can't compile it, so only forward and backward are compiled here.
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    replica = tf.distribute.get_replica_context()
    step = tf.convert_to_tensor(model.step_counter.value)  # its value now: the update moves the variable on
    seed = seeds.StepSeed(model.seed, step, replica.replica_id_in_sync_group)
    weights = model.trainable_weights

    def forward_backward(x, y, sample_weight):
        batch = model.pair(x, y, sample_weight, seed, model.monitor.progress(step))
        with tf.GradientTape() as tape:
            logits = model.member_logits(batch.images, batch.masks, training=True)
            loss = model.member_loss(batch, logits)
            scaled = model.optimizer.scale_loss(loss / replica.num_replicas_in_sync)
        gradients = tape.gradient(scaled, [weight.value for weight in weights])
        scale = model.optimizer.scale_loss(tf.constant(1 / replica.num_replicas_in_sync))
        gradients = [
            gradient if gradient is None or not rate else gradient + scale * rate * weight
            for gradient, weight, rate in zip(gradients, weights, model.l2_rates(), strict=True)
        ]
        return model.sound_loss(loss, gradients), gradients, batch, logits

    if model.jit_compile and replica.num_replicas_in_sync > 1:
        forward_backward = tf.function(forward_backward, jit_compile=True)
    loss, gradients, batch, logits = forward_backward(x, y, sample_weight)
    # Keras asks for one batch too many where the data end: nothing may change that does not wait for a batch
    with tf.control_dependencies([loss]):
        model.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        if replica.num_replicas_in_sync > 1:
            _average_statistics(model, replica)
    return model.update_metrics(x, y, step, loss, batch, logits)


def _average_statistics(model, replica):
    """Gives all replicas one batch-norm moving average: Keras 3 leaves each with its own, and saves the first one's."""
    statistics = [v for v in model.non_trainable_variables if v.aggregation == "none" and v.dtype == "float32"]
    means = replica.all_reduce(tf.distribute.ReduceOp.MEAN, [variable.value for variable in statistics])
    for variable, mean in zip(statistics, means, strict=True):
        variable.assign(mean)
