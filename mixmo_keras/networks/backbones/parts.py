"""What the residual networks here are made of, with initial weights that follow from one seed."""

from collections.abc import Sequence

import keras
from keras import layers

from mixmo_keras import seeds
from mixmo_keras.common import arguments
from mixmo_keras.networks.fused_layers import BatchNormalization
from mixmo_keras.networks.stochastic_depth import AddRows, DropPath, StochasticDepth, TakeRows


class InitialSeeds:
    """Seeds of a core's initial weights, one after the other; `None` each time where `seed` is `None`."""

    def __init__(self, seed: int | None):
        self._seed = None if seed is None else arguments.integer("seed", seed)
        self._count = 0

    def next(self) -> int | None:
        seed = None if self._seed is None else seeds.derive(self._seed, "core", self._count)
        self._count += 1
        return seed


class Parts:
    """Convolutions without bias, He-initialised (truncated normal, fan-in), and batch norm as the papers' code has it.

    Args:
        seed: Integer from which the initial weights follow, each convolution's by its number. `None` for random ones.
    """

    def __init__(self, seed: int | None):
        self._seeds = InitialSeeds(seed)

    def kernel(self) -> keras.Initializer:
        """Returns the next convolution's initializer."""
        return keras.initializers.HeNormal(self._seeds.next())

    def convolution(
        self,
        x,
        filters: int,
        size: int,
        strides: int = 1,
        symmetric: bool = False,
        name: str | None = None,
        groups: int = 1,
    ):
        """A convolution of x that keeps its size but for strides.

        `symmetric` pads both sides alike, as PyTorch does; TensorFlow's "same" pads even sizes by one less at the top and
        left when strides are 2.
        """
        kernel = self.kernel()
        if symmetric and size > 1:
            x = layers.ZeroPadding2D(size // 2, name=name and f"{name}_pad")(x)
        return layers.Conv2D(
            filters,
            size,
            strides,
            padding="valid" if symmetric else "same",
            groups=groups,
            use_bias=False,
            kernel_initializer=kernel,
            name=name,
        )(x)

    @staticmethod
    def norm(x, name: str):
        """Batch norm; PyTorch's momentum 0.1 is 0.9 here."""
        return BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)

    @staticmethod
    def norm_relu(x, name: str):
        """Batch norm and ReLU."""
        return layers.ReLU(name=f"{name}_relu")(Parts.norm(x, name))


class Branches:
    """The residual branches of a network, one after the other, with stochastic depth; without any where the rate is 0.

        x, add = branches(shortcut, "block1")
        ...                                    # the branch: x becomes what it adds
        x = add(shortcut, x)

    Args:
        drop_path: The rates of the branches, and whether one is computed only for the rows that keep it.
        num_branches: Number of branches in the network.
    """

    def __init__(self, drop_path: DropPath, num_branches: int):
        self._rates = iter(drop_path.rates(num_branches))
        self._efficient = drop_path.efficient

    def __call__(self, x, name: str, number: int | str = ""):
        """Returns what a branch begins with, and the function that adds it to its shortcut."""
        rate = next(self._rates)
        if rate and self._efficient:
            x, indices = TakeRows(rate, name=f"{name}_take{number}")(x)
            return x, lambda shortcut, branch: AddRows(name=f"{name}_add{number}")(branch, shortcut, indices)

        def add(shortcut, branch):
            if rate:
                branch = StochasticDepth(rate, name=f"{name}_drop{number}")(branch)
            return layers.Add(name=f"{name}_add{number}")([branch, shortcut])

        return x, add


def check_divides(name: str, value: int, input_shape: tuple[int, int, int], times: int = 1) -> None:
    """Raises where a number of pixels, or some times it, doesn't divide the images' height and width.

    Args:
        name: Of the argument that is the number.
        value: The number of pixels.
        input_shape: (H, W, C) of the images.
        times: How many times the number must divide them.
    """
    height, width, _ = input_shape
    if height % (times * value) or width % (times * value):
        divisor = f"`{name}` (={value})" if times == 1 else f"{times} times `{name}` (={value})"
        raise ValueError(f"{divisor} must divide the images' height and width, {height}×{width}.")


def one_for_each_stage(name: str, values: Sequence[int] | None, usual: Sequence[int]) -> tuple[int, ...]:
    """Returns the positive integers of a network's stages, `usual` where `values` is `None`."""
    if values is None:
        return tuple(usual)
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != len(usual):
        raise ValueError(f"`{name}` must be {len(usual)} integers, one for each stage, or None; got {values!r}.")
    return tuple(arguments.integer(name, value, least=1) for value in values)
