"""Bytes and numbers at places of a file, in a TensorFlow graph. What lies beyond the end of the file reads as zero bytes."""

import tensorflow as tf


def text(encoded, at, size: int):
    """So many bytes of a file from a position on, a scalar string; fewer where the file ends."""
    length = tf.cast(tf.strings.length(encoded), tf.int64)
    return tf.strings.substr(encoded, tf.minimum(tf.cast(at, tf.int64), length), size)


def padded(encoded, at, size: int):
    """So many bytes of a file from a position on, with zero bytes behind its end."""
    return tf.strings.substr(tf.strings.join([text(encoded, at, size), b"\0" * size]), 0, size)


def number(encoded, at, size: int, little_endian: bool = False):
    """A number without a sign of so many bytes, int64."""
    digits = tf.cast(tf.io.decode_raw(padded(encoded, at, size), tf.uint8), tf.int64)
    powers = range(size) if little_endian else range(size - 1, -1, -1)
    return tf.reduce_sum(digits * tf.constant([256**power for power in powers], tf.int64))


def has(encoded, content: bytes, at=0):
    """Whether a file has some bytes at a position."""
    return tf.equal(text(encoded, at, len(content)), content)
