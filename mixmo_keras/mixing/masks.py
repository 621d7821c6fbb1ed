"""Two-way mixing masks: where the first member shows, and by how much.

A mask function has the signature `mask(seed, share, size)`:

- `seed`: a `seeds.StepSeed`, whose `uniform` and `normal` are the source of all that the function draws;
- `share`: (B,) floats in [0, 1], how much of the map each row's first member should get;
- `size`: (height, width, channels) of the encoder's output, Python integers;
- returns (B, height, width, 1) floats in [0, 1], of `share`'s dtype: 1 where the first member shows, 0 where the others
  do; (B, height, width, channels) if the mask differs between channels.

`share` is a wish: `mixing.visible_ratios` gives the ratios of the mask drawn. To add a mask, write one function here and
list it in `MASKS`; a function of your own can be passed as `mask=` as it is.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from mixmo_keras.common import arguments

MaskFunction = Callable[..., Any]


def _in_float32(mask_function: MaskFunction) -> MaskFunction:
    """Computes a mask in float32 and returns it in `share`'s dtype: half precision can't count a map's positions."""

    @functools.wraps(mask_function)
    def mask(seed, share, size):
        return ops.cast(mask_function(seed, ops.cast(share, "float32"), size), share.dtype)

    return mask


@_in_float32
def linear(seed, share, size):
    """The constant mask of MixUp: every position shows the first member by its share (MixMo, section 3.2)."""
    del seed  # nothing is drawn
    height, width, _ = size
    return ops.broadcast_to(share[:, None, None, None], (ops.shape(share)[0], height, width, 1))


# -- boxes and borders ---------------------------------------------------------------------------------------------------


@_in_float32
def cutmix(seed, share, size):
    """The box of CutMix: `share` of the map's area around a centre uniform over its positions (MixMo, section 3.2)."""
    height, width, _ = size
    centres = seed.uniform((2, ops.shape(share)[0]))
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
    root = ops.sqrt(ops.cast(share, "float32"))

    def inside(centre, length):
        centre = ops.cast(centre, "float32")[:, None]
        reach = ops.floor(ops.floor(length * root) / 2)[:, None]
        position = ops.arange(length, dtype="float32")[None, :]
        return ops.logical_and(position >= centre - reach, position < centre + reach)

    mask = ops.logical_and(inside(row, height)[:, :, None], inside(column, width)[:, None, :])
    return ops.cast(mask, share.dtype)[..., None]


@_in_float32
def horizontal(seed, share, size):
    """Horizontal concatenation: a straight border across the height, the first member above or below it.

    As in the reference implementation the side is drawn for every row and the border is rounded up the map: the first
    member gets ⌊share·H⌋ rows at the top, or ⌈share·H⌉ at the bottom. So is it for `vertical` and `channel_concat`.
    """
    return _concatenation(seed, share, size, axis=0)


@_in_float32
def vertical(seed, share, size):
    """Vertical concatenation: a straight border across the width, as in `horizontal`."""
    return _concatenation(seed, share, size, axis=1)


@_in_float32
def channel_concat(seed, share, size):
    """Channel concatenation: the first `share` of the channels, or the last, as in `horizontal`. (B, h, w, c)."""
    return _concatenation(seed, share, size, axis=2)


def _concatenation(seed, share, size, axis: int):
    """The first or the last `share` of the positions along one axis of (height, width, channels)."""
    height, width, _ = size
    num_rows, length = ops.shape(share)[0], size[axis]
    position, share = ops.arange(length, dtype="float32")[None, :], share[:, None]
    leading = position < ops.floor(share * length)
    trailing = position >= ops.floor((1 - share) * length)
    mask = ops.where(seed.uniform((num_rows, 1)) < 0.5, leading, trailing)
    across = [1, 1, 1]
    across[axis] = length
    mask = ops.reshape(mask, (-1, *across))
    return ops.broadcast_to(mask, (num_rows, height, width, across[2]))


@_in_float32
def channel(seed, share, size):
    """Whole channels, each the first member's with probability `share` (the reference implementation). (B, h, w, c)."""
    num_rows = ops.shape(share)[0]
    mask = seed.uniform((num_rows, 1, 1, size[2])) < share[:, None, None, None]
    return ops.broadcast_to(mask, (num_rows, *size))


# -- patches -------------------------------------------------------------------------------------------------------------

PATCH_SIDE = 7  # of PatchUp's blocks, in positions


@_in_float32
def patchup(seed, share, size):
    """Hard PatchUp, the same for all channels: blocks of 7×7 around seeds (Faramarzi et al., 2020, "PatchUp").

    Each position is a seed with probability share·H·W / (side²·(H − side + 1)·(W − side + 1)); blocks overlap and are
    clipped, so what they cover grows slower than `share`: 0.53 of the interior is the first member's at a share of one
    half on 32×32. The papers are silent on maps that blocks of 7 would fill: here a block's side is the largest odd
    number up to half the map's shorter side, and 1 at least, so that below 6×6 every position is drawn on its own.
    """
    height, width, _ = size
    side = patch_side(size)
    rate = share * (height * width / (side**2 * (height - side + 1) * (width - side + 1)))
    centres = seed.uniform((ops.shape(share)[0], height, width, 1)) < rate[:, None, None, None]
    return ops.max_pool(
        ops.cast(centres, "float32"), pool_size=side, strides=1, padding="same", data_format="channels_last"
    )


@_in_float32
def patchup_soft(seed, share, size):
    """Soft PatchUp: the blocks of `patchup` are the first member's; outside it still shows by `share`, as in MixUp.

    The reference implementation draws other blocks for every channel here; these are the same for all, as in `patchup`.
    """
    mask = patchup(seed, share, size)
    return mask + (1 - mask) * share[:, None, None, None]


def patch_side(size) -> int:
    """The side of PatchUp's blocks on a map of (height, width, channels): odd, and at most half the shorter side."""
    half = max(1, min(size[:2]) // 2)
    return min(PATCH_SIDE, half - 1 + half % 2)


# -- shapes cut out of noise ---------------------------------------------------------------------------------------------

COW_SIGMA = (4.0, 16.0)  # CowMix's blur, in positions
COW_SHARE = (0.2, 0.8)
FMIX_DECAY = 3.0


@_in_float32
def cow(seed, share, size):
    """CowMix: blotches of one size, where blurred noise is largest (French et al., 2020, "Milking CowMask").

    As in the reference implementation `share` has no say: the mask's own is uniform over [0.2, 0.8], a draw for each row,
    as is the blur's σ, log-uniform over [4, 16] positions. There the noise is cut at that quantile of a normal
    distribution, which gives the share on average; `largest` gives it exactly.
    """
    num_rows = ops.shape(share)[0]
    sigma = ops.exp(seed.uniform((num_rows,), *np.log(COW_SIGMA)))
    return largest(blurred_noise(seed, sigma, size), seed.uniform((num_rows,), *COW_SHARE), seed)


@_in_float32
def fmix(seed, share, size):
    """FMix: shapes of all sizes, where noise of low frequencies is largest (Harris et al., 2020, "FMix")."""
    return largest(fourier_noise(seed, ops.shape(share)[0], size), share, seed)


@_in_float32
def noise(seed, share, size):
    """Uniform noise at every position, from the widest interval within [0, 1] that has the mean `share`.

    The reference implementation stretches U(0, 1) about its median instead; the mean is then share/2 + 1/4.
    """
    height, width, _ = size
    share = share[:, None, None, None]
    reach = ops.minimum(share, 1 - share)
    return share + reach * seed.uniform((ops.shape(share)[0], height, width, 1), -1.0, 1.0)


def largest(values, share, seed):
    """True at the `share` of positions where the values are largest.

    The number of positions is ⌊share·n⌋ or one more, drawn so that the share is right on average whatever the map's size.

    Args:
        values: (B, height, width).
        share: (B,).
        seed: a `seeds.StepSeed`.

    Returns:
        (B, height, width, 1) booleans.
    """
    _, height, width = values.shape
    flat = ops.reshape(values, (-1, height * width))
    rank = ops.argsort(ops.argsort(flat, axis=-1), axis=-1)  # not a threshold, which equal values would pass together
    count = ops.floor(share * (height * width) + seed.uniform((ops.shape(share)[0],)))
    chosen = ops.cast(rank, "float32") >= height * width - count[:, None]
    return ops.reshape(chosen, (-1, height, width, 1))


def blurred_noise(seed, sigma, size):
    """White noise under a Gaussian blur, of variance 1 at every position. CowMix cuts its shapes out of it.

    There is no noise outside of the map, as in the papers' implementations; unlike there, its border is no less varied
    than its centre, so that every position is as likely as the others to be among the largest.

    Args:
        seed: a `seeds.StepSeed`.
        sigma: (B,) the blur's standard deviation, in positions.
        size: (height, width, channels).

    Returns:
        (B, height, width).
    """
    height, width, _ = size

    def blur(length):
        position = np.arange(length, dtype="float32")
        distance = position[:, None] - position[None, :]
        weight = ops.exp(-ops.square(distance / sigma[:, None, None]) / 2)
        return weight / ops.sqrt(ops.sum(ops.square(weight), axis=-1, keepdims=True))

    white = seed.normal((ops.shape(sigma)[0], height, width))
    return ops.matmul(ops.matmul(blur(height), white), ops.transpose(blur(width), (0, 2, 1)))


def fourier_noise(seed, num_rows, size):
    """Periodic noise, its amplitude at frequency f in proportion to max(f, 1/max(H, W))^-3. FMix cuts its shapes out of it.

    Its Fourier coefficients are drawn and summed as products with real matrices: an FFT has no advantage on maps, has
    complex values, and is not to be had everywhere under XLA.

    Args:
        seed: a `seeds.StepSeed`.
        num_rows: B, may be a tensor.
        size: (height, width, channels).

    Returns:
        (B, height, width).
    """
    height, width, _ = size
    periods = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)) * max(height, width)
    amplitude = (np.maximum(periods, 1) ** -FMIX_DECAY).astype("float32")
    white = seed.normal((num_rows, height, width))
    return ops.matmul(ops.matmul(_waves(height), amplitude * white), _waves(width))


def _waves(length: int) -> np.ndarray:
    """The waves cos + sin of all frequencies k/length as columns in the order of an FFT: orthogonal (Hartley, 1942).

    White noise is white in this basis too, and waves of ±k, ±l span what the complex ones of these frequencies do.
    """
    angle = 2 * np.pi / length * np.outer(np.arange(length), np.arange(length))
    return ((np.cos(angle) + np.sin(angle)) / np.sqrt(length)).astype("float32")


MASKS: dict[str, MaskFunction] = {
    function.__name__: function
    for function in (
        linear,
        cutmix,
        horizontal,
        vertical,
        channel_concat,
        channel,
        patchup,
        patchup_soft,
        cow,
        fmix,
        noise,
    )
}
BINARY_MASKS = [name for name in MASKS if name != "linear"]


def get(mask: str | MaskFunction) -> MaskFunction:
    """The mask function of a name in `MASKS`; a function is returned as it is."""
    if callable(mask):
        return mask
    return MASKS[arguments.choice("mask", mask, MASKS, ", or a function")]
