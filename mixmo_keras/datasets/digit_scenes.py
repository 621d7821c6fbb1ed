"""Scenes of scikit-learn's digits, with labels for every task: several digits, scaled, tilted and overlapping.

A scene has one to four digits on textured ground, each of its own size, place and colour. All digits of a scene are tilted
by one angle. The images of all names are the same; only the targets differ.

| name | task | target of a scene |
|---|---|---|
| `digit_scenes_multi_label` | `MultiLabel`, ten labels | which digits are there: (10,), 0 or 1 |
| `digit_scenes_binary` | `Binary` | whether a 3 is there: (1,), 0 or 1 |
| `digit_scenes_angle` | `Regression` | the tilt in degrees, counter-clockwise, from −45 to 45: (1,) |
| `digit_scenes_count` | `Regression` | the number of digits, from 1 to 4: (1,) |
| `digit_scenes_segmentation` | `Segmentation` | (H, W): 0 for ground, 1 + d for digit d, 255 at faint edges, ignored |

There are 4,000 scenes to train, 500 to validate and 1,000 to test, at 32×32 pixels or at the size behind an `@`, such as
`digit_scenes_count@48`. They follow from fixed seeds. The digits of a split come from the same split of `digits`, so that no
handwriting of the test split is seen in training.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from mixmo_keras import tasks
from mixmo_keras.datasets import digits
from mixmo_keras.datasets.sources import Info, Source

SIZE = (32, 32)
COUNTS = {"train": 4000, "validation": 500, "test": 1000}
MOST_DIGITS, MOST_DEGREES, SOUGHT = 4, 45, 3
GROUND, EDGE = 0, 255  # of label maps; digit d is d + 1
_NAMES, _AT_ONCE = tuple("0123456789"), 250
_OF_PIXELS = ("ground", *_NAMES)


class Scenes(NamedTuple):
    """Images of scenes, and everything that may be asked about them."""

    images: np.ndarray  #  (n, H, W, 3), uint8
    maps: np.ndarray  #    (n, H, W), uint8: `GROUND`, 1 + the digit on top, or `EDGE` where a digit is faint
    present: np.ndarray  # (n, 10), float32: 1 for each digit that is there
    counts: np.ndarray  #  (n, 1), float32: the number of digits
    angles: np.ndarray  #  (n, 1), float32: degrees, counter-clockwise


# what is asked: the task, the names of its labels or targets, the targets of scenes
QUESTIONS: dict[str, tuple[tasks.Task, tuple[str, ...], Callable[[Scenes], np.ndarray]]] = {
    "multi_label": (tasks.MultiLabel(_NAMES), _NAMES, lambda scenes: scenes.present),
    "binary": (
        tasks.Binary((_NAMES[SOUGHT],)),
        (_NAMES[SOUGHT],),
        lambda scenes: scenes.present[:, SOUGHT : SOUGHT + 1],
    ),
    "angle": (tasks.Regression(("angle",)), ("angle",), lambda scenes: scenes.angles),
    "count": (tasks.Regression(("count",)), ("count",), lambda scenes: scenes.counts),
    "segmentation": (tasks.Segmentation(_OF_PIXELS, EDGE), _OF_PIXELS, lambda scenes: scenes.maps),
}


def digit_scenes(question: str, size: tuple[int, int] = SIZE) -> Source:
    """The scenes as a dataset, with the targets of one of `QUESTIONS`, at a size (height, width)."""
    task, names, targets_of = QUESTIONS[question]

    def describe(data_dir: str | None) -> Info:
        del data_dir  # part of scikit-learn
        return Info(f"digit_scenes_{question}", (*size, 3), names, (0.5, 0.25), task)

    def read(split: str, data_dir: str | None, whole: bool) -> tf.data.Dataset:
        del data_dir, whole  # of one size
        found = scenes(split, size)
        return tf.data.Dataset.from_tensor_slices((found.images, targets_of(found)))

    return Source(describe, read, at_size=functools.partial(digit_scenes, question))


@functools.lru_cache(maxsize=8)
def scenes(split: str, size: tuple[int, int] = SIZE) -> Scenes:
    """The scenes of a split, at a size (height, width) in pixels; the same in every process."""
    if split == "train+validation":
        parts = [scenes("train", size), scenes("validation", size)]
    else:
        random = np.random.default_rng(list(COUNTS).index(split))
        parts = [_made(_AT_ONCE, size, digits.arrays(split), random) for _ in range(COUNTS[split] // _AT_ONCE)]
    return Scenes(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _made(number: int, size: tuple[int, int], handwriting: tuple, random: np.random.Generator) -> Scenes:
    ink, labels = handwriting
    counts = random.integers(1, MOST_DIGITS + 1, (number, 1))
    angles = random.uniform(-MOST_DEGREES, MOST_DEGREES, (number, 1)).astype("float32")
    chosen = random.integers(0, len(ink), (number, MOST_DIGITS))
    lengths = random.uniform(0.35, 0.6, (number, MOST_DIGITS)) * min(size)
    # one digit to a quarter of the image, off its middle: digits overlap, and none is hidden
    quarters = random.permuted(np.tile(np.arange(4), (number, 1)), axis=1)
    places = np.stack([quarters // 2, quarters % 2], axis=-1) / 2 + random.uniform(0.16, 0.34, (number, MOST_DIGITS, 2))
    colours = random.uniform(150, 255, (number, MOST_DIGITS, 3)).astype("float32")

    images, maps = _ground(number, size, random), np.full((number, *size), GROUND, "uint8")
    present = np.zeros((number, 10), "float32")
    for digit in range(MOST_DIGITS):
        there = np.flatnonzero(digit < counts[:, 0])
        opacity = _stamped(
            ink[chosen[there, digit], ..., 0] / np.float32(255),
            places[there, digit] * size,
            lengths[there, digit],
            np.deg2rad(angles[there, 0]),
            size,
        )
        label = labels[chosen[there, digit]]
        images[there] += opacity[..., None] * (colours[there, digit, None, None] - images[there])
        value = np.where(opacity > 0.5, (1 + label)[:, None, None], EDGE).astype("uint8")
        maps[there] = np.where(opacity > 0.2, value, maps[there])
        present[there, label] = 1
    images += 6 * random.standard_normal(images.shape, "float32")
    pixels = np.rint(np.clip(images, 0, 255)).astype("uint8")
    return Scenes(pixels, maps, present, counts.astype("float32"), angles)


def _ground(number: int, size: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """Textured ground (n, H, W, 3): a colour, smooth blots of others, and stripes."""
    coarse = 25 * random.standard_normal((number, 5, 5, 3), "float32")
    rows, columns = (_stretching(5, length) for length in size)
    blots = np.einsum("yi,nijc,xj->nyxc", rows, coarse, columns, optimize=True)
    y, x = np.meshgrid(*(np.linspace(0, 1, length, dtype="float32") for length in size), indexing="ij")
    drawn = random.uniform((0, 4, 0), (np.pi, 14, 2 * np.pi), (number, 3)).astype("float32")
    direction, frequency, phase = drawn.T[..., None, None]
    stripes = np.sin(np.float32(2 * np.pi) * frequency * (np.cos(direction) * x + np.sin(direction) * y) + phase)
    colour = random.uniform(30, 110, (number, 1, 1, 3)).astype("float32")
    return colour + blots + 15 * stripes[..., None]


def _stretching(short: int, length: int) -> np.ndarray:
    """(length, short): the matrix that stretches an axis linearly from end to end."""
    places = np.linspace(0, short - 1, length, dtype="float32")
    return np.maximum(1 - np.abs(places[:, None] - np.arange(short, dtype="float32")), 0)


def _stamped(ink: np.ndarray, centers: np.ndarray, lengths: np.ndarray, angles: np.ndarray, size) -> np.ndarray:
    """How much of each pixel (n, H, W) digits cover, from 0 to 1: enlarged linearly, tilted and moved.

    Args:
        ink: (n, 8, 8), from 0 to 1.
        centers: (n, 2), row and column in pixels.
        lengths: Of a digit's side in pixels, (n,).
        angles: Counter-clockwise, in radians, (n,).
        size: (H, W) of the image.
    """
    number, rows, columns = ink.shape
    y, x = np.meshgrid(*(np.arange(length, dtype="float32") + 0.5 for length in size), indexing="ij")
    cosine, sine, scale, of_row, of_column = (
        values.astype("float32")[:, None, None]
        for values in (np.cos(angles), np.sin(angles), rows / lengths, *centers.T)
    )
    down, right = (y - of_row) * scale, (x - of_column) * scale
    # places within the digit, whose border of one pixel is empty
    down, right = right * sine + down * cosine, right * cosine - down * sine
    down = np.clip(down + (rows / 2 + 0.5), 0, rows + 0.999)
    right = np.clip(right + (columns / 2 + 0.5), 0, columns + 0.999)
    padded = np.pad(ink, ((0, 0), (1, 1), (1, 1)))
    top, left = down.astype(int), right.astype(int)
    lower, further = down - top, right - left
    width = columns + 2
    first = (np.arange(number)[:, None, None] * (rows + 2) + top) * width + left
    above = (1 - further) * np.take(padded, first) + further * np.take(padded, first + 1)
    below = (1 - further) * np.take(padded, first + width) + further * np.take(padded, first + width + 1)
    return (1 - lower) * above + lower * below
