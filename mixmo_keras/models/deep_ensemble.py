"""Several trained networks as one."""

from collections.abc import Iterable

import keras
from keras import ops

from mixmo_keras.common import numbering
from mixmo_keras.models.ensemble import Ensemble
from mixmo_keras.training import incidents, steps


@keras.saving.register_keras_serializable("mixmo_keras")
class DeepEnsemble(Ensemble):
    """Several trained models as one (Lakshminarayanan et al., 2017): M·N members of N networks, averaged.

    It predicts, evaluates, calibrates, saves and exports as each of them does; it is not trained itself. It holds the
    networks themselves: a change of their weights is a change of the ensemble.

    Args:
        models: Models of this package of the same image shape and task, which number their classes alike. Their own
            temperatures are not used.
        averaging: `"probabilities"`, as is usual between networks, or `"logits"`, of tasks that have them.
        temperature: As in `MixMo`.
        temperature_applies_to: As in `MixMo`.

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
        temperature_applies_to: str = "ensemble",
        name: str | None = None,
    ):
        models = _as_list(models)
        if not models:
            raise ValueError("`models` is empty: an ensemble needs a network at least.")
        for model in models:
            if not isinstance(model, Ensemble):
                raise TypeError(f"`models` must be models of mixmo_keras, got {type(model).__name__}.")
            if (model.image_shape, model.task) != (models[0].image_shape, models[0].task):
                raise ValueError(
                    f"`models` must have the same image shape and task; {models[0].name} has {models[0].image_shape} and "
                    f"{models[0].task}, {model.name} {model.image_shape} and {model.task}."
                )
        if len(set(map(id, models))) < len(models):
            raise ValueError("`models` has a model twice: it would only weigh more.")
        images = keras.Input(models[0].image_shape, name="images")
        networks = []
        for number, model in enumerate(models):
            logits = ops.cast(model._member_logits, "float32")
            networks.append(keras.Model(model.inputs, logits, name=f"network{number}"))
        member_logits = ops.concatenate([network(images) for network in networks], axis=1)
        average = models[0].task.pooling(averaging, temperature, temperature_applies_to)
        super().__init__(images, average(member_logits), name=name)
        self.__dict__["__networks"] = models  # past Keras' tracking and saving: twice, and with their optimizers
        self._member_logits = member_logits
        self.average = average
        self.image_shape, self.task = models[0].image_shape, models[0].task
        self.expects_raw_pixels = any(model.expects_raw_pixels for model in models)
        self.incidents = incidents.Incidents(name="incidents")
        self.num_members = sum(model.num_members for model in models)
        self.trained_with_flips = all(model.trained_with_flips for model in models)
        self.class_names = next((model.class_names for model in models if model.class_names is not None), None)
        for model in models:
            numbering.check_numbers(self.class_names, model.class_names, models[0].name)
        self.compile(loss=self.task.loss(), metrics=self.task.metrics())

    def networks(self) -> list[Ensemble]:
        """The models that it was made of."""
        return list(self.__dict__["__networks"])

    def fit(self, *arguments, **options):
        raise TypeError("A DeepEnsemble is not trained: train its networks one by one, each with a seed of its own.")

    train_on_batch = train_step = fit

    def test_step(self, *state_and_data):
        return super().test_step(*steps.in_known_shapes(self, *state_and_data))

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))

    def get_config(self):
        average = self.average
        configs = [keras.saving.serialize_keras_object(model) for model in self.networks()]
        for config in configs:
            config.pop("compile_config", None)  # they are loaded for inference
        config = {
            "models": configs,
            "averaging": average.averaging,
            "temperature": average.temperature,
            "temperature_applies_to": average.temperature_applies_to,
            "name": self.name,
        }
        config |= {} if getattr(average, "threshold", None) is None else {"threshold": average.threshold}
        return config if self.class_names is None else config | {"class_names": list(self.class_names)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        models = [keras.saving.deserialize_keras_object(model, custom_objects) for model in config["models"]]
        settings = {name: value for name, value in config.items() if name not in ("models", "class_names", "threshold")}
        ensemble = cls(models, **settings)
        if "threshold" in config:
            ensemble.average.threshold = config["threshold"]
        ensemble.class_names = tuple(config["class_names"]) if "class_names" in config else None
        return ensemble


def _as_list(models) -> list:
    if isinstance(models, str) or not isinstance(models, Iterable):
        raise ValueError(f"`models` must be a list of models of mixmo_keras, got {models!r}.")
    return list(models)
