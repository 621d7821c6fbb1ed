"""Files that are whole or not there."""

import os
from pathlib import Path


def write_text(path: str | os.PathLike, content: str) -> Path:
    """Writes beside `path` and renames, so that a kill or a full disk leaves the old file or the new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path
