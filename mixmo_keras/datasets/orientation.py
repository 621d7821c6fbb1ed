"""The orientation that cameras write into photographs, read and applied in a TensorFlow graph.

A camera stores the pixels as its sensor has them, and a number from 1 to 8 that says how to turn them: tag 0x0112 of Exif, a
small TIFF directory inside a JPEG, PNG or WebP file. What comes out is what `PIL.ImageOps.exif_transpose` gives.
"""

import tensorflow as tf

TAG = 0x0112
BYTE, SHORT, LONG = 1, 3, 4  # the types of a TIFF value, 1, 2 and 4 bytes wide
MOST_ENTRIES = 4096  # of a directory
MOST_PARTS = 4096  # of a file that are passed on the way to its Exif data
UPRIGHT = 1
_EXIF_BYTES = 2**16  # a JPEG segment holds no more, and other formats' Exif data are not larger
_START_OF_FRAMES = (0xC0, 0xCF)  # the JPEG markers of frames and scans: what describes the image comes before them


def of_jpeg(encoded):
    """The orientation of a JPEG file, int64 from 1 to 8; 1 where it has none.

    After two bytes, a JPEG file is a list of segments: FF, the marker, and for most of them two bytes of length.
    """

    def is_exif(at):
        return tf.equal(_number(encoded, at, 2), 0xFFE1) & tf.equal(_text(encoded, at + 4, 6), b"Exif\0\0")

    def may_follow(at):
        marker = _number(encoded, at + 1, 1)
        first, last = _START_OF_FRAMES
        # Huffman tables share the range
        is_frame = (marker >= first) & (marker <= last) & (marker != 0xC4)
        return tf.equal(_number(encoded, at, 1), 0xFF) & ~is_frame & (marker != 0xDA) & (marker != 0xD9)

    def after(at):
        is_fill = tf.equal(_number(encoded, at + 1, 1), 0xFF)
        return tf.where(is_fill, at + 1, at + 2 + _number(encoded, at + 2, 2))

    at, exists = _search(2, is_exif, may_follow, after)
    return tf.cond(exists, lambda: _of_tiff(_text(encoded, at + 10, _EXIF_BYTES)), _upright)


def of_png(encoded):
    """The orientation of a PNG file. After eight bytes it is a list of chunks: length, type, content, and a check."""
    length = tf.cast(tf.strings.length(encoded), tf.int64)

    def search():
        at, exists = _search(
            8,
            lambda at: tf.equal(_text(encoded, at + 4, 4), b"eXIf"),
            lambda at: at < length,
            lambda at: at + 12 + _number(encoded, at, 4),
        )
        return tf.cond(exists, lambda: _of_tiff(_text(encoded, at + 8, _EXIF_BYTES)), _upright)

    # most files have no such chunk, which is quickly known
    return tf.cond(tf.strings.regex_full_match(encoded, rb"\C*eXIf\C*"), search, _upright)


def of_webp(encoded):
    """The orientation of a WebP file. After twelve bytes it is a list of chunks: type, length, content of an even length."""
    length = tf.cast(tf.strings.length(encoded), tf.int64)

    def search():
        at, exists = _search(
            12,
            lambda at: tf.equal(_text(encoded, at, 4), b"EXIF"),
            lambda at: at < length,
            lambda at: at + 8 + (_number(encoded, at + 4, 4, little_endian=True) + 1) // 2 * 2,
        )

        def read():
            has_prefix = tf.equal(_text(encoded, at + 8, 6), b"Exif\0\0")  # which some programs leave out
            return _of_tiff(_text(encoded, tf.where(has_prefix, at + 14, at + 8), _EXIF_BYTES))

        return tf.cond(exists, read, _upright)

    return tf.cond(tf.equal(_text(encoded, 12, 4), b"VP8X"), search, _upright)  # others have one chunk


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

    def number(at, size: int):
        places = tf.range(size, dtype=tf.int64)
        digits = tf.gather(content, tf.clip_by_value(tf.expand_dims(at, -1) + places, 0, last))
        powers = tf.where(is_little_endian, places, size - 1 - places)
        return tf.reduce_sum(tf.bitwise.left_shift(digits, 8 * powers), -1)

    directory = number(tf.constant(4, tf.int64), 4)
    count = tf.minimum(number(directory, 2), MOST_ENTRIES)
    entries = directory + 2 + 12 * tf.range(count)
    entries = tf.boolean_mask(entries, tf.equal(number(entries, 2), TAG) & (entries + 12 <= last))
    kinds = number(entries + 2, 2)
    values = tf.where(
        tf.equal(kinds, SHORT),
        number(entries + 8, 2),
        tf.where(tf.equal(kinds, LONG), number(entries + 8, 4), number(entries + 8, 1)),
    )
    values = tf.where(_is_one_of(kinds, (BYTE, SHORT, LONG)), values, UPRIGHT)
    value = tf.concat([values, [UPRIGHT]], 0)[0]
    return tf.where(known & (value >= 1) & (value <= 8), value, UPRIGHT)


def _upright():
    return tf.constant(UPRIGHT, tf.int64)


def _is_one_of(value, values: tuple[int, ...]):
    return tf.reduce_any([tf.equal(value, one) for one in values], 0)


def _text(encoded, at, size: int):
    """So many bytes of a file from a position on; fewer where it ends."""
    return tf.strings.substr(encoded, tf.minimum(tf.cast(at, tf.int32), tf.strings.length(encoded)), size)


def _number(encoded, at, size: int, little_endian: bool = False):
    """A number of so many bytes, int64; bytes beyond the end of the file are 0."""
    text = tf.strings.substr(tf.strings.join([_text(encoded, at, size), b"\0" * size]), 0, size)
    digits = tf.cast(tf.io.decode_raw(text, tf.uint8), tf.int64)
    powers = range(size) if little_endian else range(size - 1, -1, -1)
    return tf.reduce_sum(digits * tf.constant([256**power for power in powers], tf.int64))
