"""What an evaluation shows beside the test images: corrupted ones, and other data sets."""

from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from mixmo_keras import datasets, evaluation
from mixmo_keras.common import arguments
from mixmo_keras.datasets import resizing, views
from mixmo_keras.evaluation.corruptions import CORRUPTIONS
from mixmo_keras.models.ensemble import EVALUATED_AT_ONCE

PUBLISHED = {"cifar10_c": "cifar10", "cifar100_c": "cifar100", "imagenet_c": "imagenet2012"}  # of whose test images
CORRUPTED = ("on_the_fly", "published", *PUBLISHED, "tfds")  # made here, or as published: "tfds" is an earlier name


def corrupted(source: str, dataset: str, data_dir: str | None, num_images: int) -> Iterator[tuple[str, int, Any]]:
    """Some test images under every corruption at every severity: (corruption, severity, batches)."""
    arguments.choice("corruptions", source, CORRUPTED)

    def some(test: tf.data.Dataset) -> tf.data.Dataset:  # at random: those of a folder come class by class
        return datasets.batches(
            views.subset(test, min(num_images, datasets.steps_per_epoch(test, 1))), EVALUATED_AT_ONCE
        )

    if source == "on_the_fly":
        test = some(datasets.load(dataset, "test", data_dir))
        channels = datasets.info(dataset, data_dir).image_shape[-1]
        names = [name for name in CORRUPTIONS if channels == 3 or name != "saturate"]
        yield from evaluation.corrupted_batches(test, names)
        return
    base = datasets.registry.path_and_size(dataset)[0]
    if source in PUBLISHED and PUBLISHED[source] != base:
        raise ValueError(f"--corruptions {source} has test images of {PUBLISHED[source]}, not of {dataset}.")
    for name, severity in datasets.corrupted_versions(dataset):
        test = datasets.load_corrupted(dataset, name, severity, data_dir)
        yield name, severity, some(test)


def is_imagenet_c(source: str | None, dataset: str) -> bool:
    """Whether corrupted images are those of ImageNet-C, by whose figures networks are set beside AlexNet."""
    return source not in (None, "on_the_fly") and datasets.registry.path_and_size(dataset)[0] == "imagenet2012"


def other_test_set(name: str | None, info: datasets.Info, data_dir: str | None) -> dict[str, tf.data.Dataset] | None:
    """Batches of another dataset's test images by its name, where its classes and image size are a dataset's; or `None`."""
    if name is None:
        return None
    other = datasets.info(name, data_dir)
    if (other.class_names, other.image_shape) != (info.class_names, info.image_shape):
        return None
    return {name: datasets.batches(datasets.load(name, "test", data_dir), EVALUATED_AT_ONCE)}


def out_of_distribution(name: str, shape: tuple[int, int, int], data_dir: str | None) -> tf.data.Dataset:
    """Batches of another dataset's test images, in the size and with the channels that a model takes."""
    fit = resizing.to_shape(shape)
    batches = datasets.batches(datasets.load(name, "test", data_dir), EVALUATED_AT_ONCE)
    return batches.map(lambda images, labels: (fit(images), labels))
