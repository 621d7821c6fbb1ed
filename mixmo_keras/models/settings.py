"""The settings of a MixMo: what can't be combined, what is degenerate, and how they are saved."""

import copy
import inspect
import warnings
from typing import Any

import keras

from mixmo_keras.common import arguments
from mixmo_keras.mixing import augmentation, msda
from mixmo_keras.mixing.batch import Batching
from mixmo_keras.models import changes
from mixmo_keras.networks import backbones, stochastic_depth
from mixmo_keras.training import schedules
from mixmo_keras.training.co_training import CoTraining
from mixmo_keras.training.objective import L2

_OBJECTS = ("task", "batching", "drop_path", "co_training", "l2", "schedule")  # they save themselves
_ATTRIBUTES = ("task", "num_members", "batching", "co_training", "l2", "schedule", "seed", "synchronized_batch_norm")
_OF_AVERAGE = ("averaging", "temperature", "temperature_applies_to")


def config_of(model) -> dict[str, Any]:
    """The configuration of a model, from which `model_of` makes one again."""
    config = {name: _copied(value) for name, value in model.network_settings.items()}
    config |= {name: getattr(model, name) for name in _ATTRIBUTES}
    config |= {name: keras.saving.serialize_keras_object(config[name]) for name in _OBJECTS}
    config |= {name: getattr(model.average, name) for name in _OF_AVERAGE}
    config |= {"multiplexed_temperature": model.multiplexed_temperature, "name": model.name}
    config |= {"changed_layers": changed} if (changed := changes.of(model)) else {}
    config |= {"class_names": list(model.class_names)} if model.class_names is not None else {}
    threshold = getattr(model.average, "threshold", None)  # of two classes
    config |= {"threshold": threshold} if threshold is not None else {}
    return config | {"dtype": keras.dtype_policies.serialize(model.dtype_policy)}


def _copied(value: Any) -> Any:
    """A copy that may be changed; a network itself: Keras copies by saving, which needs all its classes registered."""
    return value if isinstance(value, keras.Model) else copy.deepcopy(value)


def model_of(kind: type, config: dict[str, Any], custom_objects=None):
    """A model of a configuration, not compiled; those of earlier versions have `num_classes` in place of `task`."""
    config = copy.deepcopy(config)  # Keras empties what it deserializes
    class_names = config.pop("class_names", None)  # no argument: data say them, or a recipe
    threshold = config.pop("threshold", None)  # set after a training
    changed = config.pop("changed_layers", {})  # not of an earlier version
    check_known(kind, config)
    for name in config.keys() & {*_OBJECTS, "backbone", "dtype"}:
        config[name] = keras.saving.deserialize_keras_object(config[name], custom_objects)
    model = kind(**config)
    model.class_names = None if class_names is None else tuple(class_names)
    if threshold is not None:
        model.average.threshold = threshold
    changes.apply(model, changed)
    # not compiled, as any Keras model of a configuration: load_model(..., compile=False) couldn't load it otherwise
    model.optimizer, model.compiled = None, False
    return model


def check(batching, co_training, l2, schedule, num_members: int, task) -> None:
    """Raises for what can't be combined, and warns of what is degenerate."""
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "Images must be (H, W, C), channels last; Keras is set to channels_first, in ~/.keras/keras.json or by "
            "keras.config.set_image_data_format. Call keras.config.set_image_data_format('channels_last') before the model "
            "is built or loaded."
        )
    arguments.instance("batching", batching, Batching, "a mixmo_keras.Batching")
    arguments.instance("co_training", co_training, (CoTraining, type(None)), "a mixmo_keras.CoTraining or None")
    arguments.instance("l2", l2, L2, "a mixmo_keras.L2")
    expected = "a schedule of mixmo_keras.schedules, or None"
    arguments.instance("schedule", schedule, (schedules.ProgressSchedule, type(None)), expected)
    task.check_settings(batching.msda, co_training)
    task.check_augmentation(batching.augment)
    for name in ("input_repetition", "repetition_decay"):
        if num_members == 1 and getattr(batching, name):
            raise ValueError(f"`{name}` says what several members have in common; num_members=1 has no use for it.")
    if num_members == 1 and batching.mixing is not None:
        warnings.warn(
            "One member has nobody to mix with: pass mixing=None, or use SingleNetwork. `mixing` changes nothing.",
            stacklevel=4,
        )
    if batching.input_repetition == 1:
        warnings.warn(
            "input_repetition=1 always shows the same image to all members: they have no reason to differ, and what "
            "trains is no ensemble. MIMO uses 0 on CIFAR and 0.6 on ImageNet.",
            stacklevel=4,
        )


def check_parts(parts: backbones.Backbone, batching: Batching, co_training: CoTraining | None) -> None:
    """Raises where a backbone can't do what the settings need of it."""
    augmentation.check_size(batching.augment, parts.input_shape)
    if batching.msda is not None and batching.mixing is not None:
        msda.check_sizes(parts.input_shape[:2], parts.encoder.output_shape[1:3])
    if co_training is not None:
        stochastic_depth.require((parts.encoder, parts.core), "co_training")


def check_known(cls: type, config: dict) -> None:
    """Raises for a model's configuration with settings that its class doesn't have."""
    known = inspect.signature(cls).parameters
    unknown = sorted(config.keys() - known.keys())
    if unknown and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        raise ValueError(
            f"The file, or configuration, is of another version of mixmo_keras: it has settings that a {cls.__name__} "
            f"doesn't ({', '.join(unknown)}). Load it with the version that wrote it."
        )
