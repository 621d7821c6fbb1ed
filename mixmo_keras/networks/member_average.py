"""From the members' logits to the ensemble's."""

import warnings

import keras

from mixmo_keras.common import arguments
from mixmo_keras.metrics.pooling import AVERAGING, average
from mixmo_keras.networks.temperature import Temperature

TEMPERATURE_APPLIES_TO = ("ensemble", "members")
OTHER_TRAINING = (
    "A mixmo_keras model is trained by another model, or loop, than its own: all members see the same image, nothing is "
    "mixed, augmented or regularised, and what trains is no ensemble. Call the `fit` or `train_on_batch` of the model "
    "itself. Layers before it belong into the data, or into the backbone's `preprocessing`. To use the model as it is, set "
    "trainable = False."
)


@keras.saving.register_keras_serializable("mixmo_keras")
class MemberAverage(Temperature):
    """The ensemble's logits from its members': their softmax is the prediction.

    Args:
        averaging: `"logits"` averages logits (MixMo's implementation); `"probabilities"` averages probabilities (MIMO)
            and returns their logarithms.
        temperature: T > 0, by which logits are divided; 1 for none. A weight, as in `Temperature`.
        temperature_applies_to: Whether T divides the `"ensemble"`'s logits or the `"members"`', before they are averaged.
        threshold: Of two classes, the second one's probability from which an exported model names it, within (0, 1).
            Defaults to the most probable class. It may be set later, and changes no logits.

    Call arguments:
        logits: (B, M, K), or of pixels (B, M, H, W, K).

    Returns:
        (B, K), or (B, H, W, K).

    Warns:
        UserWarning: the call is part of a training step. An ensemble's own step trains members, and averages nothing.
    """

    def __init__(
        self,
        averaging: str = "logits",
        temperature: float = 1.0,
        temperature_applies_to: str = "ensemble",
        threshold: float | None = None,
        **kwargs,
    ):
        super().__init__(temperature, **kwargs)
        self.averaging = arguments.choice("averaging", averaging, AVERAGING)
        self.temperature_applies_to = arguments.choice(
            "temperature_applies_to", temperature_applies_to, TEMPERATURE_APPLIES_TO
        )
        self.threshold = threshold

    @property
    def threshold(self) -> float | None:
        return self._threshold

    @threshold.setter
    def threshold(self, value: float | None):
        self._threshold = None if value is None else arguments.number("threshold", value, above=0, below=1)

    def pool(self, logits):
        """The ensemble's logits (B, K) of its members' (B, M, K), without temperature."""
        return average(logits, self.averaging)

    def call(self, logits, training=None):
        if training and self.trainable:
            warnings.warn(OTHER_TRAINING, stacklevel=2)
        if self.averaging == "probabilities" and self.temperature_applies_to == "members":
            return self.pool(super().call(logits))
        return super().call(self.pool(logits))  # where logits are averaged, both are the same

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *input_shape[2:])

    def get_config(self):
        return {
            **super().get_config(),
            "averaging": self.averaging,
            "temperature_applies_to": self.temperature_applies_to,
            "threshold": self.threshold,
        }
