"""Any functional Keras model as a backbone: cut at a layer into an encoder and a core."""

import logging

import keras
from keras import layers

from mixmo_keras import keras_internals
from mixmo_keras.networks.backbones.backbone import Backbone
from mixmo_keras.networks.copying import copy_network

_logger = logging.getLogger(__name__)

# what a convolution's output may still pass before features are mixed
_AFTER_CONVOLUTION = (
    layers.BatchNormalization,
    layers.LayerNormalization,
    layers.GroupNormalization,
    layers.Activation,
    layers.ReLU,
    layers.LeakyReLU,
    layers.PReLU,
    layers.ELU,
)


def split(model: keras.Model, at: str | None = None) -> Backbone:
    """Cuts a network in two: what comes up to a layer, of which each member gets its own, and the rest, which they share.

    The core keeps the model's weights, pretrained ones too; encoders are initialised anew, each for its member. The parts
    are copies: `model` itself stays as it is. Where the rest ends in a map (B, h, w, c), global average pooling is added.

    Args:
        model: A functional or Sequential model from one image (H, W, C) to features, without a classification head.
        at: Name of the layer whose output is mixed, a map (B, h, w, c). Defaults to the first convolution, with the
            normalisation and activation right behind it; the layer's name is logged.

    Raises:
        ValueError: not a functional Keras model, no such layer, its output is no map, or something passes the cut by.
    """
    model = _functional(model)
    if at is None:
        at = _first_convolution(model)
        _logger.info("%s is split at %r: pass `split_at` for another layer.", model.name, at)
    names = [layer.name for layer in model.layers]
    if at not in names:
        raise ValueError(f"{model.name} has no layer {at!r}. Its first layers are {', '.join(names[:12])}.")
    cut = model.get_layer(at).output
    if isinstance(cut, (list, tuple)) or len(cut.shape) != 4:
        raise ValueError(f"`split_at` (={at!r}) must name a layer whose output is a map (B, h, w, c).")
    if cut is model.outputs[0]:
        raise ValueError(f"{model.name} ends at {at!r}: nothing is left for the members to share. Split it before.")
    _check_nothing_passes_by(model, cut, at)
    encoder = copy_network(keras.Model(model.inputs[0], cut, name="encoder"))
    core = copy_network(keras.Model(cut, model.outputs[0], name="core"))
    if len(core.output_shape) == 4:
        pooled = layers.GlobalAveragePooling2D(name="split_pool")(core.outputs[0])
        core = keras.Model(core.inputs[0], pooled, name="core")
    return Backbone(encoder, core)


def _functional(model: keras.Model) -> keras.Model:
    """The model as a graph from one input, images of one shape, to one output; raises where it has none."""
    if isinstance(model, keras.Sequential):
        if not model.built:
            raise ValueError(f"{model.name} has no input shape yet: begin it with keras.Input.")
        model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    if not isinstance(model, keras.Model) or not hasattr(model, "operations"):
        raise ValueError(
            f"A backbone to split must be a functional or Sequential Keras model, got {type(model).__name__}. Models whose "
            "`call` is written in Python have no graph to cut."
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"A backbone must have one input and one output; {model.name} has {len(model.inputs)} and {len(model.outputs)}."
        )
    if len(model.input_shape) != 4 or None in model.input_shape[1:]:
        raise ValueError(
            f"A backbone must take images of one shape (H, W, C); {model.name} takes {model.input_shape[1:]}. Build it with "
            "input_shape=(H, W, C)."
        )
    return model


def _first_convolution(model: keras.Model) -> str:
    """Name of the first convolution's layer, or of the last of what follows it directly."""

    def convolves(layer) -> bool:
        inner = keras_internals.flatten_layers(layer) if isinstance(layer, keras.Model) else [layer]
        return any(isinstance(one, layers.Conv2D) for one in inner)

    end = next((layer for layer in model.layers if convolves(layer)), None)
    if end is None:
        raise ValueError(f"{model.name} has no convolution to split behind: pass `split_at`, the name of a layer.")
    while len(following := _users(model, end)) == 1 and isinstance(following[0], _AFTER_CONVOLUTION):
        end = following[0]
    return end.name


def _users(model: keras.Model, layer) -> list:
    """The operations of the model that take this layer's output."""
    outputs = {id(tensor) for tensor in keras.tree.flatten(layer.output)}
    # calls in the model's graph alone: its layers may have been called elsewhere too
    users = {
        id(node.operation)
        for node in keras_internals.nodes(model)
        if any(id(tensor) in outputs for tensor in keras.tree.flatten(node.input_tensors))
    }
    return [operation for operation in model.operations if operation is not layer and id(operation) in users]


def _check_nothing_passes_by(model: keras.Model, cut, at: str) -> None:
    """Raises where an operation behind the cut takes something from before it that is not the cut itself."""
    before = keras_internals.nodes(keras.Function(model.inputs, cut))
    producers = {id(tensor): node.operation for node in before for tensor in node.outputs}
    for node in keras_internals.nodes(model):
        if any(node is other for other in before):
            continue
        for tensor in keras.tree.flatten(node.input_tensors):
            if id(tensor) in producers and tensor is not cut:
                raise ValueError(
                    f"{model.name} can't be split at {at!r}: {producers[id(tensor)].name} passes it by, to "
                    f"{node.operation.name}. Split before that connection begins or after it ends."
                )
