"""Corrupted test images as their authors published them: CIFAR-10-C, CIFAR-100-C and ImageNet-C.

Of TensorFlow Datasets, or of a folder in the data folder, laid out as in the authors' archives:

    CIFAR-10-C/, CIFAR-100-C/   fog.npy and others, 50,000 images in five blocks of severity; labels.npy
    ImageNet-C/                 fog/3/n01440764/*.JPEG and others, or with the archives' folders above: weather/fog/3/...

Means are over the fifteen corruptions of the papers. Four more were published for validation.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from mixmo_keras.common import arguments
from mixmo_keras.datasets import class_folders, registry

# AlexNet's errors on ImageNet-C, means over the severities, in the authors' order (github.com/hendrycks/robustness)
ALEXNET_ERRORS: Mapping[str, float] = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
FIFTEEN = tuple(ALEXNET_ERRORS)
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
FOLDERS = {"cifar10": "CIFAR-10-C", "cifar100": "CIFAR-100-C", "imagenet2012": "ImageNet-C"}
_NUM_CLASSES = {"cifar10": 10, "cifar100": 100}  # of those whose archives are arrays
_OF_TFDS = {  # its dataset, and the split that has labels
    "cifar10": ("cifar10_corrupted", "test"),
    "imagenet2012": ("imagenet2012_corrupted", "validation"),
}
_NAMES_OF_TFDS = {"cifar10": {"glass_blur": "frosted_glass_blur", "elastic_transform": "elastic"}}
SEVERITIES = range(1, 6)


def corrupted_versions(dataset: str, extra: bool = False) -> list[tuple[str, int]]:
    """The corruptions and severities that were published of a dataset's test images, such as CIFAR-10-C: 15 × 5.

    Args:
        dataset: `"cifar10"`, `"cifar100"` or `"imagenet2012"`, which may have a size: `"cifar10@16"`.
        extra: Whether to add the four corruptions that no mean of a paper counts. Defaults to not.
    """
    _base(dataset)
    names = (*FIFTEEN, *EXTRA) if arguments.boolean("extra", extra) else FIFTEEN
    return [(name, severity) for name in names for severity in SEVERITIES]


def load_corrupted(
    dataset: str, corruption: str, severity: int, data_dir: str | os.PathLike | None = None
) -> tf.data.Dataset:
    """A dataset's test images under a corruption of `corrupted_versions`, as its authors published them.

    From the folder of `FOLDERS` where the data folder has it, else from TensorFlow Datasets; otherwise as `load`.

    Raises:
        ValueError: an unknown corruption or severity; a folder laid out otherwise; labels that are missing.
        FileNotFoundError: the data is not there and can't be downloaded.
    """
    if (corruption, severity) not in corrupted_versions(dataset, extra=True):
        raise ValueError(f"There is no {corruption!r} at severity {severity} of {dataset}.")
    base = _base(dataset)
    data_dir = registry.data_folder(data_dir)
    folder = Path(data_dir or ".") / FOLDERS[base]
    if data_dir is not None and folder.is_dir():
        images = _of_folder(folder, base, corruption, severity)
    elif base in _OF_TFDS:
        name, split = _OF_TFDS[base]
        spelled = _NAMES_OF_TFDS.get(base, {}).get(corruption, corruption)
        source = registry.tensorflow_dataset(f"{name}/{spelled}_{severity}", {"test": split})
        images = source.load("test", data_dir, False)
    else:
        raise FileNotFoundError(
            f"TensorFlow Datasets has no corrupted {base}: unpack its authors' archive into {folder}, or corrupt images on "
            "the fly (mixmo_keras.corruptions)."
        )
    return registry.at_size_of(dataset, images)


def _base(dataset: str) -> str:
    """The dataset without a size."""
    base = registry.path_and_size(arguments.instance("dataset", dataset, str, "a text"))[0]
    if base not in FOLDERS:
        raise ValueError(
            f"No corrupted images of {base} were published, only of {', '.join(FOLDERS)}: corrupt its images on the fly "
            "(mixmo_keras.corruptions)."
        )
    return base


def _of_folder(folder: Path, base: str, corruption: str, severity: int) -> tf.data.Dataset:
    if base in _NUM_CLASSES:
        return _of_arrays(folder, corruption, severity, _NUM_CLASSES[base])
    places = [folder / corruption / str(severity), *folder.glob(f"*/{corruption}/{severity}")]
    found = [place for place in places if place.is_dir()]
    if not found:
        raise ValueError(
            f"{folder} has no folder {corruption}/{severity}/, or */{corruption}/{severity}/: unpack the authors' archives "
            "there as they are."
        )
    return class_folders.load(found[0], class_folders.of_imagenet(), size=(224, 224))


def _of_arrays(folder: Path, corruption: str, severity: int, num_classes: int) -> tf.data.Dataset:
    """The block of a severity in `corruption`.npy, (5n, H, W, 3) uint8, with its labels (5n,)."""
    file = folder / f"{corruption}.npy"
    for one in (file, folder / "labels.npy"):
        if not one.is_file():
            raise FileNotFoundError(f"There is no {one}: unpack the authors' archive there as it is.")
    images, labels = np.load(file, mmap_mode="r"), np.load(folder / "labels.npy")
    if (
        images.ndim != 4
        or images.dtype != np.uint8
        or len(images) % len(SEVERITIES)
        or labels.shape != images.shape[:1]
    ):
        raise ValueError(
            f"{file} must hold images (5·n, H, W, 3) uint8, and labels.npy one label for each; got {images.shape} "
            f"{images.dtype} and labels {labels.shape}."
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"{folder}/labels.npy must hold classes from 0 to {num_classes - 1}; got {labels.min()} to {labels.max()}."
        )
    count = len(images) // len(SEVERITIES)
    block = slice((severity - 1) * count, severity * count)
    return tf.data.Dataset.from_tensor_slices((np.array(images[block]), labels[block].astype("int64")))
