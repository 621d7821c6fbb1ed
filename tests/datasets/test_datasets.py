"""Datasets by name: splits that don't overlap, what is missing said in one line, a new one in one line."""

import os

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from mixmo_keras import datasets
from mixmo_keras.datasets import registry


def arrays(dataset):
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.stack(images), np.array(labels)


def test_digits_splits_are_disjoint_and_whole():
    splits = {split: arrays(datasets.load("digits", split)) for split in datasets.SPLITS}
    sizes = {split: len(labels) for split, (_, labels) in splits.items()}
    assert sizes == {"train": 1257, "validation": 180, "test": 360, "train+validation": 1437}

    def kinds(split):  # the digits hold no two equal images, so an image's bytes are its name
        return {image.tobytes() for image in splits[split][0]}

    assert len(set.union(*map(kinds, ("train", "validation", "test")))) == 1797
    assert kinds("train") | kinds("validation") == kinds("train+validation")
    images, labels = splits["test"]
    assert images.shape == (360, 8, 8, 1)
    assert images.dtype == np.uint8
    assert images.min() == 0
    assert images.max() == 255
    assert np.bincount(labels).min() >= 34  # stratified: 360 images of 10 nearly even classes


def test_info_says_what_a_model_needs():
    info = datasets.info("digits")
    assert (info.num_classes, info.image_shape, info.class_names[3]) == (10, (8, 8, 1), "3")


@pytest.mark.usefixtures("no_network")
def test_missing_data_without_network_is_one_line(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"'cifar100' is not prepared in .*--data-dir or MIXMO_DATA_DIR"
    ) as caught:
        datasets.load("cifar100", "train", tmp_path)
    assert "\n" not in str(caught.value)


def test_an_unreachable_host_is_found_out_at_once(monkeypatch):
    monkeypatch.setattr("urllib.request.getproxies", dict)
    assert not registry._reachable("https://host.invalid/page")


@pytest.mark.usefixtures("no_network")
def test_data_dir_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("MIXMO_DATA_DIR", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        datasets.info("cifar10")


@pytest.mark.usefixtures("network")
def test_tfds_by_name():
    with tfds.testing.mock_data(num_examples=20):
        assert datasets.info("cifar100").num_classes == 100
        image, label = next(iter(datasets.load("cifar100", "validation")))
    assert image.shape == (32, 32, 3)
    assert image.dtype == tf.uint8
    assert label.dtype == tf.int64


@pytest.mark.usefixtures("network")
def test_a_new_dataset_is_one_line(monkeypatch):
    monkeypatch.setitem(datasets.DATASETS, "house_numbers", datasets.tensorflow_dataset("svhn_cropped"))
    with tfds.testing.mock_data(num_examples=20):
        assert datasets.info("house_numbers").image_shape == (32, 32, 3)
        sizes = {split: len(list(datasets.load("house_numbers", split))) for split in datasets.SPLITS}
    assert set(sizes.values()) == {20}  # the mock gives as many of every split


@pytest.mark.usefixtures("network")
def test_imagenets_images_become_squares_of_one_size():
    with tfds.testing.mock_data(num_examples=5):
        info = datasets.info("imagenet2012")
        images = [image for image, _ in datasets.load("imagenet2012", "test")]
    assert (info.image_shape, info.num_classes) == ((224, 224, 3), 1000)
    assert {tuple(image.shape) for image in images} == {(224, 224, 3)}
    assert images[0].dtype == tf.uint8


def test_real_cifar10_splits(real_data):
    info = datasets.info("cifar10", real_data)
    assert info.class_names[:2] == ("airplane", "automobile")
    sizes = {split: int(datasets.load("cifar10", split, real_data).cardinality()) for split in datasets.SPLITS}
    assert sizes == {"train": 45_000, "validation": 5_000, "test": 10_000, "train+validation": 50_000}


@pytest.fixture
def real_data():
    folder = os.environ.get("MIXMO_DATA_DIR")
    if not folder or not os.path.isdir(os.path.join(folder, "cifar10")):
        pytest.skip("MIXMO_DATA_DIR names no folder with a prepared cifar10")
    return folder
