"""Which images a folder holds: their classes, their splits, and what is passed over.

Links to folders and files are followed; a folder that lies in itself by a link is walked once. What begins with a dot is
hidden, and passed over.
"""

import dataclasses
import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mixmo_keras.common import class_labels
from mixmo_keras.datasets import tiff

FORMATS = "JPEG, PNG, GIF, BMP, WebP and TIFF"
READ = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", *tiff.ENDINGS)
WEBP = ".webp"  # of which those that are animated are passed over
# folders of class folders whose names say which split they are
SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
# The key of the hash that splits follow from. Every key shares out a large folder alike; in one of a few dozen files, shares
# are left to chance. Of the keys 0 to 599 this one gives the most even shares of 6, 12 and 60 files a class that have usual
# names: cat/0.png, cat/000.jpg. Another key would move files from the training images to the test images.
SPLIT_SEED = 467
RULE = "by a hash of each file's name"
NAMED = 5  # kinds or names that a sentence lists
# the class of each image; shares (n, K) of classes, of at least 0 and with a sum of one; any other numbers (n, K)
TARGET_KINDS = ("classes", "shares", "numbers")


@dataclasses.dataclass(frozen=True)
class Listing:
    """The images of a folder in the order of their classes and names.

    Attributes:
        folder: The folder.
        class_names: In alphabetical order, which is that of the labels.
        names: The images' paths below the folder, with `/` between the parts.
        labels: The indices of their classes.
        splits: `"train"`, `"validation"` or `"test"` for each.
        rule: How the splits came about, in words.
        passed_over: The number of other files by class and kind, such as `(".webp")`; the class is `""` beside classes.
        notes: What else was found, in sentences.
        values: Numbers (n, K) of a CSV file with a column for each of K classes or targets, float32; `None` of classes.
            `labels` are then the largest shares' classes, or all 0 of numbers that are no shares.
    """

    folder: Path
    class_names: tuple[str, ...]
    names: tuple[str, ...]
    labels: tuple[int, ...]
    splits: tuple[str, ...]
    rule: str
    passed_over: Counter[tuple[str, str]]
    notes: tuple[str, ...]
    values: np.ndarray | None = None

    def paths(self) -> list[str]:
        """The images' paths."""
        return [os.path.join(self.folder, *name.split("/")) for name in self.names]

    @property
    def target_kind(self) -> str:
        """What is known of each image: one of `TARGET_KINDS`."""
        if self.values is None:
            return "classes"
        return "shares" if are_shares(self.values) else "numbers"

    def kinds_passed_over(self, class_name: str | None = None) -> str:
        """Returns `"3 files (2 .webp, 1 .txt)"`, of one class or of all; an empty text where there are none."""
        kinds: Counter[str] = Counter()
        for (of_class, kind), count in self.passed_over.items():
            if class_name in (None, of_class):
                kinds[kind] += count
        named = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(NAMED))
        return f"{kinds.total()} files ({named})" if kinds else ""


def are_shares(values: np.ndarray) -> bool:
    """Whether numbers (n, K) are shares of K ≥ 2 classes: of at least 0, with a sum of one for each image."""
    return values.shape[1] > 1 and not class_labels.are_wrong(values, values.shape[1]).any()


def of_folder(folder: Path) -> Listing:
    """The listing of a folder of class folders, or of folders of these that are named `train`, `val` and `test`.

    Without folders of their own, test images are a fifth of each class and validation images a tenth, by `split_of`.

    Raises:
        ValueError: names that are not UTF-8; a layout that can't be told, such as images that lie in `train/` itself.
    """
    check_name(str(folder))
    top = _folders(folder)
    by_split: dict[str, list[str]] = {}
    for name in top:
        if name.lower() in SPLIT_FOLDERS:
            by_split.setdefault(SPLIT_FOLDERS[name.lower()], []).append(name)
    others = [name for name in top if name.lower() not in SPLIT_FOLDERS]
    if by_split and (not others or (len(by_split) > 1 and "train" in by_split)):
        return _of_split_folders(folder, by_split, others)
    collected = _Collected(folder)
    for name in top:
        collected.add_class(name, name)
    collected.add_beside(folder)
    splits, notes = without_empty(collected.names, collected.classes, [split_of(name) for name in collected.names])
    return collected.listing(splits, RULE, top, notes)


def split_of(name: str) -> str:
    """The split of a file, which follows from its name below the folder alone: other files don't move it.

    The name's hash falls into the first fifth of all hashes for the test split, into the next tenth for validation.
    """
    share = _share(name)
    if share < TEST_SHARE:
        return "test"
    return "validation" if share < TEST_SHARE + VALIDATION_SHARE else "train"


def _share(name: str) -> float:
    """A number from 0 to 1 that follows from a name."""
    key = SPLIT_SEED.to_bytes(8, "little")
    # file systems spell accents in two ways
    text = unicodedata.normalize("NFC", name).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, key=key).digest(), "little") / 2**64


def without_empty(keys: Sequence[str], classes: Sequence, splits: list[str]) -> tuple[list[str], list[str]]:
    """The splits with files put into empty ones, and a note on each of these.

    Among a few dozen files, no hash may fall into a split. It gets the training file of each class that has the lowest hash;
    these are training files again once a file that falls into the split is added.

    Args:
        keys: The text of each file whose hash decides: its name, or that of its group, all files of which move together.
        classes: The class of each file.
        splits: The split of each file.
    """
    notes = []
    for split in ("validation", "test"):
        if split in splits or not splits:
            continue
        lowest: dict[Any, str] = {}
        for key, of_class, current in zip(keys, classes, splits, strict=True):
            if current == "train" and (of_class not in lowest or _share(key) < _share(lowest[of_class])):
                lowest[of_class] = key
        moved = set(lowest.values())
        splits = [split if key in moved else current for key, current in zip(keys, splits, strict=True)]
        notes.append(f"there are so few files that none falls to {split}: one of each class is taken")
    return splits, notes


def walk(folder: str, above: frozenset[str] = frozenset()) -> Iterator[str]:
    """The paths of all files below a folder in the order of their names, through links, but for hidden ones.

    Args:
        folder: The folder.
        above: The real paths of the folders in which it lies. A link to one of them is not followed, which would not end.
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if name.startswith("."):
            continue
        if os.path.isdir(path):
            yield from walk(path, above | {real})
        else:
            yield path


def is_read(path: str) -> bool:
    """Whether a file is read as an image: by the ending of its name, and where that is `.webp` by its header too."""
    if not path.lower().endswith(WEBP):
        return path.lower().endswith(READ)
    try:
        with open(path, "rb") as file:
            header = file.read(21)
    except OSError:
        return True  # `file_checks` says what is wrong with it
    is_animated = header[12:16] == b"VP8X" and header[20] & 2
    return header[:4] == b"RIFF" and header[8:12] == b"WEBP" and not is_animated


def check_name(path: str) -> None:
    """Raises `ValueError` for a path that is not UTF-8, as TensorFlow needs it."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ValueError(f"Names of folders and images must be UTF-8, got {path!r}: rename it.") from None


def _of_split_folders(folder: Path, by_split: dict[str, list[str]], others: list[str]) -> Listing:
    """The listing of `train/CLASS`, `val/CLASS` and `test/CLASS`, of which all but the first may be missing."""
    for split, names in by_split.items():
        if len(names) > 1:
            raise ValueError(
                f"{folder} has several folders of the {split} split ({', '.join(names)}): keep one of them."
            )
    if "train" not in by_split:
        found = ", ".join(name for names in by_split.values() for name in names)
        raise ValueError(f"{folder} has no folder `train` beside {found}: name the folder of training images `train`.")
    collected, notes, folders = _Collected(folder), [], {}
    for split in ("train", "validation", "test"):
        for name in by_split.get(split, []):
            classes = _folders(folder / name)
            if classes:
                folders[split] = (name, classes)
                for class_name in classes:
                    collected.add_class(class_name, f"{name}/{class_name}", split)
            elif split == "train":
                raise ValueError(
                    f"{folder / name} has no class folders, but its name says that it holds the training images: put the "
                    f"images of each class into a folder, {name}/CLASS."
                )
            else:
                notes.append(f"{name}/ has no class folders, and is passed over")
            collected.add_beside(folder / name)
    class_names = folders["train"][1]
    for name, classes in folders.values():
        if unknown := sorted(set(classes) - set(class_names)):
            raise ValueError(
                f"{folder / name} has classes that {folders['train'][0]}/ has not: {', '.join(unknown[:NAMED])}. All splits "
                "need the same class folders."
            )
    if others:
        notes.append(f"{', '.join(f'{name}/' for name in others[:NAMED])} beside the splits is passed over")
    missing = {"test", "validation"} - folders.keys()
    splits = []
    for name, split in zip(collected.names, collected.own_splits, strict=True):
        held_out = split_of(name.partition("/")[2])  # as where the class folders lie in no other folder
        splits.append(held_out if split == "train" and held_out in missing else split)
    rule = f"as the folders {', '.join(name for name, _ in folders.values())} say"
    if missing:
        rule += f"; {' and '.join(sorted(missing))} held out of {folders['train'][0]} {RULE}"
    return collected.listing(splits, rule, class_names, notes)


class _Collected:
    """Files as they are found."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.names: list[str] = []
        self.classes: list[str] = []
        self.own_splits: list[str] = []
        self.passed_over: Counter[tuple[str, str]] = Counter()

    def add_class(self, class_name: str, below: str, split: str = "") -> None:
        """Adds the images of a class folder, a path below the folder."""
        root = os.path.join(self.folder, *below.split("/"))
        check_name(root)
        for path in walk(root, frozenset({os.path.realpath(self.folder)})):
            if is_read(path):
                check_name(path)
                self.names.append(Path(path).relative_to(self.folder).as_posix())
                self.classes.append(class_name)
                self.own_splits.append(split)
            else:
                self.passed_over[class_name, _kind(path)] += 1

    def add_beside(self, folder: Path) -> None:
        """Counts images that lie beside the class folders."""
        shown = [path for path in folder.iterdir() if not path.name.startswith(".")]
        beside = [path for path in shown if path.suffix.lower() in (*READ, WEBP)]
        if beside:
            self.passed_over["", "beside the class folders"] += len(beside)

    def listing(self, splits: list[str], rule: str, class_names: list[str], notes: list[str] | None = None) -> Listing:
        index = {name: number for number, name in enumerate(class_names)}
        order = sorted(range(len(self.names)), key=lambda one: (index[self.classes[one]], self.names[one]))
        return Listing(
            self.folder,
            tuple(class_names),
            tuple(self.names[one] for one in order),
            tuple(index[self.classes[one]] for one in order),
            tuple(splits[one] for one in order),
            rule,
            self.passed_over,
            tuple(notes or ()),
        )


def _folders(folder: Path) -> list[str]:
    """The names of a folder's folders in order, but for hidden ones."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _kind(path: str) -> str:
    """The ending of a file's name; the name itself where it has none."""
    name = os.path.basename(path)
    return os.path.splitext(name)[1].lower() or name.encode(errors="replace").decode()
