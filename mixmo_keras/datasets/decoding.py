"""Image files as pixels, in a TensorFlow graph: not before it is known how many there will be.

A PNG file of 48 KB can say that it holds 400 million pixels; to decode it takes gigabytes. A file's header says how many
there are, and is read before anything is decoded. Of an animated GIF the first frame alone is handed to the decoder, which
would unpack all of them.
"""

import functools

import tensorflow as tf

from mixmo_keras.common import arguments

MAX_PIXELS = 2**26  # 67 million, 200 MB in three channels: above what full-frame cameras make
COUNTED = 2**63 - 1  # a limit on pixels is at most this
HEADER = 32  # bytes, within which PNG and BMP have their sizes

PNG, JPEG, GIF, BMP = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM"
GIF_EXTENSION, GIF_FRAME = 0x21, 0x2C
# of a GIF up to the end of its first frame: 67 MB where they are full; a file may be all tiny blocks
MAX_BLOCKS = 2**18
DOUBLINGS = 6  # of the blocks that an iteration passes


def decode(encoded, channels: int, max_pixels: int = MAX_PIXELS):
    """An image (height, width, channels), uint8, of a file in JPEG, PNG, GIF or BMP format; of an animation the first.

    Args:
        encoded: The file's content, a scalar string.
        channels: Number of channels to decode to.
        max_pixels: Number of pixels above which a file is refused before it is decoded.

    Raises:
        ValueError: `max_pixels` that are no number of pixels.
        tf.errors.InvalidArgumentError: no such file, a broken one, or one with too many pixels.
    """
    return _decoder(channels, arguments.integer("max_pixels", max_pixels, least=1, most=COUNTED))(encoded)


@functools.cache
def _decoder(channels: int, max_pixels: int):
    """The graph of `decode`, traced once: to trace it for each dataset that is loaded takes a second."""

    def decode(encoded):
        pixels, first_image = inspect(encoded)
        known = tf.debugging.Assert(
            pixels > 0, ["Unknown image file format: JPEG, PNG, GIF and BMP files with pixels are read."]
        )
        few = tf.debugging.Assert(
            pixels <= max_pixels, [f"The image has more pixels than the {max_pixels:,} that are allowed", pixels]
        )
        with tf.control_dependencies([check for check in (known, few) if check is not None]):
            first_image = tf.identity(first_image)
        image = tf.io.decode_image(first_image, channels=channels, expand_animations=False)
        image.set_shape((None, None, channels))
        return image

    return tf.function(decode, input_signature=[tf.TensorSpec((), tf.string)], autograph=False)


def inspect(encoded):
    """The number of pixels, int64, that a file says it has, and the file without an animation's further frames.

    The number is 0 where the format is none of the four.
    """
    header = tf.strings.substr(tf.strings.join([tf.strings.substr(encoded, 0, HEADER), b"\0" * HEADER]), 0, HEADER)

    def has(text: bytes, position: int = 0):
        return tf.equal(tf.strings.substr(header, position, len(text)), text)

    def size(position: int, little_endian: bool):
        field = tf.strings.substr(header, position, 8)
        return tf.io.decode_raw(field, tf.int32, little_endian=little_endian)

    def area(size):
        return tf.reduce_prod(
            tf.abs(tf.cast(size, tf.int64))
        )  # the height of a BMP is negative where it is upside down

    return tf.case(
        [
            (has(PNG) & has(b"IHDR", 12), lambda: (area(size(16, little_endian=False)), encoded)),
            (has(JPEG), lambda: (area(tf.image.extract_jpeg_shape(encoded)[:2]), encoded)),
            (has(GIF), lambda: _first_frame(encoded)),
            (has(BMP), lambda: (area(size(18, little_endian=True)), encoded)),
        ],
        default=lambda: (tf.constant(0, tf.int64), encoded),
    )


def _first_frame(encoded):
    """The pixels of a GIF's first frame, or of its screen if these are more, and the file that ends behind the frame.

    A GIF is a screen (13 bytes and its colours), extensions, and frames, each followed by blocks of at most 255 bytes.
    """
    # what so many blocks and their labels fill at most: an animation's further frames may be gigabytes
    begins = tf.strings.substr(encoded, 0, 260 * MAX_BLOCKS + 4096)
    content = tf.cast(tf.io.decode_raw(begins, tf.uint8), tf.int32)
    length = tf.size(content)

    def byte(position):  # 0 behind the end, which ends all blocks
        return tf.where(position < length, content[tf.minimum(position, length - 1)], 0)

    def number(position):
        return tf.cast(byte(position) + 256 * byte(position + 1), tf.int64)

    def bytes_of_colours(flags):
        return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, tf.bitwise.bitwise_and(flags, 7)), 0)

    # the place of the block behind each one; behind the last block, and behind the end, no further
    steps, places = tf.concat([content, [0]], 0), tf.range(length + 1)
    behind = tf.minimum(tf.where(steps > 0, places + steps + 1, places), length)
    for _ in range(DOUBLINGS):  # an iteration of a loop takes as long as a hundred steps of a kernel
        behind = tf.gather(behind, behind)

    def jump(at, left):
        return tf.gather(behind, at), left - 1

    def behind_blocks(position, left):
        first = tf.minimum(position, length)
        last, left = tf.while_loop(lambda at, left: (byte(at) > 0) & (left > 0), jump, [first, left])
        return last + 1, left

    frame, left = tf.while_loop(
        lambda at, left: tf.equal(byte(at), GIF_EXTENSION) & (left > 0),
        lambda at, left: behind_blocks(at + 2, left - 1),
        [13 + bytes_of_colours(byte(10)), tf.constant(MAX_BLOCKS >> DOUBLINGS)],
    )
    # a byte says how blocks are packed
    end, left = behind_blocks(frame + 10 + bytes_of_colours(byte(frame + 9)) + 1, left)
    few = tf.debugging.Assert(left > 0, [f"The GIF is in more than the {MAX_BLOCKS:,} blocks that are read."])
    pixels = tf.maximum(number(6) * number(8), number(frame + 5) * number(frame + 7))
    with tf.control_dependencies([few] if few is not None else []):
        pixels = tf.where(tf.equal(byte(frame), GIF_FRAME), pixels, 0)
    return pixels, tf.strings.join([tf.strings.substr(encoded, 0, tf.minimum(end, length)), b";"])
