"""What was changed in the layers of a model after it was built, such as `trainable`: a part of its configuration.

A model is made anew from its settings when it is loaded. What somebody set on a layer in the meantime is not among them:
frozen layers, batch norm's `momentum`, the `rate` of a dropout layer, single weights that are not to be trained.
"""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import keras

from mixmo_keras import keras_internals

_PARTS = ("normalize", "encoders", "mixing_block", "core", "heads")
_NOT_SETTINGS = ("name", "build_config")
_GETTERS = {"activation": keras.activations.get, "dtype": keras.dtype_policies.get}


def remember(model) -> None:
    """Notes how a model's layers, and its backbone, are when it has been built: the caller may change the latter too."""
    model.network_settings["backbone"] = keras.saving.serialize_keras_object(model.network_settings["backbone"])
    model.__dict__["__as_built"] = _described(model)  # past Keras' tracking
    model.__dict__["__policy_as_built"] = model.dtype_policy.name


def of(model) -> dict[str, dict]:
    """What differs from `remember`: by part, the settings of layers by their number, and whether weights are trained.

    Raises:
        ValueError: weights were added or removed, or the model's dtype policy is another.
    """
    changed: dict[str, dict] = {}
    built, policy = model.__dict__["__as_built"], model.__dict__["__policy_as_built"]
    if model.dtype_policy.name != policy:
        raise ValueError(
            f"The model was built with the dtype policy {policy!r}, and its `dtype_policy` is {model.dtype_policy.name!r} "
            "now: pass `dtype` when it is built."
        )
    for part, (layers, weights) in _described(model).items():
        layers_built, weights_built = built[part]
        if len(weights) != len(weights_built):
            raise ValueError(
                f"The model's {part} has {len(weights)} weights to train and was built with {len(weights_built)}: layers "
                "that get others later, as by enable_lora, can't be saved. Save a copy from before."
            )
        by_layer: dict[str, dict] = {}
        for number, (now, before) in enumerate(zip(layers, layers_built, strict=True)):
            if differing := {key: json.loads(value) for key, value in now.items() if before.get(key) != value}:
                by_layer[str(number)] = differing
        by_weight = {
            str(number): now
            for number, (now, before) in enumerate(zip(weights, weights_built, strict=True))
            if now != before
        }
        if by_layer or by_weight:
            changed[part] = {"layers": by_layer, "weights": by_weight}
    if not model.trainable:
        changed["model"] = {"trainable": False}
    return changed


def apply(model, changed: dict[str, dict]) -> None:
    """Changes a model that has just been built as `of` says."""
    for part in _PARTS:
        layers, weights = _layers(getattr(model, part)), _weights(getattr(model, part))
        for number, settings in changed.get(part, {}).get("layers", {}).items():
            for key, value in settings.items():
                _set(layers[int(number)], key, value)
        for number, trainable in changed.get(part, {}).get("weights", {}).items():
            weights[int(number)].trainable = trainable
    if "model" in changed:
        keras_internals.set_trainable(model, False)


# -- the weights of an optimizer -----------------------------------------------------------------------------------------


def weights_of_optimizer(model) -> dict[str, list[int]] | None:
    """By part the numbers of the weights that the optimizer was built for; `None` where they are those that are trained now.

    An optimizer keeps its state of weights that are frozen after the first step.
    """
    known = {id(weight) for weight in keras_internals.weights_of(model.optimizer)}
    if not known or known == {id(weight) for weight in model.trainable_weights}:
        return None
    by_part = {part: _weights(getattr(model, part)) for part in _PARTS}
    return {
        part: [number for number, one in enumerate(weights) if id(one) in known] for part, weights in by_part.items()
    }


def weights_by_number(model, numbers: dict[str, list[int]]) -> list:
    """The weights that `weights_of_optimizer` gave the numbers of, in the order in which models list them."""
    chosen = {id(_weights(getattr(model, part))[number]) for part, ours in numbers.items() for number in ours}
    return [weight for weight in model.weights if id(weight) in chosen]


# -- layers as they are ---------------------------------------------------------------------------------------------------


def _described(model) -> dict[str, tuple[list[dict[str, str]], list[bool]]]:
    """By part the settings of each layer, in JSON, and whether each weight is trained."""
    return {
        part: (
            [dict(_settings(layer)) for layer in _layers(getattr(model, part))],
            [bool(weight.trainable) for weight in _weights(getattr(model, part))],
        )
        for part in _PARTS
    }


def _settings(layer: keras.layers.Layer) -> Iterator[tuple[str, str]]:
    config: dict[str, Any] = {"trainable": layer.trainable}
    if len(keras_internals.flatten_layers(layer)) == 1:  # those of others are in the layers that they hold
        with contextlib.suppress(NotImplementedError):  # a layer that says nothing of itself
            config |= layer.get_config()
    for key, value in config.items():
        settable = getattr(type(layer), key, None)
        is_read_only = isinstance(settable, property) and settable.fset is None
        if key == "dtype" or (key not in _NOT_SETTINGS and hasattr(layer, key) and not is_read_only):
            yield key, json.dumps(keras.saving.serialize_keras_object(value), default=repr, sort_keys=True)


def _set(layer: keras.layers.Layer, key: str, value: Any) -> None:
    if key == "trainable":
        keras_internals.set_trainable(layer, value)  # its weights are noted one by one
        return
    if key in _GETTERS:
        value = _GETTERS[key](value)
    elif isinstance(value, dict) and "class_name" in value:
        value = keras.saving.deserialize_keras_object(value)
    setattr(layer, "dtype_policy" if key == "dtype" else key, value)


def _layers(part: keras.layers.Layer) -> list[keras.layers.Layer]:
    return keras_internals.flatten_layers(part)


def _weights(part: keras.layers.Layer) -> list:
    """The weights of a part that `trainable` is about, frozen or not."""
    return [weight for layer in _layers(part) for weight in keras_internals.own_trainable_variables(layer)]
