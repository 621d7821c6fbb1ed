"""Which data a run is of: a manifest beside its settings, and what has changed where the run meets data again.

A manifest holds the classes in their order, the images' shape, the number of images by split and, of a folder of images, all
files with their splits and digests of their content. Data that would give wrong answers are refused: a class that has
another number, a test image that was trained on, anything at all where a training goes on. Other changes are said.
"""

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from mixmo_keras.common import files, numbering
from mixmo_keras.datasets import registry

FILE = "manifest.json"
_NAMED = 3  # files that a sentence names
# the words for one file and for several: of class folders, and of a CSV file
_RELABELLED = ("is in another class folder, are in other class folders", "has another label, have other labels")
_LEARNED_FROM = ("train", "validation")
_OF_EARLIER_VERSION = (
    "of an earlier version, which noted no data and split folders of images otherwise: some of what are test images now "
    "were trained on then"
)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The data of a run.

    Attributes:
        dataset: The name that the data were loaded by.
        class_names: In the labels' order.
        image_shape: (H, W, C).
        images: The number of images by split.
        files: By name below the folder the split and the digest of each file; empty of other datasets than folders.
        labels: By name what a CSV file says of each file, a class or numbers; empty of other datasets.
    """

    dataset: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, ...]
    images: Mapping[str, int]
    files: Mapping[str, tuple[str, str]]
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Writes it into the folder of a run."""
        files.write_json(folder / FILE, dataclasses.asdict(self))

    def names(self, split: str) -> tuple[str, ...] | None:
        """The names of a split's files, in the order of `datasets.load`; `None` of other datasets than folders."""
        if not self.files:
            return None
        return tuple(name for name, (its_split, _) in self.files.items() if its_split in split.split("+"))

    def test_set(self) -> str:
        """A text that two manifests have in common where their test images are the same, in the same order."""
        if not self.files:
            return registry.path_and_size(self.dataset)[0]
        digests = [
            f"{digest}{self.labels.get(name, '')}" for name, (split, digest) in self.files.items() if split == "test"
        ]
        return hashlib.blake2b(" ".join(digests).encode(), digest_size=8).hexdigest()

    def label(self, name: str) -> str:
        """The label of a file: what a CSV file says, else the folder in which it lies."""
        return self.labels.get(name, os.path.dirname(name))


def of(dataset: str, data_dir: str | os.PathLike | None = None) -> Manifest:
    """The manifest of a dataset as it is now. Arguments as in `datasets.load`."""
    info, folder = registry.info(dataset, data_dir), registry.image_folder(dataset)
    if folder is None:
        images = {split: int(registry.load(dataset, split, data_dir).cardinality()) for split in registry.SPLITS[:3]}
        return Manifest(dataset, info.class_names, info.image_shape, images, {})
    listed = zip(folder.names, folder.splits.tolist(), (facts.digest for facts in folder.facts), strict=True)
    images = {split: len(folder.indices(split)) for split in registry.SPLITS[:3]}
    by_name = {name: (split, digest) for name, split, digest in listed}
    labels = dict(zip(folder.names, folder.labels_in_words(), strict=True)) if folder.of_table else {}
    return Manifest(dataset, info.class_names, info.image_shape, images, by_name, labels)


def read(folder: Path) -> Manifest | None:
    """The manifest in the folder of a run; None where an earlier version left none.

    Raises:
        ValueError: it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    kinds = {"dataset": files.is_text, "class_names": _is_list, "image_shape": files.are_counts_or_none}
    kinds |= {"images": lambda value: isinstance(value, dict), "files": _are_files, "labels": _are_labels_or_none}
    content = files.read_json_object(path, "remove it, to go on without a comparison of the data", kinds)
    return Manifest(
        content["dataset"],
        tuple(content["class_names"]),
        tuple(content["image_shape"]),
        content["images"],
        {name: (split, digest) for name, (split, digest) in content["files"].items()},
        content.get("labels") or {},  # which earlier versions don't have
    )


def changes(before: Manifest, now: Manifest) -> list[str]:
    """What differs between two manifests, a sentence for each kind of change; nothing where they are of the same data."""
    found = _class_changes(before.class_names, now.class_names)
    if before.image_shape != now.image_shape:
        found.append(f"images were {before.image_shape}, and are {now.image_shape}")
    if bool(before.files) != bool(now.files):
        found.append(f"they were of {before.dataset!r}, and are of {now.dataset!r}")
    elif not now.files and before.images != now.images:
        found.append(f"the numbers of images were {dict(before.images)}, and are {dict(now.images)}")
    return found + _file_changes(before, now)


def check_resumed(folder: Path, now: Manifest, kind: str = "run") -> None:
    """Raises `ValueError` where what is in a folder would go on with other data than those that it began on.

    Args:
        folder: That of a run or a search, which has begun.
        now: The data.
        kind: What is in the folder, in a word.
    """
    before = read(folder)
    advice = "pass --fresh to start over, or another --output-dir"
    if before is None:
        if now.files:
            raise ValueError(f"{folder} holds a {kind} {_OF_EARLIER_VERSION}: {advice}.")
        return
    if found := changes(before, now):
        raise ValueError(
            f"The data have changed since the {kind} in {folder} began: {'; '.join(found)}. Put them back as they were, "
            f"{advice}. A finished network learns from new data by --warm-start and its last.keras, in another --output-dir."
        )


def check_met_again(folder: Path, now: Manifest, trained_further: bool = False) -> str | None:
    """Checks data on which a trained network is evaluated, or trained further.

    Args:
        folder: That of the run, or that which its `.keras` file lies in.
        now: The data.
        trained_further: Whether the network learns from them, and may so learn other classes.

    Returns:
        What has changed since the training, in a sentence; None where nothing has, or where it isn't known.

    Raises:
        ValueError: the classes are others or in another order; test images were trained on.
    """
    before = read(folder)
    if before is None:
        if now.files and _same_place(_dataset_of(folder), now.dataset):
            raise ValueError(
                f"{folder} holds a run {_OF_EARLIER_VERSION}. Train it again; or copy its .keras file elsewhere, and "
                "evaluate that on images that it has never seen."
            )
        return None
    if trained_further:
        numbering.check_numbers(before.class_names, now.class_names, f"The network in {folder}")
    else:
        check_classes(before.class_names, now, str(folder))
    learned = {digest: name for name, (split, digest) in before.files.items() if split in _LEARNED_FROM}
    in_test = {name: digest for name, (split, digest) in now.files.items() if split == "test" and digest in learned}
    # a copy that was among the test images all the time is no change
    if leaked := [name for name in in_test if before.files.get(name, ("",))[0] != "test"]:
        examples = [f"{name} (was {learned[in_test[name]]})" for name in leaked]
        raise ValueError(
            f"{len(leaked)} test images of {now.dataset} have been trained or validated on by the network in {folder}: "
            f"{_some(examples)}. They were renamed, moved or copied since. Put them back, or remove them."
        )
    if not _same_place(before.dataset, now.dataset) or not (sentences := changes(before, now)):
        return None
    return f"The data have changed since the training in {folder}: {'; '.join(sentences)}."


def check_classes(learned: Sequence[str], now: Manifest, where: str) -> None:
    """Raises `ValueError` where data have other classes, or others' numbers, than those that a network learned.

    Args:
        learned: The names of the network's classes, in their order.
        now: The data.
        where: The network's file or folder.
    """
    if found := _class_changes(learned, now.class_names):
        names = ", ".join(learned[:20]) + (", …" if len(learned) > 20 else "")
        raise ValueError(
            f"The network in {where} numbers the classes that it was trained on, which are not those of {now.dataset}: "
            f"{'; '.join(found)}. Name the class folders as they were: {names}."
        )


def _dataset_of(folder: Path) -> str:
    """The dataset that the settings of a run name; an empty text where there are none."""
    path = folder / "config.json"
    config = files.read_json_object(path, "pass the .keras file from another folder") if path.is_file() else {}
    return str(config.get("dataset", ""))


def _same_place(one: str, other: str) -> bool:
    """Whether two names are of the same dataset, in whatever size."""
    paths = [registry.path_and_size(name)[0] for name in (one, other)]
    return paths[0] == paths[1] or os.path.realpath(paths[0]) == os.path.realpath(paths[1])


def of_images(*splits: tf.data.Dataset) -> str:
    """A digest of images and labels as they are given, in their order, for data that have no name."""
    digest = hashlib.blake2b(digest_size=12)
    for dataset in splits:
        digest.update(b"split")
        for image, label in dataset.as_numpy_iterator():
            digest.update(f"{image.shape}{image.dtype}{label}".encode())
            digest.update(image.tobytes())
    return digest.hexdigest()


def _class_changes(before: Sequence[str], now: Sequence[str]) -> list[str]:
    if tuple(before) == tuple(now):
        return []
    added, removed = sorted(set(now) - set(before)), sorted(set(before) - set(now))
    if not added and not removed:
        return [f"classes are in another order ({_some(numbering.renumbered(before, now))})"]
    found = [f"classes were added ({_some(added)})"] if added else []
    return found + ([f"classes were removed ({_some(removed)})"] if removed else [])


def _file_changes(before: Manifest, now: Manifest) -> list[str]:
    old_files, new_files = before.files, now.files
    added, removed = sorted(new_files.keys() - old_files.keys()), sorted(old_files.keys() - new_files.keys())
    by_digest: dict[str, list[str]] = {}
    for name in removed:
        by_digest.setdefault(old_files[name][1], []).append(name)
    both = sorted(new_files.keys() & old_files.keys())
    renamed: list[str] = []
    relabelled = [name for name in both if before.label(name) != now.label(name)]
    for name in list(added):
        if not (names := by_digest.get(new_files[name][1])):
            continue
        old = names.pop()
        added.remove(name)
        removed.remove(old)
        (renamed if before.label(old) == now.label(name) else relabelled).append(f"{old} → {name}")
    rewritten = [name for name in both if old_files[name][1] != new_files[name][1]]
    splits = {name: (old_files[name][0], new_files[name][0]) for name in both}
    moved = [f"{name} {old} → {new}" for name, (old, new) in splits.items() if old != new]
    kinds = {
        "was added, were added": added,
        "was removed, were removed": removed,
        "was renamed, were renamed": renamed,
        _RELABELLED[bool(now.labels)]: relabelled,
        "was written anew, were written anew": rewritten,
        "is in another split, are in other splits": moved,
    }
    sentences = []
    for verbs, names in kinds.items():
        of_one, of_several = verbs.split(", ")
        if names:
            counted = f"1 file {of_one}" if len(names) == 1 else f"{len(names):,} files {of_several}"
            sentences.append(f"{counted} ({_some(names)})")
    return sentences


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f", … {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _are_labels_or_none(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and all(isinstance(one, str) for one in value.values()))


def _are_files(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_list(one) and len(one) == 2 for one in value.values())
