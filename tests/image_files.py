"""Image files of every format, mode and orientation that is read, and the pixels that Pillow reads from them."""

import io

import numpy as np
from PIL import ExifTags, Image, ImageOps

MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "GIF": ("1", "L", "P", "RGB"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "WEBP": ("L", "RGB", "RGBA"),
}
WITH_EXIF = ("PNG", "JPEG", "WEBP")
CASES = [
    (kind, mode, orientation)
    for kind, modes in MODES.items()
    for mode in modes
    for orientation in (range(1, 9) if kind in WITH_EXIF else (1,))
]


def of_mode(kind: str, mode: str, orientation: int, pixels) -> bytes:
    """A file of a format, in a mode of Pillow's, with an orientation where the format has it."""
    sixteen = mode == "I;16"
    image = Image.fromarray(pixels[..., 0].astype("uint16") * 257) if sixteen else Image.fromarray(pixels).convert(mode)
    options = {"lossless": True} if kind == "WEBP" else {}
    if kind in WITH_EXIF:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        options["exif"] = exif
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def by_pillow(content: bytes, mode: str) -> np.ndarray:
    """The upright pixels (h, w, c) that Pillow reads; of 16 bits, which it clips, the higher eight."""
    with Image.open(io.BytesIO(content)) as file:
        image = ImageOps.exif_transpose(file)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype("uint8"))
    return np.asarray(image.convert(mode), "int32").reshape(*image.size[::-1], -1)
