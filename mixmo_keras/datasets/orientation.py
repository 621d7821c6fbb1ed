"""The orientation that cameras write into photographs, read and applied in a TensorFlow graph.

A camera stores the pixels as its sensor has them, and a number from 1 to 8 that says how to turn them: tag 0x0112 of Exif, a
small TIFF directory inside a JPEG, PNG or WebP file. What comes out is what `PIL.ImageOps.exif_transpose` gives.
"""

import tensorflow as tf

from mixmo_keras.datasets.file_bytes import has, number, text

TAG = 0x0112
SHORT, LONG = 3, 4  # the types of a TIFF value, 2 and 4 bytes wide
MOST_ENTRIES = 4096  # of a directory
MOST_PARTS = 4096  # of a file that are passed on the way to its Exif data
UPRIGHT = 1
_EXIF_BYTES = 2**16  # a JPEG segment holds no more, and other formats' Exif data are not larger
_START_OF_FRAMES = (0xC0, 0xCF)  # the JPEG markers of frames and scans: what describes the image comes before them


def of_pillow(image) -> int:
    """The orientation of an image that Pillow opened, from 1 to 8; 1 where it has none that is defined."""
    found = image.getexif().get(TAG, UPRIGHT)
    return found if found in range(1, 9) else UPRIGHT


def of_jpeg(encoded):
    """The orientation of a JPEG file, int64 from 1 to 8; 1 where it has none.

    After two bytes, a JPEG file is a list of segments: FF, the marker, and for most of them two bytes of length.
    """

    def is_exif(at):
        return tf.equal(number(encoded, at, 2), 0xFFE1) & has(encoded, b"Exif\0\0", at + 4)

    def may_follow(at):
        marker = number(encoded, at + 1, 1)
        first, last = _START_OF_FRAMES
        # Huffman tables share the range
        is_frame = (marker >= first) & (marker <= last) & (marker != 0xC4)
        return tf.equal(number(encoded, at, 1), 0xFF) & ~is_frame & (marker != 0xDA) & (marker != 0xD9)

    def after(at):
        is_fill = tf.equal(number(encoded, at + 1, 1), 0xFF)
        return tf.where(is_fill, at + 1, at + 2 + number(encoded, at + 2, 2))

    at, exists = _search(2, is_exif, may_follow, after)
    return tf.cond(exists, lambda: _of_tiff(text(encoded, at + 10, _EXIF_BYTES)), _upright)


def of_png(encoded):
    """The orientation of a PNG file. After eight bytes it is a list of chunks: length, type, content, and a check."""
    length = tf.cast(tf.strings.length(encoded), tf.int64)

    def search():
        at, exists = _search(
            8,
            lambda at: has(encoded, b"eXIf", at + 4),
            lambda at: at < length,
            lambda at: at + 12 + number(encoded, at, 4),
        )
        return tf.cond(exists, lambda: _of_tiff(text(encoded, at + 8, _EXIF_BYTES)), _upright)

    # most files have no such chunk, which is quickly known
    return tf.cond(tf.strings.regex_full_match(encoded, rb"\C*eXIf\C*"), search, _upright)


def of_webp(encoded):
    """The orientation of a WebP file. After twelve bytes it is a list of chunks: type, length, content of an even length."""
    length = tf.cast(tf.strings.length(encoded), tf.int64)

    def search():
        at, exists = _search(
            12,
            lambda at: has(encoded, b"EXIF", at),
            lambda at: at < length,
            lambda at: at + 8 + (number(encoded, at + 4, 4, little_endian=True) + 1) // 2 * 2,
        )

        def read():
            has_prefix = has(encoded, b"Exif\0\0", at + 8)  # which some programs leave out
            return _of_tiff(text(encoded, tf.where(has_prefix, at + 14, at + 8), _EXIF_BYTES))

        return tf.cond(exists, read, _upright)

    return tf.cond(has(encoded, b"VP8X", 12), search, _upright)  # others have one chunk


def turned_upright(image, orientation):
    """An image (h, w, C) as it is to be looked at: (h, w, C), or (w, h, C) where the orientation is 5 or more."""

    def turn():
        turned = tf.cond(orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
        turned = tf.cond(_is_one_of(orientation, (2, 3, 6, 7)), lambda: tf.reverse(turned, (1,)), lambda: turned)
        return tf.cond(_is_one_of(orientation, (3, 4, 7, 8)), lambda: tf.reverse(turned, (0,)), lambda: turned)

    return tf.cond(tf.equal(orientation, UPRIGHT), lambda: image, turn)


def _search(first: int, is_found, may_follow, after):
    """Walks over the parts of a file from a first position; returns the position where it stops, and whether it found it."""

    def goes_on(at, left):
        return ~is_found(at) & may_follow(at) & (left > 0)

    at, _ = tf.while_loop(
        goes_on, lambda at, left: (after(at), left - 1), [tf.constant(first, tf.int64), tf.constant(MOST_PARTS)]
    )
    return at, is_found(at)


def _of_tiff(tiff):
    """The orientation in the first directory of a TIFF file: a number of entries, each of twelve bytes.

    An entry is its tag and its type (two bytes each), a count (four), and the value (four, at the left).
    """
    is_little_endian = tf.equal(tf.strings.substr(tiff, 0, 2), b"II")
    known = is_little_endian | tf.equal(tf.strings.substr(tiff, 0, 2), b"MM")
    content = tf.cast(tf.io.decode_raw(tiff, tf.uint8), tf.int64)
    content = tf.concat([content, tf.zeros(1, tf.int64)], 0)  # what lies beyond the end reads as 0
    last = tf.cast(tf.size(content) - 1, tf.int64)

    def field(at, size: int):
        places = tf.range(size, dtype=tf.int64)
        digits = tf.gather(content, tf.clip_by_value(tf.expand_dims(at, -1) + places, 0, last))
        powers = tf.where(is_little_endian, places, size - 1 - places)
        return tf.reduce_sum(tf.bitwise.left_shift(digits, 8 * powers), -1)

    directory = field(tf.constant(4, tf.int64), 4)
    count = tf.minimum(field(directory, 2), MOST_ENTRIES)
    entries = directory + 2 + 12 * tf.range(count)
    entries = tf.boolean_mask(entries, tf.equal(field(entries, 2), TAG) & (entries + 12 <= last))
    kinds = field(entries + 2, 2)
    values = tf.where(tf.equal(kinds, SHORT), field(entries + 8, 2), field(entries + 8, 4))
    values = tf.where(_is_one_of(kinds, (SHORT, LONG)), values, UPRIGHT)  # Pillow takes no other type either
    value = tf.concat([values, [UPRIGHT]], 0)[0]
    return tf.where(known & (value >= 1) & (value <= 8), value, UPRIGHT)


def _upright():
    return tf.constant(UPRIGHT, tf.int64)


def _is_one_of(value, values: tuple[int, ...]):
    return tf.reduce_any([tf.equal(value, one) for one in values], 0)
