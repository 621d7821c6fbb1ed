"""Batches of images as NumPy arrays, and some of their images."""

from collections.abc import Iterator, Sequence

import numpy as np

from mixmo_keras.common import arguments


def numpy_batches(batches) -> Iterator:
    """The batches of a `tf.data.Dataset`, or of anything else that can be iterated, as NumPy arrays."""
    return batches.as_numpy_iterator() if hasattr(batches, "as_numpy_iterator") else iter(batches)


def images_at(batches, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The indices, and the pixels of the images at these indices."""
    images = [image for image, *_ in rows_at(batches, indices)]
    return indices, np.stack(images) if images else np.zeros((0, 1, 1, 1), "uint8")


def rows_at(batches, indices: np.ndarray) -> list[tuple[np.ndarray, ...]]:
    """The images at these indices, each with its target and what else the batches have."""
    wanted, first = set(indices.tolist()), 0
    rows: dict[int, tuple[np.ndarray, ...]] = {}
    for batch in numpy_batches(batches):
        here = range(first, first + len(batch[0]))
        rows |= {index: tuple(part[index - first] for part in batch) for index in here if index in wanted}
        first += len(batch[0])
    return [rows[index] for index in indices.tolist()]


def names_of_images(argument: str, names: Sequence[str] | None, num_images: int) -> tuple[str, ...] | None:
    """The names, checked to be one for each image; `None` where there are none."""
    if names is None:
        return None
    names = arguments.names(argument, names)
    if len(names) != num_images:
        raise ValueError(f"`{argument}` must be one for each image, got {len(names)} for {num_images} images.")
    return tuple(names)
