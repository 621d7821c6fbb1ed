"""The networks of M images a pass: that of a model's own layers, and a fused copy for serving."""

import warnings

import keras
import numpy as np

from mixmo_keras.multiplexing.seats import Answers, Seating
from mixmo_keras.networks import fusing
from mixmo_keras.networks.copying import copy_layer, dtype_policy
from mixmo_keras.networks.layers import is_linear
from mixmo_keras.networks.temperature import Temperature

MUCH_REPETITION = 0.5  # ρ from which on this mode lost 28 points on digits, at ρ = 0 it loses three


def why_not(model) -> str | None:
    """Why an ensemble can't answer several images in one pass; `None` if it can."""
    if reason := model.task.why_only_classes():
        return reason
    if hasattr(model, "networks"):
        return "it is several networks, each of which needs its own pass: multiplex one of them"
    if model.num_members == 1:
        return "it has one member (`num_members`=1), and a pass one seat"
    if model.encoders.shared or model.heads.shared:
        return (
            f"its members share {'encoders' if model.encoders.shared else 'heads'} (`share`): nothing tells whose image "
            "an answer is about"
        )
    if model.batching.input_repetition == 1:
        return "it was trained with `input_repetition`=1, which never shows members different images"
    return None


def check(model) -> None:
    """Raises `ValueError` where a model can't answer several images in one pass."""
    if reason := why_not(model):
        raise ValueError(f"{model.name} can't answer several images in one pass: {reason}.")


def warn_where_little_trained(model, stacklevel: int = 4) -> None:
    """Warns if training showed members few different images (ρ ≥ 0.5), or never features that are summed everywhere."""
    repetition, mixing = model.batching.input_repetition, model.batching.mixing
    if repetition >= MUCH_REPETITION:
        warnings.warn(
            f"With `input_repetition`={repetition:g} only {1 - repetition:.0%} of the training rows showed members "
            "different images: expect several images a pass to be answered much worse than by the ensemble.",
            stacklevel=stacklevel,
        )
    if mixing is not None and mixing.is_always_binary:
        warnings.warn(
            "The mixing of this model (probability=1, decay_start=None) always cut patches: features of different "
            "images that are summed everywhere, as in `predict_multiplexed`, were never trained.",
            stacklevel=stacklevel,
        )


def seated(model) -> keras.Model:
    """Passes (p, M, H, W, C) to the logits of their seats (p, M, K), of a model's own layers."""

    def connect():
        images = keras.Input((model.num_members, *model.image_shape), name="passes")
        features = model.mixing_block(model.encoders(model.normalize(images)))
        return images, model.heads(model.core(features))

    return model._other_network("seated", connect)


def fused(model, network: keras.Model | None = None) -> keras.Model:
    """Returns a copy of a `MixMo` for inference of M images a pass: the core runs once for M images.

    Encoders that are one convolution become one over the channels of all images of a pass, so that M features are never
    stored to be summed: Σ_m conv(x_m, W_m) = conv((x_1, ..., x_M), (W_1, ..., W_M)). Others stay M.

    Args:
        model: A `MixMo`.
        network: What `fusing.fused(model, members=True)` gave, to share its core and heads, such as in a SavedModel of both.
            Defaults to copies.

    Returns:
        A model from raw pixels (n, H, W, C), any n, to logits (n, K), with the temperature of this mode.

    Raises:
        ValueError: the model can't be multiplexed.
    """
    check(model)
    network = fusing.fused(model, members=True) if network is None else network
    normalize, core, heads = (network.get_layer(layer.name) for layer in (model.normalize, model.core, model.heads))
    with dtype_policy(model.dtype_policy):
        images = keras.Input(model.image_shape, name="images")
        passes = Seating(model.num_members, dtype="float32", name="seating")(images)
        if _can_be_joined(model.encoders.encoders[0]):
            features = _joined_encoders(model, normalize(passes))
        else:
            features = copy_layer(model.mixing_block, copy_layer(model.encoders, normalize(passes)))
        logits = keras.ops.cast(heads(core(features)), "float32")
        logits = Answers(model.average.averaging, dtype="float32", name="answers")(logits, images)
        logits = Temperature(model.multiplexed_temperature, dtype="float32", name="temperature")(logits)
        return keras.Model(images, logits, name=f"{model.name}_multiplexed")


def _can_be_joined(encoder: keras.Model) -> bool:
    return is_linear(encoder) and all(
        type(layer) is keras.layers.Conv2D and layer.groups == 1 for layer in encoder.layers if layer.weights
    )


def _joined_encoders(model, passes):
    """Mixed features (p, h, w, c) of passes (p, M, H, W, C) by one convolution over M·C channels."""
    encoders = model.encoders.encoders
    height, width, channels = encoders[0].input_shape[1:]
    images = keras.Input((height, width, model.num_members * channels))
    features = images
    for layer in encoders[0].layers[1:]:  # behind the input: a chain, of which the convolution alone has weights
        initial = {"kernel_initializer": "zeros"} if layer.weights else {}  # its own may need M times fewer channels
        features = type(layer).from_config({**layer.get_config(), **initial})(features)
    joined = keras.Model(images, features, name="encoders")
    kernels, *biases = zip(*(encoder.get_weights() for encoder in encoders), strict=True)
    joined.set_weights([np.concatenate(kernels, axis=2), *(np.sum(bias, axis=0) for bias in biases)])
    passes = keras.ops.transpose(passes, (0, 2, 3, 1, 4))
    return joined(keras.ops.reshape(passes, (-1, height, width, model.num_members * channels)))
