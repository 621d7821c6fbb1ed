"""Bad data and a loss gone NaN: refused before the first step where that can be, noticed in the step and raised outside it.

A compiled step can't raise an error, so it notes what it sees in one small variable, which a callback reads.
"""

import warnings

import keras
import numpy as np
from keras import ops

from mixmo_keras import keras_internals
from mixmo_keras.mixing.batch import unpack
from mixmo_keras.training import losses

_LOSS, _LABEL, _IMAGE = range(3)  # rows of `noted`
_CHECK_EVERY = 50  # executions: reading a variable waits for the device


# -- before the first step -----------------------------------------------------------------------------------------------


def check_shapes(images, labels, image_shape: tuple, num_classes: int, sample_weight=None) -> None:
    """Raises on wrong ranks and sizes, which are known when a step is traced.

    Raises:
        ValueError: labels are missing, or shapes don't fit the model.
    """
    if labels is None:
        raise ValueError("Labels are missing: pass `y`, or a dataset of (images, labels).")
    if len(images.shape) != 4 or tuple(images.shape[1:]) != tuple(image_shape):
        raise ValueError(f"Images must be (n, {', '.join(map(str, image_shape))}), got {tuple(images.shape)}.")
    if len(labels.shape) not in (1, 2) or (len(labels.shape) == 2 and labels.shape[1] not in (1, num_classes)):
        raise ValueError(
            f"Labels must be integers (n,) or one-hot (n, {num_classes}), got shape {tuple(labels.shape)}."
        )
    if sample_weight is not None and tuple(sample_weight.shape[1:]) not in ((), (1,)):
        raise ValueError(f"`sample_weight` must be (n,), one for each image, got {tuple(sample_weight.shape)}.")


def check_data(x, y, image_shape: tuple, num_classes: int, verb: str, kind: str = "") -> None:
    """The checks that `verb`, such as "fit", can make of its arguments before the first step.

    Raises:
        ValueError: no data, labels out of range, shapes that don't fit the model.
    """
    if hasattr(x, "element_spec"):  # a tf.data.Dataset
        if callable(getattr(x, "cardinality", None)) and int(x.cardinality()) == 0:
            raise ValueError(f"The {kind}dataset is empty: `{verb}` got a tf.data.Dataset of no batches.")
        x, y, *_ = unpack(x.element_spec)
    elif hasattr(x, "shape") and len(x.shape) and x.shape[0] == 0:
        raise ValueError(f"The {kind}dataset is empty: `{verb}` got images of shape {tuple(x.shape)}.")
    shapes = [values.shape if hasattr(values, "shape") else None for values in (x, y) if values is not None]
    if any(getattr(shape, "rank", shape) is None for shape in shapes):
        return  # shapes will be known when a step is traced
    check_shapes(x, y, image_shape, num_classes)
    if hasattr(y, "__array__") and integer_labels(y) is not None:
        labels = ops.convert_to_numpy(y)
        low, high = float(labels.min()), float(labels.max())
        if not (low >= 0 and high < num_classes and (labels % 1 == 0).all()):
            raise label_error(num_classes, low, high)


def integer_labels(labels):
    """Labels (n,) or (n, 1) as (n,); `None` for one-hot ones."""
    if len(labels.shape) == 2:
        return losses.squeezed(labels) if labels.shape[1] == 1 else None
    return labels


def label_error(num_classes: int, low: float, high: float) -> ValueError:
    """The error to raise for integer labels of which the lowest and the highest are named."""
    return ValueError(
        f"Labels must be integers from 0 to {num_classes - 1} for num_classes={num_classes}; "
        f"the data holds labels from {low:g} to {high:g}."
    )


# -- within a step -------------------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("mixmo_keras")
class Incidents(keras.layers.Layer):
    """What steps noted: a row for each kind of trouble, (1 once it happened, two numbers about it); the first one stays."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        # each replica notes its own; reading sums over replicas, so that a row's flag counts those that noted something
        self.noted = keras.Variable(
            np.zeros((3, 3)),
            trainable=False,
            autocast=False,
            dtype="float32",
            synchronization="on_read",
            aggregation="sum",
            name="noted",
        )
        self.built = True

    def note(self, step, num_classes: int, loss=None, labels=None, images=None):
        """Notes the first step with a non-finite loss, the first labels that aren't among 0..K − 1, odd images.

        Args:
            step: the number of the training step.
            num_classes: K.
            loss: scalar, or `None`.
            labels: integer labels (n,), or `None`.
            images: raw pixels, or `None` where pixels may have any values.
        """
        nothing = ops.zeros((3,))
        rows = [nothing, nothing, nothing]

        def row(happened, first, second=0.0):
            values = [ops.cast(value, "float32") for value in (happened, first, second)]
            return ops.where(happened, ops.stack(values), nothing)

        if loss is not None:
            rows[_LOSS] = row(ops.logical_not(ops.isfinite(loss)), step)
        if labels is not None:
            labels = ops.cast(labels, "float32")
            low, high = ops.min(labels), ops.max(labels)
            whole = ops.all(ops.equal(labels, ops.floor(labels)))  # false for NaN
            valid = ops.logical_and(ops.logical_and(low >= 0, high < num_classes), whole)
            rows[_LABEL] = row(ops.logical_not(valid), low, high)
        if images is not None:
            low, high = ops.cast(ops.min(images), "float32"), ops.cast(ops.max(images), "float32")
            # a black batch is one of raw pixels, and what resizing overshoots by is no other unit
            of_unit = ops.logical_and(high > 0, high <= 1)
            rows[_IMAGE] = row(ops.logical_or(ops.logical_or(low < -0.5, high > 255.5), of_unit), low, high)
        noted = ops.convert_to_tensor(self.noted)
        self.noted.assign(ops.where(noted[:, :1] > 0, noted, ops.stack(rows)))

    def incident(self, kind: int):
        """The two numbers of an incident, averaged over the replicas that noted it, or `None`."""
        flag, first, second = ops.convert_to_numpy(self.noted)[kind]
        return (float(first / flag), float(second / flag)) if flag > 0 else None

    def clear(self) -> None:
        """Forgets all incidents."""
        self.noted.assign(np.zeros((3, 3), "float32"))


def note(model, step, images, labels, loss=None) -> None:
    """Notes what is wrong with a batch of a model's data (n, ...), or with its loss."""
    labels = integer_labels(labels)
    model.incidents.note(step, model.num_classes, loss, labels, images if model.expects_raw_pixels else None)


def sound_loss(model, loss, gradients):
    """The loss, or NaN if the encoders' gradients are not finite: on CPUs ReLU turns NaN into 0, which hides it.

    `gradients` are those of `trainable_weights`. Under loss scaling they may overflow: such a step is skipped.
    """
    if keras_internals.inner_optimizer(model.optimizer) is not model.optimizer:
        return loss
    encoders = {id(weight) for weight in model.encoders.trainable_weights}
    pairs = zip(model.trainable_weights, gradients, strict=True)
    total = sum(ops.sum(gradient) for weight, gradient in pairs if id(weight) in encoders and gradient is not None)
    return ops.where(ops.isfinite(ops.cast(total, loss.dtype)), loss, float("nan"))


# -- outside the step ----------------------------------------------------------------------------------------------------


class IncidentsCallback(keras.callbacks.Callback):
    """Turns incidents into one error or warning. `MixMo.fit` and `evaluate` add it by themselves."""

    def __init__(self):
        super().__init__()
        self._executions = 0
        self._test_batches = 0
        self._warned_of_images = False
        self._in_fit = False

    def on_train_begin(self, logs=None):
        self._in_fit = True
        self.model.incidents.clear()

    def on_epoch_begin(self, epoch, logs=None):
        self._executions = 0

    def on_train_batch_end(self, batch, logs=None):
        if self._executions % _CHECK_EVERY == 0:
            self._check()
        self._executions += 1

    def on_epoch_end(self, epoch, logs=None):
        if not self._executions:
            raise ValueError(f"The training dataset is empty: `fit` saw no batch in epoch {epoch + 1}.")
        self._check()

    def on_test_begin(self, logs=None):
        self._test_batches = 0
        if not self._in_fit:
            self.model.incidents.clear()

    def on_test_batch_end(self, batch, logs=None):
        self._test_batches += 1

    def on_test_end(self, logs=None):
        if not self._test_batches:
            raise ValueError("The dataset to evaluate on is empty: `evaluate` saw no batch.")
        self._check()

    def _check(self):
        raise_incidents(self.model)
        images = self.model.incidents.incident(_IMAGE)
        if images and not self._warned_of_images:
            self._warned_of_images = True
            warnings.warn(
                f"The model expects raw pixels, 0 to 255, and normalises them itself; a batch's values run from "
                f"{images[0]:.4g} to {images[1]:.4g}. Pass raw pixels, or `normalization=None` to turn normalisation off.",
                stacklevel=2,
            )


def raise_incidents(model) -> None:
    """Raises an error where a step has noted one.

    Raises:
        ValueError: labels out of range.
        FloatingPointError: the loss, or the gradient, became NaN or infinite.
    """
    if keras.backend.backend() == "jax":
        model.jax_state_sync()  # `fit` keeps the variables' values to itself during an epoch
    incidents = model.incidents
    if labels := incidents.incident(_LABEL):
        incidents.clear()
        raise label_error(model.num_classes, *labels)
    if loss := incidents.incident(_LOSS):
        incidents.clear()
        rate = float(ops.convert_to_numpy(model.optimizer.learning_rate))
        raise FloatingPointError(
            f"The loss became NaN or infinite at step {loss[0] + 1:.0f} (learning rate now {rate:.3g}). Training "
            "stopped; the model's weights are not usable. If no image holds NaN, a lower learning rate, a longer "
            "warm-up or gradient clipping help."
        )
