"""Pillow's operations on pixels, for each row of a batch its own, inside a compiled step.

All are computed for all rows and each row keeps its own: next to a convolution they cost nothing, and nothing depends on
what is drawn but numbers. Pixels run from 0 to 255. Integer results are Pillow's, or differ by 1 where it rounds a float.
"""

import functools

import numpy as np
from keras import ops

# by number; what a magnitude means
OPERATIONS = {
    "Identity": "nothing",
    "ShearX": "columns a row further down is moved by",
    "ShearY": "rows a column further right is moved by",
    "TranslateX": "columns to the right",
    "TranslateY": "rows down",
    "Rotate": "degrees, against the clock",
    "Brightness": "added to a factor of 1, of the distance from black",
    "Color": "added to a factor of 1, of the distance from grey",
    "Contrast": "added to a factor of 1, of the distance from the image's mean grey",
    "Sharpness": "added to a factor of 1, of the distance from the smoothed image",
    "Posterize": "bits that are kept",
    "Solarize": "value from which on pixels are inverted",
    "AutoContrast": "nothing",
    "Equalize": "nothing",
    "Invert": "nothing",
}
NUMBER = {name: number for number, name in enumerate(OPERATIONS)}
_GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
_LIGHT = (0.299, 0.587, 0.114)  # shares of red, green and blue in grey: ITU-R BT.601


def operated(images, operations, magnitudes, fill: float = 128.0):
    """Images after an operation each.

    Args:
        images: (B, H, W, C), of one or three channels, values from 0 to 255 of any dtype.
        operations: (B,) integers, of `NUMBER`.
        magnitudes: (B,) float32, as `OPERATIONS` says.
        fill: The value of what comes in from outside the image.

    Returns:
        (B, H, W, C) of the same dtype.

    Raises:
        ValueError: images of two channels, or of more than three.
    """
    if images.shape[-1] not in (1, 3):
        raise ValueError(f"Images must have one channel or three to be operated on, got {images.shape[-1]}.")
    # NaN is no index of a histogram; a step looks for it in the images as they came
    pixels = ops.clip(ops.round(ops.nan_to_num(ops.cast(images, "float32"))), 0.0, 255.0)
    operations = ops.reshape(operations, (-1, 1, 1, 1))
    of_row = ops.reshape(magnitudes, (-1, 1, 1, 1))

    def among(*names: str):
        """(B, 1, 1, 1): whether a row's operation is one of these."""
        return functools.reduce(ops.logical_or, [ops.equal(operations, NUMBER[name]) for name in names])

    levels = ops.power(2.0, 8.0 - of_row)
    results = {
        _GEOMETRIC: moved(pixels, ops.reshape(operations, (-1,)), magnitudes, fill),
        ("Brightness", "Color", "Contrast", "Sharpness"): _blended(pixels, among, 1.0 + of_row),
        ("Posterize",): ops.floor(pixels / levels) * levels,
        ("Solarize",): ops.where(pixels < of_row, pixels, 255.0 - pixels),
        ("AutoContrast",): _stretched(pixels),
        ("Equalize",): equalized(pixels),
        ("Invert",): 255.0 - pixels,
    }
    changed = pixels
    for names, result in results.items():
        changed = ops.where(among(*names), result, changed)
    return ops.where(among("Identity"), images, ops.cast(changed, images.dtype))


def moved(pixels, operations, magnitudes, fill: float):
    """Pixels (B, H, W, C) sheared, translated or rotated about the middle: of each place the nearest pixel."""
    num_rows, (height, width, channels) = ops.shape(pixels)[0], pixels.shape[1:]

    def only(name: str, value, otherwise=0.0):
        return ops.where(ops.equal(operations, NUMBER[name]), value, otherwise)

    angle = only("Rotate", magnitudes) * (np.pi / 180)
    sine, cosine = ops.sin(angle), ops.cos(angle)
    whole = ops.trunc(magnitudes)  # translations are by whole pixels
    # where a place (x, y) of the result comes from, in x and in y: a·x + b·y + c
    of_x = (cosine, only("ShearX", magnitudes) - sine, -only("TranslateX", whole))
    of_y = (only("ShearY", magnitudes) + sine, cosine, -only("TranslateY", whole))
    turned = ops.cast(ops.equal(operations, NUMBER["Rotate"]), "float32")
    middle_x, middle_y = turned * (width / 2), turned * (height / 2)  # shears are about the corner
    x = ops.reshape(ops.arange(width, dtype="float32") + 0.5, (1, 1, -1)) - _of_row(middle_x)
    y = ops.reshape(ops.arange(height, dtype="float32") + 0.5, (1, -1, 1)) - _of_row(middle_y)
    columns, rows = (
        ops.cast(ops.floor(_of_row(a) * x + _of_row(b) * y + _of_row(c + middle)), "int32")
        for (a, b, c), middle in ((of_x, middle_x), (of_y, middle_y))
    )
    inside = functools.reduce(ops.logical_and, [columns >= 0, columns < width, rows >= 0, rows < height])
    source = ops.reshape(ops.arange(num_rows), (-1, 1, 1)) * height + ops.clip(rows, 0, height - 1)
    source = source * width + ops.clip(columns, 0, width - 1)
    return ops.where(inside[..., None], ops.take(ops.reshape(pixels, (-1, channels)), source, axis=0), fill)


def equalized(pixels):
    """Pixels (B, H, W, C) whose values are spread so that each is about as frequent: in each channel on its own."""
    height, width, channels = pixels.shape[1:]
    num_histograms = ops.shape(pixels)[0] * channels
    values = ops.cast(ops.reshape(ops.transpose(pixels, (0, 3, 1, 2)), (-1, height * width)), "int32")
    bins = values + 256 * ops.arange(num_histograms)[:, None]
    flat = ops.reshape(bins, (-1,))
    counts = ops.segment_sum(ops.ones_like(flat), flat, num_segments=num_histograms * 256)
    counts = ops.reshape(counts, (-1, 256))
    below = ops.cumsum(counts, axis=1) - counts
    # all pixels but those of the highest value that there is
    spread = ops.take_along_axis(below, ops.max(values, axis=1, keepdims=True), axis=1)
    step = ops.floor_divide(spread, 255)
    table = ops.floor_divide(below + ops.floor_divide(step, 2), ops.maximum(step, 1))
    table = ops.where(step > 0, ops.minimum(table, 255), ops.arange(256)[None, :])
    result = ops.take(ops.reshape(table, (-1,)), bins)
    result = ops.transpose(ops.reshape(result, (-1, channels, height, width)), (0, 2, 3, 1))
    return ops.cast(result, "float32")


def _blended(pixels, among, factors):
    """Pixels at a distance, by a factor, from the degenerate image of the row's operation."""
    in_grey = grey(pixels)
    degenerate = ops.where(among("Color"), in_grey, ops.zeros_like(pixels))
    degenerate = ops.where(among("Contrast"), mean_grey(in_grey), degenerate)
    degenerate = ops.where(among("Sharpness"), _smoothed(pixels), degenerate)
    return extrapolated(pixels, degenerate, factors)


def grey(pixels):
    """Images (B, H, W, C) of one or three channels in grey: (B, H, W, 1), whole numbers."""
    if pixels.shape[-1] == 1:
        return pixels
    return ops.floor(ops.sum(pixels * ops.convert_to_tensor(_LIGHT), axis=-1, keepdims=True) + 0.5)


def mean_grey(in_grey):
    """The mean of each grey image (B, H, W, 1): (B, 1, 1, 1), a whole number."""
    return ops.floor(ops.mean(in_grey, axis=(1, 2), keepdims=True) + 0.5)


def extrapolated(pixels, degenerate, factors):
    """Pixels at a distance from others, by a factor of what it was: whole numbers from 0 to 255."""
    return ops.floor(ops.clip(degenerate + factors * (pixels - degenerate), 0.0, 255.0))


def _smoothed(pixels):
    """Each pixel with its eight neighbours, itself five times, but for the border."""
    height, width = pixels.shape[1:3]
    if min(height, width) < 3:
        return pixels
    around = [pixels[:, i : height - 2 + i, j : width - 2 + j] for i in range(3) for j in range(3)]
    inner = ops.floor((sum(around) + 4 * around[4]) / 13 + 0.5)
    return ops.concatenate(
        [
            pixels[:, :1],
            ops.concatenate([pixels[:, 1:-1, :1], inner, pixels[:, 1:-1, -1:]], axis=2),
            pixels[:, -1:],
        ],
        axis=1,
    )


def _stretched(pixels):
    """Pixels (B, H, W, C) from 0 to 255 in each channel that has two values."""
    values = ops.cast(pixels, "int32")
    low, high = ops.min(values, axis=(1, 2), keepdims=True), ops.max(values, axis=(1, 2), keepdims=True)
    stretched = ops.floor_divide(255 * (values - low), ops.maximum(high - low, 1))
    return ops.cast(ops.where(high > low, stretched, values), "float32")


def _of_row(values):
    return ops.reshape(values, (-1, 1, 1))
