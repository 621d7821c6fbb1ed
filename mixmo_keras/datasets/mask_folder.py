"""A folder of images beside masks, which say the class of each pixel, as a dataset with the splits that all here have."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps, UnidentifiedImageError

from mixmo_keras import tasks
from mixmo_keras.common import arguments
from mixmo_keras.datasets import decoding, file_checks, listing, orders, orientation, resizing, tiff

DEFAULT_SIZE = (64, 64)
IGNORED = 255
NAMES = "classes.txt"
ADE20K_CLASSES = 150
_MASKS, _ADE20K = "masks", "annotations"  # beside the folder of images: which of the two layouts it is
_SPLITS = {"train": "train", "training": "train", "val": "validation", "validation": "validation", "test": "test"}
_INDEX_MODES = ("L", "P", "1", "I", "I;16")
_NAMED = 5  # files that an error names


class _Pair(NamedTuple):
    name: str  # below the folder of images, without its suffix
    split: str
    image: Path
    mask: Path


class _Facts(NamedTuple):
    """What the header of an image says: whether it is grey, its format by Pillow's name, its Exif orientation."""

    grey: bool
    format: str
    turn: int


def is_mask_folder(folder: str | os.PathLike) -> bool:
    """Whether a folder holds images and masks in folders of their own."""
    return Path(folder, "images").is_dir() and any(Path(folder, masks).is_dir() for masks in (_MASKS, _ADE20K))


class MaskFolder:
    """Images in `<folder>/images/` and a PNG of the same name and size for each in `<folder>/masks/`.

    A mask's values, of grey levels or of a palette, are classes from 0 to K − 1, or 255 where a pixel doesn't count.
    `<folder>/classes.txt` has the names of the classes, one a line; without it K is one more than the highest class in the
    masks. Folders `train`, `val` and `test` in both are the splits; otherwise a fifth is the test split and a tenth
    validation, each file by a hash of its name.

    With `annotations` in place of `masks` it is ADE20K's layout (Zhou et al., 2017), of its scene parsing challenge: folders
    `training` and `validation` in both, 150 classes that are 1 to 150 in the files, and 0 where a pixel doesn't count, which
    are 0 to 149 and 255 here. Its own validation split is the test split here, since labels of no other are published; a
    tenth of its training split, by a hash of the names, is validation.

    Args:
        folder: The folder that holds both.
        size: (height, width) in pixels, to which images and masks are brought: of another aspect ratio, the center is taken.
            Masks keep their nearest pixels' values. Defaults to (64, 64).
        channels: 1 to read images in grey, 3 in RGB. Defaults to 1 where all files are grey, else 3.

    Attributes:
        class_names: The classes' names, in their order.
        splits: The splits of all pairs (n,), texts.
        channels: Of the images as they are read.

    Raises:
        ValueError: no pair, an image without a mask or a mask without an image, masks of another size or with colours.
    """

    def __init__(self, folder: str | os.PathLike, size: tuple[int, int] = DEFAULT_SIZE, channels: int | None = None):
        arguments.instance("folder", folder, (str, os.PathLike), "the path of a folder")
        self.folder, self.size = Path(folder).absolute(), arguments.image_size("size", size)
        self._ade20k = not (self.folder / _MASKS).is_dir()
        self._pairs = self._paired(self.folder / "images", self.folder / (_ADE20K if self._ade20k else _MASKS))
        self.splits = np.array([pair.split for pair in self._pairs])
        self._facts = [_checked(pair) for pair in self._pairs]
        self.channels = channels or (1 if all(facts.grey for facts in self._facts) else 3)
        self.class_names = self._names()

    @property
    def task(self) -> tasks.Segmentation:
        """The task of the masks' classes."""
        return tasks.Segmentation(self.class_names, IGNORED)

    def _paired(self, images: Path, masks: Path) -> list[_Pair]:
        found = [Path(path) for path in listing.walk(str(images)) if listing.is_read(path)]
        paths = [path for path in found if path.suffix.lower() not in tiff.ENDINGS]
        by_name = {path.relative_to(images).with_suffix("").as_posix(): path for path in sorted(paths)}
        png = {
            path.relative_to(masks).with_suffix("").as_posix(): path
            for path in sorted(map(Path, listing.walk(str(masks))))
            if path.suffix.lower() == ".png"
        }
        if not by_name or not png:
            raise ValueError(
                f"{self.folder} must hold images in `images` and PNG files of the same names in `{masks.name}`; it has "
                f"{len(by_name)} images and {len(png)} masks. Images may be {decoding.FORMATS} files."
            )
        if len(by_name) < len(paths):
            raise ValueError(f"Two images in {images} have one name and different suffixes: rename one of them.")
        for missing, what, beside in (
            (by_name.keys() - png.keys(), "images have no mask", masks),
            (png.keys() - by_name.keys(), "masks have no image", images),
        ):
            if missing:
                raise ValueError(f"{len(missing)} {what} of their name in {beside}, such as {_listed(missing)}.")
        return [_Pair(name, self._split_of(name), path, png[name]) for name, path in by_name.items()]

    def _split_of(self, name: str) -> str:
        first, *rest = name.split("/")
        split = _SPLITS.get(first.lower()) if rest else None
        if split is None:
            return listing.split_of(name)
        if self._ade20k:
            is_held_out = split == "train" and listing.split_of(name) == "validation"
            return "test" if split == "validation" else "validation" if is_held_out else split
        return split

    def _names(self) -> tuple[str, ...]:
        path = self.folder / NAMES
        if path.is_file():
            names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            arguments.different(f"{path}'s lines", names)
            return tuple(names)
        if self._ade20k:
            return tuple(str(number) for number in range(1, ADE20K_CLASSES + 1))
        values = set().union(*(np.unique(_values(pair.mask)).tolist() for pair in self._pairs)) - {IGNORED}
        return tuple(str(number) for number in range(max(values, default=0) + 1))

    def load(self, split: str, whole: bool = False) -> tf.data.Dataset:
        """(image (H, W, C) uint8, label map (H, W) uint8) one by one, always in the same order.

        Raises:
            ValueError: the split has no image; or `whole`, since random parts of images don't move their masks.
        """
        if whole:
            raise ValueError(
                "Random parts of images, `random_part`, don't move their masks: use augmentation.RandomResizedCrop()."
            )
        indices = np.flatnonzero(np.isin(self.splits, split.split("+")))
        if not len(indices):
            raise ValueError(f"{self.folder} has no {split} images: add a folder of it to images and masks.")
        masks = tf.constant([str(self._pairs[index].mask) for index in indices])
        images = [str(self._pairs[index].image) for index in indices]
        _, formats, turns = zip(*(self._facts[index] for index in indices), strict=True)
        image_at = decoding.reader(images, formats, turns, self.channels)
        crop = resizing.center_crop(self.size)
        nearest = keras.layers.Resizing(*self.size, interpolation="nearest", crop_to_aspect_ratio=True, dtype="float32")

        def read(index):
            mask = tf.numpy_function(self._mask, [tf.gather(masks, index)], tf.float32, stateful=False)
            mask = nearest(tf.ensure_shape(mask, (None, None, 1)))
            return crop(image_at(index)), tf.cast(tf.ensure_shape(mask, (*self.size, 1))[..., 0], tf.uint8)

        dataset = orders.by_index(len(indices), read)
        dataset.class_names = self.class_names
        return dataset

    def _mask(self, path: bytes) -> np.ndarray:
        """The labels of a mask's file (h, w, 1)."""
        values = _values(os.fsdecode(path)).astype("int32")
        if self._ade20k:
            values = np.where(values == 0, IGNORED, values - 1)
        return values[..., None].astype("float32")


def _checked(pair: _Pair) -> _Facts:
    """What an image's header says, after a check of its size and its mask's."""
    try:
        with Image.open(pair.image) as image, Image.open(pair.mask) as mask:
            if mask.mode not in _INDEX_MODES:
                raise ValueError(
                    f"{pair.mask} must have one number a pixel, its class, in grey levels or a palette; it has colours "
                    f"({mask.mode})."
                )
            turn = orientation.of_pillow(image)
            size = image.size[::-1] if turn >= 5 else image.size  # by a quarter
            if size != mask.size:
                raise ValueError(
                    f"{pair.mask} must have the size of its image, {size[0]}×{size[1]} pixels (width×height), and has "
                    f"{mask.size[0]}×{mask.size[1]}."
                )
            if size[0] * size[1] > decoding.MAX_PIXELS:
                raise ValueError(
                    f"{pair.image} has {size[0]}×{size[1]} pixels, more than the {decoding.MAX_PIXELS:,} that are read."
                )
            return _Facts(image.mode in file_checks.GREY_MODES, image.format or "", turn)
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{pair.image} or {pair.mask} can't be read: {error}.") from error


def _values(path: str | os.PathLike) -> np.ndarray:
    """The numbers (h, w) in a mask's file."""
    with Image.open(path) as mask:
        return np.asarray(ImageOps.exif_transpose(mask)).astype("int32")


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
