"""What happens when data change between training, resuming, evaluating and serving: the table of docs/own_images.md."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from bad_inputs.test_data_and_folders import photos
from PIL import Image

import mixmo_keras
from mixmo_keras import datasets
from mixmo_keras.common import files
from mixmo_keras.datasets import listing, manifest
from mixmo_keras.datasets.image_folder import ImageFolder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of twenty images a class, each with its own pixels."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "photos"
    for label, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for number in range(20):
            picture(root / name / f"{number}.png", 100 * label + number)
    return root


def picture(path: Path, seed: int) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), "uint8")).save(path)


def of(folder: Path) -> manifest.Manifest:
    return manifest.of(f"{folder}@8")


def split_by_name(folder: Path) -> dict[str, str]:
    listed = ImageFolder(folder, (8, 8))
    return dict(zip(listed.names, listed.splits.tolist(), strict=True))


def of_split(folder: Path, split: str, number: int = 0) -> Path:
    """One of a split's files."""
    return folder / sorted(name for name, its in split_by_name(folder).items() if its == split)[number]


def renamed_into(path: Path, split: str) -> Path:
    """Renames a file such that its new name falls into a split."""
    names = (path.with_name(f"new{number}.png") for number in range(1000))
    new = next(name for name in names if listing.split_of(f"{path.parent.name}/{name.name}") == split)
    return path.rename(new)


def add(folder):
    picture(folder / "cat" / "zz.png", 999)


def remove(folder):
    of_split(folder, "train").unlink()


def rename(folder):
    renamed_into(of_split(folder, "train"), "train")


def rename_into_test(folder):
    renamed_into(of_split(folder, "train"), "test")


def relabel(folder):
    path = of_split(folder, "train")
    path.rename(folder / "dog" / "from_cat0.png")  # whose name falls to the training images too


def write_anew(folder):
    picture(of_split(folder, "test"), 998)


def rename_class(folder):
    (folder / "cat").rename(folder / "zebra")


def add_class(folder):
    photos(folder, ("owl",))


def remove_class(folder):
    photos(folder, ("owl",))
    shutil.rmtree(folder / "cat")


# change: what is said, and whether evaluating is refused; resuming always is
CHANGES = {
    add: (r"1 file was added \(cat/zz.png\)", None),
    remove: (r"1 file was removed \(cat/\d+.png\)", None),
    rename: (r"1 file was renamed \(cat/\d+.png → cat/new\d+.png\)", None),
    rename_into_test: (
        "1 file was renamed",
        r"1 test images of .* trained or validated on .*cat/new\d+.png \(was cat/",
    ),
    relabel: (r"1 file is in another class folder \(cat/\d+.png → dog/from_cat0.png\)", None),
    write_anew: (r"1 file was written anew \(cat/\d+.png\)", None),
    rename_class: (
        r"classes were added \(zebra\); classes were removed \(cat\)",
        "Name the class folders as they were: cat",
    ),
    add_class: (r"classes were added \(owl\)", r"not those of .*classes were added \(owl\)"),
    remove_class: (r"classes were added \(owl\); classes were removed \(cat\)", "not those of"),
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_folder_that_changed(folder, tmp_path, change):
    said, refused = CHANGES[change]
    run = tmp_path / "run"
    before = of(folder)
    before.write(run)
    files.write_json(run / "config.json", {"dataset": f"{folder}@8"})
    manifest.check_resumed(run, of(folder))
    assert manifest.check_met_again(run, of(folder)) is None
    change(folder)
    now = of(folder)
    with pytest.raises(ValueError, match=f"The data have changed since the run in .* began: .*{said}"):
        manifest.check_resumed(run, now)
    if refused:
        with pytest.raises(ValueError, match=refused):
            manifest.check_met_again(run, now)
    else:
        note = manifest.check_met_again(run, now)
        assert note.startswith(f"The data have changed since the training in {run}: 1 file ")


def test_classes_in_another_order(folder, tmp_path):
    """As by hand, or under another rule of order."""
    before = of(folder)
    before.write(tmp_path)
    now = manifest.Manifest(before.dataset, ("dog", "cat"), before.image_shape, before.images, before.files)
    for trained_further in (False, True):
        with pytest.raises(ValueError, match=r"in another order \(dog was 1, and is 0, cat was 0, and is 1\)"):
            manifest.check_met_again(tmp_path, now, trained_further)
    with pytest.raises(ValueError, match="in another order"):
        manifest.check_resumed(tmp_path, now)


def test_a_network_may_learn_other_classes(folder, tmp_path):
    of(folder).write(tmp_path)
    add_class(folder)
    assert "classes were added (owl)" in manifest.check_met_again(tmp_path, of(folder), trained_further=True)
    rename_class(folder)
    with pytest.raises(ValueError, match=r"learned the classes in another order \(dog was 1, and is 0\)"):
        manifest.check_met_again(tmp_path, of(folder), trained_further=True)


@pytest.mark.slow
def test_no_change_of_the_folder_reaches_what_is_served(folder, tmp_path):
    model = mixmo_keras.CutMixMo("tiny_4", num_classes=2, input_shape=(8, 8, 3), seed=0)
    model.class_names = datasets.info(f"{folder}@8").class_names
    model.export(tmp_path / "1")
    content = (folder / "cat" / "0.png").read_bytes()
    answers = []
    for change in (lambda folder: None, *CHANGES):
        if (folder / "cat").exists():
            change(folder)
        served = tf.saved_model.load(tmp_path / "1").signatures["serving_bytes"]
        answer = served(image_bytes=tf.constant([content]))
        answers.append((answer["class_name"].numpy().tolist(), answer["probabilities"].numpy().tolist()))
    assert answers == [answers[0]] * len(answers)
    assert answers[0][0][0] in (b"cat", b"dog")


def test_no_change_moves_another_file(folder):
    before = split_by_name(folder)
    assert set(before.values()) == {"train", "validation", "test"}
    add(folder)
    assert split_by_name(folder).items() >= before.items()
    remove(folder)
    rename(folder)
    after = split_by_name(folder)
    assert all(before[name] == split for name, split in after.items() if name in before)


def test_accents_are_the_same_in_either_spelling():
    assert listing.split_of("café/1.png") == listing.split_of("cafe\u0301/1.png")


def test_shares_of_many_files():
    splits = [listing.split_of(f"cat/{number}.jpg") for number in range(10_000)]
    for split, share in (("test", 0.2), ("validation", 0.1), ("train", 0.7)):
        assert abs(splits.count(split) / 10_000 - share) < 0.012  # three standard deviations, at the widest


@pytest.mark.parametrize("name", ["{}/{}.png", "{}/{:03d}.png", "{}/{:03d}.jpg"])
def test_shares_of_small_folders_with_usual_names(name):
    """What the hash's key was chosen for."""
    for count in (12, 60):
        splits = [listing.split_of(name.format(label, number)) for label in ("cat", "dog") for number in range(count)]
        shares = {split: splits.count(split) / len(splits) for split in ("test", "validation", "train")}
        assert shares["test"] == pytest.approx(0.2, abs=0.1)
        assert shares["validation"] == pytest.approx(0.1, abs=0.07)


def test_a_run_of_an_earlier_version_is_refused(folder, tmp_path):
    files.write_json(tmp_path / "config.json", {"dataset": f"{folder}@16"})  # and no manifest
    with pytest.raises(ValueError, match="holds a run of an earlier version, which noted no data and split folders"):
        manifest.check_resumed(tmp_path, of(folder))
    with pytest.raises(ValueError, match=r"of an earlier version.*copy its .keras file elsewhere"):
        manifest.check_met_again(tmp_path, of(folder))
    digits = manifest.of("digits")  # whose splits are what they were
    manifest.check_resumed(tmp_path, digits)
    assert manifest.check_met_again(tmp_path, digits) is None


def test_datasets_by_name_have_classes_and_counts(tmp_path):
    digits = manifest.of("digits")
    digits.write(tmp_path)
    assert manifest.read(tmp_path) == digits
    assert (digits.images, digits.files) == ({"train": 1257, "validation": 180, "test": 360}, {})
    with pytest.raises(ValueError, match=r"images were \(8, 8, 1\), and are \(16, 16, 1\)"):
        manifest.check_resumed(tmp_path, manifest.of("digits@16"))


def test_files_of_a_split_in_the_order_of_their_images(folder):
    described = of(folder)
    for split in ("test", "train+validation"):
        names = described.names(split)
        for name, (image, _) in zip(names, datasets.load(f"{folder}@8", split), strict=True):
            np.testing.assert_array_equal(image, np.asarray(Image.open(folder / name)))
    assert manifest.of("digits").names("test") is None


def test_what_identifies_a_test_set(folder):
    before = of(folder).test_set()
    of_split(folder, "train").unlink()
    assert manifest.of(f"{folder}@16").test_set() == before
    write_anew(folder)
    assert of(folder).test_set() != before
    assert manifest.of("digits@16").test_set() == manifest.of("digits").test_set() == "digits"


@pytest.mark.parametrize("content", ["", "[]", '{"dataset": 3}', '{"dataset": "x", "class_names": [1]}'])
def test_a_damaged_manifest_is_said(tmp_path, content):
    (tmp_path / manifest.FILE).write_text(content)
    with pytest.raises(ValueError, match=r"manifest.json is damaged.*remove it"):
        manifest.read(tmp_path)


@pytest.mark.slow  # each look reads the files anew
def test_a_digest_of_images_and_labels(folder):
    train, test = (datasets.load(f"{folder}@8", split) for split in ("train", "test"))
    assert manifest.of_images(train, test) == manifest.of_images(train, test) != manifest.of_images(test, train)
    before = manifest.of_images(train)
    write_path = of_split(folder, "train")
    picture(write_path, 997)
    assert manifest.of_images(datasets.load(f"{folder}@8", "train")) != before


# -- layouts, names, links ---------------------------------------------------------------------------------------------


def layout(root: Path, **classes) -> Path:
    for split, names in classes.items():
        photos(root / split, names)
    return root


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "validation", "Testing"), ("train", "valid", "test")]
)
def test_folders_of_splits_are_the_splits(tmp_path, names):
    root = layout(tmp_path / "data", **dict.fromkeys(names, ("cat", "dog")))
    (root / "annotations").mkdir()
    listed = ImageFolder(root, (8, 8))
    assert listed.class_names == ("cat", "dog")
    by_split = {
        split: {name.split("/")[0] for name in np.array(listed.names)[listed.indices(split)]} for split in listed.splits
    }
    assert by_split == dict(zip(("train", "validation", "test"), ({name} for name in names), strict=True))
    assert "note: annotations/ beside the splits is passed over" in listed.description()


def test_a_split_that_has_no_folder_is_held_out(tmp_path):
    root = layout(tmp_path / "data", train=("cat", "dog"), test=("cat", "dog"))
    (root / "val").mkdir()
    listed = ImageFolder(root, (8, 8))
    split = dict(zip(listed.names, listed.splits.tolist(), strict=True))
    assert {its for name, its in split.items() if name.startswith("test/")} == {"test"}
    assert {its for name, its in split.items() if name.startswith("train/")} <= {"train", "validation"}
    assert "validation held out of train by a hash" in listed.description()
    assert "val/ has no class folders, and is passed over" in listed.description()


def test_classes_may_be_called_train(tmp_path):
    assert ImageFolder(photos(tmp_path / "vehicles", ("car", "bus", "train")), (8, 8)).class_names == (
        "bus",
        "car",
        "train",
    )


def test_what_is_there_is_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "photos@32", ("one", "two"))
    assert datasets.info("photos@32").class_names == ("one", "two")
    assert datasets.info("photos@32@8x16").image_shape == (8, 16, 3)
    photos(tmp_path / "photos")
    with pytest.warns(
        UserWarning, match=r"'photos@32' is taken for the folder of this name, at 64×64 .*write 'photos/@32'"
    ):
        assert datasets.info("photos@32").class_names == ("one", "two")
    assert datasets.info("photos/@32").class_names == ("cat", "dog")
    photos(tmp_path / "digits")
    with pytest.warns(UserWarning, match=r"'digits' is the dataset of this name; for the folder write './digits'"):
        assert datasets.info("digits").num_classes == 10
    assert datasets.info("./digits").class_names == ("cat", "dog")


def test_links_are_walked_and_loops_end(folder, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    os.symlink(folder / "cat", linked / "cat")
    (linked / "dog").mkdir()
    for path in (folder / "dog").iterdir():
        os.symlink(path, linked / "dog" / path.name)
    os.symlink(linked, linked / "dog" / "loop")
    assert split_by_name(linked) == split_by_name(folder)
    add(folder)
    assert len(split_by_name(linked)) == 41
    assert datasets.info(f"{linked}@8").class_names == ("cat", "dog")


@pytest.mark.parametrize(
    "name",
    [
        "a [b] ü",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("*", "what?", "50%", "{x}", "$HOME", "a#b&c=d")),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("~", "file:", "new\nline", "\\")),
    ],
)
def test_names_are_no_patterns(tmp_path, name):
    root = photos(tmp_path / name, (f"cat {name}", "dog"))
    if "\\" not in name:
        assert datasets.info(f"{root}@8").class_names == tuple(sorted((f"cat {name}", "dog")))
    images = [image for split in ("train", "validation", "test") for image, _ in datasets.load(f"{root}@8", split)]
    assert len(images) == 12


def test_the_description_says_what_was_understood(folder):
    (folder / "cat" / "a.jp2").write_bytes(b"")
    (folder / "cat" / ".hidden.png").write_bytes(b"")
    shutil.copy(folder / "cat" / "0.png", folder / "dog" / "copy.png")
    with pytest.warns(UserWarning, match="1 files"):
        first, splits, sizes, passed_over, *notes = datasets.describe(f"{folder}@16x8").splitlines()
    assert first == f"{folder}: 41 images, 2 classes (cat 20, dog 21)"
    with pytest.warns(UserWarning, match="1 files"):
        images = ImageFolder(folder)
    counts = [len(images.indices(split)) for split in ("train", "validation", "test")]
    assert splits == "splits: {} train, {} validation, {} test; by a hash of each file's name".format(*counts)
    assert sizes == "sizes: 8×8 to 8×8 pixels (height×width), brought to 16×8 in RGB"
    assert passed_over == "passed over: 1 files (1 .jp2)"
    assert notes[-1].startswith("note: 1 images are there more than once, such as cat/0.png, dog/copy.png; ")
    assert "1 of them in several classes" in notes[-1]
    assert datasets.describe("digits") == (
        "digits: 10 classes; images 8×8×1; splits: 1,257 train, 180 validation, 360 test"
    )
