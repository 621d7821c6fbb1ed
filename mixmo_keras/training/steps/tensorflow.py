"""The training step on TensorFlow, under any `tf.distribute` strategy."""

import keras
import tensorflow as tf

from mixmo_keras import seeds


def train_step(model, data):
    """One step on one replica: forward, loss and backward compiled by XLA where asked for, then the update.

    Keras compiles the whole step where there is one replica. With several, XLA can't compile what they exchange, so only
    forward and backward are compiled here. Each replica has a share of the batch, which need not be equal; what all of
    them say together, gradients, batch-norm averages, loss, is the mean over the rows of the whole batch.
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    replica = tf.distribute.get_replica_context()
    several = replica.num_replicas_in_sync > 1
    num_rows = tf.shape(x)[0]
    step = tf.convert_to_tensor(model.step_counter.value)  # its value now: the update moves the variable on
    seed = seeds.StepSeed(model.seed, step, replica.replica_id_in_sync_group)
    weights = model.trainable_weights

    def forward_backward(x, y, sample_weight, share):
        batch = model.pair(x, y, sample_weight, seed, model.monitor.progress(step))
        with tf.GradientTape() as tape:
            logits = model.training_logits(batch, seed)
            loss = model.member_loss(batch, logits)
            scaled = model.optimizer.scale_loss(loss * share)
        gradients = tape.gradient(scaled, [weight.value for weight in weights])
        scale = model.optimizer.scale_loss(share)
        gradients = [
            gradient if gradient is None or not rate else gradient + scale * rate * weight
            for gradient, weight, rate in zip(gradients, weights, model.l2_rates(), strict=True)
        ]
        return model.sound_loss(loss, gradients), gradients, batch, logits

    # batch norm that is synchronized exchanges its sums in the middle of the step
    if several and model.jit_compile and not model.synchronized_batch_norm:
        forward_backward = tf.function(forward_backward, jit_compile=True)
    share = _share_of_batch(replica, num_rows) if several else tf.constant(1.0)
    if several:
        x, y, sample_weight = _at_least_one_row((x, y, sample_weight))
    loss, gradients, batch, logits = forward_backward(x, y, sample_weight, share)
    # Keras asks for one batch too many where the data end: nothing may change that does not wait for a batch
    with tf.control_dependencies([loss]):
        if several:
            gradients = _summed(model, replica, gradients)
        model.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        if several:
            _average_statistics(model, replica, share)
    if not several:
        return model.update_metrics(x, y, step, loss, batch, logits)
    logs = tf.cond(
        num_rows > 0, lambda: model.update_metrics(x, y, step, loss, batch, logits), lambda: model.get_metrics_result()
    )
    return _reducible(model, logs)


def test_step(model, keras_step, data):
    """Keras' own step on one of several replicas, which the last batch may have left without rows."""
    num_rows = tf.shape(keras.utils.unpack_x_y_sample_weight(data)[0])[0]
    data = _at_least_one_row(data)
    return _reducible(model, tf.cond(num_rows > 0, lambda: keras_step(data), lambda: model.get_metrics_result()))


def predict_step(keras_step, data):
    """Keras' own step on one of several replicas, which the last batch may have left without rows."""
    num_rows = tf.shape(keras.utils.unpack_x_y_sample_weight(data)[0])[0]
    return keras_step(_at_least_one_row(data))[:num_rows]


def has_accelerator() -> bool:
    """Whether TensorFlow sees anything but CPUs."""
    return any(device.device_type != "CPU" for device in tf.config.list_physical_devices())


def one_batch(model, iterator):
    """What one replica sees of one batch, for Keras to build metrics by; its own way fails there under several workers."""
    _, _, batches = next(iter(iterator))
    try:
        batch = next(batches)
    except (StopIteration, tf.errors.OutOfRangeError) as error:
        raise ValueError("The dataset is empty.") from error
    local_results = model.distribute_strategy.experimental_local_results
    return keras.tree.map_structure(lambda part: local_results(part)[0], batch)


def _at_least_one_row(data):
    """The data, with a row of zeros where they have none: TensorFlow's convolutions can't take that.

    The row has no share in gradients, averages and metrics; batch norm that is synchronized does count it.
    """

    def fill(values):
        missing = tf.maximum(1 - tf.shape(values)[0], 0)
        return tf.concat([values, tf.zeros((missing, *values.shape[1:]), values.dtype)], axis=0)

    return keras.tree.map_structure(lambda values: None if values is None else fill(values), data)


def _reducible(model, logs: dict) -> dict:
    """Logs of rank 1 under several workers, where Keras reduces them over their first axis (keras issue 20585)."""
    if isinstance(model.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return {name: tf.reshape(value, (1,)) for name, value in logs.items()}
    return logs


def _share_of_batch(replica, num_rows):
    """This replica's share of the rows of the whole batch, a float32 scalar: 0 where a last batch had too few for all."""
    rows = tf.cast(num_rows, tf.float32)
    return rows / replica.all_reduce(tf.distribute.ReduceOp.SUM, rows)


def _summed(model, replica, gradients):
    """The gradients summed over replicas. Keras does so after clipping and accumulating, when it is too late."""
    model._inner_optimizer._all_reduce_sum_gradients = _as_they_are
    present = [gradient for gradient in gradients if gradient is not None]
    summed = iter(replica.all_reduce(tf.distribute.ReduceOp.SUM, present))
    return [None if gradient is None else next(summed) for gradient in gradients]


def _as_they_are(gradients_and_variables):
    return gradients_and_variables


def _average_statistics(model, replica, share):
    """Gives all replicas one batch-norm moving average: Keras 3 leaves each with its own, and saves the first one's."""
    statistics = [v for v in model.non_trainable_variables if v.aggregation == "none" and v.dtype == "float32"]
    means = replica.all_reduce(tf.distribute.ReduceOp.SUM, [variable.value * share for variable in statistics])
    for variable, mean in zip(statistics, means, strict=True):
        variable.assign(mean)
