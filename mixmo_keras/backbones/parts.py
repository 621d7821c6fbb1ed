"""What the residual networks here are made of, with initial weights that follow from one seed."""

import keras
from keras import layers

from mixmo_keras import seeds


class Parts:
    """Convolutions without bias, He-initialised (truncated normal, fan-in), and batch norm as the papers' code has it.

    Args:
        seed: integer from which the initial weights follow, each convolution's by its number; `None` for random ones.
    """

    def __init__(self, seed: int | None):
        self._seed = seed
        self._count = 0

    def convolution(
        self, x, filters: int, size: int, strides: int = 1, symmetric: bool = False, name: str | None = None
    ):
        """A convolution of x that keeps its size but for strides.

        `symmetric` pads both sides alike, as PyTorch does; TensorFlow's "same" pads even sizes by one less at the top and
        left when strides are 2.
        """
        seed = None if self._seed is None else seeds.derive(self._seed, "core", self._count)
        self._count += 1
        if symmetric and size > 1:
            x = layers.ZeroPadding2D(size // 2, name=name and f"{name}_pad")(x)
        return layers.Conv2D(
            filters,
            size,
            strides,
            padding="valid" if symmetric else "same",
            use_bias=False,
            kernel_initializer=keras.initializers.HeNormal(seed),
            name=name,
        )(x)

    @staticmethod
    def norm_relu(x, name: str):
        """Batch norm and ReLU; PyTorch's momentum 0.1 is 0.9 here."""
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
        return layers.ReLU(name=f"{name}_relu")(x)
