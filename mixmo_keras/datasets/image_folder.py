"""A folder of class folders of images as a dataset with the splits that all datasets here have."""

import os
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from mixmo_keras.common import arguments
from mixmo_keras.datasets import decoding, orders, resizing, sound_files

DEFAULT_SIZE = (64, 64)


class ImageFolder:
    """Images below `<folder>/<class>/`, in JPEG, PNG, GIF or BMP format, of any sizes.

    A fifth of each class is the test split, and a tenth validation, chosen by a shuffle that depends on the file names
    alone: the same in every run, and for every size. Images are resized; of another aspect ratio, their center is taken.

    Args:
        folder: The folder that holds the class folders, whose names are the classes.
        size: (height, width) in pixels. Defaults to (64, 64).

    Raises:
        ValueError: fewer than two classes, a class with fewer than five images, names that are not UTF-8, files that can't
            be decoded or have too many pixels: all are tried (`sound_files`).
    """

    def __init__(self, folder: str | os.PathLike, size: tuple[int, int] = DEFAULT_SIZE):
        arguments.instance("folder", folder, (str, os.PathLike), "the path of a folder")
        # a path that stays right where the process changes its folder
        self.folder, self.size = Path(folder).absolute(), arguments.image_size("size", size)
        sound_files.check_names(self.folder)
        try:
            listing = keras.utils.image_dataset_from_directory(
                self.folder, batch_size=None, shuffle=False, verbose=False, image_size=self.size
            )
        except ValueError as error:
            raise ValueError(f"{self.folder} holds no folders of images, one a class: {error}") from error
        self.class_names = tuple(listing.class_names)
        self.paths = np.array(listing.file_paths)
        self.labels = np.array([self.class_names.index(self._class(path)) for path in self.paths])
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        if len(self.class_names) < 2:
            raise ValueError(f"{self.folder} has {len(self.class_names)} class folder: a classifier needs two.")
        if counts.min() < 5:
            smallest = self.class_names[counts.argmin()]
            raise ValueError(
                f"Class {smallest!r} has {counts.min()} images: at least 5 are needed to train and to test on."
            )
        self.channels = 1 if all(sound_files.check(self.folder, listing.file_paths)) else 3

    def _class(self, path: str) -> str:
        return Path(path).relative_to(self.folder).parts[0]

    def indices(self, split: str) -> np.ndarray:
        """The indices of a split's images in `paths` and `labels`, ascending."""
        names = [str(Path(path).relative_to(self.folder)) for path in self.paths]
        order = np.random.default_rng(0).permutation(np.argsort(names))
        by_split: dict[str, list] = {"test": [], "validation": [], "train": []}
        for label in range(len(self.class_names)):
            of_class = order[self.labels[order] == label]
            num_test, num_validation = max(len(of_class) // 5, 1), max(len(of_class) // 10, 1)
            by_split["test"].append(of_class[:num_test])
            by_split["validation"].append(of_class[num_test : num_test + num_validation])
            by_split["train"].append(of_class[num_test + num_validation :])
        by_split["train+validation"] = by_split["train"] + by_split["validation"]
        return np.sort(np.concatenate(by_split[split]))

    def load(self, split: str, whole: bool = False) -> tf.data.Dataset:
        """(image (H, W, C) uint8, label int64) one by one, always in the same order; `whole`: as large as in the files."""
        indices = self.indices(split)
        paths, labels = tf.constant(self.paths[indices]), tf.constant(self.labels[indices], tf.int64)
        crop = resizing.center_crop(self.size)

        def read(index):
            image = decoding.decode(tf.io.read_file(tf.gather(paths, index)), self.channels)
            return image if whole else crop(image), tf.gather(labels, index)

        return orders.by_index(len(indices), read)
