"""Which image files of a folder can be read: every one is decoded once, before a training finds out in its middle.

What was found sound is remembered by size and time of change, in `$XDG_CACHE_HOME/mixmo_keras` (`~/.cache` by default).
"""

import concurrent.futures
import contextlib
import hashlib
import json
import os
import re
import stat
import sys
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from mixmo_keras.common import files
from mixmo_keras.common.console import say
from mixmo_keras.datasets import decoding

READ = (".jpg", ".jpeg", ".png", ".gif", ".bmp")
NAMED = 10  # broken files that an error names
GREY_MODES = ("L", "1", "I", "I;16")
_SECONDS = 5  # between two lines of progress


def check(folder: Path, paths: Sequence[str]) -> list[bool]:
    """Whether each of the files in a folder is grey.

    Raises:
        ValueError: files that can't be read, by name.
    """
    _warn_of_unread(folder)
    known = _remembered(folder)
    found: dict[str, bool] = {}
    broken: dict[str, str] = {}
    keys = {path: _key(path) for path in paths}
    missing = [path for path in paths if keys[path] is None or known.get(path, [None])[0] != keys[path]]
    said = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for number, (path, outcome) in enumerate(zip(missing, pool.map(_inspect, missing), strict=True)):
            if isinstance(outcome, str):
                broken[path] = outcome
            else:
                found[path] = outcome
            if time.monotonic() - said > _SECONDS:
                said = time.monotonic()
                say(f"{folder}: {number:,} of {len(missing):,} files are checked", file=sys.stderr)
    now = {path: [keys[path], found[path]] for path in found}
    sound: dict[str, Any] = {path: now.get(path) or known[path] for path in paths if path not in broken}
    if found:
        with contextlib.suppress(OSError):  # where nothing can be written they are checked again
            files.write_json(_cache(folder), sound)
    if broken:
        named = "; ".join(
            f"{Path(path).relative_to(folder)}: {reason}" for path, reason in list(broken.items())[:NAMED]
        )
        more = f"; and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
        raise ValueError(
            f"{len(broken)} of {len(paths)} files in {folder} can't be read as JPEG, PNG, GIF or BMP images. Mend or remove "
            f"them: {named}{more}."
        )
    return [sound[path][1] for path in paths]


def check_names(folder: Path) -> None:
    """Raises `ValueError` for a folder, or folders and images in it, whose names are not UTF-8, as TensorFlow needs them."""
    for parent, folders, names in os.walk(folder):
        images = [name for name in names if name.lower().endswith(READ)]
        for path in (parent, *(os.path.join(parent, name) for name in [*folders, *images])):
            try:
                path.encode()
            except UnicodeEncodeError:
                raise ValueError(f"Names of folders and images must be UTF-8, got {path!r}: rename it.") from None


def signature(folder: str) -> str:
    """A text that changes when files of a folder are added, removed or written to."""
    digest = hashlib.blake2b(os.path.realpath(folder).encode(errors="surrogateescape"))
    for parent, _, names in sorted(os.walk(folder)):
        for name in sorted(names):
            path = os.path.join(parent, name)
            digest.update(f"{path}\0{_key(path)}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _inspect(path: str) -> bool | str:
    """Whether a file is grey, or why it can't be read."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # to open a pipe waits for whoever writes into it
            return "it is no file"
        with Image.open(path) as image:
            if image.width * image.height > decoding.MAX_PIXELS:
                return f"{image.width}×{image.height} pixels, more than the {decoding.MAX_PIXELS:,} that are read"
            grey, kind = image.mode in GREY_MODES, image.format
        content = Path(path).read_bytes()
        if not content.startswith((decoding.PNG, decoding.JPEG, decoding.GIF, decoding.BMP)):
            return f"it is {kind}"
        _decode(content)
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        return str(error).replace(path, "the file")
    except OSError as error:
        return error.strerror or str(error)
    except tf.errors.OpError as error:
        failed = re.search(r"assertion failed: \[(.*?)\]", error.message)  # else its first line, without the place
        return (failed[1] if failed else error.message.splitlines()[0].rpartition("}} ")[2])[:200]
    except Exception as error:  # whatever Pillow makes of a broken header
        return f"{type(error).__name__}: {error}"
    return grey


def _decode(content: bytes) -> None:
    """Decodes a file as the pipeline does. Its header was looked at, so that GIFs alone need the long way."""
    if content.startswith(decoding.GIF):
        decoding.decode(tf.constant(content), 3)
    else:
        tf.io.decode_image(content, channels=3, expand_animations=False)


def _warn_of_unread(folder: Path) -> None:
    """Says which files of the class folders are passed over."""
    others: Counter[str] = Counter()
    for parent, _, names in os.walk(folder):
        if Path(parent) != folder:
            others.update(Path(name).suffix.lower() or name for name in names if not name.lower().endswith(READ))
    if others:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5))
        warnings.warn(
            f"{folder}: {others.total()} files are not read ({kinds}): JPEG, PNG, GIF and BMP are.", stacklevel=4
        )


def _key(path: str) -> list[int] | None:
    """Size and time of change; None where there is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


def _cache(folder: Path) -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "mixmo_keras" / f"{hashlib.blake2b(str(folder).encode(), digest_size=12).hexdigest()}.json"


def _remembered(folder: Path) -> dict[str, Any]:
    """[size and time, whether grey] by path of the files that were sound; nothing where that can't be read."""
    try:
        known = json.loads(_cache(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    valid = isinstance(known, dict) and all(
        isinstance(one, list) and len(one) == 2 and isinstance(one[1], bool) for one in known.values()
    )
    return known if valid else {}
