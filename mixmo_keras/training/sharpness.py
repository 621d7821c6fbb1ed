"""Sharpness-aware minimisation (SAM; Foret et al., ICLR 2021): weights whose neighbours have a low loss too.

A step goes down the gradient that it finds a little uphill, at w + ε, on the same batch:

    ε = ρ·g / ‖g‖ with g = ∇L(w),        w ← w − η·∇L(w + ε)

‖g‖ is that of all weights together. Adaptive SAM (ASAM; Kwon et al., ICML 2021) measures the distance in units of each
weight, so that it does not depend on the scale of a layer: ε = ρ·w²g / ‖|w|·g‖.
"""

import dataclasses

import keras
from keras import ops

from mixmo_keras.common import arguments
from mixmo_keras.common.settings import Settings, setting


@keras.saving.register_keras_serializable("mixmo_keras")
@dataclasses.dataclass(frozen=True)
class SAM(Settings):
    """Sharpness-aware minimisation, as `model.compile(sharpness=SAM())`: a step computes two gradients, so it takes twice
    the time.

    Both gradients are of the same rows, mixed, augmented and dropped alike, and of all that is minimised, L2 too, as in the
    paper's code. Batch norm's moving averages, and the loss and the metrics that are shown, are those of the weights
    themselves. Each replica of a `tf.distribute` strategy goes uphill for its own rows (the paper's m-sharpness).

    Args:
        radius: ρ > 0, how far uphill. The paper uses 0.05, and 0.1 for CIFAR-100; ASAM's use 0.5 and 1.
        adaptive: Whether distance is measured in units of each weight.
    """

    radius: float = setting(0.05, "ρ, how far uphill", arguments.number, above=0)
    adaptive: bool = setting(False, "whether distance is in units of each weight", arguments.boolean)

    def uphill(self, values: list, gradients: list) -> list:
        """w + ε of each weight.

        Args:
            values: w, arrays of any shapes.
            gradients: g of each, or `None`; a factor that all have in common, such as that of loss scaling, changes nothing.

        Returns:
            Arrays of the same shapes; the values themselves where all gradients are zero.
        """
        units = [ops.abs(w) if self.adaptive else 1.0 for w in values]
        scaled = [None if g is None else unit * g for unit, g in zip(units, gradients, strict=True)]
        norm = ops.sqrt(sum(ops.sum(ops.square(g)) for g in scaled if g is not None))
        step = ops.where(norm > 0, self.radius / ops.where(norm > 0, norm, 1.0), 0.0)
        moves = zip(values, units, scaled, strict=True)
        return [w if g is None else w + step * unit * g for w, unit, g in moves]
