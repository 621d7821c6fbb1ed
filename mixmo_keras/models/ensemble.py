"""What every ensemble can do, a MixMo network or several: train, predict, calibrate and export.

The checks are functions: `training.data_checks` of a user's data, `training.predicting` of images and answers.
"""

import types
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from mixmo_keras import keras_internals, multiplexing
from mixmo_keras.common import numbering
from mixmo_keras.models import saving, temperatures
from mixmo_keras.networks import fusing
from mixmo_keras.networks.member_average import MemberAverage
from mixmo_keras.networks.views import averaged, views_of
from mixmo_keras.serving import formats
from mixmo_keras.tasks import Task
from mixmo_keras.training import (
    compiling,
    data_checks,
    distribution,
    incidents,
    interruptions,
    losses,
    one_pass,
    precision,
    predicting,
    user_metrics,
)

EVALUATED_AT_ONCE = 256  # images: in evaluation nothing depends on it but speed and memory


class Ensemble(keras.Model):
    """A functional model from raw pixels to an ensemble's outputs, whose members can be asked too.

    Of classes the outputs are logits, and so they are called; `task` says what they are. Subclasses set the attributes
    below, and `_member_logits`, the symbolic output of the members.

    Attributes:
        image_shape: (H, W, C).
        task: What is predicted.
        num_members: M.
        trained_with_flips: Whether training showed mirror images, as far as the augmentation says.
        average: The layer that makes the output of the members' outputs, such as a `MemberAverage`.
        class_names: The names of the classes in the outputs' order, saved with the model; `None` where nobody said them.
            Recipes do, and `fit` on a dataset that has some: `datasets.load` or Keras' of a folder.
        expects_raw_pixels: Whether pixels should run from 0 to 255.
        incidents: Where steps note what is wrong with a dataset's values.
    """

    image_shape: tuple[int, int, int]
    task: Task
    num_members: int
    trained_with_flips: bool
    average: MemberAverage
    class_names: tuple[str, ...] | None = None
    expects_raw_pixels: bool
    incidents: incidents.Incidents

    @property
    def num_classes(self) -> int:
        """K, of a model whose task is `Classification(K)`."""
        if (reason := self.task.why_only_classes()) is None:
            return self.task.num_classes  # type: ignore[attr-defined]
        raise AttributeError(f"{self.name} has no `num_classes`: {reason}.")

    # -- what Keras users call -------------------------------------------------------------------------------------------

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
            ValueError: targets of another task, such as labels out of range, wrong shapes, NaN pixels, an empty dataset or
                one without end.
            FloatingPointError: the loss, or the weights, became NaN or infinite.
        """
        data_checks.check_fit(self, x, y, sample_weight, epochs, batch_size, steps_per_epoch, options)
        self.task.check_fit(options)
        self.task.prepare(self, x, y, steps_per_epoch)
        compiling.follow_trainable(self)
        compiling.follow_labels(self, x, y, options.get("validation_data"))
        numbering.note(self, x)
        if data_checks.is_dataset(x) or isinstance(x, types.GeneratorType):
            options.setdefault("shuffle", False)  # these come in an order of their own; Keras warns of its own default
        options |= dict(sample_weight=sample_weight, steps_per_epoch=steps_per_epoch)
        precision.warn_if_emulated(self.dtype_policy)
        x, of_data = one_pass.watched_in_fit(self, x, epochs, steps_per_epoch, options)
        callbacks = compiling.with_own_callbacks(self, callbacks, options, of_data)
        if self.compiled and isinstance(callbacks, list):
            compiling.check_callbacks(self, callbacks)
        options |= dict(batch_size=batch_size, epochs=epochs, verbose=verbose, callbacks=callbacks)
        with interruptions.undone(self, callbacks), keras_internals.passes_end_at_once():
            return super().fit(x, y, **options)

    def evaluate(
        self, x=None, y=None, batch_size=None, verbose="auto", sample_weight=None, steps=None, callbacks=None, **options
    ):
        """The ensemble's loss and metrics, as `keras.Model.evaluate`. Data are checked as in training."""
        data_checks.check_count("batch_size", batch_size)
        data_checks.check_count("steps", steps)
        self._check_data(x, y, sample_weight, "evaluate", steps)
        options |= dict(sample_weight=sample_weight, steps=steps)
        callbacks = compiling.with_own_callbacks(self, callbacks)
        x, _ = one_pass.watched(x, self.image_shape)
        with interruptions.undone(self, callbacks), keras_internals.passes_end_at_once():
            return super().evaluate(x, y, batch_size=batch_size, verbose=verbose, callbacks=callbacks, **options)

    def train_on_batch(self, x, y=None, sample_weight=None, **options):
        """One step on a batch, as `keras.Model.train_on_batch`. Data are checked as in `fit`."""
        self._check_data(x, y, sample_weight, "train_on_batch")
        self.task.check_prepared(self)
        compiling.follow_trainable(self)
        with interruptions.undone(self), incidents.watching_pixels(self):
            logs = super().train_on_batch(x, y, sample_weight, **options)
            incidents.raise_incidents(self)
        return logs

    def test_on_batch(self, x, y=None, sample_weight=None, **options):
        """Loss and metrics on a batch, as `keras.Model.test_on_batch`. Data are checked as in `fit`."""
        self._check_data(x, y, sample_weight, "test_on_batch")
        with interruptions.undone(self), incidents.watching_pixels(self):
            return super().test_on_batch(x, y, sample_weight, **options)

    def _check_data(self, x, y, sample_weight, verb: str, steps: int | None = None) -> None:
        data_checks.check(self, x, y, sample_weight, verb, steps=steps)
        compiling.follow_labels(self, x, y)

    def compile(self, *arguments, **options):
        """As `keras.Model.compile`."""
        user_metrics.check(options.get("metrics"), options.get("weighted_metrics"))
        self._form_in_metrics = self._rank_of_labels = None  # new metrics, which have seen no labels yet
        self._trained = None  # the weights that a step trains
        super().compile(*arguments, **options)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The ensemble's loss on its outputs (n, ...), as `evaluate` needs it. Training has `objective`."""
        data_checks.check_shapes(x, y, self.image_shape, self.task, sample_weight)
        losses.check_labels(self.loss, y, y_pred.shape[-1])
        incidents.note(self, 0, x, y, sample_weight)
        return super().compute_loss(x, self.task.canonical(y), y_pred, sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """As `keras.Model.compute_metrics`, with targets in the form that the metrics saw first: Keras' keep to it."""
        y, self._form_in_metrics = self.task.in_form(y, self._form_in_metrics)
        user_metrics.update(self, y, y_pred, sample_weight)
        return self.get_metrics_result()

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None, views=1):
        """The ensemble's logits (n, K), as `keras.Model.predict`.

        Args:
            x, batch_size, verbose, steps, callbacks: As there.
            views: 1; 2 for the mean of each member's logits over an image and its mirror image; 6 for those and both
                shifted by a pixel two ways. An answer costs as many passes.

        Raises:
            ValueError: images of another shape, NaN or infinite pixels in an array, no image, a dataset without end.
            FloatingPointError: answers that are NaN, of a dataset's images that hold such pixels, or of such weights.

        Warns:
            UserWarning: pixels that don't run from 0 to 255, such as from 0 to 1 or to 65,535, of a model that normalises;
                but under several workers, which would have to ask together. Views of a model that was trained without flips.
        """
        if views != 1:
            return self.pooled(self.predict_members(x, batch_size, verbose, steps, callbacks, views))
        return predicting.predict(self, super().predict, x, batch_size, steps, verbose=verbose, callbacks=callbacks)

    def predict_on_batch(self, x):
        """The answers to a batch of images, as `keras.Model.predict_on_batch`. Images are checked as in `predict`."""
        return predicting.predict_on_batch(self, super().predict_on_batch, x)

    def predict_step(self, *state_and_data):
        return predicting.predict_step(self, super().predict_step, *state_and_data)

    def count_params(self) -> int:
        """Number of parameters, as `keras.Model.count_params`, less what calibration fits, which is kept as weights."""
        return super().count_params() - self.average.count_params()

    save, save_weights, quantize = saving.save, saving.save_weights, saving.refuse_to_quantize

    # -- members -------------------------------------------------------------------------------------------------------

    def _members(self, views: int = 1) -> keras.Model:
        """The same network with the members' logits as its output, means over the views of each image."""

        def connect():
            network = averaged(keras.Model(self.inputs[0], self._member_logits, name="network"), views)
            return network.inputs[0], network.outputs[0]

        return self._other_network("members" if views == 1 else f"members_{views_of(self, views)}", connect)

    def _other_network(self, name: str, connect: Callable[[], tuple]) -> keras.Model:
        """A network of this model's own layers, kept from call to call; `connect` gives its inputs and its logits."""
        if f"__{name}" not in self.__dict__:
            with distribution.scope(self):
                inputs, logits = connect()
                network = predicting.Part(self, inputs, ops.cast(logits, "float32"), name=f"{self.name}_{name}")
            self.__dict__[f"__{name}"] = network  # past Keras' tracking and saving: its layers are this model's own
        return self.__dict__[f"__{name}"]

    def predict_members(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None, views=1):
        """Logits of every member (n, M, K) as a NumPy array; arguments as in `predict`. The temperature is not in them."""
        return self._members(views).predict(x, batch_size=batch_size, verbose=verbose, steps=steps, callbacks=callbacks)

    def predict_with_labels(
        self, x, y=None, batch_size: int = EVALUATED_AT_ONCE, steps: int | None = None, views: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logits of every member (n, M, K) and labels (n,), of images and labels or of batches of them.

        Of another task than classes, the members' outputs (n, M, ...) and targets.

        One pass over the data, so that a shuffled dataset keeps images and labels together.

        Args:
            x: Images (n, H, W, C); or batches of (images, labels), a dataset or any that can be iterated. Batches may have
                sample weights too, which are about training: here all images count alike.
            y: Targets, if x is images; of classes (n,), (n, 1) or one-hot (n, K), which may be stored as floats.
            batch_size: Of images.
            steps: Number of batches to take. Defaults to all; of data of unknown length many are warned of.
            views: As in `predict`.

        Raises:
            ValueError: no image, images of another shape, a dataset without end, labels that the model has no class for, a
                dataset whose `class_names` are in another order than the model's.
            FloatingPointError: logits that are not finite.

        Warns:
            UserWarning: as `predict` does.
        """
        return predicting.together(self, self.outputs_by_batch(x, y, batch_size, steps, views))

    def outputs_by_batch(self, x, y, batch_size: int, steps: int | None, views: int = 1):
        """The outputs and targets of `predict_with_labels` batch by batch, for what does not keep them."""
        numbering.check(self, x)
        with incidents.watching_pixels(self, stacklevel=7):
            batches = data_checks.labelled_batches(x, y, batch_size, steps)
            yield from predicting.outputs_by_batch(self, batches, views)

    # -- several images a pass -------------------------------------------------------------------------------------------

    def why_not_multiplexed(self) -> str | None:
        """Why members can't be shown an image each at inference, as in `MixMo.predict_multiplexed`; `None` if they can."""
        return multiplexing.why_not(self)

    def multiplexed(self) -> keras.Model:
        """A copy for inference of M images a pass: images (n, H, W, C), any n, to logits (n, K) with their temperature.

        The same answers as `MixMo.predict_multiplexed` gives to each batch.
        """
        multiplexing.check(self)
        multiplexing.warn_where_little_trained(self)
        return multiplexing.fused(self)

    # -- temperature -----------------------------------------------------------------------------------------------------

    @property
    def temperature(self) -> float:
        """T by which the ensemble's logits are divided; 1 unless calibrated or set. A variable, saved with the weights."""
        return self.average.temperature

    @temperature.setter
    def temperature(self, value: float):
        self.average.temperature = value

    def calibrate(
        self,
        x,
        y=None,
        batch_size: int = EVALUATED_AT_ONCE,
        temperature_applies_to: str | None = None,
        label_noise: float | str | None = None,
        multiplexed: bool | None = None,
        *,
        steps: int | None = None,
    ) -> float:
        """Fits the temperature on held-out data, sets it where it helps, and returns the model's.

        The rule of evaluations holds (`models.temperatures`): of fewer than 50 images (10 of label maps), or where each half
        of the data has a higher NLL under the other half's temperature than without, it stays as it is, and a warning is
        logged. Thresholds of labels and intervals of numbers are fitted on any number of images that they can be.

        Args:
            x, y, batch_size, steps: As in `predict_with_labels`: validation data, never the test set.
            temperature_applies_to: `"ensemble"` divides the pooled logits by T ("pool, then calibrate"; Rahaman and Thiery,
                2021), `"members"` each member's before pooling, which is another thing where probabilities are averaged.
                Defaults to what the model has.
            label_noise: The rate of the labels that were drawn anew among all classes, if some are wrong, or
                `"estimate"`: the temperature fits the right ones then (`calibration.fit_temperature_under_noise`), where it
                is the ensemble's. Defaults to labels that are right.
            multiplexed: Whether to fit `MixMo.multiplexed_temperature` beside it, on images whose partners are drawn at
                random: 1/M passes more. Defaults to whether the model can answer several images a pass.
        """
        return temperatures.calibrate(self, x, y, batch_size, temperature_applies_to, label_noise, multiplexed, steps)

    def calibrate_on(
        self,
        member_logits,
        labels,
        temperature_applies_to: str | None = None,
        label_noise: float | str | None = None,
    ) -> float:
        """Fits the temperature on what `predict_with_labels` gave, sets it whether it helps or not, and returns it."""
        temperatures.fit_on(self, member_logits, labels, temperature_applies_to, label_noise)
        self.task.fit_answers(self.average, member_logits, labels)
        return self.temperature

    def apply_temperature_to(self, applies_to: str) -> None:
        """Sets what the temperature divides, `"ensemble"` or `"members"`, as in `calibrate`."""
        if applies_to != self.average.temperature_applies_to:  # which is in the graphs traced so far
            self.average.temperature_applies_to = applies_to
            self.predict_function = self.test_function = self.train_function = None

    def pooled(self, member_logits, calibrated: bool = True) -> np.ndarray:
        """The ensemble's outputs (n, ...) from its members' (n, M, ...), with or without the temperature."""
        predicting.check_member_logits(self, member_logits)
        logits = ops.convert_to_tensor(member_logits, "float32")
        return ops.convert_to_numpy(self.average(logits) if calibrated else self.average.pool(logits))

    def figures(self, x, y=None, batch_size: int = EVALUATED_AT_ONCE, steps: int | None = None) -> dict[str, Any]:
        """All figures of the model's task on data (as in `predict_with_labels`): of the `ensemble` and of its `members`."""
        return self.task.figures_of_batches(self.average, self.outputs_by_batch(x, y, batch_size, steps))

    # -- inference and serving -------------------------------------------------------------------------------------------

    def fused(self, members: bool = False) -> keras.Model:
        """A copy for inference at the single network's price: encoders merged into one, and heads. See `fusing.fused`."""
        return fusing.fused(self, members)

    def answers(self, x, batch_size=None) -> dict[str, np.ndarray]:
        """What an exported model would serve of images, by name: of classes probabilities, label, confidence, ...

        Args:
            x, batch_size: As in `predict`.
        """
        member_outputs = ops.convert_to_tensor(self.predict_members(x, batch_size, verbose=0))
        served = self.task.served(member_outputs, self.average)
        return {name: ops.convert_to_numpy(values) for name, values in served.items()}

    def export(
        self,
        filepath,
        format="tf_saved_model",
        class_names=None,
        card=None,
        overwrite=False,
        verbose=False,
        multiplexed=False,
        max_pixels=None,
        views=1,
        **options,
    ):
        """Writes the ensemble for serving: `mixmo_keras.export.export` says what a SavedModel takes and gives.

        Args:
            filepath: The folder of a version, such as `saved_models/cifar100/1`, or of all, for the next; the file for other
                formats.
            format: `"tf_saved_model"`; Keras' others (`"onnx"`, `"litert"`, ...) give the ensemble's logits, of the fused
                network.
            class_names: Of the K classes, or of what else the task predicts, for a SavedModel.
            card: Sections of a SavedModel's model card.
            overwrite: Whether an existing SavedModel, or file of the format's kind, may be replaced.
            verbose: Whether Keras prints what it writes.
            multiplexed: Whether other formats give the logits of M images a pass. A SavedModel has both signatures.
            max_pixels: Of an encoded image that a SavedModel decodes, at most; defaults to 2²⁶.
            views: As in `predict`: answers are means over so many views of each image, and cost as many passes. Those of M
                images a pass stay of one view.
            **options: Of `keras.Model.export`, for the other formats. For LiteRT also `quantize="int8"`, with
                `representative` training images (n, H, W, C) of raw pixels, some hundred: weights and activations in 8 bits.

        Returns:
            The path of what was written.

        Raises:
            FileExistsError: it exists and `overwrite` is not set.
            OSError: it can't be written.
            ValueError: what exists is of another kind; arguments of other formats; NaN or infinite weights.
        """
        return formats.export(
            self, filepath, format, class_names, card, overwrite, verbose, multiplexed, max_pixels, views, **options
        )
