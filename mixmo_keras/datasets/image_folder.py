"""A folder of images as a dataset with the splits that all datasets here have: class folders, or a CSV file of labels."""

import os
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from mixmo_keras.common import arguments
from mixmo_keras.datasets import decoding, file_checks, label_table, listing, orders, resizing

DEFAULT_SIZE = (64, 64)
FEWEST = 5  # images of a class
SPLITS = ("train", "validation", "test")
_DARK = 64  # of 256 levels: files of 16 bits whose levels all lie below hold values of 14 bits or fewer
_NAMED = 20  # classes that a line lists


class ImageFolder:
    """Images below `<folder>/<class>/`, or those that a CSV file names, in JPEG, PNG, GIF, BMP, WebP
    or TIFF format, of any sizes.

    Folders `train`, `val` and `test` of class folders are the splits. Otherwise a fifth of each class is the test split and
    a tenth validation, each file by a hash of its name (`listing.split_of`): the same in every run and for every size, and a
    file that is added, removed or renamed moves no other. Images are turned upright and resized; of another aspect ratio,
    their center is taken.

    A file `labels.csv` in the folder takes the place of class folders, as `label_table` describes it: it names the images,
    and the class or numbers of each.

    Args:
        folder: The folder that holds the class folders, whose names are the classes; or that holds `labels.csv`; or the path
            of a CSV file of another name.
        size: (height, width) in pixels. Defaults to (64, 64).
        channels: 1 to read images in grey, 3 in RGB. Defaults to 1 where all files are grey, else 3.

    Attributes:
        class_names: In the labels' order.
        names: The images' paths below the folder (n,).
        paths: The images' paths (n,).
        targets: What each image shows: the index of its class (n,), or numbers (n, K), float32.
        target_kind: What they are, one of `listing.TARGET_KINDS`.
        labels: Their classes (n,), integers: of shares the largest one's, of other numbers all 0.
        splits: Their splits (n,), texts.
        facts: What is known of each file (`file_checks.Facts`).
        channels: Of the images as they are read.

    Raises:
        ValueError: fewer than two classes, a class with fewer than five images or none to train on, names that are not
            UTF-8, files that can't be decoded or have too many pixels: all are tried (`file_checks`).
    """

    def __init__(self, folder: str | os.PathLike, size: tuple[int, int] = DEFAULT_SIZE, channels: int | None = None):
        arguments.instance("folder", folder, (str, os.PathLike), "the path of a folder")
        # a path that stays right where the process changes its folder
        self.folder, self.size = Path(folder).absolute(), arguments.image_size("size", size)
        self._table = label_table.of_path(self.folder)
        listed = listing.of_folder(self.folder) if self._table is None else label_table.of_file(self._table)
        self.folder, self.class_names, self.names = listed.folder, listed.class_names, listed.names
        self.paths = np.array(listed.paths())
        self.labels, self.splits = np.array(listed.labels, "int64"), np.array(listed.splits)
        self.target_kind = listed.target_kind
        self.targets = self.labels if listed.values is None else listed.values
        self._listed = listed
        self._check_counts()
        if passed_over := listed.kinds_passed_over():
            warnings.warn(
                f"{self.folder}: {passed_over} are not read: {listing.FORMATS} in the class folders are.", stacklevel=2
            )
        self.facts = file_checks.check(self.folder, self.paths.tolist())
        self._files = file_checks.to_decode(self.paths.tolist(), self.facts)
        self._turns = file_checks.to_turn(self.paths.tolist(), self.facts)
        self.channels = channels or (1 if all(facts.grey for facts in self.facts) else 3)
        self._warn_of_levels()

    def _check_counts(self) -> None:
        if not self.names:
            raise ValueError(f"{self.folder} holds no folders of images, one a class.{self._unread_images()}")
        if self.target_kind == "classes":
            self._check_classes()
        elif len(self.names) < FEWEST:
            raise ValueError(
                f"{self.folder} has {len(self.names)} images: at least {FEWEST} are needed to train and to test on."
            )
        if untrained := self._without("train"):
            raise ValueError(
                f"Class {untrained[0]!r} has no images to train on, which are chosen {self._listed.rule}: add some."
            )

    def _check_classes(self) -> None:
        if len(self.class_names) < 2:
            kind = "class folder" if self._table is None else "class"
            raise ValueError(f"{self.folder} has {len(self.class_names)} {kind}: a classifier needs two.")
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        smallest = self.class_names[counts.argmin()]
        if counts.min() < FEWEST:
            raise ValueError(
                f"{self.folder}: Class {smallest!r} has {counts.min()} images: at least {FEWEST} are needed to train and to "
                "test on. Add some, or leave the class out."
                f"{self._unread_images(smallest)}"
            )

    def _unread_images(self, class_name: str | None = None) -> str:
        """What to do about files that are passed over, of one class or of all: sentences, or an empty text."""
        unread = self._listed.kinds_passed_over(class_name)
        if not unread:
            return ""
        return (
            f" Its {unread} are not read: {listing.FORMATS} files in class folders are. Convert images of other formats to "
            "PNG, for example by ImageMagick: mogrify -format png *.jp2"
        )

    def _without(self, split: str) -> list[str]:
        """The classes that have no image, nor a share of one, in a split; none of other numbers."""
        if self.target_kind == "numbers":
            return []
        in_split = self.targets[self.splits == split]
        is_shown = in_split.sum(0) > 0 if in_split.ndim == 2 else np.bincount(in_split, minlength=len(self.class_names))
        return [name for name, shown in zip(self.class_names, is_shown, strict=True) if not shown]

    def _warn_of_levels(self) -> None:
        """Says where files of 16 bits don't use these: their higher eight bits are dark and have few levels."""
        brightest = [facts.brightest for facts in self.facts if facts.brightest >= 0]
        if brightest and max(brightest) < _DARK:
            warnings.warn(
                f"{self.folder}: {len(brightest)} files of 16 bits use the lowest {max(brightest) + 1} of 256 levels "
                f"only, since their values end below {256 * (max(brightest) + 1):,} of 65,536. Scale all of them to 8 bits "
                "by one factor, or most of what they show is lost.",
                stacklevel=3,
            )

    def indices(self, split: str) -> np.ndarray:
        """The indices of a split's images in `paths` and `labels`, ascending."""
        return np.flatnonzero(np.isin(self.splits, split.split("+")))

    def load(self, split: str, whole: bool = False) -> tf.data.Dataset:
        """(image (H, W, C) uint8, target) one by one, always in the same order; `whole`: as large as in the files.

        A target is the index of a class, int64, or numbers (K,), float32.

        Raises:
            ValueError: the split has no image.
        """
        indices = self.indices(split)
        if not len(indices):
            raise ValueError(
                f"{self.folder} has no {split} images, which are chosen {self._listed.rule}: add images, or put them into "
                "folders train/CLASS, val/CLASS and test/CLASS; a CSV file says it in its column `split`."
            )
        image_at, targets = self._reader(indices), tf.constant(self.targets[indices])
        crop = resizing.center_crop(self.size)

        def read(index):
            image = image_at(index)
            return image if whole else crop(image), tf.gather(targets, index)

        dataset = orders.by_index(len(indices), read)
        dataset.class_names = self.class_names  # as `keras.utils.image_dataset_from_directory` does
        return dataset

    def _reader(self, indices: np.ndarray) -> Callable:
        formats = [self.facts[index].format for index in indices]
        return decoding.reader(self._files[indices], formats, self._turns[indices].tolist(), self.channels)

    @property
    def of_table(self) -> bool:
        """Whether a CSV file says what the images show."""
        return self._table is not None

    def labels_in_words(self) -> list[str]:
        """What each image shows, as a text: the name of its class, or its numbers."""
        if self.target_kind == "classes":
            return [self.class_names[label] for label in self.labels]
        return [" ".join(f"{number:g}" for number in numbers) for numbers in self.targets]

    def description(self) -> str:
        """What was understood of the folder, in lines: classes, counts, splits, sizes, and what is passed over."""
        by_split = ", ".join(f"{len(self.indices(split)):,} {split}" for split in SPLITS)
        heights, widths = zip(*((facts.height, facts.width) for facts in self.facts), strict=True)
        sizes = f"{min(heights)}×{min(widths)} to {max(heights)}×{max(widths)} pixels (height×width)"
        turned = sum(facts.orientation != 1 for facts in self.facts)
        lines = [
            f"{self.folder}: {len(self.names):,} images, {self._targets_in_words()}",
            f"splits: {by_split}; {self._listed.rule}",
            f"sizes: {sizes}, brought to {self.size[0]}×{self.size[1]} in {'grey' if self.channels == 1 else 'RGB'}"
            + (f"; {turned:,} are turned upright by their Exif orientation" if turned else ""),
        ]
        if others := self._listed.kinds_passed_over():
            lines.append(f"passed over: {others}")
        lines += [f"note: {note}" for note in (*self._listed.notes, *self._absent(), *self._repeated())]
        return "\n".join(lines)

    def _targets_in_words(self) -> str:
        """The classes or targets, and how many images each has, how large its shares or how far its numbers reach."""
        if self.target_kind == "classes":
            kind, figures = (
                "classes",
                [f"{count:,}" for count in np.bincount(self.labels, minlength=len(self.class_names))],
            )
        elif self.target_kind == "shares":
            kind, figures = "classes by shares", [f"{share:.1%}" for share in self.targets.mean(0)]
        else:
            kind = "targets"
            ends = zip(self.targets.min(0), self.targets.max(0), strict=True)
            figures = [f"{low:g} to {high:g}" for low, high in ends]
        named = [f"{name} {figure}" for name, figure in zip(self.class_names, figures, strict=True)]
        more = f", … {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        return f"{len(named)} {kind} ({', '.join(named[:_NAMED])}{more})"

    def _absent(self) -> list[str]:
        """Sentences about splits that lack classes."""
        sentences = []
        for split in ("validation", "test"):
            if absent := self._without(split):
                sentences.append(f"no {split} images of {', '.join(absent[:_NAMED])}")
        return sentences

    def _repeated(self) -> list[str]:
        """A sentence about files with the same content."""
        places: dict[str, list[int]] = {}
        for index, facts in enumerate(self.facts):
            places.setdefault(facts.digest, []).append(index)
        several = [indices for indices in places.values() if len(indices) > 1]
        if not several:
            return []
        both = sum(len(set(self.splits[indices])) > 1 for indices in several)
        other = sum(len(np.unique(self.targets[indices], axis=0)) > 1 for indices in several)
        example = ", ".join(self.names[index] for index in several[0][:2])
        found = Counter({"in several splits": both, "in several classes": other})
        where = "; ".join(f"{count:,} of them {place}" for place, count in found.items() if count)
        return [
            f"{len(several):,} images are there more than once, such as {example}" + (f"; {where}" if where else "")
        ]
