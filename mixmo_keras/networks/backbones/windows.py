"""Attention within windows of a map, which Swin transformers are made of."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

from mixmo_keras.common import arguments

_OTHER_REGION = -100.0  # added to scores of places that are no neighbours, as in the paper's code


@keras.saving.register_keras_serializable("mixmo_keras")
class WindowAttention(layers.Layer):
    """Attention among the places of each window, with a learned bias for each relative position (Liu et al., 2021, Swin).

    The map is rolled by `shift` before it is cut into windows, and back afterwards. Places that are in one window only
    because the map was rolled don't see each other.

    Args:
        num_heads: Number of heads; divides c.
        window: (height, width) of a window; divides the map's.
        shift: By how many places windows are shifted down and right, (0, 0) for not; less than `window`.
        initializer: Of the biases. Defaults to Keras' truncated normal.

    Call arguments:
        projected: (B, h, w, 3·c), queries, keys and values of each place, one behind the other.

    Returns:
        (B, h, w, c), which a dense layer should follow.
    """

    def __init__(
        self,
        num_heads: int,
        window: Sequence[int],
        shift: Sequence[int] = (0, 0),
        initializer="truncated_normal",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = arguments.integer("num_heads", num_heads, least=1)
        self.window = arguments.image_size("window", window)
        try:
            down, right = shift
        except (TypeError, ValueError):
            raise ValueError(f"`shift` must be two integers, got {shift!r}.") from None
        self.shift = tuple(
            arguments.integer("shift", value, least=0, most=side - 1)
            for value, side in zip((down, right), self.window, strict=True)
        )
        self.initializer = keras.initializers.get(initializer)

    def build(self, input_shape):
        _, height, width, channels = input_shape
        if height % self.window[0] or width % self.window[1] or channels % (3 * self.num_heads):
            raise ValueError(
                f"`projected` must be (B, h, w, 3·c) whose h and w are multiples of the window's {self.window}, and c of "
                f"num_heads={self.num_heads}; got {tuple(input_shape)}."
            )
        positions = (2 * self.window[0] - 1) * (2 * self.window[1] - 1)
        self.biases = self.add_weight(name="biases", shape=(positions, self.num_heads), initializer=self.initializer)
        self._positions = relative_positions(self.window)
        self._mask = _OTHER_REGION * different_regions((height, width), self.window, self.shift)

    def call(self, projected):
        height, width = projected.shape[1] // self.window[0], projected.shape[2] // self.window[1]  # in windows
        channels = projected.shape[3] // 3
        size = self.window[0] * self.window[1]
        x = ops.roll(projected, tuple(-by for by in self.shift), axis=(1, 2)) if any(self.shift) else projected
        x = ops.reshape(x, (-1, height, self.window[0], width, self.window[1], 3 * channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        x = ops.reshape(x, (-1, height * width, size, 3, self.num_heads, channels // self.num_heads))
        query, key, value = ops.unstack(ops.transpose(x, (3, 0, 1, 4, 2, 5)), 3)  # (B, windows, heads, size, ·)
        query = query * (channels // self.num_heads) ** -0.5
        scores = ops.matmul(query, ops.swapaxes(key, -1, -2))
        biases = ops.take(ops.cast(self.biases, scores.dtype), self._positions, axis=0)  # (size, size, heads)
        scores = scores + ops.transpose(biases, (2, 0, 1))
        if any(self.shift):
            scores = scores + ops.cast(self._mask[:, None], scores.dtype)
        # Keras warns of a softmax over one place, which is 1
        weights = ops.softmax(scores, axis=-1) if size > 1 else ops.exp(scores - scores)
        x = ops.transpose(ops.matmul(weights, value), (0, 1, 3, 2, 4))
        x = ops.reshape(x, (-1, height, width, *self.window, channels))
        x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, *projected.shape[1:3], channels))
        return ops.roll(x, self.shift, axis=(1, 2)) if any(self.shift) else x

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] // 3)

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "window": list(self.window),
            "shift": list(self.shift),
            "initializer": keras.initializers.serialize(self.initializer),
        }


def relative_positions(window: tuple[int, int]) -> np.ndarray:
    """The number of the relative position of each place of a window to each, integers (size, size)."""
    height, width = window
    rows, columns = (axis.ravel() for axis in np.indices(window))
    down = rows[:, None] - rows + height - 1
    right = columns[:, None] - columns + width - 1
    return down * (2 * width - 1) + right


def different_regions(size: tuple[int, int], window: tuple[int, int], shift: Sequence[int]) -> np.ndarray:
    """1 for places of a window of the rolled map that were no neighbours before, 0 for others: (windows, size, size)."""
    by_axis = []
    for length, side, by in zip(size, window, shift, strict=True):
        place = np.arange(length)
        rolled_over = place >= length - by  # over the edge, into the last window
        by_axis.append((place >= length - side).astype(int) + rolled_over)
    numbers = 3 * by_axis[0][:, None] + by_axis[1]
    (height, width), (rows, columns) = size, window
    windows = numbers.reshape(height // rows, rows, width // columns, columns).swapaxes(1, 2)
    regions = windows.reshape(-1, rows * columns)
    return (regions[:, None] != regions[:, :, None]).astype("float32")
