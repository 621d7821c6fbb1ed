"""scikit-learn's 1797 handwritten digits, 8×8 grey: part of scikit-learn, so that nothing is downloaded."""

import functools

import numpy as np
import tensorflow as tf

from mixmo_keras.datasets.sources import Info, Source


def digits() -> Source:
    """The digits as a dataset. Test: a fifth, validation: a tenth."""

    def describe(data_dir: str | None) -> Info:
        del data_dir  # part of scikit-learn
        return Info("digits", (8, 8, 1), tuple("0123456789"))

    def read(split: str, data_dir: str | None, whole: bool) -> tf.data.Dataset:
        del data_dir, whole  # part of scikit-learn, of one size
        return tf.data.Dataset.from_tensor_slices(arrays(split))

    return Source(describe, read)


@functools.cache
def arrays(split: str) -> tuple[np.ndarray, np.ndarray]:
    """The images (n, 8, 8, 1) uint8 and labels (n,) int64 of a split."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    images = np.rint(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype("uint8")
    rest, test = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=0)
    train, validation = train_test_split(rest, test_size=0.125, stratify=labels[rest], random_state=0)
    indices = {"train": train, "validation": validation, "test": test, "train+validation": rest}[split]
    return images[indices], labels[indices].astype("int64")
