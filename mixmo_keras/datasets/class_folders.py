"""Test sets that are folders of class folders whose names say the class: ImageNet-A, ImageNet-V2, ImageNet-C."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import tensorflow as tf

from mixmo_keras.datasets import decoding, listing, resizing
from mixmo_keras.datasets.sources import Info, Source
from mixmo_keras.networks import normalization as normalizations


def names_of_imagenet() -> tuple[str, ...]:
    """The names of ImageNet's classes in their order: WordNet's, such as n01440764."""
    import tensorflow_datasets as tfds

    return tuple(tfds.builder("imagenet2012").info.features["label"].names)


def of_imagenet() -> dict[str, int]:
    """The number of each class of ImageNet by the names that its folders have: WordNet's, or in ImageNet-V2 the number."""
    names = names_of_imagenet()
    return {name: number for number, name in enumerate(names)} | {str(number): number for number in range(len(names))}


def source(of_tfds: Callable[..., Source], folder: str, size: tuple[int, int] = (224, 224)) -> Source:
    """A test set with ImageNet's classes or some of them, from a folder in the data folder, else from TFDS.

    Args:
        of_tfds: A function of the image size and `border` (`resizing.center_crop`) that gives TFDS' source.
        folder: The folder's name; in it a folder of images for each class.
        size: (H, W) that images are brought to, evaluated as ImageNet's are. Defaults to ImageNet's.
    """
    border = round(size[0] / 14)
    otherwise = of_tfds(size=size, border=border)

    def describe(data_dir: str | None) -> Info:
        del data_dir  # ImageNet's classes are known
        return Info(folder, (*size, 3), names_of_imagenet(), normalizations.IMAGENET)

    def read(split: str, data_dir: str | None, whole: bool) -> tf.data.Dataset:
        if data_dir is None or not (place := Path(data_dir) / folder).is_dir():
            return otherwise.load(split, data_dir, whole)
        return load(place, of_imagenet(), size, border)

    return Source(describe, read, at_size=functools.partial(source, of_tfds, folder), splits=otherwise.splits)


def load(folder: Path, numbers: Mapping[str, int], size: tuple[int, int], border: int = 0) -> tf.data.Dataset:
    """The images of a folder of class folders one by one, class by class: (image (H, W, 3) uint8, label int64).

    Args:
        folder: The folder. It may have some of the classes only.
        numbers: The number of each class by its folder's name.
        size: (H, W) that images are brought to.
        border: As in `resizing.center_crop`.

    Raises:
        ValueError: a folder that is no class's, or no image.
    """
    paths, labels = [], []
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        if place.name not in numbers:
            raise ValueError(
                f"{folder} has a folder {place.name}, which is no class of ImageNet, such as n01440764 or 0."
            )
        files = sorted(str(file) for file in place.iterdir() if listing.is_read(str(file)))
        paths += files
        labels += [numbers[place.name]] * len(files)
    if not paths:
        raise ValueError(f"{folder} has no images in class folders.")
    crop = resizing.center_crop(size, border)

    def read(path, label):
        return crop(decoding.decode(tf.io.read_file(path), 3)), label

    dataset = tf.data.Dataset.from_tensor_slices((tf.constant(paths), tf.constant(labels, tf.int64)))
    return dataset.map(read, num_parallel_calls=tf.data.AUTOTUNE)
