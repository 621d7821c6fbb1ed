"""Two-way mixing masks: where the first member shows, and by how much.

A mask function has the signature `mask(seed, share, size)`:

- `seed`: a `keras.random.SeedGenerator`, the source of all that the function draws;
- `share`: (B,) floats in [0, 1], how much of the map each row's first member should get;
- `size`: (height, width, channels) of the encoder's output, Python integers;
- returns (B, height, width, 1) floats in [0, 1]: 1 where the first member shows, 0 where the others do.

`share` is a wish: `mixing.draw` recomputes the ratios from the mask drawn. To add a mask, write one function here and
list it in `MASKS`; a function of your own can be passed as `mask=` as it is.
"""

from collections.abc import Callable

import keras
from keras import ops

MaskFunction = Callable[..., object]


def linear(seed, share, size):
    """The constant mask of MixUp: every position shows the first member by its share (MixMo, section 3.2)."""
    del seed  # nothing is drawn
    height, width, _ = size
    return ops.broadcast_to(share[:, None, None, None], (ops.shape(share)[0], height, width, 1))


def cutmix(seed, share, size):
    """The box of CutMix: `share` of the map's area around a centre uniform over its positions (MixMo, section 3.2)."""
    height, width, _ = size
    centres = keras.random.uniform((2, ops.shape(share)[0]), seed=seed)
    return box(ops.floor(centres[0] * height), ops.floor(centres[1] * width), share, size)


def box(row, column, share, size):
    """Boxes of sides ⌊H√share⌋ and ⌊W√share⌋ around given centres, clipped to the map.

    A box reaches ⌊side/2⌋ positions either way of its centre, the far end excluded, as in the reference implementation.

    Args:
        row, column: (B,) the centres, in positions.
        share: (B,) the share of the area asked for.
        size: (height, width, channels).

    Returns:
        (B, height, width, 1), 1 inside the box.
    """
    height, width, _ = size

    def inside(centre, length):
        reach = ops.floor(ops.floor(length * ops.sqrt(share)) / 2)[:, None]
        position = ops.arange(length, dtype=share.dtype)[None, :]
        return ops.logical_and(position >= centre[:, None] - reach, position < centre[:, None] + reach)

    mask = ops.logical_and(inside(row, height)[:, :, None], inside(column, width)[:, None, :])
    return ops.cast(mask, share.dtype)[..., None]


MASKS: dict[str, MaskFunction] = {function.__name__: function for function in (linear, cutmix)}


def get(mask: str | MaskFunction) -> MaskFunction:
    """The mask function of a name in `MASKS`; a function is returned as it is."""
    if callable(mask):
        return mask
    if mask not in MASKS:
        raise ValueError(f"Unknown mask: {mask!r}. Known masks: {', '.join(MASKS)}.")
    return MASKS[mask]
