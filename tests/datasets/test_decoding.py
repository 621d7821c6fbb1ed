"""Files of every format as the pixels that Pillow reads; what files say about their size before they are decoded."""

import io
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from image_files import CASES, WITH_EXIF, by_pillow, of_mode
from PIL import Image

from mixmo_keras.datasets import decoding

PIXELS = np.random.default_rng(0).integers(0, 256, (13, 37, 3), dtype="uint8")
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")


def encoded(kind: str, pixels=PIXELS) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def says(kind: str, width: int, height: int) -> bytes:
    """A small file whose header speaks of another size."""
    content = encoded(kind)
    if kind == "PNG":
        header = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
        return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
    if kind == "GIF":  # its screen is as small as it was, its frame large
        start = content.index(b",\0\0\0\0" + struct.pack("<HH", 37, 13)) + 5
        return content[:start] + struct.pack("<HH", width, height) + content[start + 4 :]
    if kind == "BMP":
        return content[:18] + struct.pack("<ii", width, height) + content[26:]
    start = content.index(b"\xff\xc0") + 5  # the frame of a JPEG file: height, width
    return content[:start] + struct.pack(">HH", height, width) + content[start + 4 :]


@pytest.mark.parametrize("kind", FORMATS)
def test_pixels_are_those_of_the_file(kind):
    assert int(decoding.inspect(encoded(kind))[0]) == 13 * 37
    with Image.open(io.BytesIO(encoded(kind))) as image:
        expected = np.asarray(image.convert("RGB"), "int32")
    image = decoding.decode(encoded(kind), 3)
    assert image.dtype == tf.uint8
    assert np.abs(image.numpy().astype("int32") - expected).max() <= {"JPEG": 4, "WEBP": 4}.get(kind, 0)
    assert decoding.decode(encoded("PNG", PIXELS[..., 0]), 1).shape == (13, 37, 1)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("kind", "width", "height"),
    [("PNG", 20_000, 20_000), ("JPEG", 60_000, 60_000), ("GIF", 60_000, 60_000), ("BMP", 30_000, -30_000)],
)
def test_too_many_pixels_are_refused_by_what_the_header_says(kind, width, height, compiled):
    content = says(kind, width, height)
    assert int(decoding.inspect(content)[0]) == abs(width * height)
    decode = lambda file: decoding.decode(file, 3)  # noqa: E731
    if compiled:
        decode = tf.function(decode, input_signature=[tf.TensorSpec((), tf.string)])
    with pytest.raises(tf.errors.InvalidArgumentError, match="more pixels than the 67,108,864 that are allowed"):
        decode(content)


def test_the_limit_itself_is_allowed():
    assert decoding.decode(encoded("PNG"), 3, max_pixels=13 * 37).shape == (13, 37, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="more pixels than the 481 that are allowed"):
        decoding.decode(says("PNG", 2, 241), 3, max_pixels=13 * 37)


def test_of_an_animation_the_first_frame_alone_is_decoded():
    frames = [Image.fromarray(np.full((13, 37), value, "uint8")) for value in (10, 20, 30)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], comment=b"an extension " * 40)
    pixels, first = decoding.inspect(file.getvalue())
    assert int(pixels) == 13 * 37
    with Image.open(io.BytesIO(first.numpy())) as image:
        assert getattr(image, "n_frames", 1) == 1
    assert (decoding.decode(file.getvalue(), 3) == 10).numpy().all()


def test_of_a_long_animation_no_more_is_looked_at_than_the_first_frame_may_take(monkeypatch):
    """An integer for each byte of a file took gigabytes."""
    frame, read = encoded("GIF"), []
    monkeypatch.setattr(decoding, "MAX_BLOCKS", 1024)
    monkeypatch.setattr(
        decoding.tf.io, "decode_raw", lambda *arguments, raw=tf.io.decode_raw: read.append(raw(*arguments)) or read[-1]
    )
    _, first = decoding.inspect(frame + b"further frames" * 100_000)
    assert first.numpy() == frame
    assert [len(part) for part in read] == [260 * 1024 + 4096]


@pytest.mark.parametrize("blocks", [b"\x21\xfe" + b"\1a" * 80_000 + b"\0", b"\x21\xfe\1a\0" * 1000])
def test_blocks_of_a_byte_take_no_time(blocks):
    """A walk from block to block, one in an iteration of TensorFlow's, took 6 s for 160 KB."""
    frame = encoded("GIF")
    content = frame[: frame.index(b",\0\0\0\0")] + blocks + frame[frame.index(b",\0\0\0\0") :]
    decoding.decode(frame, 3)  # traced
    began = time.process_time()
    image = decoding.decode(content, 3)
    assert time.process_time() - began < 2
    assert (image == decoding.decode(frame, 3)).numpy().all()


def test_what_only_looks_like_the_format_is_refused():
    tiff = encoded("TIFF")
    png = encoded("PNG")
    chunk = b"abCd" + struct.pack(">II", 1, 1)  # where the header is expected, before it
    hidden = png[:8] + struct.pack(">I", 8) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[8:]
    for content in (tiff, hidden):
        with pytest.raises(tf.errors.InvalidArgumentError, match="Unknown image file format"):
            decoding.decode(content, 3)


@pytest.mark.parametrize("content", [b"", b"x", b"\x89PNG", b"\xff\xd8\xff", b"BM", b"GIF8", b"no image" * 100])
def test_what_is_no_image_is_an_error(content):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decoding.decode(content, 3)


# -- what people see: Pillow's pixels ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "mode", "orientation"), CASES)
def test_pixels_are_what_pillow_reads(kind, mode, orientation):
    content = of_mode(kind, mode, orientation, PIXELS)
    for channels, of_pillow in ((3, "RGB"), (1, "L")):
        image = decoding.decode(content, channels).numpy()
        expected = by_pillow(content, of_pillow)
        assert image.shape == expected.shape == ((37, 13, channels) if orientation >= 5 else (13, 37, channels))
        assert np.abs(image - expected).max() <= (4 if kind == "JPEG" else 0)


@pytest.mark.parametrize("formats", [("PNG", "JPEG", "WEBP"), ("PNG", "GIF", "BMP")])
@pytest.mark.parametrize("turned", [False, True])
def test_files_that_were_checked_are_read_as_others(formats, turned, tmp_path):
    cases = [case for case in CASES if case[0] in formats and (turned or case[2] == 1)]
    paths = [str(tmp_path / f"{number}") for number in range(len(cases))]
    contents = [of_mode(*case, PIXELS) for case in cases]
    for path, content in zip(paths, contents, strict=True):
        Path(path).write_bytes(content)
    for channels in (1, 3):
        kinds, _, turns = zip(*cases, strict=True)
        read = tf.data.Dataset.range(len(paths)).map(decoding.reader(paths, kinds, turns, channels))
        assert read.element_spec.shape.as_list() == [None, None, channels]
        for image, content in zip(read, contents, strict=True):
            np.testing.assert_array_equal(image, decoding.decode(content, channels))


def test_alpha_is_read_where_four_channels_are_asked_for():
    for mode in ("RGBA", "LA", "RGB"):
        content = of_mode("PNG", mode, 6, PIXELS)
        np.testing.assert_array_equal(decoding.decode(content, 4), by_pillow(content, "RGBA"))
    assert (decoding.decode(of_mode("JPEG", "RGB", 6, PIXELS), 4)[..., 3] == 255).numpy().all()
    with pytest.raises(ValueError, match="`channels` must be 1, 3 or 4, got 2"):
        decoding.decode(content, 2)


@pytest.mark.parametrize("kind", WITH_EXIF)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("type_and_form", [(1, "B3x"), (3, "H2x"), (4, "I")])  # bytes turn nothing, as in Pillow
def test_orientation_in_either_byte_order_and_every_type(kind, order, type_and_form):
    """The directory by hand: an entry before that of the orientation, and the value in one, two and four bytes."""
    number, form = type_and_form
    header = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    entries = struct.pack(f"{order}HHII", 0x0100, 4, 1, 37) + struct.pack(f"{order}HHI{form}", 0x0112, number, 1, 8)
    exif = header + struct.pack(f"{order}H", 2) + entries + struct.pack(f"{order}I", 0)
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, exif=b"Exif\0\0" + exif)
    content = file.getvalue()
    expected = (13, 37, 3) if number == 1 else (37, 13, 3)
    assert decoding.decode(content, 3).shape == by_pillow(content, "RGB").shape == expected


@pytest.mark.parametrize("exif", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", b"no directory"])
def test_a_broken_orientation_turns_nothing(exif):
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "JPEG", exif=b"Exif\0\0" + exif)
    assert decoding.decode(file.getvalue(), 3).shape == (13, 37, 3)


def test_an_animated_webp_is_refused():
    frames = [Image.fromarray(np.full((13, 37, 3), value, "uint8")) for value in (10, 200)]
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:])
    with pytest.raises(tf.errors.InvalidArgumentError, match="animated WebP files are not"):
        decoding.decode(file.getvalue(), 3)


def test_a_compressed_bitmap_is_refused():
    content = bytearray(encoded("BMP"))
    content[30] = 1  # run lengths
    with pytest.raises(tf.errors.InvalidArgumentError, match="The BMP file is compressed"):
        decoding.decode(bytes(content), 3)
