"""Folders of class folders: splits, sizes, grey and colour, files that are no images; streaming; recipes/images.py."""

import shutil

import images as recipe
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mixmo_keras import datasets
from mixmo_keras.datasets import registry
from mixmo_keras.datasets.image_folder import ImageFolder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The digits as PNG files below three class folders, 40 each, whose names are words."""
    path = tmp_path_factory.mktemp("images") / "numbers"
    words = ("zero", "one", "two")
    count = [0, 0, 0]
    for image, label in datasets.load("digits", "train+validation").as_numpy_iterator():
        if label < 3 and count[label] < 40:
            (path / words[label]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(path / words[label] / f"{count[label]}.png")
            count[label] += 1
    return path


def test_splits_are_disjoint_stratified_and_whole(folder):
    found = ImageFolder(folder, (8, 8))
    assert found.class_names == ("one", "two", "zero")
    splits = {split: set(found.places(split)) for split in datasets.SPLITS}
    assert {split: len(places) for split, places in splits.items()} == {
        "train": 84,
        "validation": 12,
        "test": 24,
        "train+validation": 96,
    }
    assert len(splits["train"] | splits["validation"] | splits["test"]) == 120
    assert splits["train"] | splits["validation"] == splits["train+validation"]
    for split, each in (("test", 8), ("validation", 4)):
        assert np.bincount(found.labels[list(splits[split])]).tolist() == [each] * 3
    other = ImageFolder(folder, (16, 16))
    assert set(other.places("test")) == splits["test"]


def test_pixels_and_labels_are_the_files(folder):
    name = f"{folder}@8"
    info = datasets.info(name)
    assert (info.image_shape, info.class_names, info.name) == ((8, 8, 1), ("one", "two", "zero"), "numbers")
    found = ImageFolder(folder, (8, 8))
    for place, (image, label) in zip(found.places("test"), datasets.load(name, "test"), strict=True):
        np.testing.assert_array_equal(image[..., 0], np.asarray(Image.open(found.paths[place])))
        assert info.class_names[int(label)] in found.paths[place]
    assert image.dtype == tf.uint8


def test_sizes_and_channels(folder, tmp_path):
    assert datasets.info(str(folder)).image_shape == (64, 64, 1)
    assert datasets.info(f"{folder}@32x48").image_shape == (32, 48, 1)
    image, _ = next(iter(datasets.load(f"{folder}@32x48", "train")))
    assert image.shape == (32, 48, 1)
    mixed = tmp_path / "mixed"
    shutil.copytree(folder, mixed)
    Image.new("RGB", (30, 10), (255, 0, 0)).save(mixed / "one" / "0.png")  # one colour image, and not square
    assert datasets.info(f"{mixed}@8").image_shape == (8, 8, 3)
    reds = [image for split in datasets.SPLITS[:3] for image, _ in datasets.load(f"{mixed}@8", split)]
    assert any(np.array_equal(image, np.broadcast_to([255, 0, 0], (8, 8, 3))) for image in reds)


def test_what_is_no_dataset(folder, tmp_path):
    with pytest.raises(ValueError, match=r"Unknown dataset: 'nowhere@32'.*and folders of class"):
        datasets.info("nowhere@32")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no folders of images, one a class"):
        datasets.info(str(tmp_path / "empty"))
    alone = tmp_path / "alone"
    shutil.copytree(folder / "one", alone / "one")
    with pytest.raises(ValueError, match="has 1 class folder: a classifier needs two"):
        datasets.info(str(alone))
    few = tmp_path / "few"
    shutil.copytree(folder, few)
    for path in sorted((few / "two").iterdir())[4:]:
        path.unlink()
    with pytest.raises(ValueError, match="Class 'two' has 4 images: at least 5 are needed"):
        datasets.info(str(few))
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "one" / "3.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"3.png is no image that can be read"):
        datasets.info(str(broken))


def test_streamed_epochs_are_permutations_that_follow_from_the_seed(monkeypatch):
    images = tf.data.Dataset.range(10).map(lambda n: (tf.fill((2, 2, 1), tf.cast(n, tf.uint8)), n))
    monkeypatch.setattr(registry, "MEMORY", 20)  # bytes: five images

    def epochs(first_epoch, count, seed=1):
        batches = datasets.batches(images, 3, training=True, seed=seed, first_epoch=first_epoch)
        labels = np.concatenate([label for _, label in batches.take(3 * count).as_numpy_iterator()])
        return labels.reshape(count, 9).tolist()

    orders = epochs(0, 20)
    assert all(len(set(order)) == 9 for order in orders)
    assert len({tuple(order) for order in orders}) == 20
    assert epochs(7, 3) == orders[7:10]
    assert epochs(0, 2, seed=2) != orders[:2]
    for global_seed in (0, 5):  # 0 made tf.data fail, any other changed the order
        tf.random.set_seed(global_seed)
        drawn = tf.random.uniform(())
        tf.random.set_seed(global_seed)
        assert epochs(0, 2) == orders[:2]
        assert tf.random.uniform(()) == drawn
    one = [
        np.concatenate([label for _, label in datasets.batches(images, 3, training=True)]).tolist() for _ in range(2)
    ]
    assert [len(set(order)) for order in one] == [9, 9]
    assert int(datasets.batches(images, 3, training=True).cardinality()) == 3
    whole = [label for _, labels in datasets.batches(images, 4) for label in labels.numpy()]
    assert whole == list(range(10))


def test_recipe(folder, tmp_path, capsys):
    arguments = [f"{folder}@8", "--backbone", "wrn10_1", "--epochs", "1", "--batch-size", "16", "--crop", "whole"]
    places = ["--output-dir", str(tmp_path / "runs"), "--export-dir", str(tmp_path / "saved")]
    figures = recipe.run([*arguments, *places])
    assert figures["name"] == "numbers_8-cut_mixmo-wrn10_1-seed0"
    assert (tmp_path / "runs" / figures["name"] / "evaluation" / "report.html").exists()
    saved = tmp_path / "saved" / figures["name"]
    assert sorted(path.name for path in saved.iterdir()) == ["1", "2"]  # as trained, and calibrated
    assert "into 3 classes: one, two, zero" in (saved / "2" / "model_card.md").read_text()
    assert "exported:" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="say which folder of class folders"):
        recipe.run([])
    with pytest.raises(SystemExit, match="error: Unknown dataset: 'nowhere'"):
        recipe.run(["nowhere"])
    with pytest.raises(SystemExit, match="0"):
        recipe.run(["--help"])
