"""Wrong labels, drawn: what a method makes of data of which some labels are wrong, where it is known which."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from mixmo_keras import arguments, seeds
from mixmo_keras.datasets import orders, pipeline

KINDS = ("symmetric", "asymmetric")
# what people and classifiers take each other for, in CIFAR-10 (Patrini et al. 2017, arXiv:1609.03683, section 5)
CONFUSED = {
    "cifar10": {"truck": "automobile", "bird": "airplane", "deer": "horse", "cat": "dog", "dog": "cat"},
}


@dataclasses.dataclass(frozen=True)
class LabelNoise:
    """Labels that are changed with some probability, each for itself, in a way that follows from a seed.

    The images that are changed at one rate are among those that are changed at a higher rate.

    Args:
        rate: The probability that a label is drawn anew (symmetric) or taken for another (asymmetric), within [0, 1].
        kind: `"symmetric"` draws among all K classes, so that a share of (K - 1) / K of the drawn labels are wrong.
            `"asymmetric"` takes the class that it is confused with: for CIFAR-10 truck → automobile, bird → airplane, deer →
            horse, cat ↔ dog, the other five classes staying right; for other datasets the next class, and the first for the
            last.
        seed: The seed of what is changed.

    Raises:
        ValueError: a rate outside [0, 1], an unknown kind, a negative seed.
    """

    rate: float
    kind: str = KINDS[0]
    seed: int = 0

    def __post_init__(self):
        values = dict(
            rate=arguments.number("rate", self.rate, least=0, most=1),
            kind=arguments.choice("kind", self.kind, KINDS),
            seed=arguments.integer("seed", self.seed, least=0),
        )
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def labels(self, labels, class_names: Sequence[str], dataset: str = "", split: str = "train") -> np.ndarray:
        """The labels (n,) as somebody who errs would give them, as int64.

        Args:
            labels: The right classes (n,), integers below K.
            class_names: The K classes' names.
            dataset: The dataset's name, which decides what asymmetric noise confuses.
            split: The split that the labels are of: others have other errors.
        """
        num_classes = len(class_names)
        labels = arguments.labels("labels", labels, num_classes).astype("int64")
        changes, draws = (np.random.default_rng([seeds.derive(self.seed, split), stream]) for stream in (0, 1))
        changed = changes.random(len(labels)) < self.rate
        if self.kind == "symmetric":
            others = draws.integers(0, num_classes, len(labels))
        else:
            others = confused_with(class_names, dataset)[labels]
        return np.where(changed, others, labels)


def confused_with(class_names: Sequence[str], dataset: str = "") -> np.ndarray:
    """The class (K,) that asymmetric noise takes each of K classes for."""
    if dataset not in CONFUSED:
        return np.roll(np.arange(len(class_names)), -1)
    return np.array([class_names.index(CONFUSED[dataset].get(name, name)) for name in class_names])


def labels_of(dataset: tf.data.Dataset) -> np.ndarray:
    """The labels (n,) of (image, label) one by one, in their order."""
    return np.fromiter((label for label in dataset.map(lambda image, label: label).as_numpy_iterator()), "int64")


def with_labels(dataset: tf.data.Dataset, labels) -> tf.data.Dataset:
    """(image, label) one by one with other labels (n,), in the dataset's order.

    What an epoch of training reads in an order of its own (`orders.Reorderable`) still does.
    """
    labels = tf.constant(labels, tf.int64)

    def relabelled(index, item):
        return item[0], tf.gather(labels, index)

    in_order = dataset.enumerate().map(relabelled)
    in_order = in_order.apply(tf.data.experimental.assert_cardinality(len(labels)))
    if not isinstance(dataset, orders.Reorderable):
        return in_order

    def records(seed, epoch, memory):
        return dataset.records(seed, epoch, memory).map(lambda index, record: (index, (index, record)))

    return orders.Reorderable(in_order, records, lambda record: relabelled(record[0], dataset.read(record[1])))


def subset(dataset: tf.data.Dataset, num_images: int, seed: int = 0) -> tf.data.Dataset:
    """Some of the images of a dataset, chosen at random, in the dataset's order.

    What an epoch of training reads in an order of its own (`orders.Reorderable`) still does.

    Args:
        dataset: Images one by one.
        num_images: Number of images to keep.
        seed: Seed of the choice. Fewer images of the same seed are among more.

    Raises:
        ValueError: more images than there are.
    """
    size = pipeline.steps_per_epoch(dataset, 1)
    num_images = arguments.integer("num_images", num_images, least=1, most=size)
    order = np.random.default_rng(seeds.derive(arguments.integer("seed", seed, least=0), "subset")).permutation(size)
    chosen = np.isin(np.arange(size), order[:num_images])
    kept, new_index = tf.constant(chosen), tf.constant(np.cumsum(chosen) - 1)

    def is_kept(index, item):
        del item
        return tf.gather(kept, index)

    def without_index(index, item):
        del index
        return item

    in_order = dataset.enumerate().filter(is_kept).map(without_index)
    in_order = in_order.apply(tf.data.experimental.assert_cardinality(num_images))
    if not isinstance(dataset, orders.Reorderable):
        return in_order

    def records(seed, epoch, memory):
        of_kept = dataset.records(seed, epoch, memory).filter(is_kept)
        return of_kept.map(lambda index, record: (tf.gather(new_index, index), record))

    return orders.Reorderable(in_order, records, dataset.read)
