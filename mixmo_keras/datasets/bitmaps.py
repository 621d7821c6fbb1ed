"""BMP files as pixels, in a TensorFlow graph: TensorFlow's own decoder takes indices into a palette for grey levels.

Reads files without compression of 1, 4 or 8 bits a pixel, which have a palette, and of 24 or 32 bits, whose fourth byte is
no colour. Others are refused.
"""

import tensorflow as tf

from mixmo_keras.datasets import file_bytes

FILE_HEADER = 14  # bytes; the other header follows, and begins with its own length
OLD_HEADER = 12  # the length of OS/2's, whose sizes have two bytes, and whose palette three a colour
_UNREAD = "The BMP file is compressed, or has another number of bits a pixel than 1, 4, 8, 24 and 32: save it as PNG."


def size(encoded):
    """Height and width of a BMP file, int64; the height is negative where its first row is the upper one."""
    is_old = tf.equal(_number(encoded, FILE_HEADER, 4), OLD_HEADER)
    width = tf.where(is_old, _number(encoded, 18, 2), _signed(_number(encoded, 18, 4)))
    height = tf.where(is_old, _number(encoded, 20, 2), _signed(_number(encoded, 22, 4)))
    return height, width


def decode(encoded):
    """The pixels (h, w, 3) of a BMP file, uint8.

    Raises:
        tf.errors.InvalidArgumentError: a file that is cut off, is compressed or has another number of bits a pixel.
    """
    height, width = size(encoded)
    header = _number(encoded, FILE_HEADER, 4)
    is_old = tf.equal(header, OLD_HEADER)
    bits = tf.where(is_old, _number(encoded, 24, 2), _number(encoded, 28, 2))
    compression = tf.where(is_old, tf.constant(0, tf.int64), _number(encoded, 30, 4))
    # "bit fields" (3) of 32 bits, in the order in which they usually are, are no compression
    usual = tf.equal(file_bytes.padded(encoded, 54, 12), b"\0\0\xff\0\0\xff\0\0\xff\0\0\0")
    plain = tf.equal(compression, 0) | (tf.equal(compression, 3) & tf.equal(bits, 32) & usual)
    known = tf.reduce_any(tf.equal(bits, tf.constant([1, 4, 8, 24, 32], tf.int64)))
    bytes_of_row = (bits * width + 31) // 32 * 4
    start, rows = _number(encoded, 10, 4), tf.abs(height)
    is_whole = start + bytes_of_row * rows <= tf.cast(tf.strings.length(encoded), tf.int64)
    checks = [
        tf.debugging.Assert(plain & known, [_UNREAD]),
        tf.debugging.Assert(is_whole, ["The BMP file is cut off."]),
    ]
    with tf.control_dependencies(checks):
        content = tf.strings.substr(encoded, tf.cast(start, tf.int32), tf.cast(bytes_of_row * rows, tf.int32))
    content = tf.reshape(tf.io.decode_raw(content, tf.uint8), tf.stack([rows, bytes_of_row]))

    def of_palette():
        per_byte = tf.cast(8 // tf.maximum(bits, 1), tf.uint8)
        shifts = tf.reverse(tf.range(tf.cast(per_byte, tf.int32)), (0,)) * tf.cast(bits, tf.int32)
        mask = tf.cast(tf.bitwise.left_shift(tf.constant(1, tf.int64), bits) - 1, tf.uint8)
        indices = tf.bitwise.right_shift(content[:, :, None], tf.cast(shifts, tf.uint8)) & mask
        indices = tf.reshape(indices, tf.stack([rows, -1]))[:, :width]
        bytes_a_color = tf.where(is_old, tf.constant(3, tf.int64), 4)
        # a palette may be shorter than the bits allow; colours that it lacks are black
        in_palette = tf.minimum(start - FILE_HEADER - header, tf.bitwise.left_shift(bytes_a_color, bits))
        text = tf.strings.substr(
            encoded, tf.cast(FILE_HEADER + header, tf.int32), tf.cast(tf.maximum(in_palette, 0), tf.int32)
        )
        text = tf.strings.substr(tf.strings.join([text, b"\0" * 1024]), 0, tf.cast(256 * bytes_a_color, tf.int32))
        colors = tf.reshape(tf.io.decode_raw(text, tf.uint8), tf.stack([256, bytes_a_color]))
        return tf.gather(colors[:, :3], tf.cast(indices, tf.int32))

    def of_colors():
        bytes_a_pixel = bits // 8
        pixels = tf.reshape(content[:, : width * bytes_a_pixel], tf.stack([rows, width, bytes_a_pixel]))
        return pixels[:, :, :3]

    pixels = tf.cond(bits <= 8, of_palette, of_colors)
    pixels = tf.cond(height > 0, lambda: tf.reverse(pixels, (0,)), lambda: pixels)
    return tf.ensure_shape(tf.reverse(pixels, (2,)), (None, None, 3))  # stored as blue, green, red


def _number(encoded, at: int, size: int):
    return file_bytes.number(encoded, at, size, little_endian=True)


def _signed(number):
    return tf.where(number >= 2**31, number - 2**32, number)
