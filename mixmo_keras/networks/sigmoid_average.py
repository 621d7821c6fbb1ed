"""From the members' logits of labels that each hold or don't to the ensemble's."""

import keras
import numpy as np
from keras import ops

from mixmo_keras.common import arguments
from mixmo_keras.metrics.pooling import average_sigmoids
from mixmo_keras.networks.member_average import MemberAverage
from mixmo_keras.networks.temperature import FIXED


@keras.saving.register_keras_serializable("mixmo_keras")
class SigmoidAverage(MemberAverage):
    """The ensemble's logits (B, K) of its members' (B, M, K), each label on its own.

    It keeps the labels' thresholds, and temperatures of their own, by which logits are divided beside the common one.

    Args:
        num_labels: K.
        averaging: `"logits"`, or `"probabilities"`, of which it returns the logits.
        temperature, temperature_applies_to: As in `MemberAverage`.
    """

    def __init__(
        self, num_labels: int, averaging: str = "logits", temperature=1.0, temperature_applies_to="ensemble", **kwargs
    ):
        super().__init__(averaging, temperature, temperature_applies_to, **kwargs)
        self.num_labels = arguments.integer("num_labels", num_labels, least=1)
        shape, half = (self.num_labels,), keras.initializers.Constant(0.5)
        self._thresholds = self.add_weight(name="thresholds", shape=shape, initializer=half, **FIXED)
        self._label_temperatures = self.add_weight(name="label_temperatures", shape=shape, initializer="ones", **FIXED)

    def load_own_variables(self, store):
        """As Keras does; files of an earlier version have no temperatures of labels, which are then 1."""
        for place, weight in enumerate(self.weights):
            if str(place) in store:
                weight.assign(store[str(place)])

    @property
    def thresholds(self) -> np.ndarray:
        """The probability of each label (K,) from which it is said to hold."""
        return ops.convert_to_numpy(self._thresholds)

    @thresholds.setter
    def thresholds(self, values):
        found = np.asarray(values, "float32")
        if found.shape != (self.num_labels,) or not ((found >= 0) & (found <= 1)).all():
            raise ValueError(f"`thresholds` must be {self.num_labels} numbers within [0, 1], got {values!r}.")
        self._thresholds.assign(found)

    @property
    def label_temperatures(self) -> np.ndarray:
        """The temperature of each label (K,), beside the common one; 1 for none."""
        return ops.convert_to_numpy(self._label_temperatures)

    @label_temperatures.setter
    def label_temperatures(self, values):
        found = np.asarray(values, "float32")
        if found.shape != (self.num_labels,) or not (np.isfinite(found) & (found > 0)).all():
            raise ValueError(f"`label_temperatures` must be {self.num_labels} positive numbers, got {values!r}.")
        self._label_temperatures.assign(found)

    def call(self, logits, training=None):
        of_labels = ops.cast(ops.convert_to_tensor(self._label_temperatures), logits.dtype)
        if self.averaging == "probabilities" and self.temperature_applies_to == "members":
            return super().call(logits / of_labels, training=training)
        return super().call(logits, training=training) / of_labels

    def pool(self, logits):
        return average_sigmoids(logits, self.averaging)

    def hold(self, probabilities):
        """Whether labels of probabilities (n, K) hold, at their thresholds."""
        return probabilities >= ops.convert_to_tensor(self._thresholds)

    def get_config(self):
        return {**super().get_config(), "num_labels": self.num_labels}
