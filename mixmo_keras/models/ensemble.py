"""What every ensemble can do, a MixMo network or several."""

from collections.abc import Callable, Iterable
from pathlib import Path

import keras
import numpy as np
from keras import ops

from mixmo_keras.common import arguments
from mixmo_keras.metrics import calibration
from mixmo_keras.metrics.pooling import average
from mixmo_keras.models.checked_calls import CheckedCalls, CheckedPredict
from mixmo_keras.networks import fusing
from mixmo_keras.networks.member_average import TEMPERATURE_APPLIES_TO, MemberAverage
from mixmo_keras.serving import versions
from mixmo_keras.training import checks, data_checks, distribution

EVALUATED_AT_ONCE = 256  # images: in evaluation nothing depends on it but speed and memory


class Ensemble(CheckedCalls):
    """A functional model from raw pixels to an ensemble's logits, whose members can be asked too.

    Subclasses set `average` (the `MemberAverage` that makes the output of member logits), `num_members`, and
    `_member_logits`, the symbolic output of the members; and what `CheckedCalls` needs.
    """

    average: MemberAverage
    num_members: int

    # -- members -------------------------------------------------------------------------------------------------------

    def _members(self) -> keras.Model:
        """The same network with the members' logits as its output."""
        return self._other_network("members", lambda: (self.inputs[0], self._member_logits))

    def _other_network(self, name: str, connect: Callable[[], tuple]) -> keras.Model:
        """A network of this model's own layers, kept from call to call; `connect` gives its inputs and its logits."""
        if f"__{name}" not in self.__dict__:
            with distribution.scope(self):
                inputs, logits = connect()
                network = CheckedPredict(inputs, ops.cast(logits, "float32"), name=f"{self.name}_{name}")
            network.jit_compile = self.jit_compile
            network.incidents, network.expects_raw_pixels = self.incidents, self.expects_raw_pixels
            self.__dict__[f"__{name}"] = network  # past Keras' tracking and saving: its layers are this model's own
        return self.__dict__[f"__{name}"]

    def predict_members(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        """Logits of every member (n, M, K) as a NumPy array; arguments as in `predict`. The temperature is not in them."""
        return self._members().predict(x, batch_size=batch_size, verbose=verbose, steps=steps, callbacks=callbacks)

    def predict_with_labels(
        self, x, y=None, batch_size: int = EVALUATED_AT_ONCE, steps: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logits of every member (n, M, K) and labels (n,), of images and labels or of batches of them.

        One pass over the data, so that a shuffled dataset keeps images and labels together.

        Args:
            x: Images (n, H, W, C); or batches of (images, labels), a dataset or any that can be iterated. Batches may have
                sample weights too, which are about training: here all images count alike.
            y: Labels, if x is images: (n,), (n, 1) or one-hot (n, K), which may be stored as floats.
            batch_size: Of images.
            steps: Number of batches to take. Defaults to all; of data of unknown length many are warned of.

        Raises:
            ValueError: no image, images of another shape, a dataset without end, labels that the model has no class for.
            FloatingPointError: logits that are not finite.

        Warns:
            UserWarning: as `predict` does.
        """
        with checks.watching_pixels(self):
            return self._logits_and_labels(iterate(x, y, batch_size, steps))

    def _logits_and_labels(self, batches: Iterable[tuple]) -> tuple[np.ndarray, np.ndarray]:
        """`predict_with_labels` of batches of (images, labels)."""
        logits, labels = [], []
        for images, of_images in batches:
            images = check_images(images, self.image_shape)
            labels.append(arguments.labels("labels", of_images, self.num_classes, len(images)))
            logits.append(np.asarray(self._members().predict_on_batch(images)))
        if not logits:
            raise ValueError("The dataset is empty.")
        member_logits = np.concatenate(logits)
        broken = ~np.isfinite(member_logits).all(axis=(1, 2))
        if broken.any():
            raise FloatingPointError(f"{broken.sum()} of {len(broken)} images have NaN logits.")
        return member_logits, np.concatenate(labels)

    def count_params(self) -> int:
        """Number of parameters, as `keras.Model.count_params`, less the temperature: a setting that is kept as a weight."""
        return super().count_params() - len(self.average.weights)  # a scalar

    # -- M images a pass ---------------------------------------------------------------------------------------------------

    def why_not_multiplexed(self) -> str | None:
        """Why members can't be shown an image each at inference, as in `MixMo.predict_multiplexed`; `None` if they can."""
        return "it is several networks, each of which needs its own pass: multiplex one of them"

    def check_multiplexed(self) -> None:
        """Raises `ValueError` where members can't be shown an image each."""
        if reason := self.why_not_multiplexed():
            raise ValueError(f"{self.name} can't answer several images in one pass: {reason}.")

    def multiplexed(self) -> keras.Model:
        """A copy for inference of M images a pass: images (n, H, W, C), any n, to logits (n, K) with their temperature.

        The same answers as `MixMo.predict_multiplexed` gives to each batch.
        """
        self.check_multiplexed()
        return fusing.multiplexed(self)

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
        *,
        steps: int | None = None,
    ) -> float:
        """Fits the temperature on held-out data, sets it and returns it.

        Args:
            x, y, batch_size, steps: As in `predict_with_labels`: validation data, never the test set.
            temperature_applies_to: `"ensemble"` divides the pooled logits by T ("pool, then calibrate"; Rahaman and Thiery,
                2021), `"members"` each member's before pooling, which is another thing where probabilities are averaged.
                Defaults to what the model has.
            label_noise: The rate of the labels that were drawn anew among all classes, if some are wrong, or
                `"estimate"`: the temperature fits the right ones then (`calibration.fit_temperature_under_noise`), where it
                is the ensemble's. Defaults to labels that are right.
        """
        member_logits, labels = self.predict_with_labels(x, y, batch_size, steps)
        return self.calibrate_on(member_logits, labels, temperature_applies_to, label_noise)

    def calibrate_on(
        self,
        member_logits,
        labels,
        temperature_applies_to: str | None = None,
        label_noise: float | str | None = None,
    ) -> float:
        """As `calibrate`, from what `predict_with_labels` gave."""
        self._check_member_logits(member_logits)
        if temperature_applies_to is None:
            temperature_applies_to = self.average.temperature_applies_to
        arguments.choice("temperature_applies_to", temperature_applies_to, TEMPERATURE_APPLIES_TO)
        of_members = temperature_applies_to == "members" and self.average.averaging == "probabilities"
        if label_noise is not None and of_members:
            raise ValueError(
                "A temperature under `label_noise` is the ensemble's: pass temperature_applies_to='ensemble'."
            )
        if of_members:
            temperature = calibration.fit_member_temperature(member_logits, labels)
        else:
            temperature = fit_temperature(self.pooled(member_logits, calibrated=False), labels, label_noise)
        self.temperature = temperature
        if temperature_applies_to != self.average.temperature_applies_to:  # which is in the graphs traced so far
            self.average.temperature_applies_to = temperature_applies_to
            self.predict_function = self.test_function = self.train_function = None
        return self.temperature

    def pooled(self, member_logits, calibrated: bool = True) -> np.ndarray:
        """The ensemble's logits (n, K) from its members' (n, M, K), with or without the temperature."""
        self._check_member_logits(member_logits)
        logits = ops.convert_to_tensor(member_logits, "float32")
        return ops.convert_to_numpy(self.average(logits) if calibrated else average(logits, self.average.averaging))

    def _check_member_logits(self, member_logits) -> None:
        expected, shape = (self.num_members, self.num_classes), np.shape(member_logits)
        if len(shape) != 3 or shape[1:] != expected:
            raise ValueError(f"`member_logits` must be (n, {expected[0]}, {expected[1]}), got shape {shape}.")

    # -- inference and serving -------------------------------------------------------------------------------------------

    def fused(self, members: bool = False) -> keras.Model:
        """A copy for inference at the single network's price: encoders merged into one, and heads. See `fusing.fused`."""
        return fusing.fused(self, members)

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
        **options,
    ):
        """Writes the ensemble for serving: `mixmo_keras.export.export` says what a SavedModel takes and gives.

        Args:
            filepath: The folder of a version, such as `saved_models/cifar100/1`, or of all, for the next; the file for other
                formats.
            format: `"tf_saved_model"`; Keras' others (`"onnx"`, `"litert"`, ...) give the ensemble's logits, of the fused
                network.
            class_names: Of the K classes, for a SavedModel.
            card: Sections of a SavedModel's model card.
            overwrite: Whether an existing SavedModel, or file of the format's kind, may be replaced.
            verbose: Whether Keras prints what it writes.
            multiplexed: Whether other formats give the logits of M images a pass, of `multiplexed()`, in place of the
                ensemble's. A SavedModel has both, each as a signature.
            max_pixels: Of an encoded image that a SavedModel decodes, at most; defaults to 2²⁶.
            **options: Of `keras.Model.export`, for the other formats.

        Returns:
            The path of what was written.

        Raises:
            FileExistsError: it exists and `overwrite` is not set.
            OSError: it can't be written.
            ValueError: what exists is of another kind; arguments of other formats; NaN or infinite weights.
        """
        if name := checks.unsound_weight(self):
            raise ValueError(f"The model's weights must be finite to be exported, got NaN or infinite ones in {name}.")
        if format != "tf_saved_model":
            given = dict(class_names=class_names, card=card, max_pixels=max_pixels)
            if unused := [f"`{name}`" for name, value in given.items() if value]:
                raise ValueError(f"{', '.join(unused)} applies to format='tf_saved_model', got format={format!r}.")
            with versions.replacing_file(filepath, format, arguments.boolean("overwrite", overwrite)) as path:
                network = self.multiplexed() if arguments.boolean("multiplexed", multiplexed) else self.fused()
                network(np.zeros((1, *self.image_shape), "float32"))  # Keras exports what was called before only
                network.export(str(path), format=format, verbose=verbose, **options)
            return Path(filepath)
        if multiplexed:
            raise ValueError("`multiplexed` is for other formats: a SavedModel has both signatures.")
        if options:
            raise ValueError(f"Options not used by format='tf_saved_model': {', '.join(options)}.")
        from mixmo_keras.serving.export import export  # needs TensorFlow

        limit = {} if max_pixels is None else {"max_pixels": max_pixels}
        return export(self, filepath, class_names, card, overwrite=overwrite, verbose=verbose, **limit)


def fit_temperature(logits, labels, label_noise: float | str | None = None) -> float:
    """The temperature of logits (n, K) on labels of which none are wrong, a share of them, or one that is estimated too."""
    if label_noise is None:
        return calibration.fit_temperature(logits, labels)
    if label_noise == "estimate":
        return calibration.fit_temperature_under_noise(logits, labels)[0]
    rate = arguments.number("label_noise", label_noise, least=0, below=1, otherwise=', "estimate" or None')
    return calibration.fit_temperature_under_noise(logits, labels, rate)[0]


def check_images(images, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Images as an array. Raises `ValueError` for another shape than the network's, or pixels that are no numbers."""
    images = images if hasattr(images, "shape") else np.asarray(images)
    data_checks.check_image_shape(images, image_shape)
    data_checks.check_pixels(images)
    return np.asarray(images)


def iterate(x, y=None, batch_size: int = EVALUATED_AT_ONCE, steps: int | None = None):
    """Batches of (images, labels), of arrays; or those of a dataset, less their weights. The first `steps` of them."""
    data_checks.check_count("steps", steps)
    if y is not None:
        x, y = (values if hasattr(values, "shape") else np.asarray(values) for values in (x, y))
        if len(x) != len(y):
            raise ValueError(f"There are {len(y)} labels for {len(x)} images.")
        starts = range(0, len(y), arguments.integer("batch_size", batch_size, least=1))
        return ((x[start : start + batch_size], y[start : start + batch_size]) for start in starts[:steps])
    expected = "`x` must be images beside labels `y`, or batches of (images, labels)"
    if hasattr(x, "shape"):
        raise ValueError(f"Labels are missing: {expected}, got images of shape {tuple(x.shape)} alone.")
    if isinstance(x, str) or not hasattr(x, "__iter__"):
        raise ValueError(f"{expected}, got {x!r}.")
    data_checks.check_ends(x, "this", steps=steps, steps_name=None)
    return map(_images_and_labels, data_checks.batches_of(x, steps))


def _images_and_labels(batch) -> tuple:
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        got = f"a {type(batch).__name__}" + (f" of {len(batch)}" if isinstance(batch, (tuple, list)) else "")
        raise ValueError(f"Batches must be (images, labels) or (images, labels, sample weights), got {got}.")
    return batch[0], batch[1]
