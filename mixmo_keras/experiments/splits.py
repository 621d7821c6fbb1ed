"""The images and labels of a recipe: a dataset's splits, some of their images, and some of their labels wrong."""

import numpy as np
import tensorflow as tf

from mixmo_keras import datasets
from mixmo_keras.datasets import label_noise, manifest, views
from mixmo_keras.experiments.options import Data, Training


def load(recipe: Data, split: str, data_dir: str | None = None, whole: bool = False) -> tf.data.Dataset:
    """The images of a split one by one, with the labels that the recipe has them learned or measured by.

    Args:
        recipe: The recipe, or its group of settings about data.
        split: One of `datasets.SPLITS`.
        data_dir: TFDS' `data_dir`.
        whole: As in `datasets.load`.
    """
    dataset = chosen(recipe, split, data_dir, whole)
    if split == "validation" and recipe.clean_validation:
        right = datasets.load_right(recipe.dataset, split, data_dir)
        return dataset if right is None else _some(recipe, right, split, data_dir)
    if not recipe.label_noise or split == "test":
        return dataset
    return views.with_labels(dataset, noisy_labels(recipe, split, data_dir)[0])


def class_weights(recipe: Training, train: tf.data.Dataset) -> dict[int, float] | None:
    """The weight of each class' images by `class_weights`: n / (K·n_k) of n_k among n images, or of as many shares.

    `None` where all images count alike. A class without images, which none is weighed by, has the weight 1.
    """
    if recipe.class_weights is None:
        return None
    labels = views.labels_of(train)
    counts = labels.sum(0, dtype="float64") if labels.ndim == 2 else np.bincount(labels).astype("float64")
    weights = np.divide(counts.sum(), len(counts) * counts, out=np.ones_like(counts), where=counts > 0)
    return dict(enumerate(weights.tolist()))


def noisy_labels(recipe: Data, split: str, data_dir: str | None = None):
    """The labels (n,) of a split's images after `label_noise`, and those before it (n,)."""
    noise = label_noise.LabelNoise(recipe.label_noise, recipe.noise_kind, recipe.data_seed)
    before = views.labels_of(chosen(recipe, split, data_dir))
    info = datasets.info(recipe.dataset, data_dir)
    return noise.labels(before, info.class_names, info.name, split), before


def right_labels(recipe: Data, split: str, data_dir: str | None = None):
    """The right labels (n,) of a split's images, None where it is not known that some are wrong."""
    known = datasets.load_right(recipe.dataset, split, data_dir)
    if known is None and not recipe.label_noise:
        return None
    images = chosen(recipe, split, data_dir) if known is None else _some(recipe, known, split, data_dir)
    return views.labels_of(images)


def image_names(recipe: Data, data: manifest.Manifest) -> tuple[str, ...] | None:
    """The names of the files that a recipe trains on, in the order of `load`; `None` of other datasets than folders."""
    names = data.names(recipe.train_split)
    if names is None or recipe.train_images is None:
        return names
    return tuple(np.array(names)[views.chosen(len(names), recipe.train_images, recipe.data_seed)].tolist())


def chosen(recipe: Data, split: str, data_dir: str | None = None, whole: bool = False) -> tf.data.Dataset:
    """The images of a split that a recipe uses, one by one, with the dataset's labels."""
    return _some(recipe, datasets.load(recipe.dataset, split, data_dir, whole), split, data_dir)


def _some(recipe: Data, dataset: tf.data.Dataset, split: str, data_dir: str | None) -> tf.data.Dataset:
    """Of the images of a split those that a recipe uses."""
    if recipe.train_images is None or split == "test":
        return dataset
    if split == "validation":  # as large beside the training images as it was
        of_all = datasets.steps_per_epoch(datasets.load(recipe.dataset, "train", data_dir), 1)
        num_images = max(recipe.train_images * datasets.steps_per_epoch(dataset, 1) // of_all, 1)
    else:
        num_images = recipe.train_images
    return views.subset(dataset, num_images, recipe.data_seed)
