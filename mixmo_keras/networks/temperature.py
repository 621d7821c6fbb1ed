"""The temperature of a softmax, kept as a weight."""

from typing import Any

import keras
from keras import ops

from mixmo_keras.common import arguments

# of a weight that is set and not trained: the same in all replicas
FIXED: dict[str, Any] = dict(trainable=False, dtype="float32", autocast=False, aggregation="only_first_replica")


@keras.saving.register_keras_serializable("mixmo_keras")
class Temperature(keras.layers.Layer):
    """Divides logits by a temperature T > 0 (Guo et al., 2017, "On calibration of modern neural networks").

    T is a weight of the layer that is not trained: setting `temperature` assigns it, so that what was traced before uses
    the new one.

    Args:
        temperature: T; 1 for none.
    """

    def __init__(self, temperature: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        start = keras.initializers.Constant(arguments.number("temperature", temperature, above=0))
        self._temperature = self.add_weight(name="temperature", shape=(), initializer=start, **FIXED)

    @property
    def temperature(self) -> float:
        return float(ops.convert_to_numpy(self._temperature))

    @temperature.setter
    def temperature(self, value: float):
        self._temperature.assign(arguments.number("temperature", value, above=0))

    def call(self, logits):
        return logits / ops.cast(self._temperature, logits.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}
