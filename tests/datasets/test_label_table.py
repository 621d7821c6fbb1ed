"""A CSV file in place of class folders: classes, shares, numbers, groups that stay together, fixed splits."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from mixmo_keras import datasets
from mixmo_keras.common import class_labels
from mixmo_keras.datasets import listing, manifest
from mixmo_keras.datasets.image_folder import ImageFolder
from mixmo_keras.experiments import Recipe
from mixmo_keras.experiments.recipe import dataset_label


def photos(folder, count=60):
    """A folder of grey images of 8×8 pixels, the number of each its level."""
    names = [f"cells/{number:03}.png" for number in range(count)]
    (folder / "cells").mkdir(parents=True)
    for number, name in enumerate(names):
        Image.fromarray(np.full((8, 8), number, "uint8")).save(folder / name)
    return names


def table(file, header, rows):
    with open(file, "w", newline="", encoding="utf-8") as text:
        csv.writer(text).writerows([header, *rows])
    return file


@pytest.fixture
def folder(tmp_path):
    photos(tmp_path / "panels")
    return tmp_path / "panels"


NAMES = [f"cells/{number:03}.png" for number in range(60)]


def test_classes_are_those_of_the_column_whatever_the_folders(folder):
    classes = ["odd" if number % 2 else "even" for number in range(60)]
    table(folder / "labels.csv", ["path", "class"], zip(NAMES, classes, strict=True))
    info = datasets.info(f"{folder}@8")
    assert (info.name, info.class_names, info.image_shape) == ("panels", ("even", "odd"), (8, 8, 1))
    assert info.target_kind == "classes"
    seen = 0
    for split in ("train", "validation", "test"):
        for image, label in datasets.load(f"{folder}@8", split).as_numpy_iterator():
            assert label == image[0, 0, 0] % 2
            assert label.dtype == np.int64
            seen += 1
    assert seen == 60
    images = ImageFolder(folder, (8, 8))
    assert [listing.split_of(name) for name in images.names] == images.splits.tolist()  # as in class folders
    # by its own path, under any name
    (folder / "labels.csv").rename(folder / "ours.csv")
    assert datasets.info(f"{folder}/ours.csv@8").class_names == ("even", "odd")
    assert dataset_label(f"{folder}/ours.csv@8") == "panels_ours_8"
    assert Recipe(dataset=f"{folder}/ours.csv").name.startswith("panels_ours-")


def test_shares_come_as_they_are_written(folder):
    shares = [(number % 4) / 3 for number in range(60)]
    rows = [(name, f"{1 - share:.3f}", f"{share:.3f}") for name, share in zip(NAMES, shares, strict=True)]
    table(folder / "labels.csv", ["path", "functional", "defective"], rows)
    info = datasets.info(f"{folder}@8")
    assert (info.class_names, info.target_kind) == (("functional", "defective"), "shares")
    for image, target in datasets.load(f"{folder}@8", "train").as_numpy_iterator():
        np.testing.assert_allclose(target, [1 - image[0, 0, 0] % 4 / 3, image[0, 0, 0] % 4 / 3], atol=5e-4)
        assert target.dtype == np.float32
    _, targets = next(datasets.batches(datasets.load(f"{folder}@8", "test"), 4).as_numpy_iterator())
    assert targets.shape == (4, 2)
    class_labels.check(targets, 2)
    assert "2 classes by shares (functional 50.0%, defective 50.0%)" in datasets.describe(f"{folder}@8")


def test_other_numbers_are_targets(folder):
    rows = [(name, number, -number / 2) for number, name in enumerate(NAMES)]
    table(folder / "labels.csv", ["path", "angle", "height"], rows)
    info = datasets.info(f"{folder}@8")
    assert (info.class_names, info.target_kind) == (("angle", "height"), "numbers")
    for image, target in datasets.load(f"{folder}@8", "test").as_numpy_iterator():
        level = int(image[0, 0, 0])
        np.testing.assert_array_equal(target, [level, -level / 2])
    assert "2 targets (angle 0 to 59, height -29.5 to 0)" in datasets.describe(f"{folder}@8")


def test_a_group_is_in_one_split(folder):
    groups = [f"panel{number // 4}" for number in range(60)]  # of both classes
    rows = [(name, "ab"[number % 2], group) for number, (name, group) in enumerate(zip(NAMES, groups, strict=True))]
    table(folder / "labels.csv", ["path", "class", "group"], rows)
    images = ImageFolder(folder, (8, 8))
    splits = {group: set() for group in groups}
    for name, split in zip(images.names, images.splits, strict=True):
        splits[groups[NAMES.index(name)]].add(split)
    assert all(len(of_group) == 1 for of_group in splits.values())
    assert {split for (split,) in splits.values()} == {"train", "validation", "test"}
    assert "by a hash of each group's name" in images.description()


def test_an_empty_split_gets_whole_groups(folder):
    groups = [f"panel{number // 15}" for number in range(60)]  # four groups, of which no hash falls to validation
    rows = [(name, "ab"[number % 2], group) for number, (name, group) in enumerate(zip(NAMES, groups, strict=True))]
    table(folder / "labels.csv", ["path", "class", "group"], rows)
    images = ImageFolder(folder, (8, 8))
    by_group = {tuple(images.splits[[groups[NAMES.index(name)] == group for name in images.names]]) for group in groups}
    assert all(len(set(splits)) == 1 for splits in by_group)
    assert set(images.splits) == {"train", "validation", "test"}
    assert "none falls to validation" in images.description()


def test_fixed_splits_are_kept_and_missing_ones_held_out(folder):
    splits = ["test" if number >= 40 else "Train" for number in range(60)]
    rows = [(name, "ab"[number % 2], split) for number, (name, split) in enumerate(zip(NAMES, splits, strict=True))]
    file = table(folder / "labels.csv", ["path", "class", "split"], rows)
    images = ImageFolder(folder, (8, 8))
    tested = {images.names[index] for index in images.indices("test")}
    assert tested == set(NAMES[40:])
    assert {images.names[index] for index in images.indices("validation")} == {
        name for name in NAMES[:40] if listing.split_of(name) == "validation"
    }
    assert "validation held out of train by a hash" in images.description()
    rows = [(*row[:2], "valid" if number % 10 == 0 else row[2]) for number, row in enumerate(rows)]
    table(file, ["path", "class", "split"], rows)
    images = ImageFolder(folder, (8, 8))
    assert {images.names[index] for index in images.indices("validation")} == set(NAMES[::10])
    assert "splits: 36 train, 6 validation, 18 test; as the column `split` says" in images.description()


def test_a_manifest_knows_labels(folder, tmp_path):
    rows = [(name, "ab"[number % 2]) for number, name in enumerate(NAMES)]
    table(folder / "labels.csv", ["path", "class"], rows)
    before = manifest.of(f"{folder}@8")
    before.write(tmp_path)
    assert manifest.read(tmp_path) == before
    relabelled = [(name, "b" if name == "cells/006.png" else of_class) for name, of_class in rows]
    table(folder / "labels.csv", ["path", "class"], relabelled)
    now = manifest.of(f"{folder}@8")
    assert manifest.changes(before, now) == ["1 file has another label (cells/006.png)"]
    with pytest.raises(ValueError, match=r"data have changed .*has another label \(cells/006.png\)"):
        manifest.check_resumed(tmp_path, now)
    of_test = [name for name, split in before.files.items() if split[0] == "test"]
    other = [(name, "b" if name == of_test[0] else "a" if name == of_test[1] else of_class) for name, of_class in rows]
    table(folder / "labels.csv", ["path", "class"], other)
    assert manifest.of(f"{folder}@8").test_set() != before.test_set()
    content = json.loads((tmp_path / "manifest.json").read_text())
    del content["labels"]  # of an earlier version
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    assert manifest.read(tmp_path).labels == {}
