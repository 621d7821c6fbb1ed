"""The training step on TensorFlow, under any `tf.distribute` strategy."""

import contextlib
import re

import keras
import tensorflow as tf

from mixmo_keras import seeds
from mixmo_keras.mixing.batch import unpack
from mixmo_keras.training import data_checks, fine_tuning, lookahead, weight_averaging
from mixmo_keras.training.objective import objective


def train_step(model, data):
    """One step on one replica: batch, objective and gradients compiled by XLA where asked for, then the update.

    Keras compiles the whole step where there is one replica. With several, XLA can't compile what they exchange, so only
    forward and backward are compiled here. Each replica has a share of the batch, which need not be equal; what all of
    them say together, gradients, batch-norm averages, loss, is the mean over the rows of the whole batch.
    """
    (data,) = in_known_shapes(model, data)
    replica = tf.distribute.get_replica_context()
    index, num_replicas = seeds.replica()
    several = num_replicas > 1
    step = tf.convert_to_tensor(model.step_counter.value)  # its value now: the update moves the variable on
    seed = seeds.StepSeed(model.seed, step, index, tf.convert_to_tensor(model.clock.epoch.value))
    num_images = tf.shape(unpack(data).images)[0]
    share = _share_of_batch(replica, num_images) if several else tf.constant(1.0)
    weights = model.trainable_weights

    def forward_backward(data, share):
        batch = model.make_batch(data, seed)
        before = _values(model.non_trainable_variables) if model.sharpness else []
        aim, gradients = _differentiated(model, batch, seed, share)
        if model.sharpness:
            climbed = fine_tuning.of_what_moves(model, gradients)
            uphill = model.sharpness.uphill(_values(weights), climbed)
            _, gradients = _differentiated(model, batch, seed, share, at=(uphill, before))
        return batch, aim, gradients

    # batch norm that is synchronized exchanges its sums in the middle of the step
    if several and model.jit_compile and not model.synchronized_batch_norm:
        forward_backward = tf.function(forward_backward, jit_compile=True)
    data = _at_least_one_row(data) if several else data
    batch, aim, gradients = forward_backward(data, share)
    # Keras asks for one batch too many where the data end: nothing may change that does not wait for a batch
    with tf.control_dependencies([aim.loss]):
        summed = _sum_over_replicas(replica, gradients) if several else gradients
        with weight_averaging.averaging_by(model, weight_averaging.momentum_of(model, step)):
            model.optimizer.apply_gradients(zip(summed, weights, strict=True))
            if several:
                _average_statistics(model, replica, share)
            weight_averaging.update(model, step)
            lookahead.update(model, step)
    if not several:
        return model.finish_step(data, step, batch, aim, gradients)
    logs = tf.cond(
        num_images > 0, lambda: model.finish_step(data, step, batch, aim, gradients), lambda: model.get_metrics_result()
    )
    return _reducible(model, logs)


def _differentiated(model, batch, seed, share, at=None):
    """The objective of a batch, and its gradient with respect to the trainable weights, scaled.

    Args:
        at: Values of the trainable and of the non-trainable variables to compute it with, in place of their own, which then
            stay as they are.
    """
    weights = model.trainable_weights
    with tf.GradientTape() as tape:
        if at is None:
            points, state = [weight.value for weight in weights], contextlib.nullcontext()
        else:
            points, others = at
            tape.watch(points)
            mapping = [*zip(weights, points, strict=True), *zip(model.non_trainable_variables, others, strict=True)]
            state = keras.StatelessScope(mapping, collect_losses=True)
        with state:
            aim = objective(model, batch, seed)
            scaled = model.optimizer.scale_loss(aim.minimised * share)
    return aim, tape.gradient(scaled, points)


def _values(variables) -> list:
    """What variables hold now."""
    return [tf.convert_to_tensor(variable.value) for variable in variables]


def test_step(model, keras_step, data):
    """Keras' own step on one of several replicas, which the last batch may have left without rows."""
    num_rows = tf.shape(keras.utils.unpack_x_y_sample_weight(data)[0])[0]
    data = _at_least_one_row(data)
    return _reducible(model, tf.cond(num_rows > 0, lambda: keras_step(data), lambda: model.get_metrics_result()))


def predict_step(keras_step, data):
    """Keras' own step on one of several replicas, which the last batch may have left without rows."""
    num_rows = tf.shape(keras.utils.unpack_x_y_sample_weight(data)[0])[0]
    return keras_step(_at_least_one_row(data))[:num_rows]


def in_known_shapes(model, data):
    """Data whose spec leaves sizes open as data of the model's sizes: others stop the step before it computes anything.

    Args:
        model: Whose `input_shape` is (None, H, W, C); and of data with labels, with `num_classes`.
        data: As Keras' steps take them: of images, labels, weights; or with a dictionary in place of the images.

    Returns:
        The data, as the one element of a tuple. The same, if its sizes are known.
    """
    images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    shape = model.input_shape[1:]
    if isinstance(images, dict):
        sizes = {"images": (None, *shape), "partner_images": (None, None, *shape)}
        known = {name: _of_shape(values, sizes[name]) if name in sizes else values for name, values in images.items()}
        same = all(known[name] is images[name] for name in images)
    else:
        known = _of_shape(images, (None, *shape))
        same = known is images
    if labels is not None and len(labels.shape) == 2 and labels.shape[1] is None:
        labels, same = tf.ensure_shape(labels, (None, model.num_classes)), False
    elif labels is not None and len(labels.shape) > 2:  # maps of the images' size
        labels, as_given = _of_shape(labels, (None, *shape[:2], 1)[: len(labels.shape)]), labels
        same = same and labels is as_given
    return (data,) if same else (keras.utils.pack_x_y_sample_weight(known, labels, weights),)


def _of_shape(values, shape: tuple):
    """Values whose shape is checked when they come, as far as it is open."""
    if not isinstance(values.shape, tf.TensorShape):
        return values  # an array, of a step that runs eagerly
    if values.shape.rank is None:
        return tf.ensure_shape(values, shape)
    is_open = any(found is None for found, expected in zip(values.shape, shape, strict=False) if expected is not None)
    if not is_open or not values.shape.is_compatible_with(shape):
        return values  # which is known to be right, or to be wrong
    return tf.ensure_shape(values, shape)


_SHAPE = r"([\d, ]*)"
_SHAPE_ERRORS = (
    rf"Shape of tensor \S+ \[{_SHAPE}\] is not compatible with expected shape",  # of tf.ensure_shape
    rf"element of shape \({_SHAPE}\) where an element of shape .* was expected",  # of tf.data and of Keras' generators
)


@contextlib.contextmanager
def clear_shape_errors(model):
    """Raises a `ValueError` in place of TensorFlow's own errors of images, or labels, of another shape than the model's."""
    try:
        yield
    except tf.errors.OpError as error:
        if raised := re.search("ValueError: (Images must be .*)", error.message):  # by a generator
            raise ValueError(raised[1]) from error
        for pattern in _SHAPE_ERRORS:
            if found := re.search(pattern, error.message):
                shape = tuple(int(length) for length in found[1].replace(" ", "").split(",") if length)
                data_checks.raise_of_shape(shape, model.input_shape[1:], model.output_shape[-1], error)
        raise


def noting(model, note, *data):
    """Lets a step without a loss note something in the model's variables; returns what Keras' own step takes then."""
    note()
    return data


def has_accelerator() -> bool:
    """Whether TensorFlow sees anything but CPUs."""
    return any(device.device_type != "CPU" for device in tf.config.list_physical_devices())


def accelerator_multiplies_bfloat16() -> bool:
    """Whether the first accelerator has units for bfloat16: a TPU, or a GPU of compute capability 8 or more."""
    gpus = tf.config.list_physical_devices("GPU")
    return not gpus or tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))[0] >= 8


def one_batch(model, iterator):
    """What one replica sees of one batch, for Keras to build metrics by; its own way fails there under several workers."""
    _, _, batches = next(iter(iterator))
    try:
        batch = next(batches)
    except (StopIteration, tf.errors.OutOfRangeError) as error:
        raise ValueError("The dataset is empty.") from error
    local_results = model.distribute_strategy.experimental_local_results
    images, labels, sample_weight, *_ = unpack(keras.tree.map_structure(lambda part: local_results(part)[0], batch))
    return (images, labels) if sample_weight is None else (images, labels, sample_weight)


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


def _sum_over_replicas(replica, gradients):
    """The gradients of the whole batch, before clipping. At `compile` Keras was told to leave this to us."""
    present = [gradient for gradient in gradients if gradient is not None]
    summed = iter(replica.all_reduce(tf.distribute.ReduceOp.SUM, present))
    return [None if gradient is None else next(summed) for gradient in gradients]


def _average_statistics(model, replica, share):
    """Gives all replicas one batch-norm moving average: Keras 3 leaves each with its own, and saves the first one's."""
    statistics = [v for v in model.non_trainable_variables if v.aggregation == "none" and v.dtype == "float32"]
    if not statistics:  # TensorFlow can't reduce an empty list
        return
    means = replica.all_reduce(tf.distribute.ReduceOp.SUM, [variable.value * share for variable in statistics])
    for variable, mean in zip(statistics, means, strict=True):
        variable.assign(mean)
