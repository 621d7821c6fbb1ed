"""Writes figures of matplotlib's as files."""

import os
from pathlib import Path

from matplotlib.figure import Figure

from mixmo_keras.common import arguments, files


def save(figure: Figure, path: str | os.PathLike, dpi: float = 110) -> Path:
    """Writes a figure as the file that its ending names, such as `.png` or `.svg`, whole or not at all.

    Args:
        figure: The figure.
        path: The file, which is replaced.
        dpi: Pixels an inch. Defaults to 110.

    Returns:
        The file's path.
    """
    if not hasattr(figure, "savefig"):
        raise ValueError(f"`figure` must be a figure of matplotlib's, got {figure!r}.")
    arguments.instance("path", path, (str, os.PathLike), "the path of a file")
    dpi = arguments.number("dpi", dpi, above=0)
    with files.replacing(path) as part:
        figure.savefig(part, dpi=dpi)
    return Path(path)
