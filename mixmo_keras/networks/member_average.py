"""From the members' logits to the ensemble's."""

import keras
from keras import ops

AVERAGING = ("logits", "probabilities")
TEMPERING = ("ensemble", "members")


@keras.saving.register_keras_serializable("mixmo_keras")
class MemberAverage(keras.layers.Layer):
    """The ensemble's logits from its members': their softmax is the prediction.

    Args:
        averaging: `"logits"` averages logits (MixMo's implementation); `"probabilities"` averages probabilities (MIMO)
            and returns their logarithms.
        temperature: T > 0, by which logits are divided; 1 for none.
        tempering: whether T divides the `"ensemble"`'s logits or the `"members"`', before they are averaged.

    Call arguments:
        logits: (B, M, K).

    Returns:
        (B, K).
    """

    def __init__(self, averaging: str = "logits", temperature: float = 1.0, tempering: str = "ensemble", **kwargs):
        super().__init__(**kwargs)
        if averaging not in AVERAGING:
            raise ValueError(f"`averaging` must be one of {', '.join(AVERAGING)}, got {averaging!r}.")
        if not 0 < temperature < float("inf"):
            raise ValueError(f"`temperature` must be a positive number, got {temperature}.")
        if tempering not in TEMPERING:
            raise ValueError(f"`tempering` must be one of {', '.join(TEMPERING)}, got {tempering!r}.")
        self.averaging, self.temperature, self.tempering = averaging, float(temperature), tempering

    def call(self, logits):
        if self.averaging == "logits":  # where T divides makes no difference
            return ops.mean(logits, axis=1) / self.temperature
        if self.tempering == "members":
            logits = logits / self.temperature
        pooled = ops.logsumexp(ops.log_softmax(logits, axis=-1), axis=1) - ops.log(float(logits.shape[1]))
        return pooled / self.temperature if self.tempering == "ensemble" else pooled

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[2])

    def get_config(self):
        return {
            **super().get_config(),
            "averaging": self.averaging,
            "temperature": self.temperature,
            "tempering": self.tempering,
        }
