"""What a backbone is."""

import dataclasses

import keras

from mixmo_keras import keras_internals
from mixmo_keras.common import arguments
from mixmo_keras.common.settings import Settings


@keras.saving.register_keras_serializable("mixmo_keras")
@dataclasses.dataclass(frozen=True)
class Backbone(Settings):
    """A network in two parts, between which members are mixed.

    Attributes:
        encoder: From images (H, W, C) to features (h, w, c). Each member gets a copy of its own.
        core: From features (h, w, c) to a vector (F,). The members share it.
        head_stddev: Standard deviation of the heads' initial weights. Defaults to He's.
        preprocessing: What the network does to images before the encoder, in place of the model's normalisation: from raw
            images (H, W, C) to what the encoder takes. It is done once for all members and not trained. Defaults to none.
    """

    encoder: keras.Model
    core: keras.Model
    head_stddev: float | None = None
    preprocessing: keras.Model | None = None  # files of earlier versions lack it

    def __post_init__(self):
        for name in ("encoder", "core"):
            arguments.instance(name, getattr(self, name), keras.Model, "a built keras.Model")
        if self.head_stddev is not None:
            stddev = arguments.number("head_stddev", self.head_stddev, above=0, otherwise=", or None for He's")
            object.__setattr__(self, "head_stddev", stddev)
        produced, expected = self.encoder.output_shape, self.core.input_shape
        if len(produced) != 4 or tuple(produced[1:]) != tuple(expected[1:]):
            raise ValueError(
                f"The encoder's output {produced} must be a map (B, h, w, c) and fit the core's input {expected}."
            )
        if self.preprocessing is not None:
            arguments.instance("preprocessing", self.preprocessing, keras.Model, "a built keras.Model or None")
            prepared, expected = self.preprocessing.output_shape, self.encoder.input_shape
            if tuple(prepared[1:]) != tuple(expected[1:]):
                raise ValueError(f"The preprocessing's output {prepared} must fit the encoder's input {expected}.")
        if len(self.core.output_shape) != 2:
            raise ValueError(
                f"The core must end in a vector (B, F), as after pooling; it ends in {self.core.output_shape}."
            )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the images."""
        return tuple((self.preprocessing or self.encoder).input_shape[1:])

    @property
    def dtype_policy(self) -> keras.DTypePolicy:
        """The dtype policy under which the network was built: the core's, as an encoder may keep to float32."""
        return _policy(self.core) or self.encoder_dtype_policy

    @property
    def encoder_dtype_policy(self) -> keras.DTypePolicy:
        """The dtype policy of the encoder, by which images are normalised for it."""
        return _policy(self.encoder) or keras.config.dtype_policy()


def _policy(network: keras.Model) -> keras.DTypePolicy | None:
    """The dtype policy of a network's first layer with weights; `None` if it has none."""
    layers = keras_internals.flatten_layers(network, include_self=False)
    return next((one.dtype_policy for one in layers if one.weights and not isinstance(one, keras.Model)), None)
