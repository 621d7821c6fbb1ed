"""A copy of a network, and the dtype policy under which networks are built."""

import contextlib
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from mixmo_keras import keras_internals

_SCOPE = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\>-]*")  # TensorFlow's names of scopes
_HALF_PRECISION = ("mixed_bfloat16", "mixed_float16", "bfloat16", "float16")  # dtypes and policies


@contextlib.contextmanager
def dtype_policy(dtype: str | keras.DTypePolicy | None) -> Iterator[None]:
    """Sets Keras' global dtype policy until the block ends. `None` leaves it as it is."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(before if dtype is None else dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def copy_network(network: keras.Model) -> keras.Model:
    """Returns a network of the same layers and weights that shares nothing with the first.

    Layers whose names TensorFlow refuses, such as "my conv", have other names in the copy.

    Raises:
        ValueError: a layer can't be made again from what its `get_config` gives.
    """
    try:
        copied = _made_again(network, names_for_tensorflow(network))
    except Exception as error:  # whatever a layer's own code raises
        culprit = _not_made_again(network)
        if culprit is None:
            raise
        raise ValueError(
            f"{network.name} can't be copied, nor could it be saved in parts: its layer {culprit.name!r}, a "
            f"{type(culprit).__name__} of {type(culprit).__module__.partition('.')[0]}, can't be made again from what its "
            "`get_config` gives."
        ) from error
    copied.set_weights(network.get_weights())
    return copied


def in_float32(network: keras.Model) -> keras.Model:
    """Returns a network that computes in float32: itself, or where a layer computes in half precision, a copy."""
    if all(layer.compute_dtype == "float32" for layer in keras_internals.flatten_layers(network)):
        return network
    copied = _made_again(network, dict.fromkeys(_HALF_PRECISION, "float32"))
    copied.set_weights(network.get_weights())
    return copied


def copy_layer(layer: keras.layers.Layer, inputs: Any) -> Any:
    """What a copy of a layer, with its weights, makes of the inputs."""
    copied = _made_again(layer)
    outputs = copied(inputs)
    copied.set_weights(layer.get_weights())
    return outputs


def names_for_tensorflow(network: keras.Model) -> dict[str, str]:
    """Returns new names by old ones, of layers whose names TensorFlow refuses when it trains or exports a model."""
    names = {layer.name for layer in keras_internals.flatten_layers(network)}
    renamed = {}
    for name in sorted(name for name in names if not _SCOPE.fullmatch(name)):
        new = re.sub(r"[^A-Za-z0-9_.>-]", "_", name)
        new = new if _SCOPE.fullmatch(new) else f"layer{new}"
        while new in names:
            new += "_"
        names.add(new)
        renamed[name] = new
    return renamed


def _renamed(config: Any, names: Mapping[str, str]) -> Any:
    """A configuration in which texts, such as layers' names, are replaced where they stand and are referred to."""
    if isinstance(config, dict):
        return {key: _renamed(value, names) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_renamed(value, names) for value in config)
    return names.get(config, config) if isinstance(config, str) else config


def _made_again(layer: keras.layers.Layer, names: Mapping[str, str] | None = None) -> Any:
    with classes_of(layer), warnings.catch_warnings():
        # said of layers that build what they hold when they are called, as here they are
        warnings.filterwarnings("ignore", r"`build\(\)` was called on layer")
        # no file's: what a `Lambda` layer runs is the caller's own already
        config = _uncompiled(keras.saving.serialize_keras_object(layer))
        return keras.saving.deserialize_keras_object(_renamed(config, names) if names else config, safe_mode=False)


def classes_of(layer: keras.layers.Layer) -> contextlib.AbstractContextManager:
    """Lets Keras know the classes of a layer and of those within it until the block ends, registered or not."""
    own = {type(one).__name__: type(one) for one in keras_internals.flatten_layers(layer)}
    return keras.saving.custom_object_scope(
        {name: kind for name, kind in own.items() if not kind.__module__.startswith("keras.")}
    )


def _uncompiled(config: Any) -> Any:
    """A configuration without what models in it were compiled with, which a copy has no use for."""
    if isinstance(config, dict):
        return {key: _uncompiled(value) for key, value in config.items() if key != "compile_config"}
    return [_uncompiled(value) for value in config] if isinstance(config, list) else config


def can_be_made_again(layer: keras.layers.Layer) -> bool:
    """Whether a layer can be made again from what its `get_config` gives."""
    try:
        _made_again(layer)
    except Exception:  # whatever its own code raises
        return False
    return True


def _not_made_again(network: keras.Model) -> keras.layers.Layer | None:
    for layer in keras_internals.flatten_layers(network, include_self=False):
        if isinstance(layer, (keras.Model, keras.layers.InputLayer)):
            continue
        if not can_be_made_again(layer):
            return layer
    return None
