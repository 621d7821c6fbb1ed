"""What Keras users call, `fit`, `evaluate`, `predict` and the like, with checks of what it is called with."""

import types

import keras
import numpy as np
from keras import ops

from mixmo_keras.common import arguments
from mixmo_keras.training import checks, compiling, data_checks, distribution, losses, steps


class CheckedPredict(keras.Model):
    """A Keras model of images that refuses those of other shapes or with pixels that are no numbers, however they come.

    It predicts even where a batch has too few images for all replicas, and warns of images in other units than it
    `expects_raw_pixels`, which steps note in its `incidents`, if it has some.
    """

    incidents: checks.Incidents | None = None
    expects_raw_pixels: bool = False

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        """The answers to images, as `keras.Model.predict`.

        Raises:
            ValueError: images of another shape, NaN or infinite pixels in an array, no image, a dataset without end.
            FloatingPointError: answers that are NaN, of a dataset's images that hold such pixels, or of such weights.

        Warns:
            UserWarning: pixels that don't run from 0 to 255, such as from 0 to 1 or to 65,535, of a model that normalises;
                but under several workers, which would have to ask together.
        """
        data_checks.check_count("batch_size", batch_size)
        data_checks.check_count("steps", steps)
        data_checks.check_images_given(x, self.input_shape[1:], "predict", steps)
        with checks.watching_pixels(self):
            answers = super().predict(x, batch_size=batch_size, verbose=verbose, steps=steps, callbacks=callbacks)
        if broken := int(np.isnan(answers).reshape(len(answers), -1).any(-1).sum()):
            raise FloatingPointError(
                f"{broken} of {len(answers)} answers are NaN: their images hold NaN or infinite pixels, or the model such "
                "weights."
            )
        return answers

    def predict_on_batch(self, x):
        """The answers to a batch of images, as `keras.Model.predict_on_batch`. Images are checked as in `predict`."""
        data_checks.check_images_given(x, self.input_shape[1:], "predict_on_batch")
        with checks.watching_pixels(self):
            if distribution.num_replicas(self) > 1:  # Keras would give the whole batch to each, and all their answers
                return self.predict(x, batch_size=len(x), verbose=0)
            return super().predict_on_batch(x)

    def predict_step(self, *state_and_data):
        images, _, _ = keras.utils.unpack_x_y_sample_weight(state_and_data[-1])
        data_checks.check_image_shape(images, self.input_shape[1:])
        if self.expects_raw_pixels and (incidents := self.incidents) is not None:
            state_and_data = steps.noting(self, lambda: incidents.note_pixels(images), *state_and_data)
        if distribution.num_replicas(self) > 1:
            answers, *state = [steps.predict_step(super().predict_step, *state_and_data)]
        elif len(state_and_data) > 1:  # JAX
            answers, *state = super().predict_step(*state_and_data)
        else:
            answers, *state = [super().predict_step(*state_and_data)]
        if data_checks.is_floating(images):  # on CPUs ReLU makes 0 of NaN, and of a broken image a plausible answer
            broken = ops.any(ops.logical_not(ops.isfinite(images)), axis=tuple(range(1, len(images.shape))))
            broken = ops.reshape(broken, (-1, *[1] * (len(answers.shape) - 1)))
            answers = ops.where(broken, ops.cast(float("nan"), answers.dtype), answers)
        return (answers, *state) if state else answers


class CheckedCalls(CheckedPredict):
    """The same for what takes labels too.

    Subclasses set `image_shape` and `num_classes`, `incidents`, where steps note what is wrong with a dataset's values, and
    `expects_raw_pixels`.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    incidents: checks.Incidents

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        *,
        sample_weight=None,
        steps_per_epoch=None,
        **options,
    ):
        """Trains the ensemble, as `keras.Model.fit`. `batch_size` counts images; a step has `batch_repetitions` rows each.

        Raises:
            ValueError: labels out of range, wrong shapes, NaN pixels, an empty dataset or one without end.
            FloatingPointError: the loss, or the weights, became NaN or infinite.
        """
        arguments.integer("epochs", epochs, least=1)
        arguments.integer("initial_epoch", options.get("initial_epoch", 0), least=0)
        data_checks.check_count("batch_size", batch_size)
        data_checks.check_count("steps_per_epoch", steps_per_epoch)
        self._check_data(x, y, sample_weight, "fit", "", steps_per_epoch, "steps_per_epoch")
        if (validation := options.get("validation_data")) is not None:
            if isinstance(validation, (tuple, list)):
                images, labels, weights = keras.utils.unpack_x_y_sample_weight(tuple(validation))
            else:
                images, labels, weights = validation, None, None
            steps = options.get("validation_steps")
            self._check_data(images, labels, weights, "fit", "validation ", steps, "validation_steps")
        if data_checks.is_dataset(x) or isinstance(x, types.GeneratorType):
            options.setdefault("shuffle", False)  # these come in an order of their own; Keras warns of its own default
        options |= dict(sample_weight=sample_weight, steps_per_epoch=steps_per_epoch)
        callbacks = compiling.with_own_callbacks(self, callbacks)
        if self.compiled and isinstance(callbacks, list):
            compiling.check_callbacks(self, callbacks)
        return super().fit(x, y, batch_size=batch_size, epochs=epochs, verbose=verbose, callbacks=callbacks, **options)

    def evaluate(
        self, x=None, y=None, batch_size=None, verbose="auto", sample_weight=None, steps=None, callbacks=None, **options
    ):
        """The ensemble's loss and metrics, as `keras.Model.evaluate`. Data are checked as in training."""
        data_checks.check_count("batch_size", batch_size)
        data_checks.check_count("steps", steps)
        self._check_data(x, y, sample_weight, "evaluate", "", steps)
        options |= dict(sample_weight=sample_weight, steps=steps)
        callbacks = compiling.with_own_callbacks(self, callbacks)
        return super().evaluate(x, y, batch_size=batch_size, verbose=verbose, callbacks=callbacks, **options)

    def train_on_batch(self, x, y=None, sample_weight=None, **options):
        """One step on a batch, as `keras.Model.train_on_batch`. Data are checked as in `fit`."""
        self._check_data(x, y, sample_weight, "train_on_batch")
        with checks.watching_pixels(self):
            logs = super().train_on_batch(x, y, sample_weight, **options)
            checks.raise_incidents(self)
        return logs

    def test_on_batch(self, x, y=None, sample_weight=None, **options):
        """Loss and metrics on a batch, as `keras.Model.test_on_batch`. Data are checked as in `fit`."""
        self._check_data(x, y, sample_weight, "test_on_batch")
        with checks.watching_pixels(self):
            return super().test_on_batch(x, y, sample_weight, **options)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The ensemble's loss on (n, K) logits, as `evaluate` needs it. Training has `objective`."""
        data_checks.check_shapes(x, y, self.image_shape, self.num_classes, sample_weight)
        checks.note(self, 0, x, y, sample_weight)
        return super().compute_loss(x, losses.squeezed(y), y_pred, sample_weight, training)

    def compile(self, *arguments, **options):
        """As `keras.Model.compile`."""
        self._metrics_see_integers = self._rank_of_labels = None  # new metrics, which have seen no labels yet
        super().compile(*arguments, **options)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """As `keras.Model.compute_metrics`, with labels in the form that the metrics saw first: Keras' keep to it."""
        integers = data_checks.integer_labels(y)
        if self._metrics_see_integers is None:
            self._metrics_see_integers = integers is not None
        if self._metrics_see_integers and integers is None:
            y = ops.argmax(y, axis=-1)
        elif integers is not None and not self._metrics_see_integers:
            y = ops.one_hot(ops.cast(integers, "int32"), self.num_classes)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def _check_data(self, x, y, sample_weight, verb, kind="", steps=None, steps_name="steps"):
        data_checks.check(x, y, self.image_shape, self.num_classes, verb, kind, sample_weight, steps, steps_name)
        rank = data_checks.rank_of_labels(x, y)
        if None not in (rank, self._rank_of_labels) and rank != self._rank_of_labels:
            # TensorFlow would trace the next step for labels of any rank, which no step can take
            self.train_function = self.test_function = None
        self._rank_of_labels = rank or self._rank_of_labels
