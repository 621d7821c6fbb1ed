"""Checks that the image files of a folder can be read, before a training finds out in its middle.

Every file is decoded once, as it is when it is trained on, and compared with what Pillow reads. Results are remembered by
size and time of change, in `$XDG_CACHE_HOME/mixmo_keras` (`~/.cache` by default). TIFF files are kept there as PNG files.
"""

import concurrent.futures
import contextlib
import hashlib
import io
import json
import os
import re
import stat
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps, UnidentifiedImageError

from mixmo_keras.common import files
from mixmo_keras.common.console import say
from mixmo_keras.datasets import decoding, listing, orientation, tiff

NAMED = 10  # broken files that an error names
GREY_MODES = ("L", "1", "I", "I;16", "LA")
VERSION = 3  # of what is remembered: a new one where files are decoded otherwise than before
_SECONDS = 5  # between two lines of progress
_JPEG_LEVELS, _WEBP_LEVELS = 2.0, 4.0  # by which decoders of one lossy format differ on average, at most


class Facts(NamedTuple):
    """What is known of an image file.

    Attributes:
        grey: Whether its pixels are grey.
        height: Of the upright image.
        width: Of the upright image.
        orientation: Of Exif, from 1 to 8: 1 where the pixels are stored upright.
        brightest: Of a PNG or TIFF file of 16 bits the highest of its 256 levels that it uses, -1 of other files.
        format: Pillow's name of it: of a TIFF file PNG, which is what is kept of it.
        digest: Of its content.
    """

    grey: bool
    height: int
    width: int
    orientation: int
    brightest: int
    format: str
    digest: str


def check(folder: Path, paths: Sequence[str]) -> list[Facts]:
    """What is known of each of the files in a folder.

    Raises:
        ValueError: files that can't be read, by name.
    """
    known = _remembered(folder)
    found: dict[str, Facts] = {}
    broken: dict[str, str] = {}
    keys = {path: _key(path) for path in paths}
    missing = [path for path in paths if keys[path] is None or not _is_known(path, known.get(path), keys[path])]
    reported = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for number, (path, outcome) in enumerate(zip(missing, pool.map(_inspect, missing), strict=True)):
            if isinstance(outcome, str):
                broken[path] = outcome
            else:
                found[path] = outcome
            if time.monotonic() - reported > _SECONDS:
                reported = time.monotonic()
                say(f"{folder}: {number:,} of {len(missing):,} files are checked", file=sys.stderr)
    sound = {path: [keys[path], *found[path]] if path in found else known[path] for path in paths if path not in broken}
    if found:
        with contextlib.suppress(OSError, RuntimeError):  # where nothing can be written they are checked again
            files.write_json(_cache(folder), {"version": VERSION, "files": sound})
    if broken:
        named = "; ".join(
            f"{Path(path).relative_to(folder)}: {reason}" for path, reason in list(broken.items())[:NAMED]
        )
        more = f"; and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
        raise ValueError(
            f"{len(broken)} of {len(paths)} files in {folder} can't be read as {listing.FORMATS} images. Mend or remove "
            f"them: {named}{more}."
        )
    return [Facts(*sound[path][1:]) for path in paths]


def to_decode(paths: Sequence[str], facts: Sequence[Facts]) -> np.ndarray:
    """The paths (n,) of the files that TensorFlow decodes: those of PNG files in place of TIFF files."""
    return np.array(
        [
            str(tiff.png_of(one.digest, _root())) if tiff.is_tiff(path) else path
            for path, one in zip(paths, facts, strict=True)
        ]
    )


def to_turn(paths: Sequence[str], facts: Sequence[Facts]) -> np.ndarray:
    """The orientations (n,) of what is stored in the files of `to_decode`: those of TIFF files are upright."""
    return np.array([1 if tiff.is_tiff(path) else one.orientation for path, one in zip(paths, facts, strict=True)])


def signature(folder: str) -> str:
    """A text that changes when files of a folder are added, removed or written to, also through links."""
    digest = hashlib.blake2b(os.path.realpath(folder).encode(errors="surrogateescape"))
    for path in listing.walk(folder):
        digest.update(f"{path}\0{_key(path)}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _without_places(message: str) -> str:
    """What TensorFlow says of a file, without where in a graph and in which lines of code."""
    if failed := re.search(r"assertion failed: \[(.*?)\]", message):
        return failed[1]
    places = ("Graph execution error", "Detected at", "File ", "[[")
    lines = [line for line in message.splitlines() if line.strip() and not line.lstrip().startswith(places)]
    return lines[0].rpartition("}} ")[2] if lines else message


def _inspect(path: str) -> Facts | str:
    """What is known of a file, or why it can't be read."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # to open a pipe waits for whoever writes into it
            return "it is no file"
        if not status.st_size:
            return "it is empty"
        with Image.open(path) as image:
            if image.width * image.height > decoding.MAX_PIXELS:
                return f"{image.width}×{image.height} pixels, more than the {decoding.MAX_PIXELS:,} that are read"
            kind = image.format
        content = Path(path).read_bytes()
        if tiff.is_tiff(path):
            return _inspect_tiff(content)
        if not content.startswith((decoding.PNG, decoding.JPEG, decoding.GIF, decoding.BMP, decoding.RIFF)):
            return f"it is {kind}"
        pixels = decoding.decode(tf.constant(content), 3).numpy()
        return _compared(content, pixels)
    except UnidentifiedImageError as error:
        return "it is no image" if str(error).startswith("cannot identify") else str(error)
    except Image.DecompressionBombError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)
    except tf.errors.OpError as error:
        return _without_places(error.message)[:200]
    except Exception as error:  # whatever Pillow makes of a broken header
        return f"{type(error).__name__}: {error}"


def _inspect_tiff(content: bytes) -> Facts | str:
    """The same of a TIFF file, a PNG file of which is kept."""
    digest = _digest(content)
    png = tiff.keep(content, tiff.png_of(digest, _root()))
    found = _compared(png, decoding.decode(tf.constant(png), 3).numpy())
    with Image.open(io.BytesIO(content)) as image:
        turn = orientation.of_pillow(image)
    return found if isinstance(found, str) else found._replace(digest=digest, orientation=turn)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _compared(content: bytes, pixels: np.ndarray) -> Facts | str:
    """What is known of a file by its decoded pixels (h, w, 3), or how these differ from what Pillow reads."""
    with Image.open(io.BytesIO(content)) as image:
        turn = orientation.of_pillow(image)
        turned = image.size[::-1] if turn >= 5 else image.size
        if pixels.shape[1::-1] != turned:
            return f"Pillow reads {turned[0]}×{turned[1]} pixels, TensorFlow {pixels.shape[1]}×{pixels.shape[0]}"
        of_16_bits = content.startswith(decoding.PNG) and content[24] == 16
        # the pixels of common photographs need no second decoder, which takes as long as the first
        if turn != 1 or image.format not in ("JPEG", "MPO") or image.mode not in ("RGB", "L"):
            difference = np.abs(_by_pillow(image).astype("int16") - pixels).mean()
            lossy = {"JPEG": _JPEG_LEVELS, "MPO": _JPEG_LEVELS, "WEBP": _WEBP_LEVELS}
            if difference > lossy.get(image.format or "", 0):
                return (
                    f"TensorFlow reads other pixels than Pillow ({image.mode}, orientation {turn}; by "
                    f"{difference:.1f} levels on average): save it anew, as an upright PNG in RGB"
                )
        return Facts(
            grey=image.mode in GREY_MODES,
            height=pixels.shape[0],
            width=pixels.shape[1],
            orientation=turn,
            brightest=int(pixels.max()) if of_16_bits else -1,
            format=image.format or "",
            digest=_digest(content),
        )


def _by_pillow(image: Image.Image) -> np.ndarray:
    """The upright pixels (h, w, 3) that Pillow reads. Of grey with 16 bits it clips; we take the higher eight."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype("uint8"))
    return np.asarray(image.convert("RGB"))


def _key(path: str) -> list[int] | None:
    """Size and time of change; None where there is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


def _is_known(path: str, remembered: list | None, key: list[int] | None) -> bool:
    """Whether a file is as it is remembered; of a TIFF file the PNG file too, under the digest, which is the last fact."""
    if remembered is None or remembered[0] != key:
        return False
    return not tiff.is_tiff(path) or tiff.png_of(remembered[-1], _root()).is_file()


def _root() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mixmo_keras"


def _cache(folder: Path) -> Path:
    return _root() / f"{hashlib.blake2b(str(folder).encode(), digest_size=12).hexdigest()}.json"


def _remembered(folder: Path) -> dict[str, list]:
    """[size and time, *facts] by path of the files that were sound; nothing where that can't be read."""
    try:
        content = json.loads(_cache(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, RuntimeError):
        return {}
    if not isinstance(content, dict) or content.get("version") != VERSION or not isinstance(content.get("files"), dict):
        return {}
    kinds = (list, bool, int, int, int, int, str, str)
    valid = all(
        isinstance(values, list)
        and len(values) == len(kinds)
        and all(isinstance(value, kind) for value, kind in zip(values, kinds, strict=True))
        for values in content["files"].values()
    )
    return content["files"] if valid else {}
