"""Heads that give the classes of pixels: a decoder of a core's maps, shared by the members, and a 1×1 convolution each."""

from collections.abc import Callable

import keras
import numpy as np
from keras import layers, ops

from mixmo_keras import seeds
from mixmo_keras.common import arguments
from mixmo_keras.networks.backbones.parts import InitialSeeds
from mixmo_keras.networks.copying import dtype_policy
from mixmo_keras.networks.layers import MultiHead

POOLED_SIZES = (1, 2, 3, 6)  # of UPerNet's pyramid


@keras.saving.register_keras_serializable("mixmo_keras")
class Resampled(layers.Layer):
    """Maps (B, h, w, c) at another size: bilinear, or the averages of its parts. A product with a matrix for each axis.

    Args:
        size: (height, width).
        method: `"bilinear"`, pixels' middles aligned; or `"average"`, of parts that may overlap by a pixel, as PyTorch's
            adaptive pooling has them.
    """

    def __init__(self, size: tuple[int, int], method: str = "bilinear", **kwargs):
        super().__init__(**kwargs)
        self.size = arguments.image_size("size", size)
        self.method = arguments.choice("method", method, _MATRICES)

    def call(self, maps):
        if tuple(maps.shape[1:3]) == self.size:
            return maps
        pairs = zip(self.size, maps.shape[1:3], strict=True)
        rows, columns = (ops.convert_to_tensor(_MATRICES[self.method](*pair), maps.dtype) for pair in pairs)
        # products with matrices on the right: LiteRT can't load what TensorFlow makes of `einsum` here
        by_columns = ops.matmul(ops.transpose(maps, (0, 1, 3, 2)), ops.transpose(columns))  # (B, h, c, j)
        by_rows = ops.matmul(ops.transpose(by_columns, (0, 3, 2, 1)), ops.transpose(rows))  # (B, j, c, i)
        return ops.transpose(by_rows, (0, 3, 1, 2))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.size, input_shape[-1])

    def get_config(self):
        return {**super().get_config(), "size": self.size, "method": self.method}


def _bilinear(length: int, of: int) -> np.ndarray:
    """(length, of): how much each of `of` pixels counts for each of `length`."""
    places = np.clip((np.arange(length) + 0.5) * of / length - 0.5, 0, of - 1)
    return np.maximum(1 - np.abs(places[:, None] - np.arange(of)), 0)


def _averages(length: int, of: int) -> np.ndarray:
    numbers, pixels = np.arange(length)[:, None], np.arange(of)
    inside = (pixels >= numbers * of // length) & (pixels < -(-(numbers + 1) * of // length))
    return inside / inside.sum(1, keepdims=True)


_MATRICES = {"bilinear": _bilinear, "average": _averages}


class _Blocks:
    """Convolutions without bias, layer norm and ReLU, with initial weights that follow from one seed."""

    def __init__(self, width: int, seed: int | None):
        self.width, self._seeds = width, InitialSeeds(seed)

    def __call__(self, x, size: int, name: str):
        kernel = keras.initializers.HeNormal(self._seeds.next())
        x = layers.Conv2D(
            self.width, size, padding="same", use_bias=False, kernel_initializer=kernel, name=f"{name}_conv"
        )(x)
        x = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm")(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    def top_down(self, laterals: list) -> list:
        """Adds to each map the next coarser one, which has its own added."""
        summed = [laterals[-1]]
        for number, lateral in reversed(list(enumerate(laterals[:-1]))):
            coarser = Resampled(lateral.shape[1:3], name=f"up{number}")(summed[0])
            summed.insert(0, layers.Add(name=f"sum{number}")([lateral, coarser]))
        return summed


def light(maps: list, block: _Blocks):
    """A feature pyramid (Lin et al., 2017): a 1×1 convolution of each map, sums from the coarsest to the finest, and a 3×3
    convolution of the finest."""
    laterals = [block(one, 1, f"lateral{number}") for number, one in enumerate(maps)]
    return block(block.top_down(laterals)[0], 3, "fused")


def upernet(maps: list, block: _Blocks):
    """UPerNet (Xiao et al., 2018): averages of 1, 2, 3 and 6 parts of the coarsest map beside it, sums from the coarsest to
    the finest, a 3×3 convolution of each, and one of all together. Layer norm is in place of batch norm, and there is no
    second head in training."""
    last = maps[-1]
    pyramid = [last]
    for parts in POOLED_SIZES:
        size = tuple(min(parts, length) for length in last.shape[1:3])
        pooled = block(Resampled(size, "average", name=f"pool{parts}")(last), 1, f"pyramid{parts}")
        pyramid.append(Resampled(last.shape[1:3], name=f"pool{parts}_up")(pooled))
    laterals = [block(one, 1, f"lateral{number}") for number, one in enumerate(maps[:-1])]
    laterals.append(block(layers.Concatenate(name="pyramid")(pyramid), 3, "pyramid_fused"))
    *finer, coarsest = block.top_down(laterals)
    levels = [*(block(one, 3, f"level{number}") for number, one in enumerate(finer)), coarsest]
    if len(levels) == 1:
        return levels[0]
    size = levels[0].shape[1:3]
    together = [Resampled(size, name=f"level{number}_up")(one) for number, one in enumerate(levels)]
    return block(layers.Concatenate(name="levels")(together), 3, "fused")


DECODERS: dict[str, Callable] = {"light": light, "upernet": upernet}


@keras.saving.register_keras_serializable("mixmo_keras")
class MapHead(MultiHead):
    """M heads that give the classes of pixels: one decoder of a core's maps, and a 1×1 convolution for each member.

    Args:
        num_members: M.
        num_outputs: K.
        image_size: (H, W) of the outputs.
        decoder: A name in `DECODERS`.
        width: The decoder's channels.
        shared, kernel_initializer: As in `MultiHead`. The decoder's initial weights follow from the initializer's seed.

    Call arguments:
        maps: A list of (B, h, w, c), the finest first.

    Returns:
        Logits (B, M, H, W, K), float32: enlarged bilinearly.
    """

    def __init__(
        self,
        num_members: int,
        num_outputs: int,
        image_size: tuple[int, int],
        decoder: str = "light",
        width: int = 64,
        shared: bool = False,
        kernel_initializer="he_normal",
        **kwargs,
    ):
        super().__init__(num_members, num_outputs, shared, kernel_initializer, **kwargs)
        self.image_size = arguments.image_size("image_size", image_size)
        self.decoder = arguments.choice("decoder", decoder, DECODERS)
        self.width = arguments.integer("width", width, least=1)
        self.enlarge = Resampled(self.image_size, dtype="float32", name="enlarge")

    def build(self, input_shape):
        shapes = input_shape if isinstance(input_shape[0], (list, tuple)) else [input_shape]
        seed = getattr(self.kernel_initializer, "seed", None)
        block = _Blocks(self.width, seeds.derive(seed, "decoder") if isinstance(seed, int) else None)
        with dtype_policy(self.dtype_policy):
            maps = [keras.Input(shape[1:], name=f"map{number}") for number, shape in enumerate(shapes)]
            self.decode = keras.Model(maps, DECODERS[self.decoder](maps, block), name="decoder")
        self.dense.build(self.decode.output_shape)

    def call(self, maps):
        maps = list(maps) if isinstance(maps, (list, tuple)) else [maps]
        logits = self.enlarge(ops.cast(self.dense(self.decode(maps)), "float32"))
        logits = ops.reshape(logits, (-1, *self.image_size, logits.shape[-1] // self.num_outputs, self.num_outputs))
        logits = ops.transpose(logits, (0, 3, 1, 2, 4))
        return ops.repeat(logits, self.num_members, axis=1) if self.shared else logits

    def merged(self, features, weights):
        one = type(self).from_config({**self.get_config(), "num_members": 1, "shared": False, "name": "head"})
        logits = one(features)
        one.decode.set_weights(self.decode.get_weights())
        one.dense.set_weights(weights)
        return ops.squeeze(logits, axis=1)

    def compute_output_shape(self, input_shape):
        batch = input_shape[0][0] if isinstance(input_shape[0], (list, tuple)) else input_shape[0]
        return (batch, self.num_members, *self.image_size, self.num_outputs)

    def compute_output_spec(self, maps):
        shapes = [one.shape for one in maps] if isinstance(maps, (list, tuple)) else maps.shape
        return keras.KerasTensor(self.compute_output_shape(shapes), dtype="float32")

    def get_config(self):
        own = {"image_size": self.image_size, "decoder": self.decoder, "width": self.width}
        return {**super().get_config(), **own}
