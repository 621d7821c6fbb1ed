"""What the residual networks here are made of, with initial weights that follow from one seed."""

import keras
from keras import layers

from mixmo_keras import seeds
from mixmo_keras.networks.stochastic_depth import AddRows, StochasticDepth, TakeRows


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


class Branches:
    """The residual branches of a network, one after the other, with stochastic depth; without any where the rate is 0.

        x, add = branches(shortcut, "block1")
        ...                                    # the branch: x becomes what it adds
        x = add(shortcut, x)

    Args:
        rate: of every branch, or of the last one if `ramp`.
        num_branches: how many there are.
        ramp: whether the rate rises evenly, from rate / num_branches at the first.
        efficient: whether a branch is computed for the rows alone that keep it.
    """

    def __init__(self, rate: float, num_branches: int, ramp: bool, efficient: bool):
        if not 0 <= rate < 1:
            raise ValueError(f"`drop_path` must be a probability within [0, 1), got {rate}.")
        if not rate and (ramp or efficient):
            option = "drop_path_ramp" if ramp else "efficient_drop_path"
            raise ValueError(f"`{option}` has no meaning without `drop_path`.")
        self._rates = iter([rate * (index + 1) / num_branches if ramp else rate for index in range(num_branches)])
        self._efficient = efficient

    def __call__(self, x, name: str, number: int | str = ""):
        """What a branch begins with, and how it is added to its shortcut."""
        rate = next(self._rates)
        if rate and self._efficient:
            x, places = TakeRows(rate, name=f"{name}_take{number}")(x)
            return x, lambda shortcut, branch: AddRows(name=f"{name}_add{number}")(branch, shortcut, places)

        def add(shortcut, branch):
            if rate:
                branch = StochasticDepth(rate, name=f"{name}_drop{number}")(branch)
            return layers.Add(name=f"{name}_add{number}")([branch, shortcut])

        return x, add
