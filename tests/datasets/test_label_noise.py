"""Wrong labels: how many, which, the same in every run; and fewer or smaller images."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from mixmo_keras import datasets
from mixmo_keras.datasets import label_noise, orders, registry, views
from mixmo_keras.datasets.label_noise import LabelNoise
from mixmo_keras.experiments import Recipe, splits

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TEN = tuple("0123456789")
LABELS = np.arange(20000) % 10


def test_symmetric_labels_are_drawn_among_all_classes():
    noisy = LabelNoise(0.4, seed=1).labels(LABELS, TEN)
    # 40 % are drawn, of which a tenth is right again: ±4 standard deviations of 20,000 draws
    assert abs((noisy != LABELS).mean() - 0.36) < 4 * np.sqrt(0.36 * 0.64 / 20000)
    wrong = (noisy - LABELS)[noisy != LABELS] % 10
    counts = np.bincount(wrong, minlength=10)[1:]
    assert ((counts - len(wrong) / 9) ** 2 / (len(wrong) / 9)).sum() < 26.1  # χ² of 8 degrees of freedom, p = .001


def test_asymmetric_labels_are_what_a_class_is_confused_with():
    noisy = LabelNoise(0.3, "asymmetric").labels(LABELS, CIFAR, "cifar10")
    assert {(CIFAR[a], CIFAR[b]) for a, b in zip(LABELS, noisy, strict=True) if a != b} == {
        ("truck", "automobile"),
        ("bird", "airplane"),
        ("deer", "horse"),
        ("cat", "dog"),
        ("dog", "cat"),
    }
    of_five = np.isin(LABELS, [CIFAR.index(name) for name in label_noise.CONFUSED["cifar10"]])
    assert abs((noisy != LABELS)[of_five].mean() - 0.3) < 4 * np.sqrt(0.21 / 10000)
    others = LabelNoise(1.0, "asymmetric").labels(LABELS, TEN, "digits")
    np.testing.assert_array_equal(others, (LABELS + 1) % 10)


def test_labels_follow_from_seed_and_split_and_rates_are_nested():
    first = LabelNoise(0.4, seed=3).labels(LABELS, TEN)
    np.testing.assert_array_equal(first, LabelNoise(0.4, seed=3).labels(LABELS, TEN))
    for other in (
        LabelNoise(0.4, seed=4).labels(LABELS, TEN),
        LabelNoise(0.4, seed=3).labels(LABELS, TEN, split="validation"),
    ):
        both = ((first != LABELS) & (other != LABELS)).mean()
        assert abs(both - 0.36**2) < 4 * np.sqrt(0.13 * 0.87 / 20000)  # as often as by chance
    fewer = LabelNoise(0.2, seed=3).labels(LABELS, TEN)
    changed = fewer != LABELS
    np.testing.assert_array_equal(fewer[changed], first[changed])
    assert not (LabelNoise(0.0).labels(LABELS, TEN) != LABELS).any()
    # the same wherever it is drawn: worked out once
    assert LabelNoise(0.4).labels(np.arange(16) % 10, TEN).tolist() == [0, 1, 2, 3, 4, 5, 0, 7, 8, 9, 9, 1, 2, 3, 4, 1]


def test_a_dataset_gets_other_labels_in_its_order():
    dataset = datasets.load("digits", "validation")
    right = views.labels_of(dataset)
    assert right.dtype == "int64"
    assert len(right) == 180
    wrong = (right + 1) % 10
    relabelled = views.with_labels(dataset, wrong)
    assert int(relabelled.cardinality()) == 180
    np.testing.assert_array_equal(views.labels_of(relabelled), wrong)
    for (image, _), (same, _) in zip(dataset.take(3), relabelled.take(3), strict=True):
        np.testing.assert_array_equal(image, same)


def test_a_subset_is_nested_and_in_order():
    numbers = tf.data.Dataset.range(100).map(lambda number: (number, number))
    few, more = ([int(x) for x, _ in views.subset(numbers, count, seed=5).as_numpy_iterator()] for count in (20, 60))
    assert few == sorted(few)
    assert len(set(few)) == 20
    assert set(few) < set(more)
    assert few != [int(x) for x, _ in views.subset(numbers, 20, seed=6).as_numpy_iterator()]
    with pytest.raises(ValueError, match="`num_images` must be an integer from 1 to 100, got 101"):
        views.subset(numbers, 101)


def test_a_named_dataset_in_another_size():
    assert datasets.info("digits@4").image_shape == (4, 4, 1)
    image, label = next(iter(datasets.load("digits@4x6", "test")))
    assert (image.shape, image.dtype, label.dtype) == ((4, 6, 1), tf.uint8, tf.int64)
    assert next(iter(datasets.load("digits@4", "test", whole=True)))[0].shape == (8, 8, 1)
    with pytest.raises(ValueError, match="`dataset` must be one of"):
        datasets.load("nothing@16", "test")


@pytest.mark.parametrize("reorderable", [True, False])
def test_streamed_images_keep_their_wrong_labels(reorderable):
    """Of images that are streamed in an order of their own, too: what is in the image says which it is."""
    images = tf.constant(np.arange(90, dtype="uint8").reshape(90, 1, 1, 1))

    def read(index):
        return tf.gather(images, index), index

    dataset = orders.by_index(90, read) if reorderable else tf.data.Dataset.range(90).map(read)
    wrong = np.random.default_rng(0).integers(0, 10, 90)
    relabelled = views.with_labels(dataset, wrong)
    few = views.subset(relabelled, 40, seed=2)
    assert isinstance(few, orders.Reorderable) == reorderable
    expected = {int(image.item()) for image, _ in few.as_numpy_iterator()}
    epochs = []
    for epoch in (0, 1):
        batches = datasets.batches(few, 20, training=True, first_epoch=epoch, memory=0).take(2)
        seen = [np.concatenate(part) for part in zip(*batches.as_numpy_iterator(), strict=True)]
        numbers = seen[0].reshape(-1)
        assert set(numbers.tolist()) == expected
        np.testing.assert_array_equal(seen[1], wrong[numbers])
        epochs.append(numbers.tolist())
    assert (epochs[0] != epochs[1]) == reorderable  # without memory to shuffle in, others come as they are


@pytest.mark.slow
def test_labels_that_people_gave():
    """CIFAR-10N as TFDS mocks it: the right labels beside people's, both in the same order, in any size."""
    with tfds.testing.mock_data(num_examples=30), pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_reachable", lambda url: True)
        given, right = (views.labels_of(load("cifar10_n@16", "train")) for load in (datasets.load, datasets.load_right))
        images = [next(iter(load("cifar10_n", "train")))[0] for load in (datasets.load, datasets.load_right)]
        recipe = Recipe(dataset="cifar10_n", train_images=10)
        few = splits.right_labels(recipe, "train")
        learned = views.labels_of(splits.load(recipe, "train"))
        tested = views.labels_of(datasets.load("cifar10_n", "test"))
        clean = Recipe(dataset="cifar10_n", label_noise=0.5, clean_validation=True)
        validated = views.labels_of(splits.load(clean, "validation"))
        right_of_validation = views.labels_of(datasets.load_right("cifar10_n", "validation"))
        assert datasets.load_right("digits", "train") is None
        np.testing.assert_array_equal(tested, views.labels_of(datasets.load_right("cifar10_n", "test")))
    np.testing.assert_array_equal(*images)
    assert (given != right).any()
    assert (few != learned).any()
    np.testing.assert_array_equal(validated, right_of_validation)
    assert set(zip(learned, few, strict=True)) <= set(zip(given, right, strict=True))


def test_labels_that_are_no_classes_are_refused():
    for wrong in ([0, 10], [0.5, 1], [-1, 2]):
        with pytest.raises(ValueError, match="`labels` must be"):
            LabelNoise(0.4).labels(wrong, TEN)
