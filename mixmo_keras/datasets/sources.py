"""What a dataset is here: a description, and a function that gives the images of a split."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from mixmo_keras.common import arguments
from mixmo_keras.datasets.image_folder import ImageFolder

SPLITS = ("train", "validation", "test", "train+validation")


@dataclasses.dataclass(frozen=True)
class Info:
    """What a model needs to know of a dataset. `image_shape` is (H, W, C), `normalization` as `MixMo` takes it.

    Raises:
        ValueError: a name that is no text, classes that aren't texts, another shape.
    """

    name: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    normalization: tuple | str = "auto"

    def __post_init__(self):
        arguments.instance("name", self.name, str, "a text")
        if not isinstance(self.image_shape, tuple) or None not in self.image_shape:  # TFDS' where images differ
            object.__setattr__(self, "image_shape", arguments.image_shape("image_shape", self.image_shape))
        object.__setattr__(self, "class_names", tuple(arguments.names("class_names", self.class_names)))

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a dataset comes from.

    Args:
        info: A function of the data folder, a path or None, that gives the dataset's `Info`.
        load: A function of a split, of the data folder, and of whether to leave images as large as their files have them,
            that gives the images one by one: (image (H, W, C) uint8, label int64), always in the same order.
        right: The same with the right labels, where those of `load` are people's of which some are known to be wrong.
        folder: The folder of images that is read, where it is one.
    """

    info: Callable[[str | None], Info]
    load: Callable[[str, str | None, bool], tf.data.Dataset]
    right: Callable[[str, str | None, bool], tf.data.Dataset] | None = None
    folder: ImageFolder | None = None

    def __post_init__(self):
        for name in ("info", "load", *(() if self.right is None else ("right",))):
            arguments.function(name, getattr(self, name), "a split and a folder" if name != "info" else "a folder")
        arguments.instance("folder", self.folder, (ImageFolder, type(None)), "an ImageFolder or None")
