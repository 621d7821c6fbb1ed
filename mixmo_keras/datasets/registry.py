"""Datasets of images by name: raw pixels and integer labels, or the targets of another task, one image at a time.

Every dataset has the splits `train`, `validation`, `test` and `train+validation`. To add one, add a line to `DATASETS`. The
path of a folder of class folders is a name too, that of a CSV file of labels (`label_table`), and that of a folder of images
beside masks (`mask_folder`). `@size` behind a name is another size, such as `cifar10@16` or `photos@96x128`; folders have 64
pixels otherwise. `photos@96x96x1` is a folder's images in grey, and `photos@96x96x3` in RGB; without channels they are grey
where all files are. A folder that is there is meant before one that is there without its `@`.
"""

import dataclasses
import functools
import os
import re
import socket
import urllib.parse
import urllib.request
import warnings
from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

from mixmo_keras.common import arguments
from mixmo_keras.common.console import say
from mixmo_keras.datasets import class_folders, file_checks, label_table, names, orders, resizing
from mixmo_keras.datasets.digit_scenes import QUESTIONS, digit_scenes
from mixmo_keras.datasets.digits import digits
from mixmo_keras.datasets.image_folder import DEFAULT_SIZE, ImageFolder
from mixmo_keras.datasets.mask_folder import MaskFolder, is_mask_folder
from mixmo_keras.datasets.sources import SPLITS, Info, Source
from mixmo_keras.networks import normalization as normalizations

_OTHER_NAMES = ", one of them @size, or the path of a folder of class folders or of a CSV file of labels"

# -- what users call ---------------------------------------------------------------------------------------------------


def check(dataset: str) -> None:
    """Raises a `ValueError` where a name is neither a dataset's nor a folder's; warns where it is both."""
    if (
        not isinstance(dataset, str)
        or not dataset
        or (path_and_size(dataset)[0] not in DATASETS and not is_folder(dataset))
    ):
        arguments.choice("dataset", dataset, DATASETS, _OTHER_NAMES)
    if (asked := channels(dataset)) is not None:
        names.check_channels(dataset, asked, is_folder(dataset))
    _warn_of_two_meanings(dataset)


def is_folder(dataset: str) -> bool:
    """Whether a name is that of a folder of images, or of a CSV file of labels, and not of a dataset in `DATASETS`."""
    path = path_and_size(dataset)[0]
    return path not in DATASETS and (os.path.isdir(path) or label_table.is_table(path))


def image_folder(dataset: str) -> ImageFolder | None:
    """The folder of images that a name stands for; None for other datasets."""
    return _source(dataset).folder


def describe(dataset: str, data_dir: str | os.PathLike | None = None) -> str:
    """What is understood by a name, in lines: classes, number of images by split, sizes, and files that are passed over."""
    if (folder := image_folder(dataset)) is not None:
        return folder.description()
    about = info(dataset, data_dir)
    splits = _source(dataset).splits
    counts = {split: int(load(dataset, split, data_dir).cardinality()) for split in SPLITS[:3] if split in splits}
    by_split = ", ".join(f"{count:,} {split}" for split, count in counts.items())
    return f"{dataset}: {about.num_classes} classes; images {'×'.join(map(str, about.image_shape))}; splits: {by_split}"


def info(dataset: str, data_dir: str | os.PathLike | None = None) -> Info:
    """Image shape and classes of a dataset. Arguments as in `load`."""
    return _source(dataset).info(data_folder(data_dir))


def load(dataset: str, split: str, data_dir: str | os.PathLike | None = None, whole: bool = False) -> tf.data.Dataset:
    """The images of a split, one by one: (image (H, W, C) uint8, target), always in the same order.

    A target is the index of a class, int64; or numbers (K,), float32, of a CSV file with a column for each class or target.

    Args:
        dataset: A name in `DATASETS`, or with a size, such as `cifar10@16`, for images brought to it; or the path of a
            folder of class folders of images, such as `photos`, `photos@128`, `photos@96x128` (height×width) or
            `photos@96x128x1` (height×width×channels), see `image_folder`; or of a CSV file of labels, such as
            `photos/labels.csv@128`, see `label_table`.
        split: One of `SPLITS`.
        data_dir: TFDS' `data_dir`. Defaults to the environment variable `MIXMO_DATA_DIR`, else to TFDS' own default.
        whole: Whether to give images as large as their files have them, (h, w, C), where these have several sizes, and not
            their centers resized: for `batches(..., random_part=(H, W))`. Defaults to False.

    Raises:
        FileNotFoundError: the data is not there and can't be downloaded.
    """
    arguments.choice("split", split, SPLITS)
    source = _source(dataset)
    if split not in source.splits:
        raise ValueError(f"{dataset} has no {split} images: it has the splits {', '.join(source.splits)} alone.")
    return source.load(split, data_folder(data_dir), arguments.boolean("whole", whole))


def load_right(dataset: str, split: str, data_dir: str | os.PathLike | None = None) -> tf.data.Dataset | None:
    """Returns a split of a dataset with its right labels, for datasets whose labels are known to be wrong in part.

    Args:
        dataset: A name, as in `load`, such as `"cifar10_n"`, which has human errors.
        split: As in `load`.
        data_dir: As in `load`.

    Returns:
        Images one by one, in the order of `load`; `None` where no other labels are known.
    """
    arguments.choice("split", split, SPLITS)
    right = _source(dataset).right
    return None if right is None else right(split, data_folder(data_dir), False)


def at_size_of(dataset: str, images: tf.data.Dataset) -> tf.data.Dataset:
    """Images one by one, brought to the size behind a dataset's name, such as `cifar10@16`; as they are without one."""
    if path_and_size(dataset)[0] == dataset:
        return images
    crop = resizing.center_crop(path_and_size(dataset)[1])
    return images.map(lambda image, label: (crop(image), label))


def _source(dataset: str) -> Source:
    check(dataset)
    if dataset in DATASETS:
        return DATASETS[dataset]
    name, size = path_and_size(dataset)
    return _resized(DATASETS[name], size) if name in DATASETS else _image_folder(name, size, channels(dataset))


def _resized(source: Source, size: tuple[int, int]) -> Source:
    """A dataset whose images are brought to another size, by `resizing.center_crop` where it isn't made at any size."""
    if source.at_size is not None:
        return source.at_size(size)
    crop = resizing.center_crop(size)

    def describe(data_dir: str | None) -> Info:
        described = source.info(data_dir)
        return dataclasses.replace(described, image_shape=(*size, described.image_shape[-1]))

    def resized(load):
        def read(split: str, data_dir: str | None, whole: bool) -> tf.data.Dataset:
            dataset = load(split, data_dir, whole)
            return dataset if whole else orders.mapped(dataset, lambda image, label: (crop(image), label))

        return read

    return Source(describe, resized(source.load), source.right and resized(source.right))


def data_folder(data_dir: str | os.PathLike | None) -> str | None:
    """The folder of TensorFlow Datasets that is meant: an argument's, that of MIXMO_DATA_DIR, or `None` for TFDS' own."""
    arguments.instance("data_dir", data_dir, (str, os.PathLike, type(None)), "the path of a folder, or None")
    data_dir = data_dir or os.environ.get("MIXMO_DATA_DIR")
    return os.path.expanduser(os.fspath(data_dir)) if data_dir else None


# -- folders of images -------------------------------------------------------------------------------------------------


def path_and_size(name: str) -> tuple[str, tuple[int, int]]:
    """The dataset or the path that a name stands for, and the size (height, width) behind its `@`.

    A folder that is there with `@size` in its own name is that folder.
    """
    match = names.parts(name, DATASETS)
    return (name, DEFAULT_SIZE) if match is None else (match[1], (int(match[2]), int(match[3] or match[2])))


def channels(name: str) -> int | None:
    """The number of channels behind a name's size, such as 1 of `photos@96x96x1`; `None` where there is none."""
    match = names.parts(name, DATASETS)
    return None if match is None or match[4] is None else int(match[4])


def _warn_of_two_meanings(dataset: str) -> None:
    """Says which of two things that have a name is taken."""
    path, (height, width) = path_and_size(dataset)
    if path in DATASETS and (os.path.isdir(dataset) or os.path.isdir(path)):
        folder = dataset if os.path.isdir(dataset) else path
        warnings.warn(f"{dataset!r} is the dataset of this name; for the folder write './{folder}'.", stacklevel=4)
        return
    without, at, size = path.rpartition("@")
    if at and path == dataset and re.fullmatch(r"\d+(x\d+){0,2}", size) and os.path.isdir(without):
        warnings.warn(
            f"{dataset!r} is taken for the folder of this name, at {height}×{width} pixels, since it is there. For "
            f"the folder {without!r} at {size} pixels write '{without}/@{size}'.",
            stacklevel=4,
        )


def _image_folder(path: str, size: tuple[int, int], channels: int | None) -> Source:
    """A folder as it is now: listed anew where files were added, removed or written to, or the process went elsewhere."""
    path = os.path.abspath(path)
    folder = os.path.dirname(path) if label_table.is_table(path) else path
    return _listed_folder(path, size, channels, file_checks.signature(folder))


@functools.lru_cache(maxsize=4)
def _listed_folder(path: str, size: tuple[int, int], channels: int | None, signature: str) -> Source:
    del signature  # tells one listing from another
    if is_mask_folder(path):
        masks = MaskFolder(path, size, channels)
        of_pixels = Info(Path(path).name, (*masks.size, masks.channels), masks.class_names, (0.5, 0.25), masks.task)
        return Source(lambda data_dir: of_pixels, lambda split, data_dir, whole: masks.load(split, whole))
    folder = ImageFolder(path, size, channels)
    shape, file = (*folder.size, folder.channels), Path(path).resolve()
    # the usual file stands for its folder
    name = file.name if file.is_dir() else folder.folder.resolve().name if file.name == label_table.FILE else file.stem
    described = Info(name, shape, folder.class_names, (0.5, 0.25), target_kind=folder.target_kind)
    return Source(lambda data_dir: described, lambda split, data_dir, whole: folder.load(split, whole), folder=folder)


# -- TensorFlow Datasets -----------------------------------------------------------------------------------------------

# where a dataset has no validation split, the last tenth of its train split is held out
HELD_OUT = {"train": "train[:90%]", "validation": "train[90%:]", "test": "test", "train+validation": "train"}


def tensorflow_dataset(
    name: str,
    splits: Mapping[str, str] = HELD_OUT,
    archive: str | None = None,
    normalization: tuple | str = "auto",
    size: tuple[int, int] | None = None,
    border: int = 0,
    labels: str | None = None,
) -> Source:
    """A TensorFlow Dataset of (image, label), and what its own splits are called here.

    Args:
        name: TFDS' name of it.
        splits: TFDS' splits by our names. Defaults to its test split, and its train split of which the last tenth is held
            out for validation.
        archive: Name of a file that may lie in TFDS' folder for what was downloaded by hand, in place of a download.
        normalization: Normalization as `MixMo` takes it. Defaults to `"auto"`.
        size: (H, W) that images of several sizes are brought to, by `resizing.center_crop`.
        border: Number of pixels cut off on every side after resizing, see `resizing.center_crop`. Defaults to 0.
        labels: TFDS' name of other labels of all but the test split, such as people's of which some are wrong.
    """
    arguments.instance("name", name, str, "a text")
    arguments.instance("splits", splits, Mapping, "a mapping of our splits' names to TFDS'")
    for ours, theirs in splits.items():
        arguments.choice("splits", ours, SPLITS)
        arguments.instance("splits", theirs, str, "a mapping to texts")
    for keyword, value in (("archive", archive), ("labels", labels)):
        arguments.instance(keyword, value, (str, type(None)), "a text or None")
    size = None if size is None else arguments.image_size("size", size)
    border = arguments.integer("border", border, least=0)

    def describe(data_dir: str | None) -> Info:
        about = _prepared(name, archive, data_dir).info
        metadata = about.metadata or {}
        shape = (*size, 3) if size else metadata.get("image_shape", about.features["image"].shape)
        class_names = metadata.get("class_names", about.features["label"].names)
        return Info(name, tuple(shape), tuple(class_names), normalization)

    def read(split: str, data_dir: str | None, whole: bool, labels: str | None = None) -> tf.data.Dataset:
        builder = _prepared(name, archive, data_dir)
        dataset = builder.as_dataset(split=splits[split], shuffle_files=False)
        image_key, label_key = builder.info.supervised_keys or ("image", "label")
        keys = (image_key, labels if labels and split != "test" else label_key)
        shape = describe(data_dir).image_shape
        crop = resizing.center_crop(size, border) if size else lambda image: image

        def prepare(image, label):
            return (image, label) if size and whole else (tf.ensure_shape(crop(image), shape), label)

        def pick(example):
            return prepare(*(example[key] for key in keys))

        def parse(record):
            return pick(builder.info.features.deserialize_example(record))

        dataset = dataset.map(pick, num_parallel_calls=tf.data.AUTOTUNE)
        if split == "test":
            _check_labelled(dataset, f"{name}, split {splits[split]}")
        files = _record_files(builder, splits[split])
        return orders.by_file(dataset, files, parse) if files else dataset

    def at_size(other: tuple[int, int]) -> Source:
        scaled = round(border * other[0] / size[0]) if size else 0
        return tensorflow_dataset(name, splits, archive, normalization, other, scaled, labels)

    return Source(
        describe,
        functools.partial(read, labels=labels),
        read if labels else None,
        at_size=at_size if size else None,
        splits=tuple(split for split in SPLITS if split in splits),
    )


def _check_labelled(dataset: tf.data.Dataset, name: str) -> None:
    """Raises where labels are kept secret, which TFDS has as -1."""
    for _, label in dataset.take(1).as_numpy_iterator():
        if (label < 0).any():
            raise ValueError(f"{name} has no labels, they were never published: there is nothing to evaluate on.")


def _record_files(builder, split: str) -> list:
    """The parts of TFRecord files that make a split.

    None where there are none, of other formats or under `tfds.testing.mock_data`: images come in TFDS' order then.
    """
    if builder.info.file_format.value != "tfrecord" or not builder.info.splits:
        return []
    files = builder.info.splits[split].file_instructions
    return files if all(tf.io.gfile.exists(file.filename) for file in files) else []


def _prepared(name: str, archive: str | None, data_dir: str | None):
    """TFDS' builder of a dataset that is on the disk: as it was, or from what was downloaded by hand or just now."""
    import tensorflow_datasets as tfds

    from mixmo_keras.datasets import tiny_imagenet  # noqa: F401  registers it

    if data_dir is None and os.path.expanduser("~") == "~" and str(tfds.core.constants.DATA_DIR).startswith("~"):
        raise FileNotFoundError(
            f"Dataset {name!r} lies in TFDS' folder in the home directory unless another is named, and there is no home "
            "directory: pass the folder that holds it with --data-dir or MIXMO_DATA_DIR, or set HOME."
        )
    builder = tfds.builder(name, data_dir=data_dir)
    if builder.data_path.exists():
        return builder
    manual = Path(data_dir or tfds.core.constants.DATA_DIR).expanduser() / "downloads" / "manual"  # by TFDS' convention
    if archive and (by_hand := manual / archive).exists():
        say(f"{name}: reads {by_hand}, once")
        builder.download_and_prepare()
        return builder
    advice = (
        f"Dataset {name!r} is not prepared in {builder.data_path.parent.parent}: pass the folder that holds it "
        f"with --data-dir or MIXMO_DATA_DIR, or connect to the network so that it can be downloaded"
    )
    if not _reachable(builder.info.homepage):
        raise FileNotFoundError(f"{advice}.")
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise FileNotFoundError(f"{advice} ({type(error).__name__}: {error}).") from error
    return builder


def _reachable(url: str) -> bool:
    """Whether a download can be tried at all: TFDS itself takes minutes of retries to find out that there is no network."""
    if urllib.request.getproxies():
        return True
    address = urllib.parse.urlsplit(url)
    try:
        socket.create_connection((address.hostname, address.port or 443), timeout=10).close()
    except OSError:
        return False
    return True


# -- the datasets: a line each -----------------------------------------------------------------------------------------


def _test_set_of_imagenet(name: str, folder: str) -> Source:
    """A test set with the classes of ImageNet, evaluated as its own: TFDS knows it by a name, or a folder has it."""
    of_tfds = functools.partial(tensorflow_dataset, name, {"test": "test"}, normalization=normalizations.IMAGENET)
    return class_folders.source(of_tfds, folder)


DATASETS = {
    "digits": digits(),
    **{f"digit_scenes_{question}": digit_scenes(question) for question in QUESTIONS},
    "cifar10": tensorflow_dataset("cifar10"),
    "cifar100": tensorflow_dataset("cifar100"),
    # labels that people gave, of each image the wrong one where three disagree (Wei et al. 2022, arXiv:2110.12088)
    "cifar10_n": tensorflow_dataset("cifar10_n", labels="worse_label"),
    # its test split has no labels: the papers' figures are on its validation split
    "imagenet2012": tensorflow_dataset(
        "imagenet2012",
        {"train": "train[:99%]", "validation": "train[99%:]", "test": "validation", "train+validation": "train"},
        normalization=normalizations.IMAGENET,
        size=(224, 224),
        border=16,
    ),
    "imagenet_a": _test_set_of_imagenet("imagenet_a", "imagenet-a"),
    "imagenet_v2": _test_set_of_imagenet("imagenet_v2/matched-frequency", "imagenetv2-matched-frequency-format-val"),
    "svhn": tensorflow_dataset("svhn_cropped"),
    # so have the labels of its official test split never been published
    "tiny_imagenet": tensorflow_dataset(
        "tiny_imagenet", HELD_OUT | {"test": "validation"}, "tiny-imagenet-200.zip", normalizations.HALF
    ),
}
