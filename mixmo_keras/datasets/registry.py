"""Image classification datasets by name, as `tf.data` pipelines of raw pixels and integer labels.

Every dataset has the splits `train`, `validation`, `test` and `train+validation`. Where the source has no validation
split of its own, or labels only in validation and not in test, the last tenth of its train split is held out. To add a
dataset, add a line to `DATASETS`. The path of a folder of class folders is a name too, with `@size` if it is not 64 pixels.
"""

import dataclasses
import functools
import os
import re
import socket
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from mixmo_keras.datasets import resizing as image_size

MEMORY = 4 * 2**30  # bytes of images of one split that are kept in memory; more are read anew in every epoch
SPLITS = ("train", "validation", "test", "train+validation")


@dataclasses.dataclass(frozen=True)
class Info:
    """What a model needs to know of a dataset. `image_shape` is (H, W, C), `normalization` as `MixMo` takes it."""

    name: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    normalization: tuple | str = "auto"

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a dataset comes from.

    Args:
        info: a function of the data folder.
        load: a function of a split, the data folder, and of whether to leave the images as large as their files have them.
    """

    info: Callable[[str | None], Info]
    load: Callable[[str, str | None, bool], tf.data.Dataset]


def info(name: str, data_dir: str | os.PathLike | None = None) -> Info:
    """Image shape and classes of a dataset. Arguments as in `load`."""
    return _source(name).info(_folder(data_dir))


def load(name: str, split: str, data_dir: str | os.PathLike | None = None, whole: bool = False) -> tf.data.Dataset:
    """The images of a split, one by one: (image (H, W, C) uint8, label int64), always in the same order.

    Args:
        name: a name in `DATASETS`; or the path of a folder of class folders of images, such as `photos`, `photos@128` or
            `photos@96x128` (height×width), see `image_folder`.
        split: one of `SPLITS`.
        data_dir: TFDS' `data_dir`. `None`: the environment variable `MIXMO_DATA_DIR`, else TFDS' own default.
        whole: where the files have images of several sizes, give these, (h, w, C), and not their middle brought to size:
            for `batches(..., random_part=(H, W))`.

    Raises:
        FileNotFoundError: the data is not there and can't be downloaded.
    """
    if split not in SPLITS:
        raise ValueError(f"Unknown split: {split!r}. Known splits: {', '.join(SPLITS)}.")
    return _source(name).load(split, _folder(data_dir), whole)


def corrupted_versions(name: str) -> list[tuple[str, int]]:
    """The corruptions and severities that TFDS has of a dataset's test split, such as CIFAR-10-C."""
    import tensorflow_datasets as tfds

    known = f"{name}_corrupted"
    if known not in tfds.list_builders():
        raise ValueError(f"TFDS has no corrupted {name}: corrupt its images on the fly (mixmo_keras.corruptions).")
    configs = tfds.builder_cls(known).builder_configs
    return [(config.rsplit("_", 1)[0], int(config.rsplit("_", 1)[1])) for config in configs]


def load_corrupted(
    name: str, corruption: str, severity: int, data_dir: str | os.PathLike | None = None
) -> tf.data.Dataset:
    """A dataset's test images under a corruption of `corrupted_versions`; otherwise as `load`."""
    if (corruption, severity) not in corrupted_versions(name):
        raise ValueError(f"There is no {corruption!r} at severity {severity} of {name}.")
    source = _tfds(f"{name}_corrupted/{corruption}_{severity}", {"test": "test"})
    return source.load("test", _folder(data_dir), False)


def batches(
    dataset: tf.data.Dataset,
    batch_size: int,
    training: bool = False,
    seed: int = 0,
    repetitions: int = 1,
    transform: Callable | None = None,
    first_epoch: int | None = None,
    random_part: tuple[int, int] | None = None,
) -> tf.data.Dataset:
    """Batches from memory: decoded once, and for training shuffled anew each epoch, the last partial batch dropped.

    Images of more than `MEMORY` bytes are read anew in every epoch, and shuffled within a buffer of as many bytes.

    Args:
        dataset: of `load`.
        batch_size: images a batch. A model with batch repetition b makes b rows of each.
        training: whether to shuffle and to drop the last partial batch.
        seed: of the shuffling.
        repetitions: b: each batch has all its images, then all again, b times: for a model with `repeated_data=True`.
            Images are read once. A model repeats by itself unless copies need a `transform` each.
        transform: a function of a batch of images (n·b, H, W, C) to images of the same shape, such as an augmentation layer
            of keras-cv; runs on the CPU and in parallel.
        first_epoch: for training only. `None`: the batches of one epoch, in another order each time they are iterated.
            A number: those of all epochs from that one on (the first is 0), without end: pass `fit` its
            `steps_per_epoch` (`steps_per_epoch` of this module). The order in an epoch follows from (seed, epoch)
            alone, so that a run can go on where another was stopped.
        random_part: for training only. (H, W): of each image a random part, drawn anew in every epoch and brought to this
            size (`image_size.random_part`). Images are read anew in every epoch, and may differ in size (`load(...,
            whole=True)`).

    Raises:
        ValueError: no image, or fewer than a batch for training; `first_epoch` or `random_part` without training; images
            of several sizes without `random_part`.
    """
    for option, value in (("first_epoch", first_epoch), ("random_part", random_part)):
        if value is not None and not training:
            raise ValueError(f"`{option}` is about training: it needs training=True.")
    shape = tf.nest.flatten(dataset.element_spec)[0].shape
    if shape.rank == 3 and not shape.is_fully_defined() and not random_part:
        raise ValueError(f"Images of several sizes, {shape}, don't make batches: pass `random_part`, to train.")
    if training:
        size = _size(dataset)
        if size < batch_size:
            raise ValueError(f"`batch_size` (={batch_size} images) is larger than the training split ({size} images).")
        if random_part or size * _bytes(dataset) > MEMORY:
            dataset = _streamed(dataset, size, batch_size, seed, first_epoch, random_part)
        else:
            dataset = _shuffled(dataset, size, batch_size, seed, first_epoch)
    else:
        # unknown sizes, which are negative, count as small
        fits = int(dataset.cardinality()) * _bytes(dataset) <= MEMORY
        dataset = (dataset.cache() if fits else dataset).batch(batch_size)
    if repetitions > 1:
        dataset = dataset.map(lambda *batch: tuple(tf.concat([part] * repetitions, axis=0) for part in batch))
    if transform is not None:
        dataset = dataset.map(
            lambda images, *labels: (tf.ensure_shape(transform(images), images.shape), *labels),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    return dataset.prefetch(tf.data.AUTOTUNE)


def steps_per_epoch(dataset: tf.data.Dataset, batch_size: int) -> int:
    """Whole batches in the images of `load`."""
    return _size(dataset) // batch_size


def _bytes(dataset: tf.data.Dataset) -> int:
    """What an image takes in memory; 0 for what is no image."""
    spec = tf.nest.flatten(dataset.element_spec)[0]
    if spec.shape.rank != 3 or not spec.shape.is_fully_defined():
        return 0
    return spec.shape.num_elements() * spec.dtype.size


def _streamed(
    dataset: tf.data.Dataset,
    size: int,
    batch_size: int,
    seed: int,
    first_epoch: int | None,
    part_size: tuple[int, int] | None,
) -> tf.data.Dataset:
    """Batches of images that are read one after the other and shuffled in a buffer, in an order of (seed, epoch)."""
    part = part_size and image_size.random_part(part_size)

    def epoch_of(number):
        tf.random.set_seed(1)  # this function's graph alone: the order must not depend on the user's global seed
        mixed = tf.random.stateless_uniform((), (seed, tf.cast(number, tf.int32)), 0, 2**31 - 1, tf.int32)
        images = dataset
        if part is not None:
            images = dataset.enumerate().map(
                lambda place, batch: (part(batch[0], tf.stack([mixed, tf.cast(place, tf.int32)])), *batch[1:]),
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            )
        buffer = max(min(size, MEMORY // _bytes(images)), 1)
        images = images.shuffle(buffer, tf.cast(mixed, tf.int64), reshuffle_each_iteration=False)
        return images.batch(batch_size, drop_remainder=True)

    if first_epoch is not None:
        return tf.data.Dataset.range(first_epoch, 2**31).flat_map(epoch_of)
    epochs = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).take(1)
    one_epoch = epochs.map(lambda number: number % 2**31).flat_map(epoch_of)
    return one_epoch.apply(tf.data.experimental.assert_cardinality(size // batch_size))


def _size(dataset: tf.data.Dataset) -> int:
    size = int(dataset.cardinality())
    return size if size >= 0 else int(dataset.reduce(0, lambda count, *_: count + 1))


def _shuffled(
    dataset: tf.data.Dataset, size: int, batch_size: int, seed: int, first_epoch: int | None
) -> tf.data.Dataset:
    """Batches gathered from tensors of all images, by indices that are a permutation of them for each epoch."""
    parts = next(iter(dataset.batch(size)))
    steps = size // batch_size

    def batch(epoch, step):
        places = tf.cast(step, tf.int64) * batch_size + tf.range(batch_size, dtype=tf.int64)
        key = tf.stack([tf.cast(seed, tf.int64), tf.cast(epoch, tf.int64)])
        places = tf.random.experimental.index_shuffle(places, key, tf.constant(size - 1, tf.int64))
        places = tf.ensure_shape(places, (batch_size,))
        return tf.nest.map_structure(lambda part: tf.gather(part, places), parts)

    if first_epoch is not None:
        numbers = tf.data.Dataset.range(first_epoch * steps, 2**62)
        return numbers.map(
            lambda number: batch(number // steps, number % steps),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
    epochs = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).take(1)  # another one each time
    pairs = epochs.flat_map(lambda epoch: tf.data.Dataset.range(steps).map(lambda step: (epoch, step)))
    one_epoch = pairs.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return one_epoch.apply(tf.data.experimental.assert_cardinality(steps))


def _source(name: str) -> Source:
    check(name)
    return DATASETS[name] if name in DATASETS else _image_folder(name)


def check(name: str) -> None:
    """Raises where a name is neither a dataset's nor a folder's."""
    if name not in DATASETS and not os.path.isdir(_path_and_size(name)[0]):
        raise ValueError(
            f"Unknown dataset: {name!r}. Known datasets: {', '.join(DATASETS)}, and folders of class folders."
        )


def _path_and_size(name: str) -> tuple[str, tuple[int, int]]:
    match = re.fullmatch(r"(.+?)@(\d+)(?:x(\d+))?", name)
    if match is None:
        return name, (64, 64)
    return match[1], (int(match[2]), int(match[3] or match[2]))


@functools.lru_cache(maxsize=4)
def _image_folder(name: str) -> Source:
    from mixmo_keras.datasets.image_folder import ImageFolder

    path, size = _path_and_size(name)
    found = ImageFolder(path, size)
    info = Info(Path(path).resolve().name, (*size, found.channels), found.class_names, (0.5, 0.25))
    return Source(lambda data_dir: info, lambda split, data_dir, whole: found.load(split, whole))


def _folder(data_dir: str | os.PathLike | None) -> str | None:
    data_dir = data_dir or os.environ.get("MIXMO_DATA_DIR")
    return os.path.expanduser(os.fspath(data_dir)) if data_dir else None


def _digits() -> Source:
    """scikit-learn's 1797 handwritten digits, 8×8 grey: needs no download. Test: a fifth, validation: a tenth."""

    def describe(data_dir: str | None) -> Info:
        del data_dir  # part of scikit-learn
        return Info("digits", (8, 8, 1), tuple("0123456789"))

    def read(split: str, data_dir: str | None, whole: bool) -> tf.data.Dataset:
        del data_dir, whole  # part of scikit-learn, of one size
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        images, labels = load_digits(return_X_y=True)
        images = np.rint(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype("uint8")
        indices = np.arange(len(labels))
        rest, test = train_test_split(indices, test_size=0.2, stratify=labels, random_state=0)
        train, validation = train_test_split(rest, test_size=0.125, stratify=labels[rest], random_state=0)
        places = {"train": train, "validation": validation, "test": test, "train+validation": rest}[split]
        return tf.data.Dataset.from_tensor_slices((images[places], labels[places].astype("int64")))

    return Source(describe, read)


def _tfds(
    name: str,
    splits: dict[str, str],
    archive: str | None = None,
    normalization: tuple | str = "auto",
    size: tuple[int, int] | None = None,
    border: int = 0,
) -> Source:
    """A TensorFlow Dataset of (image, label), and what its own splits are called here.

    Args:
        name: TFDS' own.
        splits: by our names.
        archive: the file that may lie in TFDS' folder for what was downloaded by hand, in place of a download.
        normalization: as `MixMo` takes it.
        size: (H, W) that images of several sizes are brought to: their middle.
        border: pixels cut off on every side after resizing, see `image_size.middle`.
    """

    def builder(data_dir: str | None):
        import tensorflow_datasets as tfds

        from mixmo_keras.datasets import tiny_imagenet  # noqa: F401  registers it

        builder = tfds.builder(name, data_dir=data_dir)
        if not builder.data_path.exists() and archive and (by_hand := _manual(data_dir) / archive).exists():
            print(f"{name}: reads {by_hand}, once")
            builder.download_and_prepare()
        if not builder.data_path.exists():
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

    def describe(data_dir: str | None) -> Info:
        info = builder(data_dir).info
        metadata = info.metadata or {}
        shape = (*size, 3) if size else metadata.get("image_shape", info.features["image"].shape)
        names = metadata.get("class_names", info.features["label"].names)
        return Info(name, tuple(shape), tuple(names), normalization)

    def read(split: str, data_dir: str | None, whole: bool) -> tf.data.Dataset:
        dataset = builder(data_dir).as_dataset(split=splits[split], as_supervised=True, shuffle_files=False)
        shape = describe(data_dir).image_shape
        if size and whole:
            return dataset
        fit = image_size.middle(size, border) if size else lambda image: image
        return dataset.map(
            lambda image, label: (tf.ensure_shape(fit(image), shape), label), num_parallel_calls=tf.data.AUTOTUNE
        )

    return Source(describe, read)


def _manual(data_dir: str | None) -> Path:
    """TFDS' folder for files that were downloaded by hand."""
    import tensorflow_datasets as tfds

    return Path(data_dir or tfds.core.constants.DATA_DIR).expanduser() / "downloads" / "manual"


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


_HELD_OUT = {
    "train": "train[:90%]",
    "validation": "train[90%:]",
    "test": "test",
    "train+validation": "train",
}

DATASETS = {
    "digits": _digits(),
    "cifar10": _tfds("cifar10", _HELD_OUT),
    "cifar100": _tfds("cifar100", _HELD_OUT),
    # its test split has no labels: the papers' figures are on its validation split
    "imagenet2012": _tfds(
        "imagenet2012",
        {"train": "train[:99%]", "validation": "train[99%:]", "test": "validation", "train+validation": "train"},
        normalization=((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        size=(224, 224),
        border=16,
    ),
    "tiny_imagenet": _tfds("tiny_imagenet", _HELD_OUT | {"test": "validation"}, "tiny-imagenet-200.zip", (0.5, 0.5)),
}
