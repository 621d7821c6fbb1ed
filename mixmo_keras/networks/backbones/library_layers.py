"""Layers of other libraries, made fit for an ensemble's core: their stochastic depth becomes ours, and they can be copied.

Draws of our `StochasticDepth` follow from (seed, step, replica): runs repeat and resume, and replicas differ. Those of
Keras' `StochasticDepth`, of a `Dropout` of whole rows and of the `DropPath` of keras_hub and keras_cv don't.
"""

import inspect
import json
import logging
from typing import Any

import keras
import numpy as np
from keras import layers

from mixmo_keras import keras_internals
from mixmo_keras.networks.copying import can_be_made_again, classes_of
from mixmo_keras.networks.stochastic_depth import StochasticDepth, rate_of

_logger = logging.getLogger(__name__)

_PLAIN = (bool, int, float, str, type(None))  # what JSON takes as it is


@keras.saving.register_keras_serializable("mixmo_keras")
class LibraryLayer(layers.Layer):
    """A layer of another library, made from a description of it, with our `StochasticDepth` in place of some of its layers.

    Args:
        description: The layer's serialization, of values that JSON takes.
        shape: Of what the layer takes, without the batch.
        rates: (number of a layer within, its attribute, the rate) of each `StochasticDepth`.

    Call arguments:
        x: What the layer takes.
    """

    def __init__(self, description: dict, shape: tuple[int, ...], rates: list, **kwargs):
        super().__init__(**kwargs)
        self._description = json.dumps(description)  # as text: Keras would track a dictionary
        self.shape = tuple(shape)
        self.rates = [tuple(rate) for rate in rates]
        self.layer = keras.saving.deserialize_keras_object(json.loads(self._description))
        self._outputs = self.layer(keras.Input(self.shape))  # builds it, whatever it builds its own layers by
        within = keras_internals.flatten_layers(self.layer)
        self.stochastic_depths = []  # tracked here: whoever looks for stochastic depth finds it
        for number, attribute, rate in self.rates:
            replacement = StochasticDepth(rate, dtype=within[number].dtype_policy)
            keras_internals.replace_sublayer(within[number], attribute, replacement)
            self.stochastic_depths.append(replacement)

    def build(self, input_shape):
        self.built = True  # the layer is

    def call(self, x):
        return self.layer(x)

    def compute_output_spec(self, x):
        rows = x.shape[0]
        return keras.tree.map_structure(
            lambda output: output if output is None else keras.KerasTensor((rows, *output.shape[1:]), output.dtype),
            self._outputs,
        )

    def get_config(self):
        return {
            **super().get_config(),
            "description": json.loads(self._description),
            "shape": list(self.shape),
            "rates": [list(rate) for rate in self.rates],
        }


class Replacing:
    """Replaces layers of other libraries in a graph, where there is need; for `graphs.flat`.

    A layer that leaves out rows becomes a `StochasticDepth` of the same rate. A layer that holds such ones, or can't be made
    again from what its `get_config` gives, becomes a `LibraryLayer`; where that can't be done it stays.
    """

    def __call__(self, operation: Any, x: keras.KerasTensor) -> Any:
        """Returns what to call in place of an operation on x."""
        if rate := rate_of(operation):
            return StochasticDepth(rate, name=operation.name, dtype=operation.dtype_policy)
        if not isinstance(operation, layers.Layer) or type(operation).__module__.startswith(("keras.", "mixmo_keras.")):
            return operation
        rates = _rates_within(operation)
        if not rates and can_be_made_again(operation):
            return operation
        return _made_anew(operation, x, rates) or operation


def _rates_within(layer: layers.Layer) -> list[tuple[int, str, float]]:
    """(number among all layers within, attribute, rate) of each layer within that leaves out rows."""
    return [
        (number, attribute, rate)
        for number, owner in enumerate(keras_internals.flatten_layers(layer))
        for attribute, value in vars(owner).items()
        if isinstance(value, layers.Layer) and (rate := rate_of(value)) is not None
    ]


def _made_anew(layer: layers.Layer, x: keras.KerasTensor, rates: list) -> LibraryLayer | None:
    """The layer as a `LibraryLayer` of the same weights and answers, `None` where none comes of it."""
    options = dict(name=layer.name, dtype=layer.dtype_policy, trainable=layer.trainable)
    for search in (False, True):
        try:
            with classes_of(layer):
                anew = LibraryLayer(description_of(layer, search), x.shape[1:], rates, **options)
            anew.set_weights(layer.get_weights())
            example = np.random.default_rng(0).uniform(size=(2, *x.shape[1:]))
            answers = [keras.tree.flatten(one(example, training=False)) for one in (layer, anew)]
            theirs, ours = ([keras.ops.convert_to_numpy(output) for output in outputs] for outputs in answers)
            if all(np.allclose(*pair) for pair in zip(theirs, ours, strict=True)):
                return anew
        except Exception as error:  # whatever its own `get_config` or constructor raises
            _logger.debug("%s can't be made anew: %s", layer.name, error)
    return None


def description_of(layer: layers.Layer, search: bool = False) -> dict:
    """Returns a layer's serialization, of whose configuration only what its class takes.

    Args:
        layer: The layer. keras_hub's give what follows from the arguments too.
        search: Whether arguments that its `get_config` leaves out are looked for among its attributes, and those of the
            layers within; they are where `get_config` fails.
    """
    kind = type(layer)
    taken = {*inspect.signature(kind.__init__).parameters, "name", "trainable", "dtype"} - {"self", "args", "kwargs"}
    try:
        description = keras.saving.serialize_keras_object(layer)
    except Exception:  # whatever its own `get_config` raises
        search = True
        config = layers.Layer.get_config(layer)
        description = {"module": kind.__module__, "class_name": kind.__name__, "config": config}
        description["registered_name"] = kind.__name__
    description.pop("build_config", None)
    config = {name: value for name, value in description["config"].items() if name in taken}
    if search:
        config |= {name: value for name in taken - config.keys() for value in _attributes(layer, name)[:1]}
    return {**description, "config": config}


def _attributes(layer: layers.Layer, argument: str) -> list:
    """What a layer, and those within it, may have kept of an argument, as JSON takes it; the likeliest first."""
    names = (argument, f"_{argument}", f"_{argument}_cls")
    values = [vars(one)[name] for one in keras_internals.flatten_layers(layer) for name in names if name in vars(one)]
    return [_as_json(value) for value in values if isinstance(value, (type, *_PLAIN)) or _is_plain_sequence(value)]


def _is_plain_sequence(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(part, _PLAIN) for part in value)


def _as_json(value: Any) -> Any:
    """A plain value, and of a class what Keras deserializes to it."""
    if not isinstance(value, type):
        return list(value) if isinstance(value, (list, tuple)) else value
    name = value.__name__
    return {"module": value.__module__, "class_name": "function", "config": name, "registered_name": name}
