"""Image files as pixels, in a TensorFlow graph: not before it is known how many there will be.

A PNG file of 48 KB can say that it holds 400 million pixels; to decode it takes gigabytes. What a file says about its size
stands in its first bytes, which are read before anything is decoded.
"""

import tensorflow as tf

MAX_PIXELS = 2**26  # 67 million, 200 MB in three channels: the largest photographs that cameras make
HEADER = 32  # bytes, within which PNG, GIF and BMP have their sizes


def decode(encoded, channels: int, max_pixels: int = MAX_PIXELS):
    """An image (height, width, channels), uint8, of a file in JPEG, PNG, GIF or BMP format; of an animation the first.

    Args:
        encoded: The file's content, a scalar string.
        channels: Number of channels to decode to.
        max_pixels: Number of pixels from which on a file is refused before it is decoded.

    Raises:
        tf.errors.InvalidArgumentError: no such file, a broken one, or one with too many pixels.
    """
    pixels = num_pixels(encoded)
    allowed = tf.debugging.assert_less_equal(
        pixels,
        tf.constant(max_pixels, tf.int64),
        f"The image says that it has more pixels than the {max_pixels:,} that are allowed",
    )
    with tf.control_dependencies([allowed] if allowed is not None else []):
        encoded = tf.identity(encoded)
    image = tf.io.decode_image(encoded, channels=channels, expand_animations=False)
    image.set_shape((None, None, channels))
    return image


def num_pixels(encoded):
    """The number of pixels, int64, that a file's header speaks of; 0 where the format is none of the four."""
    header = tf.strings.substr(tf.strings.join([tf.strings.substr(encoded, 0, HEADER), b"\0" * HEADER]), 0, HEADER)

    def begins_with(signature: bytes):
        return tf.equal(tf.strings.substr(header, 0, len(signature)), signature)

    def size(position: int, number_type: tf.DType, little_endian: bool):
        field = tf.strings.substr(header, position, 2 * number_type.size)
        return tf.io.decode_raw(field, number_type, little_endian=little_endian)

    def area(size):
        return tf.reduce_prod(
            tf.abs(tf.cast(size, tf.int64))
        )  # the height of a BMP is negative where it is upside down

    return tf.case(
        [
            (begins_with(b"\x89PNG"), lambda: area(size(16, tf.int32, little_endian=False))),
            (begins_with(b"\xff\xd8\xff"), lambda: area(tf.image.extract_jpeg_shape(encoded)[:2])),
            (begins_with(b"GIF"), lambda: area(size(6, tf.uint16, little_endian=True))),
            (begins_with(b"BM"), lambda: area(size(18, tf.int32, little_endian=True))),
        ],
        default=lambda: tf.constant(0, tf.int64),
    )
