"""A trained Keras classifier taken apart: preprocessing, a stem that can be shared out, core, and a dense head."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

from mixmo_keras import keras_internals
from mixmo_keras.networks import graphs
from mixmo_keras.networks.backbones.backbone import Backbone
from mixmo_keras.networks.backbones.split import HARMLESS, check_graph, cut_backbone, is_dense
from mixmo_keras.networks.backbones.stems import Opening
from mixmo_keras.networks.layers import is_linear

_ENDS = ("softmax", "log_softmax", "sigmoid", "linear")


class Classifier(NamedTuple):
    """The parts of a classifier; put together, they give its answers.

    Attributes:
        backbone: Copies of preprocessing, first convolution and core.
        kernel: Of the head, (F, K).
        bias: (K,).
        convolution: Name of the first convolution.
        head: Name of the head.
        ends_in: What the classifier applies to its logits: "softmax", "log_softmax", "sigmoid", or "linear" for nothing.
    """

    backbone: Backbone
    kernel: np.ndarray
    bias: np.ndarray
    convolution: str
    head: str
    ends_in: str

    def logits(self, images) -> np.ndarray:
        """Logits (n, K) of images (n, H, W, C), by the parts."""
        x = keras.ops.convert_to_tensor(images, "float32")
        for network in (self.backbone.preprocessing, self.backbone.encoder, self.backbone.core):
            x = x if network is None else network(x, training=False)
        return keras.ops.convert_to_numpy(keras.ops.cast(x, "float32")) @ self.kernel + self.bias


class _Head(NamedTuple):
    layer: layers.Layer
    features: keras.KerasTensor  # what it is called on
    ends_in: str


def take_apart(model: keras.Model, input_shape: tuple[int, int, int] | None = None) -> Classifier:
    """Takes a classifier apart; `model` stays as it is.

    Two classes by one sigmoid become two logits, (0, z).

    Args:
        model: A functional or Sequential model from an image to K classes: its last layer with weights is dense, or a 1×1
            convolution of one place, with softmax or without; its first is a convolution, or holds one.
        input_shape: (H, W, C), for a model that takes images of any size.

    Raises:
        ValueError: it is no such classifier, or can't be cut; or the parts don't give its answers.
    """
    check_graph(model, input_shape)
    opening = Opening(activation=True)
    network = graphs.flat(model, input_shape, opening)
    if opening.convolution is None:
        raise ValueError(f"{model.name} has no convolution that could be shared out among members.")
    head = _head(network)
    stem = opening.convolution.name
    parts = cut_backbone(network, graphs.output_of(network, stem, call=0), opening.convolution, stem, head.features)
    if not is_linear(parts.encoder):
        raise ValueError(
            f"{model.name} begins with {', '.join(layer.name for layer in parts.encoder.layers[1:])}: what is shared out "
            "among members must be one convolution, behind preprocessing that nothing passes by."
        )
    for layer in parts.encoder.layers:  # of a share of the weights they would be others
        if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D)):
            layer.kernel_constraint = layer.bias_constraint = None
            layer.depthwise_constraint = None
    kernel, bias = _weights(head)
    apart = Classifier(parts, kernel, bias, stem, head.layer.name, head.ends_in)
    _check_parts(model, apart)
    return apart


def _head(network: keras.Model) -> _Head:
    """The head, found from the output backwards, past softmax and what only reshapes."""
    made_by, tensor, ends_in = graphs.producers(network), network.outputs[0], "linear"
    if len(tensor.shape) != 2:
        raise ValueError(f"A classifier gives (n, K), one row an image; {network.name} gives {tensor.shape}.")
    while True:
        node = made_by[id(tensor)]
        layer = node.operation
        if is_dense(layer, node.input_tensors[0] if node.input_tensors else None):
            own = keras_internals.name_of_activation(layer.activation)
            if own != "linear" and ends_in != "linear":
                raise ValueError(
                    f"{network.name} must have one activation behind its last dense layer, got {own} and then {ends_in}: "
                    "leave one of them out."
                )
            return _Head(layer, node.input_tensors[0], _checked_end(network, own if own != "linear" else ends_in))
        end = _activation_of(layer)
        if end not in (None, "linear"):
            ends_in = end
        elif end is None and not isinstance(layer, HARMLESS):
            raise ValueError(
                f"{network.name} must end in a dense layer, with or without softmax, whose copies are the members' heads; "
                f"it ends in {layer.name!r}, a {type(layer).__name__}."
            )
        tensor = node.input_tensors[0]


def _activation_of(operation: Any) -> str | None:
    """The name of what an operation applies to logits; `None` if it is something else."""
    if isinstance(operation, layers.Activation):
        return keras_internals.name_of_activation(operation.activation)
    name = type(operation).__name__  # of keras.ops.softmax(x) too
    return {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}.get(name)


def _checked_end(network: keras.Model, ends_in: str) -> str:
    if ends_in not in _ENDS:
        raise ValueError(
            f"{network.name} ends in {ends_in}: a classifier ends in softmax, sigmoid (two classes) or logits."
        )
    if ends_in == "sigmoid" and network.output_shape[-1] > 1:
        raise ValueError(
            f"{network.name} ends in {network.output_shape[-1]} sigmoids: that is several labels an image, where members "
            "choose one class of K."
        )
    return ends_in


def _weights(head: _Head) -> tuple[np.ndarray, np.ndarray]:
    """The kernel (F, K) and bias (K,) of a head."""
    kernel = keras.ops.convert_to_numpy(head.layer.kernel).astype("float32")
    kernel = kernel.reshape(kernel.shape[-2:])
    bias = np.zeros(kernel.shape[1], "float32")
    if head.layer.use_bias:
        bias = keras.ops.convert_to_numpy(head.layer.bias).astype("float32")
    if kernel.shape[1] == 1:
        kernel, bias = (np.concatenate([np.zeros_like(one), one], -1) for one in (kernel, bias))
    return kernel, bias


def check_same_answers(name: str, images: np.ndarray, ours: np.ndarray, theirs: np.ndarray, dtype: str) -> None:
    """Raises where logits or probabilities differ by more than rounding, which a deep network of random weights amplifies.

    Args:
        name: Of the classifier.
        images: What was answered, (n, H, W, C).
        ours: (n, K).
        theirs: (n, K), the classifier's own.
        dtype: In which both were computed.
    """
    if not np.isfinite(theirs).all():
        raise ValueError(f"{name} gives NaN or infinite answers to images of pixels from 0 to 255.")
    error, scale = np.abs(ours - theirs).max(), np.abs(theirs).max()
    if error > _rounding(dtype) * scale + 1e-5:
        raise ValueError(
            f"{name} could not be taken apart: the answers of its parts to {len(images)} images differ from its own by "
            f"{error:.2g}, where the largest is {scale:.2g}."
        )


def _rounding(dtype: str) -> float:
    """How far answers may be from each other, beside the largest of them."""
    if dtype not in ("float32", "float64"):
        return 5e-2
    accelerated = any(not device.lower().startswith("cpu") for device in keras.distribution.list_devices())
    return 2e-2 if accelerated else 1e-3  # GPUs multiply float32 by ten bits of its fraction: TF32


def _check_parts(model: keras.Model, apart: Classifier) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, *apart.backbone.input_shape)).astype("float32")
    _check_preprocessing(model, apart.backbone, images)
    theirs = keras.ops.convert_to_numpy(keras.ops.cast(model(images, training=False), "float32"))
    ours = apart.logits(images)
    if apart.ends_in in ("softmax", "sigmoid"):
        ours = keras.ops.convert_to_numpy(keras.ops.softmax(ours))
    elif apart.ends_in == "log_softmax":
        ours = keras.ops.convert_to_numpy(keras.ops.log_softmax(ours))
    ours = ours[:, 1:] if theirs.shape[1] == 1 else ours
    check_same_answers(model.name, images, ours, theirs, apart.backbone.dtype_policy.compute_dtype)


def _check_preprocessing(model: keras.Model, parts: Backbone, images: np.ndarray) -> None:
    """Raises for layers such as `RandomCrop`, which cut images to another size in training than in use."""
    if parts.preprocessing is not None:
        shape = tuple(parts.preprocessing(images, training=False).shape[1:])
        if shape != tuple(parts.encoder.input_shape[1:]):
            raise ValueError(
                f"{model.name} makes images of {shape} in use where its first convolution was built for "
                f"{parts.encoder.input_shape[1:]}: leave out what crops them at random, and pass it as `augmentation`."
            )
