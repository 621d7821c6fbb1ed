"""What a dataset is here: a description, and a function that gives the images of a split."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from mixmo_keras.common import arguments
from mixmo_keras.datasets.image_folder import ImageFolder
from mixmo_keras.datasets.listing import TARGET_KINDS
from mixmo_keras.tasks import Task

_TAKES = {"info": "a folder", "load": "a split and a folder", "right": "a split and a folder", "at_size": "a size"}
SPLITS = ("train", "validation", "test", "train+validation")


@dataclasses.dataclass(frozen=True)
class Info:
    """What a model needs to know of a dataset.

    Attributes:
        name: The dataset's.
        image_shape: (H, W, C).
        class_names: The names of the classes, or of a task's labels or targets.
        normalization: As `MixMo` takes it.
        task: What the targets are of. Defaults to one class of `class_names` an image.
        target_kind: What a folder of images says of each: the index of its class (`"classes"`); `"shares"` (K,) of the
            classes; or `"numbers"` (K,) of another meaning.

    Raises:
        ValueError: a name that is no text, classes that aren't texts, another shape, no task, another kind of targets.
    """

    name: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    normalization: tuple | str = "auto"
    task: Task | None = None
    target_kind: str = TARGET_KINDS[0]

    def __post_init__(self):
        arguments.instance("name", self.name, str, "a text")
        arguments.choice("target_kind", self.target_kind, TARGET_KINDS)
        if not isinstance(self.image_shape, tuple) or None not in self.image_shape:  # TFDS' where images differ
            object.__setattr__(self, "image_shape", arguments.image_shape("image_shape", self.image_shape))
        object.__setattr__(self, "class_names", tuple(arguments.names("class_names", self.class_names)))
        arguments.instance("task", self.task, (Task, type(None)), "a task of mixmo_keras.tasks, or None for classes")

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
        at_size: A function of a size (height, width) that gives the dataset at this size, where images are made at any or
            cut from larger files.
        splits: Those of `SPLITS` that the dataset has. Defaults to all; a test set has one.
    """

    info: Callable[[str | None], Info]
    load: Callable[[str, str | None, bool], tf.data.Dataset]
    right: Callable[[str, str | None, bool], tf.data.Dataset] | None = None
    folder: ImageFolder | None = None
    at_size: Callable[[tuple[int, int]], "Source"] | None = None
    splits: tuple[str, ...] = SPLITS

    def __post_init__(self):
        given = [name for name in ("right", "at_size") if getattr(self, name) is not None]
        for name in ("info", "load", *given):
            arguments.function(name, getattr(self, name), _TAKES[name])
        for split in arguments.instance("splits", self.splits, tuple, "a tuple of splits"):
            arguments.choice("splits", split, SPLITS)
        arguments.instance("folder", self.folder, (ImageFolder, type(None)), "an ImageFolder or None")
