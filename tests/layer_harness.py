"""What every layer must do, whatever it computes: the checks of `networks/test_every_layer.py`, one function each.

A layer is described by a `Case`; a new layer is one more row of the table there.
"""

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mixmo_keras import seeds
from mixmo_keras.seeds import StepSeed

ROWS = 4  # of a batch in `one_fit`


def functional(layer: keras.layers.Layer, case: "Case") -> keras.Model:
    """A network of the layer alone. One that is called with a seed is called with the step's."""
    inputs = [keras.Input(x.shape[1:], dtype=str(x.dtype)) for x in case.inputs]
    layer = InStep(layer) if "seed" in _parameters(layer) else layer
    outputs = layer(*inputs)
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs)


@dataclass(frozen=True)
class Case:
    """One layer.

    Attributes:
        make: Makes the layer; takes Keras' `dtype`.
        inputs: Arrays to call it with, the first axis the rows.
        outputs: The shape that comes out, or the shapes.
        network: A functional model that trains with the layer in it. Defaults to the layer alone.
        in_float32: Whether outputs are float32 under every compute dtype.
    """

    make: Callable[..., keras.layers.Layer]
    inputs: tuple[np.ndarray, ...]
    outputs: tuple
    network: Callable[[keras.layers.Layer, "Case"], keras.Model] = functional
    in_float32: bool = False


@keras.saving.register_keras_serializable("layer_harness")
class InStep(keras.layers.Layer):
    """Calls a layer that takes a seed with the seed of the step, in training."""

    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, input_shape):
        self.built = True

    def call(self, x, training=None):
        return self.layer(x, seed=seeds.current()) if training else x

    def get_config(self):
        return {**super().get_config(), "layer": keras.saving.serialize_keras_object(self.layer)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "layer": keras.saving.deserialize_keras_object(config["layer"])})


def shape(case: Case) -> None:
    """The shapes that are said beforehand are those that come out."""
    layer = case.make()
    eager = _shapes(call(layer, case.inputs))
    symbolic = [keras.KerasTensor((None, *x.shape[1:]), str(x.dtype)) for x in case.inputs]
    expected = case.outputs if isinstance(case.outputs[0], tuple) else (case.outputs,)
    assert eager == list(expected)
    for said, came in zip(_shapes(call(layer, symbolic)), eager, strict=True):
        assert said == (None, *came[1:]) or said == came, f"{said} is said, {came} comes out"


def serialization(case: Case, folder: Path) -> None:
    """The configuration is JSON that makes the same layer, and a saved network answers as before."""
    layer = case.make()
    description = keras.saving.serialize_keras_object(layer)
    for _ in range(2):  # Keras empties what it deserializes
        copied = keras.saving.deserialize_keras_object(json.loads(json.dumps(description)))
        assert type(copied) is type(layer)
        assert json.dumps(copied.get_config()) == json.dumps(layer.get_config())
    before = call(layer, case.inputs)
    call(copied, case.inputs)  # builds it
    copied.set_weights(layer.get_weights())
    for one, other in zip(_flat(call(copied, case.inputs)), _flat(before), strict=True):
        np.testing.assert_array_equal(one, other)
    model = case.network(layer, case)
    model.save(folder / "model.keras")
    loaded = keras.models.load_model(folder / "model.keras")
    one, other = (keras.ops.convert_to_numpy(network(_batch(model), training=False)) for network in (loaded, model))
    np.testing.assert_array_equal(one, other)


def mixed_precision(case: Case, dtype: str) -> None:
    """Weights stay float32, floating outputs have the compute dtype and are those of float32 to its precision."""
    exact, layer = case.make(), case.make(dtype=f"mixed_{dtype}")
    expected = _flat(call(exact, case.inputs))
    call(layer, case.inputs)  # builds it
    layer.set_weights(exact.get_weights())
    assert {str(weight.dtype) for weight in layer.weights} <= {"float32"}
    for one, other in zip(_flat(call(layer, case.inputs)), expected, strict=True):
        one_dtype = keras.backend.standardize_dtype(one.dtype)
        assert one_dtype == ("float32" if case.in_float32 else dtype) or "int" in one_dtype
        one, other = (keras.ops.convert_to_numpy(keras.ops.cast(x, "float32")) for x in (one, other))
        np.testing.assert_allclose(one, other, rtol=0.03, atol=0.03)


def gradient(case: Case) -> None:
    """Every trainable weight and every floating input has a gradient that is finite and not zero everywhere."""
    layer = case.make()
    call(layer, case.inputs)  # builds it
    inputs = [tf.Variable(x) if x.dtype.kind == "f" else tf.constant(x) for x in case.inputs]
    if not layer.trainable_weights and not any(isinstance(x, tf.Variable) for x in inputs):
        return  # whole numbers to whole numbers
    with tf.GradientTape() as tape:
        outputs = [x for x in _flat(call(layer, inputs)) if "float" in keras.backend.standardize_dtype(x.dtype)]
        loss = sum(tf.reduce_sum(tf.square(output)) for output in outputs)
    sources = [weight.value for weight in layer.trainable_weights]
    sources += [x for x in inputs if isinstance(x, tf.Variable)]
    for source, slope in zip(sources, tape.gradient(loss, sources), strict=True):
        assert slope is not None, source
        slope = tf.convert_to_tensor(slope)
        assert np.isfinite(slope).all(), source
        assert np.any(slope), source


def one_fit(case: Case) -> None:
    """A network with the layer trains, compiled, and the layer's weights move."""
    layer = case.make()
    inner = case.network(layer, case)
    x = keras.layers.Dense(2)(keras.layers.Flatten()(inner.outputs[0]))
    model = keras.Model(inner.inputs if len(inner.inputs) > 1 else inner.inputs[0], x)
    model.compile("sgd", "mse", jit_compile=False)
    before = [keras.ops.convert_to_numpy(weight) for weight in layer.trainable_weights]
    with seeds.drawing(StepSeed(0)):
        history = model.fit(_batch(inner), np.ones((ROWS, 2)), batch_size=ROWS, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    for weight, old in zip(layer.trainable_weights, before, strict=True):
        assert not np.array_equal(weight, old), weight.path


def call(layer: keras.layers.Layer, inputs) -> Any:
    """Calls a layer in training, with the draws of step 0."""
    parameters = _parameters(layer)
    options: dict[str, Any] = {"training": True} if "training" in parameters else {}
    options |= {"seed": StepSeed(0)} if "seed" in parameters else {}
    with seeds.drawing(StepSeed(0)):
        return layer(*inputs, **options)


def _parameters(layer: keras.layers.Layer):
    return inspect.signature(layer.call).parameters


def _flat(outputs) -> list:
    return keras.tree.flatten(outputs)


def _shapes(outputs) -> list[tuple]:
    return [tuple(x.shape) for x in _flat(outputs)]


def _batch(model: keras.Model):
    """Random inputs of a model, the same at every call."""
    random = np.random.default_rng(0)
    batch = [random.uniform(size=(ROWS, *x.shape[1:])).astype("float32") for x in model.inputs]
    return batch if len(batch) > 1 else batch[0]
