"""One network that answers as the ensemble does, at the single network's price.

At inference every encoder sees the same image and the mixing block sums their features. Encoders that are linear can be
summed before: Σ_m conv(x, W_m) = conv(x, Σ_m W_m). Where logits are averaged, so can the heads: mean_m (W_m f + b_m).
"""

import logging

import keras
import numpy as np

from mixmo_keras.networks.network import copy_network, dtype_policy

_logger = logging.getLogger(__name__)


def fused(model, members: bool = False) -> keras.Model:
    """An independent copy of an ensemble for inference, with linear encoders merged into one, and heads where they can be.

    Args:
        model: a `MixMo`, or a `DeepEnsemble`, whose networks are fused one by one.
        members: whether to keep the heads apart and give every member's logits.

    Returns:
        A model from raw pixels (n, H, W, C) to the ensemble's logits (n, K), or with `members` to (n, M, K); its answers are
        the ensemble's but for rounding. Encoders that are not linear stay as they are, which is logged; heads whose
        probabilities are averaged stay apart.
    """
    if hasattr(model, "networks"):
        return _fused_networks(model, members)
    with dtype_policy(model.dtype_policy):
        images = keras.Input(model.image_shape, name="images")
        x = type(model.normalize).from_config(model.normalize.get_config())(images)
        x = _fused_encoder(model)(x)
        features = copy_network(model.core)(x)
        heads = type(model.heads).from_config(model.heads.get_config())
        if members or model.average.averaging != "logits":
            logits = heads(features)
            heads.set_weights(model.heads.get_weights())
            if not members:
                logits = type(model.average).from_config(model.average.get_config())(logits)
        else:
            dense = keras.layers.Dense(model.num_classes, name="head")
            logits = dense(features)
            kernel, bias = (np.asarray(weight) / model.temperature for weight in model.heads.get_weights())
            dense.set_weights([_mean_of_members(kernel, model.num_classes), _mean_of_members(bias, model.num_classes)])
        return keras.Model(images, logits, name=f"{model.name}_fused")


def _fused_networks(ensemble, members: bool) -> keras.Model:
    images = keras.Input(ensemble.image_shape, name="images")
    logits = keras.ops.concatenate([fused(model, members=True)(images) for model in ensemble.networks()], axis=1)
    if not members:
        logits = type(ensemble.average).from_config(ensemble.average.get_config())(logits)
    return keras.Model(images, logits, name=f"{ensemble.name}_fused")


def _mean_of_members(weight: np.ndarray, num_classes: int) -> np.ndarray:
    """(..., M·K) to (..., K)."""
    return weight.reshape(*weight.shape[:-1], -1, num_classes).mean(-2)


def _fused_encoder(model) -> keras.layers.Layer:
    """One network in place of the encoders and the mixing block: images (n, H, W, C) to mixed features (n, h, w, c)."""
    first = model.encoders.encoders[0]
    if is_linear(first):
        encoder = copy_network(first)
        weights = [network.get_weights() for network in model.encoders.encoders]
        times = model.num_members if model.encoders.shared else 1
        encoder.set_weights([times * np.sum(same, axis=0) for same in zip(*weights, strict=True)])
        return encoder
    if model.num_members > 1:
        _logger.info("The encoders of %s are not linear: they stay %d.", model.name, model.num_members)
    images = keras.Input(first.input_shape[1:])
    encoders = type(model.encoders).from_config(model.encoders.get_config())
    mixing_block = type(model.mixing_block).from_config(model.mixing_block.get_config())
    network = keras.Model(images, mixing_block(encoders(images)), name="encoders")
    encoders.set_weights(model.encoders.get_weights())
    return network


def is_linear(encoder: keras.Model) -> bool:
    """Whether an encoder is one convolution, without activation, and padding: what can be summed over members."""
    linear_layers = (keras.layers.InputLayer, keras.layers.ZeroPadding2D, keras.layers.Identity)
    others = [layer for layer in encoder.layers if not isinstance(layer, linear_layers)]
    return (
        len(others) == 1
        and type(others[0]) in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
        and others[0].activation is keras.activations.linear
    )
