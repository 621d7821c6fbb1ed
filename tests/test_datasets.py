"""Datasets: splits that don't overlap, what is missing said in one line, pipelines that repeat."""

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


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("cifar11", "train", "Unknown dataset: 'cifar11'. Known datasets: digits, cifar10, cifar100"),
        ("digits", "trane", "Unknown split: 'trane'. Known splits: train, validation, test"),
    ],
)
def test_unknown_names(name, split, message):
    with pytest.raises(ValueError, match=message):
        datasets.load(name, split)


def test_missing_data_without_network_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_reachable", lambda url: False)
    with pytest.raises(
        FileNotFoundError, match=r"'cifar100' is not prepared in .*--data-dir or MIXMO_DATA_DIR"
    ) as caught:
        datasets.load("cifar100", "train", tmp_path)
    assert "\n" not in str(caught.value)


def test_an_unreachable_host_is_found_out_at_once(monkeypatch):
    monkeypatch.setattr("urllib.request.getproxies", dict)
    assert not registry._reachable("https://host.invalid/page")


def test_data_dir_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_reachable", lambda url: False)
    monkeypatch.setenv("MIXMO_DATA_DIR", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        datasets.info("cifar10")


def test_tfds_by_name():
    with tfds.testing.mock_data(num_examples=20), pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_reachable", lambda url: True)
        assert datasets.info("cifar100").num_classes == 100
        image, label = next(iter(datasets.load("cifar100", "validation")))
    assert image.shape == (32, 32, 3)
    assert image.dtype == tf.uint8
    assert label.dtype == tf.int64


def test_imagenets_images_become_squares_of_one_size():
    with tfds.testing.mock_data(num_examples=5), pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_reachable", lambda url: True)
        info = datasets.info("imagenet2012")
        images = [image for image, _ in datasets.load("imagenet2012", "test")]
    assert (info.image_shape, info.num_classes) == ((224, 224, 3), 1000)
    assert {tuple(image.shape) for image in images} == {(224, 224, 3)}
    assert images[0].dtype == tf.uint8


def test_training_batches_are_shuffled_anew_repeat_by_seed_and_drop_the_rest():
    dataset = tf.data.Dataset.range(10)

    def epochs(seed):
        batches = datasets.batches(dataset, 4, training=True, seed=seed)
        return [np.concatenate(list(batches.as_numpy_iterator())).tolist() for _ in range(2)]

    first, second = epochs(seed=1)
    assert len(first) == 8
    assert len(set(first)) == 8
    assert first != second
    assert epochs(seed=1) == [first, second]
    assert epochs(seed=2)[0] != first


def test_batches_of_all_epochs_begin_at_any_epoch():
    dataset = tf.data.Dataset.range(10)
    steps = datasets.steps_per_epoch(dataset, 4)
    assert steps == 2

    def epochs(first_epoch, count, seed=1):
        batches = datasets.batches(dataset, 4, training=True, seed=seed, first_epoch=first_epoch)
        assert batches.cardinality() == tf.data.INFINITE_CARDINALITY or batches.cardinality() > 10**12
        flat = np.concatenate(list(batches.take(steps * count).as_numpy_iterator()))
        return flat.reshape(count, -1).tolist()

    orders = epochs(0, 40)
    assert all(len(set(order)) == 8 for order in orders)  # no image twice in an epoch
    assert len({tuple(order) for order in orders}) == 40  # another order in each
    assert {image for order in orders for image in order} == set(range(10))  # another rest is dropped in each
    assert epochs(7, 3) == orders[7:10]
    assert epochs(0, 2, seed=2) != orders[:2]
    with pytest.raises(ValueError, match="`first_epoch` is about training"):
        datasets.batches(dataset, 4, first_epoch=0)


def test_evaluation_batches_keep_order_and_the_rest():
    batches = list(datasets.batches(tf.data.Dataset.range(10), 4).as_numpy_iterator())
    assert [batch.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_repeated_batches_read_once_and_transform_each_copy():
    reads = []

    def read():
        for number in range(6):
            reads.append(number)
            yield np.full((1, 1, 1), number, "uint8"), number

    spec = (tf.TensorSpec((1, 1, 1), tf.uint8), tf.TensorSpec((), tf.int64))
    dataset = tf.data.Dataset.from_generator(read, output_signature=spec)

    def tell_apart(images):
        return tf.cast(images, tf.int32) + 10 * tf.reshape(tf.range(tf.shape(images)[0]), (-1, 1, 1, 1))

    batches = datasets.batches(dataset, 3, repetitions=2, transform=tell_apart)
    images, labels = next(iter(batches.as_numpy_iterator()))
    assert labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert images.ravel().tolist() == [0, 11, 22, 30, 41, 52]
    for _ in range(2):
        list(batches)
    assert len(reads) <= 12  # the cache: one whole pass, and the one that `next` broke off


def test_a_batch_larger_than_the_split():
    with pytest.raises(
        ValueError, match=r"`batch_size` \(=11 images\) is larger than the training split \(10 images\)"
    ):
        datasets.batches(tf.data.Dataset.range(10), 11, training=True)


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
