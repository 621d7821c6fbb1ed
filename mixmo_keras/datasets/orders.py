"""Orders of the images in an epoch, functions of (seed, epoch) alone, and datasets that can be read in such an order.

Shuffling a stream of images needs a buffer of decoded images, and mixes no further than that buffer reaches: of a list
sorted by class, a batch holds a few classes. `Reorderable` datasets first put in order what they read, and then decode.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from mixmo_keras import seeds

READ_AT_ONCE = 16  # pieces of files, as TFDS does
PIECES = 64


def permuted(positions, num_images: int, seed: int, epoch):
    """The indices of the images at some positions of an epoch: a permutation of all images, computed without storing it.

    TensorFlow's shuffle of indices takes its key as it is and makes 4 rounds: orders of neighbouring seeds and epochs are
    alike then (a correlation of .67 between one epoch and the next). A hashed key and 8 rounds make them independent.
    """
    shuffle_key = tf.random.stateless_uniform(
        (3,), key(seed, epoch, "order"), minval=None, maxval=None, dtype=tf.uint32
    )
    return tf.raw_ops.RandomIndexShuffle(
        index=positions, seed=shuffle_key, max_index=tf.constant(num_images - 1, tf.int64), rounds=8
    )


def key(seed: int, epoch, stream: str):
    """A key of `tf.random.stateless_*` that follows from a seed, an epoch and what is drawn."""
    pair = tf.stack([tf.constant(seeds.derive(seed, stream), tf.int64), tf.cast(epoch, tf.int64)])
    return tf.random.experimental.stateless_fold_in(pair, 0)


def key_of_each(seed: int, epoch, stream: str, number):
    """A key as `key`, for each image or step of an epoch, which `number` counts."""
    return tf.random.experimental.stateless_fold_in(key(seed, epoch, stream), tf.cast(number, tf.int64))


def shuffled(dataset: tf.data.Dataset, buffer_size: int, seed: int, epoch) -> tf.data.Dataset:
    """A dataset shuffled within a buffer of so many elements. For a function that `flat_map` traces, once for all epochs."""
    tf.random.set_seed(1)  # that function's graph alone: the order must not depend on the user's global seed
    number = tf.random.stateless_uniform((), key(seed, epoch, "buffer"), 0, 2**62, tf.int64)
    return dataset.shuffle(max(buffer_size, 1), number, reshuffle_each_iteration=False)


class Reorderable(tf.data.Dataset):
    """Images one by one, always in the same order, which an epoch of training can read in an order of its own.

    Datasets made of it, as by `map` or `take`, are ordinary ones, and can't.

    Args:
        in_order: The images in their usual order.
        records: A function of a seed, an epoch (an integer tensor) and a number of bytes that may be kept in memory. It
            gives a dataset of all images as (index, record), in an order that follows from its arguments alone. The index,
            below the number of images, is the same image's in every order. A record is small, such as an index.
        read: A function of a record to what `in_order` has of that image.

    Attributes:
        class_names: The names of the classes in the labels' order; `None` where they aren't known.
    """

    class_names: tuple[str, ...] | None = None

    def __init__(
        self,
        in_order: tf.data.Dataset,
        records: Callable[[int, tf.Tensor, int], tf.data.Dataset],
        read: Callable[[tf.Tensor], tuple],
    ):
        self._in_order = in_order
        self.records, self.read = records, read
        super().__init__(tf.data.experimental.to_variant(in_order))

    def _inputs(self):  # with `element_spec`, what tf.data asks of a subclass
        return [self._in_order]

    @property
    def element_spec(self):
        return self._in_order.element_spec


def mapped(dataset: tf.data.Dataset, function: Callable) -> tf.data.Dataset:
    """`dataset.map(function)`, which stays `Reorderable` where the dataset is."""
    in_order = dataset.map(function, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if not isinstance(dataset, Reorderable):
        return in_order
    return Reorderable(in_order, dataset.records, lambda record: function(*dataset.read(record)))


def by_index(num_images: int, read: Callable[[tf.Tensor], tuple]) -> Reorderable:
    """A dataset of images each of which can be read at any time: every order is a random permutation of all of them.

    Args:
        num_images: Number of images.
        read: A function of an index, an int64 tensor below `num_images`, to (image, label).
    """

    def records(seed, epoch, memory):
        del memory  # nothing is kept
        positions = tf.data.Dataset.range(num_images).batch(1024)  # many at once: drawing costs a call, not a position
        indices = positions.map(lambda position: permuted(position, num_images, seed, epoch)).unbatch()
        return indices.map(lambda index: (index, index))

    in_order = tf.data.Dataset.range(num_images).map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return Reorderable(in_order, records, read)


def by_file(in_order: tf.data.Dataset, files: Sequence, read: Callable[[tf.Tensor], tuple]) -> Reorderable:
    """A dataset of TFRecord files, which can be read from their beginnings only: the files in an order of (seed, epoch).

    Sixteen are read at once, in turn, and their records shuffled in a buffer before they are decoded. Fewer files than 64
    are cut into pieces, so that epochs don't all begin with the same images; to read a piece is to pass over what comes
    before, and files of k pieces are read (k + 1)/2 times.

    If all records fit into the buffer, an order is a random permutation of all images. If not, it can't be: neighbours in a
    file stay within a buffer of each other, and files that are sorted by class make batches of few classes. TFDS shuffles
    what it writes, but for builders with `disable_shuffling`.

    Args:
        in_order: The images in their usual order.
        files: Parts of files as `tfds.core.SplitInfo.file_instructions` has them: `filename`, and the numbers of records to
            `skip` and to `take`.
        read: A function of a serialized record to (image, label).
    """
    names, skip, take = _pieces([(file.filename, file.skip, file.take) for file in files if file.take])
    first_index = np.cumsum(take) - take
    sizes = {file.filename: tf.io.gfile.stat(file.filename).length for file in files}
    in_each = {file.filename: file.examples_in_shard for file in files}
    bytes_per_record = max(sum(sizes.values()) // sum(in_each.values()), 1)

    def records_of(piece):
        first, count = tf.gather(first_index, piece), tf.gather(take, piece)
        records = tf.data.TFRecordDataset(tf.gather(names, piece)).skip(tf.gather(skip, piece)).take(count)
        return tf.data.Dataset.zip(tf.data.Dataset.range(first, first + count), records)

    def records(seed, epoch, memory):
        pieces = tf.data.Dataset.range(len(names)).map(lambda position: permuted(position, len(names), seed, epoch))
        in_turn = pieces.interleave(
            records_of, READ_AT_ONCE, block_length=16, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        return shuffled(in_turn, min(memory // bytes_per_record, int(take.sum())), seed, epoch)

    return Reorderable(in_order, records, read)


def _pieces(parts: list[tuple[str, int, int]]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Parts of files (name, skip, take), cut into as many equal pieces each as make `PIECES` or more of all."""
    pieces = []
    for name, skip, take in parts:
        cuts = skip + np.linspace(0, take, min(-(-PIECES // len(parts)), take) + 1).astype("int64")
        pieces += [(name, start, end - start) for start, end in itertools.pairwise(cuts)]
    names, starts, counts = zip(*pieces, strict=True)
    return list(names), np.array(starts), np.array(counts)
