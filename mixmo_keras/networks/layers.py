"""The three parts of a multi-input multi-output network around its core: encoders, mixing block, heads.

Members are an axis: images (B, M, H, W, C), features and masks (B, M, h, w, ·), logits (B, M, K).
"""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from mixmo_keras import seeds
from mixmo_keras.common import arguments
from mixmo_keras.networks import graphs


@keras.saving.register_keras_serializable("mixmo_keras")
class MultiEncoder(keras.layers.Layer):
    """M encoders of one architecture that share no weights (MixMo, figure 2: the first convolutions).

    Args:
        encoder: A built `keras.Model` from images (H, W, C) to features (h, w, c). It is a template: each member gets a
            copy, freshly initialised, and `encoder` itself is not used.
        num_members: M ≥ 1.
        shared: Whether all members use one copy (an ablation of the paper).
        seed: Integer from which the copies' initial weights follow. Defaults to a random one.

    Call arguments:
        images: (B, M, H, W, C), an image for each member, or (B, H, W, C), the same image for all of them.
        stacked: Whether the features come in one tensor, or each member's on its own, which saves `MixingBlock` a copy.

    Returns:
        Features (B, M, h, w, c); or a list of M of (B, h, w, c).
    """

    def __init__(self, encoder: keras.Model, num_members: int, shared: bool = False, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        arguments.instance("encoder", encoder, keras.Model, "a built keras.Model")
        self.num_members = arguments.integer("num_members", num_members, least=1)
        self.shared = arguments.boolean("shared", shared)
        self.seed = seeds.resolve(seed)
        self._template = keras.saving.serialize_keras_object(encoder)
        self.encoders = [self._copy(member) for member in range(1 if self.shared else self.num_members)]

    def _copy(self, member: int) -> keras.Model:
        numbers = itertools.count()
        config = _reseeded(self._template, lambda: seeds.derive(self.seed, "encoder", member, next(numbers)))
        config["config"]["name"] = f"encoder_{member}"
        return keras.saving.deserialize_keras_object(config)

    def call(self, images, training=None, stacked=True):
        each_its_own = len(images.shape) == 5
        if each_its_own and images.shape[1] != self.num_members:
            raise ValueError(
                f"`images` must be (B, M, H, W, C) with M={self.num_members} members, or (B, H, W, C) for the same image "
                f"in every member; got {tuple(images.shape)}."
            )
        if not self.shared:
            inputs = ops.unstack(images, axis=1) if each_its_own else [images] * self.num_members
            features = [encode(one, training=training) for encode, one in zip(self.encoders, inputs, strict=True)]
        elif each_its_own:
            together = self.encoders[0](ops.reshape(images, (-1, *images.shape[2:])), training=training)
            features = ops.unstack(ops.reshape(together, (-1, self.num_members, *together.shape[1:])), axis=1)
        else:
            features = [self.encoders[0](images, training=training)] * self.num_members
        return ops.stack(features, axis=1) if stacked else features

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.num_members, *self.encoders[0].output_shape[1:])

    def get_config(self):
        return {
            **super().get_config(),
            "encoder": copy.deepcopy(self._template),  # Keras empties what it deserializes
            "num_members": self.num_members,
            "shared": self.shared,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        encoder = keras.saving.deserialize_keras_object(copy.deepcopy(config["encoder"]))
        return cls(**{**config, "encoder": encoder})


def _reseeded(config: Any, next_seed: Callable[[], int]) -> Any:
    """A configuration with the seeds of initializers, and of dropout, replaced: equal ones would make equal encoders."""
    if isinstance(config, (list, tuple)):
        return type(config)(_reseeded(value, next_seed) for value in config)
    if not isinstance(config, dict):
        return config
    config = {key: _reseeded(value, next_seed) for key, value in config.items()}
    if isinstance(config.get("config"), dict) and "seed" in config["config"]:
        config["config"]["seed"] = next_seed()
    return config


def is_linear(encoder: keras.Model) -> bool:
    """Whether an encoder is one convolution without activation, and padding: what can be summed over the members."""
    linear_layers = (keras.layers.InputLayer, keras.layers.ZeroPadding2D, keras.layers.Identity)
    others = [one for one in graphs.operations(encoder) if not isinstance(one, linear_layers)]
    return (
        len(others) == 1
        and type(others[0]) in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
        and others[0].activation is keras.activations.linear
    )


@keras.saving.register_keras_serializable("mixmo_keras")
class MixingBlock(keras.layers.Layer):
    """mixed = M · Σ_i mask_i ⊙ features_i (MixMo, equation 2; the factor M keeps the scale of one encoder's features).

    Call arguments:
        features: (B, M, h, w, c); or a list of M of (B, h, w, c), which saves a step of training its copy of them all.
        masks: (B, M, h, w, 1 or c), summing to one over the members. `None` means 1/M each, as at inference.

    Returns:
        (B, h, w, c).
    """

    def call(self, features, masks=None):
        listed = isinstance(features, (list, tuple))
        shape = (features[0].shape[0], len(features), *features[0].shape[1:]) if listed else tuple(features.shape)
        if len(shape) != 5:
            raise ValueError(f"`features` must be (B, M, h, w, c), got {shape}.")
        if masks is None:
            return sum(features) if listed else ops.sum(features, axis=1)
        beside = zip(masks.shape[1:4], shape[1:4], strict=False)
        if len(masks.shape) != 5 or any(None not in pair and pair[0] != pair[1] for pair in beside):
            raise ValueError(
                "`masks` must be (B, M, h, w, 1 or c) beside `features` (B, M, h, w, c); "
                f"got masks {tuple(masks.shape)} and features {shape}."
            )
        masks = shape[1] * ops.cast(masks, self.compute_dtype)
        if listed:
            return sum(mask * one for mask, one in zip(ops.unstack(masks, axis=1), features, strict=True))
        return ops.sum(masks * features, axis=1)

    def compute_output_shape(self, features_shape, masks_shape=None):
        return (features_shape[0], *features_shape[2:])


@keras.saving.register_keras_serializable("mixmo_keras")
class MultiHead(keras.layers.Layer):
    """M dense heads, one per member, computed as one product.

    Args:
        num_members: M ≥ 1.
        num_outputs: K ≥ 1 of each head: of K classes, their logits.
        shared: Whether all members use one head (an ablation of the paper).
        kernel_initializer: Of the heads' common (F, M·K) kernel; fan-in initializers see F whatever M. Defaults to He's.

    Call arguments:
        features: (B, F), of the core.

    Returns:
        Logits (B, M, K).
    """

    def __init__(
        self, num_members: int, num_outputs: int, shared: bool = False, kernel_initializer="he_normal", **kwargs
    ):
        super().__init__(**kwargs)
        self.num_members = arguments.integer("num_members", num_members, least=1)
        self.num_outputs = arguments.integer("num_outputs", num_outputs, least=1)
        self.shared = arguments.boolean("shared", shared)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.dense = keras.layers.Dense(
            self.num_outputs if self.shared else self.num_members * self.num_outputs,
            kernel_initializer=self.kernel_initializer,
            dtype=self.dtype_policy,
            name="dense",
        )

    def build(self, input_shape):
        if len(input_shape) != 2:
            raise ValueError(f"`features` must be (B, F): pool the core's output first. Got {tuple(input_shape)}.")
        self.dense.build(input_shape)

    def call(self, features):
        logits = ops.reshape(self.dense(features), (-1, 1 if self.shared else self.num_members, self.num_outputs))
        return ops.repeat(logits, self.num_members, axis=1) if self.shared else logits

    def merged(self, features, weights: list):
        """What one head with these weights, such as the mean of all heads', makes of symbolic features: (B, K)."""
        dense = keras.layers.Dense(self.num_outputs, name="head")
        logits = dense(features)
        dense.set_weights(weights)
        return logits

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.num_members, self.num_outputs)

    def get_config(self):
        return {
            **super().get_config(),
            "num_members": self.num_members,
            "num_outputs": self.num_outputs,
            "shared": self.shared,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }

    @classmethod
    def from_config(cls, config):
        known_before = {"num_outputs": config["num_classes"]} if "num_classes" in config else {}  # in earlier files
        return cls(**{name: value for name, value in config.items() if name != "num_classes"} | known_before)
