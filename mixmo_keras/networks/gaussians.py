"""Heads that give Gaussians, and the layer that pools members' Gaussians as a mixture."""

import keras
import numpy as np
from keras import ops

from mixmo_keras.common import arguments
from mixmo_keras.networks.layers import MultiHead
from mixmo_keras.networks.temperature import FIXED, Temperature

LOG_VARIANCES = (-14.0, 14.0)  # of a standardised target: beyond it an exponential overflows, or a deviation is none


@keras.saving.register_keras_serializable("mixmo_keras")
class GaussianHead(MultiHead):
    """M heads that give a mean and a variance of each of D targets, in the targets' units.

    Dense layers give the mean and the logarithm of the variance of *standardised* targets, (y − mean)/deviation. The mean
    and deviation of the targets are weights of the layer that are not trained.

    Args:
        num_members: M.
        num_targets: D.
        shared, kernel_initializer: As in `MultiHead`.

    Call arguments:
        features: (B, F), of the core.

    Returns:
        Means and variances (B, M, D, 2), float32.
    """

    def __init__(
        self, num_members: int, num_targets: int, shared: bool = False, kernel_initializer="he_normal", **kwargs
    ):
        num_targets = arguments.integer("num_targets", num_targets, least=1)
        super().__init__(num_members, 2 * num_targets, shared, kernel_initializer, **kwargs)
        self.num_targets = num_targets
        shape = (self.num_targets,)
        self.mean = self.add_weight(name="target_mean", shape=shape, initializer="zeros", **FIXED)
        self.deviation = self.add_weight(name="target_deviation", shape=shape, initializer="ones", **FIXED)
        self._standardizes = self.add_weight(name="standardizes", shape=(), initializer="zeros", **FIXED)

    @property
    def standardizes(self) -> bool:
        """Whether the mean and the deviation of the targets are known."""
        return bool(ops.convert_to_numpy(self._standardizes))

    def standardize(self, mean, deviation) -> None:
        """Sets the mean and the deviation of the targets, (D,) each."""
        self.mean.assign(np.asarray(mean, "float32"))
        self.deviation.assign(np.asarray(deviation, "float32"))
        self._standardizes.assign(1.0)

    def call(self, features):
        raw = ops.cast(super().call(features), "float32")
        raw = ops.reshape(raw, (-1, self.num_members, self.num_targets, 2))
        deviation = ops.convert_to_tensor(self.deviation)
        mean = ops.convert_to_tensor(self.mean) + deviation * raw[..., 0]
        variance = ops.square(deviation) * ops.exp(ops.clip(raw[..., 1], *LOG_VARIANCES))
        return ops.stack([mean, variance], axis=-1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.num_members, self.num_targets, 2)

    def compute_output_spec(self, features):
        return keras.KerasTensor(self.compute_output_shape(features.shape), dtype="float32")

    def get_config(self):
        config = {name: value for name, value in super().get_config().items() if name != "num_outputs"}
        return {**config, "num_targets": self.num_targets}


@keras.saving.register_keras_serializable("mixmo_keras")
class GaussianMixture(Temperature):
    """The mean and variance of the mixture of all members' Gaussians, times a scale that calibration fits.

    Args:
        num_targets: D.
        temperature: The factor of all deviations; 1 for none.
        width: Half the width of intervals, in deviations, for all targets; a weight (D,), which calibration fits.

    Call arguments:
        outputs: Means and variances (B, M, D, 2).

    Returns:
        (B, D, 3): the mean; the aleatoric variance, the mean of the members' variances; the epistemic variance, that of
        their means. Their sum is the variance.
    """

    averaging, temperature_applies_to = "probabilities", "ensemble"  # a mixture is a mean of densities

    def __init__(self, num_targets: int, temperature: float = 1.0, width: float = 1.645, **kwargs):
        super().__init__(temperature, **kwargs)
        self.num_targets = arguments.integer("num_targets", num_targets, least=1)
        initializer = keras.initializers.Constant(arguments.number("width", width, above=0))
        self._width = self.add_weight(name="width", shape=(self.num_targets,), initializer=initializer, **FIXED)

    @property
    def width(self) -> np.ndarray:
        """Half the width of intervals, in deviations, (D,)."""
        return ops.convert_to_numpy(self._width)

    @width.setter
    def width(self, values):
        self._width.assign(np.asarray(values, "float32"))

    def pool(self, outputs):
        """The mixture's mean and variances without the scale."""
        means, variances = outputs[..., 0], outputs[..., 1]
        mean = ops.mean(means, axis=1)
        epistemic = ops.mean(ops.square(means - mean[:, None]), axis=1)
        return ops.stack([mean, ops.mean(variances, axis=1), epistemic], axis=-1)

    def call(self, outputs):
        pooled = self.pool(outputs)
        scale = ops.square(ops.cast(ops.convert_to_tensor(self._temperature), pooled.dtype))
        return ops.concatenate([pooled[..., :1], pooled[..., 1:] * scale], axis=-1)

    def interval(self, pooled):
        """The ends of the intervals (B, D) of pooled outputs (B, D, 3)."""
        half = ops.convert_to_tensor(self._width) * ops.sqrt(pooled[..., 1] + pooled[..., 2])
        return pooled[..., 0] - half, pooled[..., 0] + half

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[2], 3)

    def get_config(self):
        return {**super().get_config(), "num_targets": self.num_targets}
