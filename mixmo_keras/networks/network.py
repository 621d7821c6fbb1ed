"""Encoders, mixing block, core and heads as one functional graph: images to what the members predict."""

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from mixmo_keras import keras_internals, seeds
from mixmo_keras.common import arguments
from mixmo_keras.networks import normalization as normalizations
from mixmo_keras.networks.backbones.backbone import Backbone
from mixmo_keras.networks.copying import copy_network
from mixmo_keras.networks.layers import MixingBlock, MultiEncoder, is_linear

SHARE = ("encoders", "heads", "both", "fan_in")  # what members may have in common


class Network(NamedTuple):
    """The layers of a multi-input multi-output network, and its graph from `images` to `member_outputs`."""

    images: keras.KerasTensor  # (n, H, W, C), raw pixels from 0 to 255
    normalize: keras.layers.Layer
    encoders: MultiEncoder
    mixing_block: MixingBlock
    core: keras.Model  # to a vector (B, F), or for labels of pixels to maps
    heads: keras.layers.Layer
    member_outputs: keras.KerasTensor  # (n, M, ...), of classes logits (n, M, K)


def build(
    parts: Backbone,
    num_members: int,
    make_heads: Callable[..., keras.layers.Layer],
    *,
    make_core: Callable[[keras.Model], keras.Model] | None = None,
    share: str | None = None,
    encoder_noise: float | None = None,
    normalization: Any = "auto",
    synchronized_batch_norm: bool = False,
    seed: int,
    copy_core: bool,
) -> Network:
    """Builds the network of a backbone, under Keras' global dtype policy.

    Args:
        parts: Encoder and core.
        num_members: M ≥ 1.
        make_heads: What makes the layer of all heads of `num_members`, `shared`, `kernel_initializer` and `image_size`.
        make_core: What makes of the backbone's core one that ends in what the heads take. Defaults to the core itself.
        share: `"encoders"`, `"heads"` or `"both"`, what all members use one of: ablations of the paper. Or `"fan_in"`: the
            encoders' initial kernels are those of one convolution over the channels of all M images, as in MIMO's code,
            1/√M times as large. Defaults to nothing.
        encoder_noise: For a backbone whose encoder is one pretrained convolution: every member begins with its weights,
            divided by M so that the core sees features of the size it knows, and disturbed by noise of this many times
            their standard deviation, such as 0.1, so that members can part. The members' noise sums to zero: at inference
            the core sees what it knows. Defaults to encoders that are initialised anew.
        normalization: See `networks.normalization`.
        synchronized_batch_norm: Whether batch norm takes its statistics over the rows of all replicas of a `tf.distribute`
            strategy.
        seed: Integer from which the initial weights of encoders and heads follow.
        copy_core: Whether the network gets a copy of the core, as it must where the caller keeps `parts`: two models must
            not share a core. Says also that the backbone brings its weights, which `encoder_noise` needs.

    Raises:
        ValueError: an argument is out of range, or can't be combined with another or with this backbone.
    """
    _check_share(share, num_members)
    core = copy_network(parts.core) if copy_core else parts.core
    core = core if make_core is None else make_core(core)
    images = keras.Input(parts.input_shape, name="images")
    policy = parts.encoder_dtype_policy
    normalize = normalizations.layer(normalization, parts.input_shape[-1], parts.preprocessing, policy)
    share_encoders = share in ("encoders", "both")
    encoders = MultiEncoder(parts.encoder, num_members, share_encoders, seed=seed, dtype=policy, name="encoders")
    if share == "fan_in":
        _draw_as_one(encoders)
    if encoder_noise is not None:
        if not copy_core:
            raise ValueError(
                f"`encoder_noise` (={encoder_noise!r}) is for a backbone that brings its weights: the encoder of a named "
                "one is initialised anew."
            )
        _start_from_pretrained(encoders, parts.encoder, encoder_noise, seed)
    mixing_block = MixingBlock(name="mixing_block")
    kernel = _heads_initializer(parts.head_stddev, seed)
    size = tuple(parts.input_shape[:2])
    heads = make_heads(num_members, shared=share in ("heads", "both"), kernel_initializer=kernel, image_size=size)
    member_outputs = heads(core(mixing_block(encoders(normalize(images)))))
    if arguments.boolean("synchronized_batch_norm", synchronized_batch_norm):
        _synchronize_batch_norm([*encoders.encoders, core])
    return Network(images, normalize, encoders, mixing_block, core, heads, member_outputs)


def _check_share(share: str | None, num_members: int) -> None:
    if share is None:
        return
    arguments.choice("share", share, SHARE, otherwise=", or None")
    if num_members == 1 and share != "fan_in":  # MIMO's of one member is its own
        raise ValueError(
            f"`share` (={share!r}) says what several members have in common; num_members=1 has no use for it."
        )
    if share == "heads":
        warnings.warn("Members share one head: at inference all members give the same prediction.", stacklevel=4)


def _draw_as_one(encoders: MultiEncoder) -> None:
    """Divides initial kernels by √M: what fan-in initializers draw for a convolution over M times the channels."""
    for encoder in encoders.encoders:
        for weight in encoder.trainable_weights:
            if weight.name.endswith("kernel"):
                weight.assign(weight / math.sqrt(encoders.num_members))


def _start_from_pretrained(encoders: MultiEncoder, pretrained: keras.Model, noise: float, seed: int) -> None:
    """Gives every member a disturbed 1/M of a pretrained encoder."""
    noise = arguments.number("encoder_noise", noise, least=0)
    if not is_linear(pretrained):
        raise ValueError(
            "`encoder_noise` needs an encoder that is one convolution without activation, whose weights can be divided "
            "among the members; this one has more. Split right behind the first convolution: `split_at`."
        )
    shares = [weight / encoders.num_members for weight in pretrained.get_weights()]
    random = np.random.default_rng(seeds.derive(seed, "pretrained"))
    count = len(encoders.encoders)
    disturbed = []  # each weight of all members, (M, ...)
    for share in shares:
        disturbance = random.standard_normal((count, *share.shape))
        disturbance -= disturbance.mean(0)  # of one member: none
        disturbed.append(share + noise * share.std() * math.sqrt(count / max(count - 1, 1)) * disturbance)
    for member, encoder in enumerate(encoders.encoders):
        encoder.set_weights([weight[member] for weight in disturbed])


def _heads_initializer(stddev: float | None, seed: int) -> keras.initializers.Initializer:
    seed = seeds.derive(seed, "heads")
    if stddev is None:
        return keras.initializers.HeNormal(seed)
    return keras.initializers.RandomNormal(stddev=stddev, seed=seed)


def _synchronize_batch_norm(networks: list[keras.Model]) -> None:
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "`synchronized_batch_norm` is about the replicas of a tf.distribute strategy; Keras runs on "
            f"{keras.backend.backend()!r}."
        )
    layers = [layer for network in networks for layer in keras_internals.flatten_layers(network)]
    batch_norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    if not batch_norms:
        raise ValueError("`synchronized_batch_norm` is set, but the backbone has no batch norm.")
    for layer in batch_norms:
        layer.synchronized = True
