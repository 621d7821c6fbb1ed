"""One network that answers as the ensemble does, at the single network's price.

At inference every encoder sees the same image and the mixing block sums their features. Encoders that are linear can be
summed before: Σ_m conv(x, W_m) = conv(x, Σ_m W_m). Where logits are averaged, so can the heads: mean_m (W_m f + b_m).
"""

import logging

import keras
import numpy as np

from mixmo_keras.common import arguments
from mixmo_keras.networks.copying import copy_layer, copy_network, dtype_policy
from mixmo_keras.networks.layers import is_linear
from mixmo_keras.networks.views import averaged

_logger = logging.getLogger(__name__)


def fused(model, members: bool = False) -> keras.Model:
    """Returns an independent copy of an ensemble for inference, with encoders merged into one, and heads where they can be.

    Args:
        model: A `MixMo`, or a `DeepEnsemble`, whose networks are fused one by one.
        members: Whether to keep the heads apart and give every member's logits. Defaults to the ensemble's.

    Returns:
        A model from raw pixels (n, H, W, C) to the ensemble's logits (n, K), or with `members` to (n, M, K); its answers are
        the ensemble's but for rounding. Encoders that are not linear stay as they are, which is logged; heads whose
        probabilities are averaged stay apart.
    """
    arguments.boolean("members", members)
    if hasattr(model, "networks"):
        return _fused_networks(model, members)
    with dtype_policy(model.dtype_policy):
        images = keras.Input(model.image_shape, name="images")
        features = _fused_encoder(model)(copy_layer(model.normalize, images))
        features = copy_network(model.core)(features)
        if members:
            logits = copy_layer(model.heads, features)
        elif model.average.averaging == "logits":
            logits = _merged_heads(model, features)
        else:
            logits = copy_layer(model.average, copy_layer(model.heads, features))
        return keras.Model(images, logits, name=f"{model.name}_fused")


def fused_views(model, views: int) -> keras.Model:
    """Returns the fused network of an ensemble, whose logits are means over the views of each image (`networks.views`)."""
    if views == 1:
        return fused(model)
    members = averaged(fused(model, members=True), views)
    with dtype_policy(model.dtype_policy):
        logits = copy_layer(model.average, keras.ops.cast(members.outputs[0], "float32"))
    return keras.Model(members.inputs[0], logits, name=members.name)


def _fused_networks(ensemble, members: bool) -> keras.Model:
    images = keras.Input(ensemble.image_shape, name="images")
    member_logits = []
    for number, model in enumerate(ensemble.networks()):
        network = fused(model, members=True)
        network.name = f"network{number}"  # those of one recipe have the same
        member_logits.append(network(images))
    logits = keras.ops.concatenate(member_logits, axis=1)
    if not members:
        logits = copy_layer(ensemble.average, logits)
    return keras.Model(images, logits, name=f"{ensemble.name}_fused")


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
    mixed = copy_layer(model.mixing_block, copy_layer(model.encoders, images))
    return keras.Model(images, mixed, name="encoders")


def _merged_heads(model, features):
    """The ensemble's logits by one dense layer: the mean of the members' kernels and biases, divided by the temperature."""
    heads, temperature = model.heads, float(model.temperature)
    weights = [_mean_of_members(weight / temperature, heads.num_outputs) for weight in heads.dense.get_weights()]
    return heads.merged(features, weights)


def _mean_of_members(weight: np.ndarray, num_outputs: int) -> np.ndarray:
    """(..., M·K) to (..., K)."""
    return weight.reshape(*weight.shape[:-1], -1, num_outputs).mean(-2)
