"""TIFF files, for which TensorFlow has no decoder: Pillow reads each once, and a PNG file of its pixels is kept to be read.

The PNG files lie beside what is remembered of folders (`file_checks`), under the digest of the TIFF file's content.
"""

import io
import os
import threading
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mixmo_keras.common import files

ENDINGS = (".tif", ".tiff")
_KEPT = ("1", "L", "LA", "P", "RGB", "RGBA")  # Pillow's modes that PNG files have too


def is_tiff(path: str | os.PathLike) -> bool:
    """Whether a file is a TIFF file by the ending of its name."""
    return os.fspath(path).lower().endswith(ENDINGS)


def png_of(digest: str, cache: Path) -> Path:
    """Where the PNG file of a TIFF file with this digest lies.

    Args:
        digest: Of the TIFF file's content.
        cache: The folder of all that is remembered.
    """
    return cache / "tiff" / f"{digest}.png"


def keep(content: bytes, place: Path) -> bytes:
    """Writes a TIFF file's first image, upright, as a PNG file, and returns that file's content.

    Raises:
        OSError: the place can't be written.
        UnidentifiedImageError: floating-point pixels, or integers beyond 16 bits.
    """
    png = _as_png(content)
    try:
        # under a name of its own first: another thread or process may be writing the same file
        own = place.with_name(f"{os.getpid()}-{threading.get_ident()}-{place.name}")
        with files.replacing(own) as part:
            part.write_bytes(png)
        os.replace(own, place)
    except OSError as error:
        raise OSError(
            f"a PNG file of it can't be kept in {place.parent} ({error.strerror}): set XDG_CACHE_HOME to a folder that can "
            "be written"
        ) from error
    return png


def _as_png(content: bytes) -> bytes:
    with Image.open(io.BytesIO(content)) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I"):
            levels = np.asarray(image)
            if levels.min() < 0 or levels.max() >= 2**16:
                raise UnidentifiedImageError(
                    f"its pixels run from {levels.min()} to {levels.max()}: scale them to 0 to 65,535"
                )
            image = Image.fromarray(levels.astype("uint16"))
        elif image.mode == "F":
            raise UnidentifiedImageError(
                "its pixels are floating-point numbers: scale them to integers from 0 to 65,535"
            )
        elif image.mode not in _KEPT:
            image = image.convert("RGB")
        file = io.BytesIO()
        image.save(file, "PNG", compress_level=1, exif=b"")
    return file.getvalue()
