"""Wrong labels: how many, which, the same in every run; and fewer or smaller images."""

import numpy as np
import pytest
import tensorflow as tf

from mixmo_keras import datasets
from mixmo_keras.datasets import label_noise
from mixmo_keras.datasets.label_noise import LabelNoise

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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(rate=1.2), "`rate` must be"),
        (dict(rate=np.nan), "`rate` must be"),
        (dict(rate=0.1, kind="human"), "`kind` must be"),
        (dict(rate=0.1, seed=-1), "`seed` must be"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LabelNoise(**options)


def test_a_dataset_gets_other_labels_in_its_order():
    dataset = datasets.load("digits", "validation")
    right = label_noise.labels_of(dataset)
    assert right.dtype == "int64"
    assert len(right) == 180
    wrong = (right + 1) % 10
    relabelled = label_noise.with_labels(dataset, wrong)
    assert int(relabelled.cardinality()) == 180
    np.testing.assert_array_equal(label_noise.labels_of(relabelled), wrong)
    for (image, _), (same, _) in zip(dataset.take(3), relabelled.take(3), strict=True):
        np.testing.assert_array_equal(image, same)


def test_a_subset_is_nested_and_in_order():
    numbers = tf.data.Dataset.range(100).map(lambda number: (number, number))
    few, more = (
        [int(x) for x, _ in label_noise.subset(numbers, count, seed=5).as_numpy_iterator()] for count in (20, 60)
    )
    assert few == sorted(few)
    assert len(set(few)) == 20
    assert set(few) < set(more)
    assert few != [int(x) for x, _ in label_noise.subset(numbers, 20, seed=6).as_numpy_iterator()]
    with pytest.raises(ValueError, match="`num_images` must be an integer from 1 to 100, got 101"):
        label_noise.subset(numbers, 101)


def test_a_named_dataset_in_another_size():
    assert datasets.info("digits@4").image_shape == (4, 4, 1)
    image, label = next(iter(datasets.load("digits@4x6", "test")))
    assert (image.shape, image.dtype, label.dtype) == ((4, 6, 1), tf.uint8, tf.int64)
    assert next(iter(datasets.load("digits@4", "test", whole=True)))[0].shape == (8, 8, 1)
    with pytest.raises(ValueError, match="`dataset` must be one of"):
        datasets.load("nothing@16", "test")


def test_streamed_images_keep_their_wrong_labels():
    dataset = label_noise.with_labels(datasets.load("digits", "validation"), np.arange(180))
    batches = datasets.batches(dataset, 20, training=True, first_epoch=0, memory=0).take(9)
    seen = np.concatenate([labels for _, labels in batches.as_numpy_iterator()])
    assert sorted(seen) == list(range(180))
