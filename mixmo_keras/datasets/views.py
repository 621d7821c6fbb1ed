"""A dataset seen otherwise: its labels alone, with other labels, or some of its images."""

import numpy as np
import tensorflow as tf

from mixmo_keras import seeds
from mixmo_keras.common import arguments, class_labels
from mixmo_keras.datasets import orders, pipeline


def labels_of(dataset: tf.data.Dataset) -> np.ndarray:
    """The labels (n,), int64, or numbers (n, K) of (image, label) one by one, in their order."""
    labels = np.array(list(dataset.map(lambda image, label: label).as_numpy_iterator()))
    return labels.astype("int64") if labels.ndim == 1 else labels


def with_labels(dataset: tf.data.Dataset, labels) -> tf.data.Dataset:
    """(image, label) one by one with other labels (n,), in the dataset's order.

    What an epoch of training reads in an order of its own (`orders.Reorderable`) still does.
    """
    labels = tf.constant(class_labels.integers("labels", labels, count=pipeline.steps_per_epoch(dataset, 1)), tf.int64)

    def relabelled(index, item):
        return item[0], tf.gather(labels, index)

    in_order = dataset.enumerate().map(relabelled)
    in_order = in_order.apply(tf.data.experimental.assert_cardinality(len(labels)))
    if not isinstance(dataset, orders.Reorderable):
        return in_order

    def records(seed, epoch, memory):
        return dataset.records(seed, epoch, memory).map(lambda index, record: (index, (index, record)))

    return orders.Reorderable(in_order, records, lambda record: relabelled(record[0], dataset.read(record[1])))


def chosen(size: int, num_images: int, seed: int = 0) -> np.ndarray:
    """Which of the images of a dataset `subset` keeps: booleans (size,)."""
    num_images = arguments.integer("num_images", num_images, least=1, most=size)
    order = np.random.default_rng(seeds.derive(arguments.integer("seed", seed, least=0), "subset")).permutation(size)
    return np.isin(np.arange(size), order[:num_images])


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
    is_chosen = chosen(pipeline.steps_per_epoch(dataset, 1), num_images, seed)
    num_images = int(is_chosen.sum())
    kept, new_index = tf.constant(is_chosen), tf.constant(np.cumsum(is_chosen) - 1)

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
