"""Batches of a dataset's images as `tf.data` pipelines: from memory or streamed, in orders that follow from a seed."""

import warnings
from collections.abc import Callable

import tensorflow as tf

from mixmo_keras.common import arguments, passes
from mixmo_keras.datasets import orders, resizing

MANY = 1_000_000  # images after which the counting of a dataset is warned of
MEMORY = 4 * 2**30  # bytes


def batches(
    dataset: tf.data.Dataset,
    batch_size: int,
    training: bool = False,
    seed: int = 0,
    repetitions: int = 1,
    transform: Callable | None = None,
    first_epoch: int | None = None,
    random_part: tuple[int, int] | Callable | None = None,
    partners: int = 0,
    memory: int = MEMORY,
) -> tf.data.Dataset:
    """Batches from memory: decoded once, and for training shuffled anew each epoch, the last partial batch dropped.

    Args:
        dataset: Images one by one, as `load` gives them.
        batch_size: Number of images in a batch. A model with batch repetition b makes b rows of each.
        training: Whether to shuffle and to drop the last partial batch. Defaults to False.
        seed: Seed of the order of the images. Defaults to 0.
        repetitions: b: each batch has all its images, then all again, b times, for a model with `already_repeated=True`.
            Images are read once. A model repeats by itself unless copies need a `transform` each. Defaults to 1.
        transform: A function of a batch of images (n·b, H, W, C) to images of the same shape, such as an augmentation layer
            of keras-cv. It runs on the CPU and in parallel.
        first_epoch: For training only. None gives the batches of one epoch, in another order each time they are iterated.
            A number gives those of all epochs from that one on (the first is 0), without end: pass `fit` its
            `steps_per_epoch`. The order in an epoch follows from (seed, epoch) alone, so that a run can go on where
            another was stopped.
        random_part: For training only. (H, W): of each image a random part, drawn anew in every epoch and resized to this
            (`resizing.random_crop`), or what `random_crop` gives for other bounds. Images are read anew in every epoch, and
            may differ in size (`load(..., whole=True)`).
        partners: For training only. Number of partner images that come with each image, for a model with `msda`: one for
            each copy and member, b·M. They are drawn from the whole of the training data. In place of the images there is a
            dictionary then: `images` (n, H, W, C), `partner_images` (n, partners, H, W, C), `partner_labels` (n, partners).
            Defaults to none: such a model mixes the images of a batch among themselves.
        memory: Number of bytes of images that may be kept in memory. More are read anew in every epoch. Those of a folder
            come in a random permutation of all. Those of a TensorFlow Dataset come from its files in a random order,
            shuffled within a buffer of as many bytes before they are decoded (`orders.by_file`). Those of any other
            dataset, also one made of what `load` gave, come in its own order, shuffled within a buffer of as many bytes:
            it must not be sorted by class. Defaults to 4 GiB.

    Raises:
        ValueError: no image, or fewer than a batch for training; `first_epoch` or `random_part` without training; images
            of several sizes without `random_part`.
    """
    arguments.instance("dataset", dataset, tf.data.Dataset, "a tf.data.Dataset")
    _check_images(dataset)
    batch_size = arguments.integer("batch_size", batch_size, least=1)
    seed, memory = arguments.integer("seed", seed), arguments.integer("memory", memory, least=0)
    repetitions = arguments.integer("repetitions", repetitions, least=1)
    arguments.instance("transform", transform, (Callable, type(None)), "a function of images, or None")  # type: ignore[arg-type]
    partners = arguments.integer("partners", partners, least=0)
    if partners and (repetitions > 1 or transform is not None):
        raise ValueError(
            "`partners` can't be combined with `repetitions` or `transform`, which change the images alone."
        )
    if arguments.boolean("training", training):
        batched = _training_batches(dataset, batch_size, seed, first_epoch, random_part, partners, memory)
    else:
        batched = _evaluation_batches(dataset, batch_size, first_epoch, random_part, partners, memory)
    if repetitions > 1:
        batched = batched.map(lambda *batch: tuple(tf.concat([part] * repetitions, axis=0) for part in batch))
    if transform is not None:
        batched = batched.map(
            lambda images, *labels: (tf.ensure_shape(transform(images), images.shape), *labels),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    batched = batched.prefetch(tf.data.AUTOTUNE).with_options(passes.untuned())
    if (class_names := getattr(dataset, "class_names", None)) is not None:  # by which models know the classes again
        batched.class_names = class_names
    return batched


def steps_per_epoch(dataset: tf.data.Dataset, batch_size: int) -> int:
    """Number of whole batches in the images that `load` gives."""
    return _num_images(dataset) // arguments.integer("batch_size", batch_size, least=1)


def in_memory(dataset: tf.data.Dataset, memory: int = MEMORY) -> bool:
    """Whether `batches` keeps the images of `load` in memory to train on: others can't bring `partners`."""
    return _num_images(dataset) * _bytes_per_image(dataset) <= memory and _image_spec(dataset).shape.is_fully_defined()


def _training_batches(
    dataset, batch_size: int, seed: int, first_epoch, random_part, partners: int, memory: int
) -> tf.data.Dataset:
    if first_epoch is not None:
        first_epoch = arguments.integer("first_epoch", first_epoch, least=0)
    if random_part is not None:
        if not callable(random_part):
            random_part = resizing.random_crop(arguments.image_size("random_part", random_part))
    else:
        _check_one_size(dataset)
    num_images = _num_images(dataset)
    if num_images < batch_size:
        raise ValueError(
            f"`batch_size` (={batch_size} images) is larger than the training split ({num_images} images)."
        )
    if random_part is None and num_images * _bytes_per_image(dataset) <= memory:
        return _shuffled(dataset, num_images, batch_size, seed, first_epoch, partners)
    if partners:
        raise ValueError("`partners` are gathered from images in memory; these are read anew in every epoch.")
    return _streamed(dataset, num_images, batch_size, seed, first_epoch, random_part, memory)


def _evaluation_batches(
    dataset, batch_size: int, first_epoch, random_part, partners: int, memory: int
) -> tf.data.Dataset:
    for name, value in (("first_epoch", first_epoch), ("random_part", random_part), ("partners", partners or None)):
        if value is not None:
            raise ValueError(f"`{name}` is about training: it needs training=True.")
    _check_one_size(dataset)
    # an unknown number of images is negative, and counts as few
    fits = int(dataset.cardinality()) * _bytes_per_image(dataset) <= memory
    return (dataset.cache() if fits else dataset).batch(batch_size)


def _shuffled(
    dataset: tf.data.Dataset, num_images: int, batch_size: int, seed: int, first_epoch: int | None, partners: int
) -> tf.data.Dataset:
    """Batches gathered from tensors of all images, by indices that are a permutation of them for each epoch."""
    everything = next(iter(dataset.batch(num_images)))
    if partners and not isinstance(everything, tuple):
        raise ValueError("`partners` come with labels: the dataset must give (image, label).")
    steps = num_images // batch_size

    def batch(epoch, step):
        positions = tf.cast(step, tf.int64) * batch_size + tf.range(batch_size, dtype=tf.int64)
        indices = tf.ensure_shape(orders.permuted(positions, num_images, seed, epoch), (batch_size,))
        gathered = tf.nest.map_structure(lambda values: tf.gather(values, indices), everything)
        if not partners:
            return gathered
        key = orders.key_of_each(seed, epoch, "partners", step)
        others = tf.random.stateless_uniform((batch_size, partners), key, 0, num_images, tf.int64)
        partner_images, partner_labels = (tf.gather(values, others) for values in everything[:2])
        return (dict(images=gathered[0], partner_images=partner_images, partner_labels=partner_labels), *gathered[1:])

    if first_epoch is not None:
        numbers = tf.data.Dataset.range(first_epoch * steps, 2**62)
        return numbers.map(
            lambda number: batch(number // steps, number % steps),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
    epochs = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).take(1)  # another one each time
    epochs_and_steps = epochs.flat_map(lambda epoch: tf.data.Dataset.range(steps).map(lambda step: (epoch, step)))
    one_epoch = epochs_and_steps.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return one_epoch.apply(tf.data.experimental.assert_cardinality(steps))


def _streamed(
    dataset: tf.data.Dataset,
    num_images: int,
    batch_size: int,
    seed: int,
    first_epoch: int | None,
    crop: Callable | None,
    memory: int,
) -> tf.data.Dataset:
    """Batches of images that are read anew in every epoch, in an order of (seed, epoch)."""
    steps = num_images // batch_size
    if first_epoch is not None:
        epochs = tf.data.Dataset.range(first_epoch, 2**31)
    else:
        epochs = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).take(1)

    def part(epoch, index, item):
        if crop is None:
            return item
        return crop(item[0], orders.key_of_each(seed, epoch, "parts", index)), *item[1:]

    def read_then_shuffle(epoch):
        images = dataset.enumerate().map(
            lambda index, item: part(epoch, index, item), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        buffer_size = min(memory // max(_bytes_per_image(images), 1), num_images)
        return orders.shuffled(images, buffer_size, seed, epoch).take(steps * batch_size)

    def shuffle(epoch):
        records = dataset.records(seed, epoch, memory).take(steps * batch_size)
        return records.map(lambda index, record: (epoch, index, record))

    if isinstance(dataset, orders.Reorderable):
        images = epochs.flat_map(shuffle).map(
            lambda epoch, index, record: part(epoch, index, dataset.read(record)),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
    else:
        images = epochs.flat_map(read_then_shuffle)
    batched = images.batch(batch_size, drop_remainder=True)
    options = tf.data.Options()  # workers that train together must not share out epochs, which `AUTO` takes for files
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    batched = batched.with_options(options)
    return batched if first_epoch is not None else batched.apply(tf.data.experimental.assert_cardinality(steps))


def _check_images(dataset: tf.data.Dataset) -> None:
    """Raises where a dataset never ends, has nothing, or batches in place of images."""
    cardinality = int(dataset.cardinality())
    if cardinality == tf.data.INFINITE_CARDINALITY:
        raise ValueError("The dataset never ends: take some of its images, dataset.take(n).")
    if cardinality == 0:
        raise ValueError("The dataset is empty.")
    shape = _image_spec(dataset).shape
    if shape.rank is not None and shape.rank > 3:
        raise ValueError(f"The dataset must give images (H, W, C) one by one, not batches of shape {shape}.")


def _num_images(dataset: tf.data.Dataset) -> int:
    arguments.instance("dataset", dataset, tf.data.Dataset, "a tf.data.Dataset, as datasets.load gives it")
    cardinality = int(dataset.cardinality())
    if cardinality == tf.data.INFINITE_CARDINALITY:
        _check_images(dataset)  # raises
    return cardinality if cardinality >= 0 else _counted(dataset)


def _counted(dataset: tf.data.Dataset) -> int:
    """The number of images of a dataset that doesn't know it; in Python's loop, which Ctrl-C ends."""
    count, warned = 0, False
    for ones in dataset.map(lambda *_: 1).batch(1024).as_numpy_iterator():
        count += len(ones)
        if count > MANY and not warned:
            warned = True
            warnings.warn(
                f"More than {MANY:,} images were counted in a dataset that doesn't know how many it has, as after `filter`: "
                "if it never ends, take some of them, dataset.take(n).",
                stacklevel=2,
            )
    return count


def _image_spec(dataset: tf.data.Dataset) -> tf.TensorSpec:
    return tf.nest.flatten(dataset.element_spec)[0]


def _bytes_per_image(dataset: tf.data.Dataset) -> int:
    """What an image takes in memory; 0 for what is no image."""
    spec = _image_spec(dataset)
    if spec.shape.rank != 3 or not spec.shape.is_fully_defined():
        return 0
    return spec.shape.num_elements() * spec.dtype.size


def _check_one_size(dataset: tf.data.Dataset) -> None:
    shape = _image_spec(dataset).shape
    if shape.rank == 3 and not shape.is_fully_defined():
        raise ValueError(f"Images of several sizes, {shape}, don't make batches: pass `random_part`, to train.")
