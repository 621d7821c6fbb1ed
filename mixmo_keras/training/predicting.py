"""Prediction with checks of its images and answers: functions that methods of the same names call.

They refuse images of other shapes or with NaN pixels, however the images come; predict even where a batch has too few
images for all replicas; and warn of images in other units than the model's.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator

import keras
import numpy as np
from keras import ops

from mixmo_keras import keras_internals
from mixmo_keras.common.undefined import nan_where
from mixmo_keras.training import data_checks, distribution, incidents, one_pass
from mixmo_keras.training import steps as backend_steps


def predict(model, predict_of_keras: Callable, x, batch_size, steps, **options) -> np.ndarray:
    """The answers to images by `keras.Model.predict`, checked.

    Args:
        model: A model whose `predict_step` is the one below.
        predict_of_keras: Its `keras.Model.predict`.
        x, batch_size, steps, options: As that takes them.
    """
    data_checks.check_count("batch_size", batch_size)
    data_checks.check_count("steps", steps)
    data_checks.check_images_given(x, model.input_shape[1:], "predict", steps)
    x, _ = one_pass.watched(x, model.input_shape[1:])
    with (
        _as_before(model),
        incidents.watching_pixels(model, stacklevel=6),
        keras_internals.passes_end_at_once(),
    ):
        answers = predict_of_keras(x, batch_size=batch_size, steps=steps, **options)
    if broken := int(np.isnan(answers).reshape(len(answers), -1).any(-1).sum()):
        raise FloatingPointError(
            f"{broken} of {len(answers)} answers are NaN: their images hold NaN or infinite pixels, or the model such "
            "weights."
        )
    return answers


@contextlib.contextmanager
def _as_before(model) -> Iterator[None]:
    """Leaves a model as it was where its prediction fails, and says clearly where shapes differ."""
    with keras_internals.variables_stay(model), backend_steps.clear_shape_errors(model):
        yield


def predict_on_batch(model, predict_of_keras: Callable, x):
    """The answers to a batch by `keras.Model.predict_on_batch`, checked."""
    data_checks.check_images_given(x, model.input_shape[1:], "predict_on_batch")
    with _as_before(model), incidents.watching_pixels(model, stacklevel=6):
        if distribution.num_replicas(model) > 1:  # Keras would give the whole batch to each, and all their answers
            return model.predict(x, batch_size=len(x), verbose=0)
        return predict_of_keras(x)


def predict_step(model, step_of_keras: Callable, *state_and_data):
    """A step of prediction by `keras.Model.predict_step`, which notes odd pixels and answers broken images by NaN."""
    state_and_data = backend_steps.in_known_shapes(model, *state_and_data)
    images, _, _ = keras.utils.unpack_x_y_sample_weight(state_and_data[-1])
    data_checks.check_image_shape(images, model.input_shape[1:])
    if model.expects_raw_pixels:
        state_and_data = backend_steps.noting(model, lambda: model.incidents.note_pixels(images), *state_and_data)
    if distribution.num_replicas(model) > 1:
        answers, *state = [backend_steps.predict_step(step_of_keras, *state_and_data)]
    elif len(state_and_data) > 1:  # JAX
        answers, *state = step_of_keras(*state_and_data)
    else:
        answers, *state = [step_of_keras(*state_and_data)]
    if data_checks.is_floating(images):  # on CPUs ReLU makes 0 of NaN, and of a broken image a plausible answer
        broken = ops.any(ops.logical_not(ops.isfinite(images)), axis=tuple(range(1, len(images.shape))))
        broken = ops.reshape(broken, (-1, *[1] * (len(answers.shape) - 1)))
        answers = nan_where(broken, answers)
    return (answers, *state) if state else answers


def logits_and_labels(model, batches: Iterable[tuple], views: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """An ensemble's `predict_with_labels` of batches of (images, labels)."""
    return together(model, outputs_by_batch(model, batches, views))


def outputs_by_batch(model, batches: Iterable[tuple], views: int = 1) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The members' outputs (n, M, ...) and targets (n, ...) of each batch of (images, targets), checked."""
    network = model._members(views)
    number_broken = number = 0
    for images, labels in batches:
        images = data_checks.sound_images(images, model.image_shape)
        labels = model.task.to_evaluate(labels, len(images))
        model.task.check_size(labels, model.image_shape)
        logits = np.asarray(network.predict_on_batch(images))
        number += len(logits)
        number_broken += int((~np.isfinite(logits).reshape(len(logits), -1).all(-1)).sum())
        yield logits, labels
    if not number:
        raise ValueError("The dataset is empty.")
    if number_broken:
        raise FloatingPointError(f"{number_broken} of {number} images have NaN logits.")


def together(model, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Batches of outputs and targets as two arrays."""
    outputs, targets = zip(*batches, strict=True)
    return np.concatenate(outputs), model.task.joined(targets)


def sampled(model, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Batches of outputs and targets as two arrays: of maps those of some pixels, of other outputs everything."""
    return together(model, (model.task.sample(*batch) for batch in batches))


class Part(keras.Model):
    """A network made of an ensemble's own layers, such as that of its members, which predicts with the same checks.

    Args:
        ensemble: Whose incidents its steps note in.
        inputs, outputs, name: As `keras.Model` takes them.
    """

    def __init__(self, ensemble, inputs, outputs, name: str):
        super().__init__(inputs, outputs, name=name)
        self.jit_compile = ensemble.jit_compile
        self.incidents, self.expects_raw_pixels = ensemble.incidents, ensemble.expects_raw_pixels

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        return predict(self, super().predict, x, batch_size, steps, verbose=verbose, callbacks=callbacks)

    def predict_on_batch(self, x):
        return predict_on_batch(self, super().predict_on_batch, x)

    def predict_step(self, *state_and_data):
        return predict_step(self, super().predict_step, *state_and_data)


def check_member_logits(model, member_logits) -> None:
    """Raises `ValueError` where what should be the outputs of a model's members has another shape."""
    expected, shape = tuple(model._member_logits.shape[1:]), np.shape(member_logits)
    ends = (expected[0], expected[-1])
    is_sample = len(shape) == len(expected) + 1 == 5 and (shape[1], shape[-1]) == ends  # maps of some pixels
    if shape[1:] != expected and not is_sample:
        raise ValueError(f"`member_logits` must be (n, {', '.join(map(str, expected))}), got shape {shape}.")
