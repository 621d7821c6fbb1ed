"""The size, and the number of channels, behind a dataset's name: `photos@96`, `photos@96x128` and `photos@96x128x1`."""

import os
import re
from collections.abc import Container


def parts(name: str, known: Container[str]) -> re.Match | None:
    """The path, height, width and channels of a name, as groups; `None` where nothing stands behind it.

    Args:
        name: The name. A folder that is there with `@size` in its own name is that folder.
        known: Names that are no folders.
    """
    match = re.fullmatch(r"(.+?)@(\d+)(?:x(\d+)(?:x(\d+))?)?", name, re.DOTALL)
    return None if match is None or (match[1] not in known and os.path.isdir(name)) else match


def check_channels(name: str, channels: int, is_folder: bool) -> None:
    """Raises `ValueError` for another number of channels than grey and RGB, or for a dataset whose images have their own."""
    if not is_folder:
        raise ValueError(
            f"{name!r}: channels behind the size are for folders of images and CSV files; leave out x{channels}."
        )
    if channels not in (1, 3):
        raise ValueError(f"{name!r}: the number of channels must be 1 (grey) or 3 (RGB), got {channels}.")
