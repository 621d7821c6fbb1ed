"""The package's version: in `pyproject.toml`, in what runs write and in model cards."""

import subprocess
from pathlib import Path

__version__ = "0.1.0"


def commit() -> str | None:
    """The commit of the checkout that this package lies in; None where it is installed from a wheel."""
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)  # it may lie in an environment in somebody's checkout
        return _git("describe", "--always", "--dirty", "--abbrev=12") or None
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    return subprocess.run(
        command, capture_output=True, check=True, timeout=10, encoding="utf-8", errors="replace"
    ).stdout.strip()
