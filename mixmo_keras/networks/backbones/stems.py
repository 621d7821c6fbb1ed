"""What a network begins with, opened until its first convolution stands alone: that can be shared out among members.

Σ_m conv(x, W/M) = conv(x, W) holds for a convolution without activation. One with an activation becomes the two; a layer
that holds its convolution inside, such as a vision transformer's embedding of the patches, the convolution and the rest.
"""

import copy
import json
from typing import Any

import keras
from keras import layers

from mixmo_keras import keras_internals
from mixmo_keras.common import arguments
from mixmo_keras.networks.backbones.library_layers import Replacing, description_of
from mixmo_keras.networks.copying import classes_of

CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)


@keras.saving.register_keras_serializable("mixmo_keras")
class BehindConvolution(layers.Layer):
    """A layer without the convolution that it begins with: it takes what the convolution gave.

    Args:
        layer: The whole layer. It is a template: it is not used.
        parts: Names of its attributes that run before: the convolution, and padding.
        image_shape: (H, W, C) of what the whole layer takes.

    Call arguments:
        features: (B, h, w, c), the convolution's output.
    """

    def __init__(self, layer: layers.Layer, parts: list[str], image_shape: tuple[int, int, int], **kwargs):
        super().__init__(**kwargs)
        self._template = json.dumps(description_of(layer))  # as text: Keras would track a dictionary
        self.parts, self.image_shape = arguments.names("parts", parts), tuple(image_shape)
        self.layer = keras.saving.deserialize_keras_object(json.loads(self._template))
        whole = self.layer(keras.Input(self.image_shape))  # builds it, whatever it builds its own layers by
        self._output_shape = tuple(whole.shape[1:])
        for part in self.parts:
            keras_internals.replace_sublayer(self.layer, part, layers.Identity(dtype=self.dtype_policy))

    def build(self, input_shape):
        self.built = True  # the layer is

    def call(self, features):
        return self.layer(features)

    def compute_output_shape(self, features_shape):
        return (features_shape[0], *self._output_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "layer": json.loads(self._template),
            "parts": self.parts,
            "image_shape": self.image_shape,
        }

    @classmethod
    def from_config(cls, config):
        layer = keras.saving.deserialize_keras_object(
            copy.deepcopy(config["layer"])
        )  # Keras empties what it deserializes
        return cls(**{**config, "layer": layer})


def convolves(operation: Any) -> bool:
    """Whether an operation is a convolution, or a layer that holds one."""
    if not isinstance(operation, layers.Layer):
        return False
    inner = keras_internals.flatten_layers(operation)
    return any(isinstance(one, CONVOLUTIONS) for one in inner)


class Opening:
    """Opens the first operation of a graph that convolves, and replaces layers of other libraries; for `graphs.flat`.

    Args:
        activation: Whether to part the convolution from its activation too.

    Attributes:
        convolution: The first convolution, once the graph was gone through.
    """

    def __init__(self, activation: bool):
        self._activation = activation
        self.convolution: layers.Layer | None = None
        self._replacing = Replacing()

    def __call__(self, operation: Any, x: keras.KerasTensor) -> list[Any]:
        if self.convolution is not None or not convolves(operation):
            return [self._replacing(operation, x)]
        chain = [operation] if isinstance(operation, CONVOLUTIONS) else _opened(operation, x)
        self.convolution = next((one for one in chain if isinstance(one, CONVOLUTIONS)), chain[0])
        if self._activation and getattr(self.convolution, "activation", None) not in (None, keras.activations.linear):
            place = chain.index(self.convolution) + 1
            activation = layers.Activation(
                self.convolution.activation,
                dtype=self.convolution.dtype_policy,
                name=f"{self.convolution.name}_activation",
            )
            self.convolution.activation = keras.activations.linear
            chain.insert(place, activation)
        return chain


def _opened(layer: layers.Layer, x: keras.KerasTensor) -> list[layers.Layer]:
    """Padding, convolution, and the rest of a layer that holds them; the layer alone where that can't be done."""
    parts = []
    for name, value in vars(layer).items():
        if isinstance(value, (layers.ZeroPadding2D, *CONVOLUTIONS)):
            parts.append(name)
        if isinstance(value, CONVOLUTIONS):
            break
    else:
        return [layer]
    before = [getattr(layer, name) for name in parts]
    taken = {id(weight) for one in before for weight in one.weights}
    try:
        with classes_of(layer):
            rest = BehindConvolution(layer, parts, x.shape[1:], dtype=layer.dtype_policy, name=f"{layer.name}_rest")
        rest.set_weights([keras.ops.convert_to_numpy(weight) for weight in layer.weights if id(weight) not in taken])
    except Exception:  # whatever its own `get_config` or `from_config` raises: not a layer that can be opened
        return [layer]
    return [*before, rest]
