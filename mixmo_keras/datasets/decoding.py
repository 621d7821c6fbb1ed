"""Image files as pixels, in a TensorFlow graph: those that people see, as Pillow reads them, without Pillow.

Training, evaluation and a served model all read files by this graph. Photographs are turned upright by their Exif
orientation; grey levels, palettes, alpha, single bits and CMYK become RGB as in Pillow's `convert("RGB")`. Of PNG files of
16 bits the higher eight are taken.

A PNG file of 48 KB can say that it holds 400 million pixels; to decode it takes gigabytes. A file's header says how many
there are, and is read before anything is decoded. Of an animated GIF the first frame alone is handed to the decoder, which
would unpack all of them.
"""

import functools
import threading
from collections.abc import Callable, Sequence

import tensorflow as tf

from mixmo_keras.common import arguments
from mixmo_keras.datasets import bitmaps, orientation
from mixmo_keras.datasets.file_bytes import has, number, text

FORMATS = "JPEG, PNG, GIF, BMP and WebP"
SIMPLE_FORMATS = ("JPEG", "MPO", "PNG", "WEBP")  # as Pillow names them: TensorFlow reads them but for their orientation
MAX_PIXELS = 2**26  # 67 million, 200 MB in three channels: above what full-frame cameras make
COUNTED = 2**63 - 1  # a limit on pixels is at most this

PNG, JPEG, GIF, BMP, RIFF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF"
GIF_EXTENSION, GIF_FRAME = 0x21, 0x2C
WEBP_ANIMATION = 0x02  # a bit of an extended WebP file's flags
# of a GIF up to the end of its first frame: 67 MB where they are full; a file may be all tiny blocks
MAX_BLOCKS = 2**18
DOUBLINGS = 6  # of the blocks that an iteration passes
# how much red, green and blue count for grey, in 65,536ths: ITU-R BT.601, as in Pillow's `convert("L")`
GREY_WEIGHTS = (19595, 38470, 7471)

_tracing = threading.Lock()


def decode(encoded, channels: int, max_pixels: int = MAX_PIXELS):
    """An image (height, width, channels), uint8, of a file in JPEG, PNG, GIF, BMP or WebP format; of a GIF its first frame.

    Args:
        encoded: The file's content, a scalar string.
        channels: 1 for grey, 3 for RGB, 4 for RGB and alpha, which is 255 but in PNG files that have it.
        max_pixels: Number of pixels above which a file is refused before it is decoded.

    Raises:
        ValueError: other numbers of channels; `max_pixels` that are no number of pixels.
        tf.errors.InvalidArgumentError: no such file, a broken one, or one with too many pixels.
    """
    if arguments.integer("channels", channels, least=1, most=4) == 2:
        raise ValueError("`channels` must be 1, 3 or 4, got 2.")
    max_pixels = arguments.integer("max_pixels", max_pixels, least=1, most=COUNTED)
    with _tracing:  # threads that check files at the same time would each trace a graph of their own
        decoder = _decoder(channels, max_pixels)
    return decoder(encoded)


def reader(paths: Sequence[str], formats: Sequence[str], turns: Sequence[int], channels: int) -> Callable:
    """A function of an index i, in a graph, that reads the i-th of files whose headers were checked: (h, w, C), uint8.

    Each pass over a dataset prepares its graph anew, which takes half a second for `decode`. So files whose format and
    orientation are known are read by a graph of a few nodes, where TensorFlow reads their formats as people see them.

    Args:
        paths: The files' paths.
        formats: Their formats, as Pillow names them.
        turns: Their Exif orientations, from 1 to 8.
        channels: 1 for grey, 3 for RGB.
    """
    files, orientations = tf.constant(paths), tf.constant(turns)
    simple, upright = set(formats) <= set(SIMPLE_FORMATS), set(turns) <= {orientation.UPRIGHT}

    def image_at(index):
        encoded = tf.io.read_file(tf.gather(files, index))
        if not simple:
            return decode(encoded, channels)
        image = tf.ensure_shape(tf.io.decode_image(encoded, channels=3, expand_animations=False), (None, None, 3))
        if not upright:
            image = orientation.turned_upright(image, tf.gather(orientations, index))
            image = tf.ensure_shape(image, (None, None, 3))
        return _grey(image) if channels == 1 else image

    return image_at


@functools.cache
def _decoder(channels: int, max_pixels: int):
    """The graph of `decode`, traced once: to trace it for each dataset that is loaded takes a second."""

    def decode(encoded):
        pixels, first_image = inspect(encoded)
        known = tf.debugging.Assert(
            pixels > 0,
            [f"Unknown image file format: {FORMATS} files with pixels are read, animated WebP files are not."],
        )
        few = tf.debugging.Assert(
            pixels <= max_pixels, [f"The image has more pixels than the {max_pixels:,} that are allowed", pixels]
        )
        with tf.control_dependencies([known, few]):
            first_image = tf.identity(first_image)
        image = _pixels(first_image, 4 if channels == 4 else 3)
        return _grey(image) if channels == 1 else image

    function = tf.function(decode, input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
    with tf.init_scope():
        function.get_concrete_function()
    return function


def _pixels(encoded, channels: int):
    """The upright image (h, w, channels) of a file; without alpha of its own it is opaque."""

    def plain():
        image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        return _opaque(tf.ensure_shape(image, (None, None, 3)), channels)

    def of_png():
        image = plain() if channels == 3 else tf.cond(_png_has_alpha(encoded), with_alpha, plain)
        return orientation.turned_upright(image, orientation.of_png(encoded))

    def with_alpha():
        return tf.io.decode_png(encoded, channels=4)

    image = tf.case(
        [
            (has(encoded, JPEG), lambda: orientation.turned_upright(plain(), orientation.of_jpeg(encoded))),
            (has(encoded, PNG), of_png),
            (has(encoded, BMP), lambda: _opaque(bitmaps.decode(encoded), channels)),
            (has(encoded, RIFF), lambda: orientation.turned_upright(plain(), orientation.of_webp(encoded))),
        ],
        default=plain,
    )
    return tf.ensure_shape(image, (None, None, channels))


def _png_has_alpha(encoded):
    """Whether a PNG file says how opaque its pixels are: by its type of colours, or by a chunk about its palette."""
    kind = tf.strings.substr(encoded, 25, 1)
    return tf.equal(kind, b"\4") | tf.equal(kind, b"\6") | tf.strings.regex_full_match(encoded, rb"\C*tRNS\C*")


def _opaque(image, channels: int):
    """RGB (h, w, 3) with an alpha of 255 where four channels are asked for."""
    return (
        image
        if channels == 3
        else tf.concat([image, tf.fill(tf.shape(image[..., :1]), tf.constant(255, tf.uint8))], -1)
    )


def _grey(image):
    """RGB (h, w, 3) as grey (h, w, 1), to the digit as Pillow has it."""
    weighted = tf.reduce_sum(tf.cast(image, tf.int32) * tf.constant(GREY_WEIGHTS), -1, keepdims=True)
    return tf.cast(tf.bitwise.right_shift(weighted + 2**15, 16), tf.uint8)


def inspect(encoded):
    """The number of pixels, int64, that a file says it has, and the file without an animation's further frames.

    The number is 0 where the format is none that is read.
    """

    def area(height, width):
        # the height of a BMP file may be negative
        return tf.abs(tf.cast(height, tf.int64)) * tf.abs(tf.cast(width, tf.int64)), encoded

    is_png = has(encoded, PNG) & has(encoded, b"IHDR", 12)
    return tf.case(
        [
            (is_png, lambda: area(number(encoded, 20, 4), number(encoded, 16, 4))),
            (has(encoded, JPEG), lambda: area(*tf.unstack(tf.image.extract_jpeg_shape(encoded)[:2]))),
            (has(encoded, GIF), lambda: _first_frame(encoded)),
            (has(encoded, BMP), lambda: area(*bitmaps.size(encoded))),
            (has(encoded, RIFF) & has(encoded, b"WEBP", 8), lambda: (_webp_area(encoded), encoded)),
        ],
        default=lambda: (tf.constant(0, tf.int64), encoded),
    )


def _webp_area(encoded):
    """The number of pixels of a WebP file, in each of its three kinds; 0 of an animation."""
    kind = text(encoded, 12, 4)

    def field(at: int, size: int):
        return number(encoded, at, size, little_endian=True)

    lossy = (field(26, 2) % 2**14) * (field(28, 2) % 2**14)
    lossless = (field(21, 4) % 2**14 + 1) * (field(21, 4) // 2**14 % 2**14 + 1)
    extended = (field(24, 3) + 1) * (field(27, 3) + 1)
    is_still = tf.equal(field(20, 1) // WEBP_ANIMATION % 2, 0)
    return tf.case(
        [
            (tf.equal(kind, b"VP8 "), lambda: lossy),
            (tf.equal(kind, b"VP8L"), lambda: lossless),
            (tf.equal(kind, b"VP8X") & is_still, lambda: extended),
        ],
        default=lambda: tf.constant(0, tf.int64),
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
