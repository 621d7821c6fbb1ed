"""Bad data and a loss gone NaN that no check before the first step could see: noticed in the step and raised outside it.

A compiled step can't raise an error, so it notes what it sees in one small variable, which a callback reads.
"""

import contextlib
import warnings
from collections.abc import Iterator

import keras
import numpy as np
from keras import ops

from mixmo_keras import keras_internals
from mixmo_keras.common.undefined import nan_where
from mixmo_keras.training import data_checks, distribution

_LOSS, _LABEL, _IMAGE = range(3)  # rows of `noted`
# In place of the first number about targets: not these, but weights or copies, are wrong. In place of the lowest pixel: some
# are no numbers. Powers of two, whose mean over replicas is exact, and not infinite: `enable_check_numerics` stops at such.
_WEIGHTS, _COPIES, _BROKEN = -(2.0**120), -(2.0**121), 2.0**122
_CHECK_EVERY = 50  # executions: reading a variable waits for the device


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
        self.is_watched = False  # by somebody who will tell
        self.built = True

    def load_own_variables(self, store):
        """Nothing that was noted is about what comes; and files of an earlier version may not have it."""

    def note(
        self,
        step,
        task,
        loss=None,
        labels=None,
        images=None,
        weights=None,
        raw_pixels: bool = True,
        copies: int = 1,
    ):
        """Notes the first step with a non-finite loss, the first bad labels or weights, odd images.

        Args:
            step: The number of the training step.
            task: What the targets are of: it says whether they are wrong.
            loss: Scalar, or `None`.
            labels: Targets (n, ...), or `None`.
            images: (n, ...), or `None`.
            weights: Of the images, or `None`.
            raw_pixels: Whether pixels should run from 0 to 255.
            copies: How often all images of the batch are in it, one time after the other.
        """
        nothing = ops.zeros((3,))
        rows = [nothing, nothing, nothing]

        def row(happened, first, second=0.0):
            values = [ops.cast(value, "float32") for value in (happened, first, second)]
            return ops.where(happened, ops.stack(values), nothing)

        if loss is not None:
            rows[_LOSS] = row(ops.logical_not(ops.isfinite(loss)), step)
        if weights is not None:
            weights = ops.cast(weights, "float32")
            rows[_LABEL] = row(ops.logical_not(ops.all((weights >= 0) & ops.isfinite(weights))), _WEIGHTS)
        if labels is not None:
            if copies > 1:
                rows[_LABEL] = row(_differ_between_copies(labels, copies), _COPIES)
            bad, low, high = task.wrong(labels)
            rows[_LABEL] = ops.where(bad, row(bad, low, high), rows[_LABEL])
        if images is not None:
            odd, low, high = _range_of_pixels(images)
            odd = odd if raw_pixels else ops.zeros((), "bool")
            if data_checks.is_floating(images):  # others can't be NaN, which comparisons pass over
                broken = ops.logical_not(ops.all(ops.isfinite(images)))
                finite = ops.minimum(low, _BROKEN / 2**21)  # pixels of 1e38 are finite, and no incident of this kind
                odd, low = odd | broken, ops.where(broken, _BROKEN, finite)
            rows[_IMAGE] = row(odd, low, high)
        noted, rows = ops.convert_to_tensor(self.noted), ops.stack(rows)
        # the first stays; but broken pixels, an error, take the place of odd values, a warning
        stays = (noted[:, :1] > 0) & (rows[:, 1:2] != _BROKEN)
        self.noted.assign(ops.where(stays, noted, rows))

    def note_pixels(self, images):
        """Notes the first images (n, ...) whose pixels don't run from 0 to 255; of broken ones the answers tell."""
        odd, low, high = _range_of_pixels(images)
        row = ops.stack([ops.cast(value, "float32") for value in (odd, low, high)])
        noted = ops.convert_to_tensor(self.noted)
        is_first = ops.cast(odd, "bool") & (noted[_IMAGE, :1] <= 0)
        self.noted.assign(ops.where(is_first & (ops.arange(3)[:, None] == _IMAGE), row, noted))

    def incident(self, kind: int):
        """The two numbers of an incident, averaged over the replicas that noted it, or `None`."""
        flag, first, second = ops.convert_to_numpy(self.noted)[kind]
        return (float(first / flag), float(second / flag)) if flag > 0 else None

    def clear(self) -> None:
        """Forgets all incidents."""
        self.noted.assign(np.zeros((3, 3), "float32"))


def _range_of_pixels(images):
    """Whether pixels are in other units than 0 to 255, and the least and the greatest of them."""
    low, high = ops.cast(ops.min(images), "float32"), ops.cast(ops.max(images), "float32")
    # a black batch is one of raw pixels, and what resizing overshoots by is no other unit
    return (low < -0.5) | (high > 255.5) | ((high > 0) & (high <= 1)), low, high


def _differ_between_copies(labels, copies: int):
    """Whether a batch that should have all images, then all again, has not: by the labels (n, ...)."""
    count = ops.shape(labels)[0]
    first = ops.arange(count) % ops.maximum(count // copies, 1)
    differ = ops.any(ops.not_equal(labels, ops.take(labels, first, axis=0)))
    return ops.logical_or(differ, ops.not_equal(count % copies, 0))


def note(model, step, images, labels, weights=None, loss=None, copies: int = 1) -> None:
    """Notes what is wrong with a batch of a model's data (n, ...), or with its loss."""
    if distribution.num_replicas(model) > 1:  # each has a part of the batch, which need not hold every copy
        copies = 1
    model.incidents.note(step, model.task, loss, labels, images, weights, model.expects_raw_pixels, copies)


def sound_loss(model, loss, gradients):
    """The loss, or NaN if the encoders' gradients are not finite: on CPUs ReLU turns NaN into 0, which hides it.

    `gradients` are those of `trainable_weights`. Under loss scaling they may overflow: such a step is skipped.
    """
    if keras_internals.inner_optimizer(model.optimizer) is not model.optimizer:
        return loss
    encoders = {id(weight) for weight in model.encoders.trainable_weights}
    pairs = zip(model.trainable_weights, gradients, strict=True)
    total = sum(ops.sum(gradient) for weight, gradient in pairs if id(weight) in encoders and gradient is not None)
    return nan_where(ops.logical_not(ops.isfinite(ops.cast(total, loss.dtype))), loss)


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
        raise_unsound(self.model, f"after epoch {epoch + 1}")

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
        if images and self.model.expects_raw_pixels and not self._warned_of_images:
            self._warned_of_images = True
            _warn_of_pixels(images, stacklevel=3)


@contextlib.contextmanager
def watching_pixels(model, stacklevel: int = 5) -> Iterator[None]:
    """Warns once, when the block ends, where its steps saw images in other units than the model's; blocks may be nested.

    What `fit` noted around it stays as it was.

    Args:
        model: Whose steps note in its `incidents`.
        stacklevel: Of the warning: the user's line is behind this file's two frames, contextlib, and a method.
    """
    incidents = model.incidents
    # several workers would have to read what was noted together, and one of them may predict alone
    several = distribution.num_workers(distribution.of_model(model)) > 1
    if not model.expects_raw_pixels or incidents.is_watched or several:
        yield
        return
    _fetch(model)
    before, incidents.is_watched = np.array(ops.convert_to_numpy(incidents.noted)), True
    if before.any():
        incidents.clear()
    try:
        yield
        _fetch(model)
        if images := incidents.incident(_IMAGE):
            _warn_of_pixels(images, stacklevel)
    finally:
        if before.any() or ops.convert_to_numpy(incidents.noted).any():  # to assign takes longer than to read
            incidents.noted.assign(before)
        incidents.is_watched = False


def _warn_of_pixels(images: tuple[float, float], stacklevel: int) -> None:
    warnings.warn(
        f"The model expects raw pixels, 0 to 255, and normalises them itself; a batch's values run from {images[0]:.4g} to "
        f"{images[1]:.4g}. Pass raw pixels, or `normalization=None` to turn normalisation off.",
        stacklevel=stacklevel,
    )


def _fetch(model) -> None:
    """Lets variables have the values that steps gave them."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()  # Keras' loops keep them to themselves


def raise_incidents(model) -> None:
    """Raises an error where a step has noted one.

    Raises:
        ValueError: labels out of range, invalid sample weights, NaN or infinite pixels.
        FloatingPointError: the loss, or the gradient, became NaN or infinite.
    """
    _fetch(model)
    incidents = model.incidents
    if labels := incidents.incident(_LABEL):
        incidents.clear()
        if labels[0] == _WEIGHTS:
            error = data_checks.weight_error(" others")
        elif labels[0] == _COPIES:
            error = data_checks.copies_error(model.batching.repetitions)
        else:
            error = model.task.error(*labels)
        raise ValueError(f"{error}{_if_spoiled(model)}")
    if (images := incidents.incident(_IMAGE)) and images[0] > _BROKEN / 2**20:
        incidents.clear()
        raise ValueError(f"{data_checks.BROKEN_PIXELS}{_if_spoiled(model)}")
    if loss := incidents.incident(_LOSS):
        incidents.clear()
        raise FloatingPointError(
            f"The loss became NaN or infinite at step {loss[0] + 1:.0f} (learning rate now {_rate(model):.3g}). Training "
            "stopped; the model's weights are not usable. If no image holds NaN, a lower learning rate, a longer "
            "warm-up or gradient clipping help."
        )


def _if_spoiled(model) -> str:
    """What to add to an error where a step with the data that it is about has been taken, and shows."""
    return " A step was taken with them: the model's weights are not usable." if unsound_weight(model) else ""


def raise_unsound(model, when: str) -> None:
    """Raises an error where training has spoiled the weights, as a last step can: its loss is that before the update.

    Raises:
        FloatingPointError: weights are NaN or infinite.
    """
    if name := unsound_weight(model):
        raise FloatingPointError(
            f"The weights became NaN or infinite ({name}, {when}; learning rate now {_rate(model):.3g}) and are not usable. "
            "A lower learning rate, a longer warm-up or gradient clipping help."
        )


def unsound_weight(model) -> str | None:
    """The path of the first weight of a model that holds NaN or infinite numbers; `None` where all are sound."""
    for weight in model.weights:
        if data_checks.is_floating(weight) and not bool(ops.all(ops.isfinite(ops.convert_to_tensor(weight)))):
            return weight.path
    return None


def _rate(model) -> float:
    return float(ops.convert_to_numpy(model.optimizer.learning_rate))
