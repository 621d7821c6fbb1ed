"""Any functional Keras model as a backbone: cut at a layer into an encoder and a core, what is before its stem apart."""

import logging
import warnings
from typing import Any

import keras
from keras import layers

from mixmo_keras import keras_internals
from mixmo_keras.common import arguments
from mixmo_keras.networks import graphs
from mixmo_keras.networks.backbones.backbone import Backbone
from mixmo_keras.networks.backbones.stems import Opening

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
# what leaves a vector what it is
HARMLESS = (layers.Flatten, layers.Reshape, layers.Identity, layers.Dropout)
_PROBABILITIES = (keras.activations.softmax, keras.activations.sigmoid)


def split(model: keras.Model, at: str | None = None, input_shape: tuple[int, int, int] | None = None) -> Backbone:
    """Cuts a network in two: what comes up to a layer, of which each member gets its own, and the rest, which they share.

    The core keeps the model's weights, pretrained ones too; encoders are initialised anew, each for its member. What the
    model does to pixels before its first convolution (`Rescaling`, `Normalization`, arithmetic) is the backbone's
    preprocessing, done once for all members. Models inside the model are written out. The parts are copies: `model` itself
    stays as it is. Where the rest ends in a map (B, h, w, c) or a sequence (B, n, c), global average pooling is added.

    Args:
        model: A functional or Sequential model from one image to features, without a classification head:
            `mixmo_keras.from_classifier` takes one with its head. One that ends in a linear dense layer is warned of.
        at: Name of the layer whose output is mixed, a map (B, h, w, c). Defaults to the first convolution, with the
            normalisation and activation right behind it; the layer's name is logged.
        input_shape: (H, W, C), for a model that takes images of any size.

    Raises:
        ValueError: not a functional Keras model, no such layer, its output is no map, something passes the cut by, or the
            model ends in classes' probabilities.
    """
    return split_for(model, at, input_shape)


def split_for(
    model: keras.Model,
    at: str | None = None,
    input_shape: tuple[int, int, int] | None = None,
    encoder_noise: float | None = None,
) -> Backbone:
    """As `split`; where encoders begin as shares of the model's own, by default right behind the first convolution.

    Args:
        encoder_noise: The members' encoders', `None` where they are initialised anew.
    """
    check_graph(model, input_shape)
    shared_out = at is None and encoder_noise is not None  # what is not linear can't be
    opening = Opening(activation=shared_out)
    network = graphs.flat(model, input_shape, opening)
    _check_ends_in_features(network)
    if at is None:
        at = _first_convolution(network, opening).name if shared_out else _behind_stem(network, opening)
        _logger.info("%s is split at %r: pass `split_at` for another layer.", model.name, at)
    if graphs.output_of(network, at) is None:
        names = [layer.name for layer in network.layers]
        raise ValueError(f"{model.name} has no layer {at!r}. Its first layers are {', '.join(names[:12])}.")
    cut = graphs.output_of(network, at, call=0 if shared_out else -1)
    return cut_backbone(network, cut, opening.convolution, at)


def cut_backbone(
    network: keras.Model, cut: Any, convolution: layers.Layer | None, at: str, end: Any = None
) -> Backbone:
    """The backbone of a flat network.

    Args:
        network: As `graphs.flat` gives it.
        cut: Its tensor that is mixed.
        convolution: The first one, before which there is preprocessing, if any.
        at: What to call the cut in messages.
        end: Its tensor where the core ends. Defaults to the network's output.
    """
    end = network.outputs[0] if end is None else end
    if isinstance(cut, (list, tuple)) or len(cut.shape) != 4:
        raise ValueError(f"`split_at` (={at!r}) must name a layer whose output is a map (B, h, w, c).")
    if cut is end:
        raise ValueError(f"{network.name} ends at {at!r}: nothing is left for the members to share. Split it before.")
    if passing := graphs.passing_by(network, cut):
        raise ValueError(
            f"{network.name} can't be split at {at!r}: {passing[0]} passes it by, to {passing[1]}. "
            "Split before that connection begins or after it ends."
        )
    images, entry = network.inputs[0], _entry(network, cut, convolution)
    preprocessing = None if entry is images else graphs.stretch(network, images, entry, "preprocessing")
    core = graphs.stretch(network, cut, end, "core")
    if len(core.output_shape) > 2:
        pooling = {3: layers.GlobalAveragePooling1D, 4: layers.GlobalAveragePooling2D}[len(core.output_shape)]
        core = keras.Model(core.inputs[0], pooling(name="split_pool")(core.outputs[0]), name="core")
    encoder = graphs.stretch(network, entry, cut, "encoder")
    for layer in keras_internals.flatten_layers(encoder):  # of a frozen network too: members' encoders have to part
        layer.trainable = True  # each on its own: TensorFlow ignores that of a network which says so already
    return Backbone(encoder, core, preprocessing=preprocessing)


def check_graph(model: keras.Model, input_shape: tuple[int, int, int] | None = None) -> None:
    """Raises where a model is no graph from one input, images of one shape, to one output."""
    if isinstance(model, keras.Sequential) and not model.built:
        raise ValueError(f"{model.name} has no input shape yet: begin it with keras.Input.")
    if not graphs.has_graph(model):
        raise ValueError(
            f"A backbone to split must be a functional or Sequential Keras model, got {type(model).__name__}. Models whose "
            "`call` is written in Python have no graph to cut."
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"A backbone must have one input and one output; {model.name} has {len(model.inputs)} and {len(model.outputs)}."
        )
    shape = model.inputs[0].shape[1:]
    channels_first = any(
        getattr(layer, "data_format", None) == "channels_first" for layer in keras_internals.flatten_layers(model)
    )
    if channels_first or (len(shape) == 3 and shape[0] in (1, 3) and None not in shape and shape[2] > 4):
        raise ValueError(
            f"Images are (H, W, C) here; {model.name} takes {shape}, channels first: build it channels last."
        )
    if input_shape is not None:
        given = arguments.image_shape("input_shape", input_shape)
        if len(shape) != 3 or any(own not in (None, size) for own, size in zip(shape, given, strict=True)):
            raise ValueError(
                f"`input_shape` (={given}) differs from the backbone's, {shape}: leave it out, or build for it."
            )
    elif len(shape) != 3 or None in shape:
        raise ValueError(
            f"A backbone must take images of one shape (H, W, C); {model.name} takes {shape}. Build it with "
            "input_shape=(H, W, C)."
        )


def _check_ends_in_features(network: keras.Model) -> None:
    last = graphs.producers(network)[id(network.outputs[0])].operation
    if isinstance(last, layers.Softmax) or getattr(last, "activation", None) in _PROBABILITIES:
        raise ValueError(
            f"{network.name} is a classifier: it ends in probabilities, {last.name!r}, on which heads would learn next to "
            "nothing. mixmo_keras.from_classifier(model) makes an ensemble of it, head and all; or pass the model that ends "
            "before its head, such as with include_top=False."
        )
    if (classes := _linear_end(network)) is not None:
        message = (
            f"The backbone {network.name} ends in {classes.name!r}, a linear dense layer of {network.output_shape[-1]} "
            "units, as classes do: heads on logits learn next to nothing. mixmo_keras.from_classifier(model) takes it for "
            "the heads, or makes new ones for `num_classes`; or pass the model that ends before it, such as with "
            "include_top=False."
        )
        warnings.warn(message, stacklevel=5)  # to the caller of a method


def _linear_end(network: keras.Model) -> layers.Layer | None:
    """The last layer with weights, if it is dense and has no activation."""
    made_by, tensor = graphs.producers(network), network.outputs[0]
    while len(tensor.shape) in (2, 4):
        node = made_by[id(tensor)]
        layer = node.operation
        if is_dense(layer, node.input_tensors[0] if node.input_tensors else None):
            return layer if keras_internals.name_of_activation(layer.activation) == "linear" else None
        linear = isinstance(layer, layers.Activation) and layer.activation is keras.activations.linear
        if not linear and not isinstance(layer, HARMLESS):
            return None
        tensor = node.input_tensors[0]
    return None


def is_dense(layer: Any, features: Any) -> bool:
    """Whether a layer is dense on features (B, F), or a convolution of 1×1 pixels on a map of one place, (B, 1, 1, F)."""
    if isinstance(layer, layers.Dense):
        return len(features.shape) == 2
    return isinstance(layer, layers.Conv2D) and tuple(layer.kernel_size) == (1, 1) == tuple(features.shape[1:3])


def _first_convolution(network: keras.Model, opening: Opening) -> layers.Layer:
    if opening.convolution is None:
        raise ValueError(f"{network.name} has no convolution to split behind: pass `split_at`, the name of a layer.")
    return opening.convolution


def _behind_stem(network: keras.Model, opening: Opening) -> str:
    """Name of the first convolution's layer, or of the last of what follows it directly."""
    end = _first_convolution(network, opening)
    while len(following := _users(network, end)) == 1 and isinstance(following[0], _AFTER_CONVOLUTION):
        end = following[0]
    return end.name


def _users(network: keras.Model, layer: layers.Layer) -> list[layers.Layer]:
    """The operations that take a layer's output."""
    output = graphs.output_of(network, layer.name)
    return [
        node.operation
        for node in keras_internals.nodes(network)
        if any(tensor is output for tensor in keras.tree.flatten(node.input_tensors))
    ]


def _entry(network: keras.Model, cut: keras.KerasTensor, convolution: layers.Layer | None) -> keras.KerasTensor:
    """The tensor at which encoders begin: the images, or what preprocessing makes of them; padding is the encoders'."""
    images, made_by = network.inputs[0], graphs.producers(network)
    nodes = [node for node in keras_internals.nodes(keras.Function(network.inputs, cut)) if not node.is_input]
    first = next((node for node in nodes if node.operation is convolution), None)
    if first is None:  # the cut is before it
        return images
    entry = first.input_tensors[0]
    while isinstance(made_by[id(entry)].operation, layers.ZeroPadding2D):
        entry = made_by[id(entry)].input_tensors[0]
    return images if graphs.passing_by(network, entry) else entry
