"""Leaves out the notes that TensorFlow's libraries print about the machine while they are imported."""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from typing import IO

from mixmo_keras.common.console import say

# how Abseil begins a line: the first letter of its severity, the date; or the note that it isn't initialised
_NOTE = re.compile(r"([IWE])\d{4} |(W)ARNING: All log messages before absl::InitializeLog")
_SEVERITIES = "IWE"  # information, warnings, errors; TF_CPP_MIN_LOG_LEVEL leaves out as many of them


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """TensorFlow, where it is imported within this, prints no notes about the machine, such as missing CUDA drivers.

    Sets `TF_CPP_MIN_LOG_LEVEL` to 3, which leaves out what TensorFlow's C++ code notes, warns of and calls an error, from
    then on: what concerns a user comes as a Python exception too. A level that the user has set holds instead; 0 shows all.

    Some notes are written while a library is loaded, before it reads the level (TensorFlow issue 100442). So stderr is kept
    in a file meanwhile; afterwards its other lines are written.
    """
    if "tensorflow" in sys.modules:
        yield
        return
    level = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    left_out = _SEVERITIES[: int(level)] if level.isdigit() else ""
    kept = _temporary_file() if left_out else None
    stderr = _copy_of_stderr() if kept else None
    if kept is None or stderr is None:
        yield
        return
    with kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            kept.seek(0)
            for line in kept.read().decode(errors="replace").splitlines():
                note = _NOTE.match(line)
                if note is None or (note[1] or note[2]) not in left_out:
                    say(line, file=sys.stderr)


def _temporary_file() -> IO[bytes] | None:
    """A file without a name; `None` where no folder for temporary files can be written."""
    try:
        return tempfile.TemporaryFile()
    except OSError:
        return None


def _copy_of_stderr() -> int | None:
    """A copy of the descriptor of stderr; `None` for a process without one."""
    if sys.stderr is None:
        return None
    sys.stderr.flush()
    try:
        return os.dup(2)
    except OSError:
        return None
