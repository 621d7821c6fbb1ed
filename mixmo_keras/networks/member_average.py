"""From the members' logits to the ensemble's."""

import keras
from keras import ops

from mixmo_keras import arguments

AVERAGING = ("logits", "probabilities")
TEMPERATURE_APPLIES_TO = ("ensemble", "members")


@keras.saving.register_keras_serializable("mixmo_keras")
class MemberAverage(keras.layers.Layer):
    """The ensemble's logits from its members': their softmax is the prediction.

    Args:
        averaging: `"logits"` averages logits (MixMo's implementation); `"probabilities"` averages probabilities (MIMO)
            and returns their logarithms.
        temperature: T > 0, by which logits are divided; 1 for none. A weight of the layer that is not trained: setting
            `temperature` assigns it, so that what was traced before uses the new one.
        temperature_applies_to: whether T divides the `"ensemble"`'s logits or the `"members"`', before they are averaged.

    Call arguments:
        logits: (B, M, K).

    Returns:
        (B, K).
    """

    def __init__(
        self, averaging: str = "logits", temperature: float = 1.0, temperature_applies_to: str = "ensemble", **kwargs
    ):
        super().__init__(**kwargs)
        self.averaging = arguments.choice("averaging", averaging, AVERAGING)
        self.temperature_applies_to = arguments.choice(
            "temperature_applies_to", temperature_applies_to, TEMPERATURE_APPLIES_TO
        )
        self._temperature = self.add_weight(
            name="temperature",
            shape=(),
            initializer=keras.initializers.Constant(arguments.number("temperature", temperature, above=0)),
            trainable=False,
            dtype="float32",
            autocast=False,
            aggregation="only_first_replica",  # the same in all
        )

    def build(self, input_shape):
        self.built = True

    @property
    def temperature(self) -> float:
        return float(ops.convert_to_numpy(self._temperature))

    @temperature.setter
    def temperature(self, value: float):
        self._temperature.assign(arguments.number("temperature", value, above=0))

    def call(self, logits):
        temperature = ops.cast(self._temperature, logits.dtype)
        if self.averaging == "logits":  # where T divides makes no difference
            return ops.mean(logits, axis=1) / temperature
        if self.temperature_applies_to == "members":
            logits = logits / temperature
        log_members = ops.cast(ops.log(float(logits.shape[1])), logits.dtype)
        pooled = ops.logsumexp(ops.log_softmax(logits, axis=-1), axis=1) - log_members
        return pooled / temperature if self.temperature_applies_to == "ensemble" else pooled

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[2])

    def get_config(self):
        return {
            **super().get_config(),
            "averaging": self.averaging,
            "temperature": self.temperature,
            "temperature_applies_to": self.temperature_applies_to,
        }
