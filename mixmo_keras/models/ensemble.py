"""What every ensemble can do, a MixMo network or several: `Ensemble`; and several networks as one, `DeepEnsemble`."""

import contextlib

import keras
import numpy as np
from keras import ops

from mixmo_keras.metrics import calibration
from mixmo_keras.networks import fusing
from mixmo_keras.networks.member_average import MemberAverage
from mixmo_keras.training import losses, steps


class _Network(keras.Model):
    """A Keras model that predicts even where a batch has too few images for all replicas."""

    def predict_step(self, *state_and_data):
        if num_replicas(self) > 1:
            return steps.predict_step(super().predict_step, *state_and_data)
        return super().predict_step(*state_and_data)


class Ensemble(_Network):
    """A functional model from raw pixels to an ensemble's logits, whose members can be asked too.

    Subclasses set `average` (the `MemberAverage` that makes the output of member logits), `image_shape`, `num_classes` and
    `num_members`, and `_member_logits`, the symbolic output of the members.
    """

    average: MemberAverage
    image_shape: tuple[int, int, int]
    num_classes: int
    num_members: int

    # -- members -------------------------------------------------------------------------------------------------------

    def _members(self) -> keras.Model:
        """The same network with the members' logits as its output."""
        if "__members" not in self.__dict__:
            with strategy_scope(self):
                logits = ops.cast(self._member_logits, "float32")
                network = _Network(self.inputs, logits, name=f"{self.name}_members")
            network.jit_compile = self.jit_compile
            self.__dict__["__members"] = network  # past Keras' tracking and saving: its layers are this model's own
        return self.__dict__["__members"]

    def predict_members(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        """Logits of every member (n, M, K) as a NumPy array; arguments as in `predict`. The temperature is not in them."""
        return self._members().predict(x, batch_size=batch_size, verbose=verbose, steps=steps, callbacks=callbacks)

    def predict_with_labels(self, x, y=None, batch_size: int = 256) -> tuple[np.ndarray, np.ndarray]:
        """Logits of every member (n, M, K) and labels (n,), of images and labels or of a dataset of batches of them.

        One pass over the data, so that a shuffled dataset keeps images and labels together.

        Raises:
            ValueError: no image, images of another shape, labels that the model has no class for.
            FloatingPointError: logits that are not finite.
        """
        if y is None:
            batches = x.as_numpy_iterator() if hasattr(x, "as_numpy_iterator") else iter(x)
        else:
            places = range(0, len(y), batch_size)
            batches = ((x[place : place + batch_size], y[place : place + batch_size]) for place in places)
        found = []
        for images, labels in batches:
            if tuple(images.shape[1:]) != tuple(self.image_shape):
                raise ValueError(f"Images must be (n, {', '.join(map(str, self.image_shape))}), got {images.shape}.")
            if not np.isfinite(np.asarray(images)).all():
                raise ValueError(
                    "Images hold NaN or infinite pixels, which networks on a CPU turn into plausible answers."
                )
            labels = np.asarray(labels)
            labels = labels.argmax(-1) if labels.ndim == 2 and labels.shape[1] > 1 else labels.reshape(len(labels))
            if len(labels) and not (labels.min() >= 0 and labels.max() < self.num_classes):
                raise ValueError(
                    f"Labels from {labels.min()} to {labels.max()} don't fit a model of {self.num_classes} classes: is this "
                    "the dataset that it was trained on?"
                )
            found.append((np.asarray(self._members().predict_on_batch(images)), labels))
        if not found:
            raise ValueError("The dataset is empty.")
        logits, all_labels = (np.concatenate(parts) for parts in zip(*found, strict=True))
        if not np.isfinite(logits).all():
            raise FloatingPointError(
                f"{np.isnan(logits).any(axis=(1, 2)).sum()} of {len(logits)} images have NaN logits."
            )
        return logits, all_labels

    # -- temperature -----------------------------------------------------------------------------------------------------

    @property
    def temperature(self) -> float:
        """T by which the ensemble's logits are divided; 1 unless calibrated or set. Saved and exported with the model."""
        return self.average.temperature

    @temperature.setter
    def temperature(self, value: float):
        self._set_temperature(value, self.average.tempering)

    def _set_temperature(self, value: float, tempering: str):
        config = {**self.average.get_config(), "temperature": float(value), "tempering": tempering}
        MemberAverage.from_config(config)  # raises what is wrong
        self.average.temperature, self.average.tempering = float(value), tempering
        self.predict_function = self.test_function = self.train_function = None  # they have the old one inside

    def calibrate(self, x, y=None, batch_size: int = 256, tempering: str = "ensemble") -> float:
        """Fits the temperature on held-out data, sets it and returns it.

        Args:
            x: images (n, H, W, C), or a dataset of batches of (images, labels): validation data, never the test set.
            y: labels, if x is images.
            batch_size: of images.
            tempering: `"ensemble"` divides the pooled logits by T ("pool, then calibrate"; Rahaman and Thiery, 2021),
                `"members"` each member's before pooling, which is another thing where probabilities are averaged.
        """
        return self.calibrate_on(*self.predict_with_labels(x, y, batch_size), tempering)

    def calibrate_on(self, member_logits, labels, tempering: str = "ensemble") -> float:
        """As `calibrate`, from what `predict_with_labels` gave."""
        if tempering == "members" and self.average.averaging == "probabilities":
            temperature = calibration.fit_member_temperature(member_logits, labels)
        else:
            temperature = calibration.fit_temperature(self.pooled(member_logits, calibrated=False), labels)
        self._set_temperature(temperature, tempering)
        return temperature

    def pooled(self, member_logits, calibrated: bool = True) -> np.ndarray:
        """The ensemble's logits (n, K) from its members' (n, M, K), with or without the temperature."""
        average = self.average if calibrated else MemberAverage(self.average.averaging, dtype="float32")
        return ops.convert_to_numpy(average(ops.convert_to_tensor(member_logits, "float32")))

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
        **options,
    ):
        """Writes the ensemble for serving: `mixmo_keras.export.export` says what a SavedModel takes and gives.

        Args:
            filepath: the folder of a version, such as `saved_models/cifar100/1`, or of all, for the next; the file for other
                formats.
            format: `"tf_saved_model"`; Keras' others (`"onnx"`, `"litert"`, ...) give the ensemble's logits, of the fused
                network.
            class_names: of the K classes, for a SavedModel.
            card: sections of a SavedModel's model card.
            overwrite: whether an existing SavedModel may be replaced.
            verbose: whether Keras prints what it writes.
            **options: of `keras.Model.export`, for the other formats.
        """
        if format != "tf_saved_model":
            given = dict(class_names=class_names, card=card, overwrite=overwrite)
            if unused := [f"`{name}`" for name, value in given.items() if value]:
                raise ValueError(f"{', '.join(unused)} applies to format='tf_saved_model', got format={format!r}.")
            network = self.fused()
            network(np.zeros((1, *self.image_shape), "float32"))  # Keras exports what was called before only
            return network.export(filepath, format=format, verbose=verbose, **options)
        if options:
            raise ValueError(f"Options not used by format='tf_saved_model': {', '.join(options)}.")
        from mixmo_keras.serving.export import export  # needs TensorFlow

        return export(self, filepath, class_names, card, overwrite=overwrite, verbose=verbose)


@keras.saving.register_keras_serializable("mixmo_keras")
class DeepEnsemble(Ensemble):
    """Several trained models as one (Lakshminarayanan et al., 2017): M·N members of N networks, averaged.

    It predicts, evaluates, calibrates, saves and exports as each of them does; it is not trained itself. It holds the
    networks themselves: a change of their weights is a change of the ensemble.

    Args:
        models: models of this package of the same image shape and classes. Their own temperatures are not used.
        averaging: `"probabilities"`, as is usual between networks, or `"logits"`.
        temperature: as in `MixMo`.
        tempering: as in `MixMo`.

    Example:

    ```python
    ensemble = mixmo_keras.DeepEnsemble([keras.models.load_model(path) for path in paths])
    ensemble.calibrate(validation)
    ensemble.evaluate(test)
    ```
    """

    def __init__(
        self,
        models,
        averaging: str = "probabilities",
        temperature: float = 1.0,
        tempering: str = "ensemble",
        name: str | None = None,
    ):
        models = list(models)
        if not models:
            raise ValueError("`models` is empty: an ensemble needs a network at least.")
        for model in models:
            if not isinstance(model, Ensemble):
                raise TypeError(f"`models` must be models of mixmo_keras, got {type(model).__name__}.")
            shape = (model.image_shape, model.num_classes)
            if shape != (models[0].image_shape, models[0].num_classes):
                raise ValueError(
                    f"`models` must have the same image shape and classes; {models[0].name} has {models[0].image_shape} and "
                    f"{models[0].num_classes}, {model.name} {model.image_shape} and {model.num_classes}."
                )
        if len(set(map(id, models))) < len(models):
            raise ValueError("`models` has a model twice: it would only weigh more.")
        images = keras.Input(models[0].image_shape, name="images")
        networks = []
        for number, model in enumerate(models):
            logits = ops.cast(model._member_logits, "float32")
            networks.append(keras.Model(model.inputs, logits, name=f"network{number}"))
        member_logits = ops.concatenate([network(images) for network in networks], axis=1)
        average = MemberAverage(averaging, temperature, tempering, dtype="float32", name="average")
        super().__init__(images, average(member_logits), name=name)
        self.__dict__["__networks"] = models  # past Keras' tracking and saving: twice, and with their optimizers
        self._member_logits = member_logits
        self.average = average
        self.image_shape, self.num_classes = models[0].image_shape, models[0].num_classes
        self.num_members = sum(model.num_members for model in models)
        self.compile(loss=losses.CrossEntropy(), metrics=["accuracy"])

    def networks(self) -> list[Ensemble]:
        """The models that it was made of."""
        return list(self.__dict__["__networks"])

    def fit(self, *arguments, **options):
        raise TypeError("A DeepEnsemble is not trained: train its networks one by one, each with a seed of its own.")

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))

    def get_config(self):
        average = self.average
        configs = [keras.saving.serialize_keras_object(model) for model in self.networks()]
        for config in configs:
            config.pop("compile_config", None)  # they are loaded for inference
        return {
            "models": configs,
            "averaging": average.averaging,
            "temperature": average.temperature,
            "tempering": average.tempering,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        models = [keras.saving.deserialize_keras_object(model, custom_objects) for model in config["models"]]
        return cls(**{**config, "models": models})


def strategy_scope(model):
    """Where new variables of the model belong; JAX has no such thing."""
    return model.distribute_strategy.scope() if hasattr(model, "distribute_strategy") else contextlib.nullcontext()


def num_replicas(model) -> int:
    """Replicas that train in step; JAX has no such thing."""
    return model.distribute_strategy.num_replicas_in_sync if hasattr(model, "distribute_strategy") else 1
