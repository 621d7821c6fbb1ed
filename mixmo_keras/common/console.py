"""Text for people: no character, closed console or broken pipe stops what prints it."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any

# what consoles without these characters show in their place; they show "?" for all others
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("–—−─", "-"),
        **dict.fromkeys("│", "|"),
        **dict.fromkeys("┌┐└┘├┤┬┴┼", "+"),
        **{"±": "+-", "×": "x", "→": "->", "≥": ">=", "≤": "<=", "…": "...", "·": "."},
        **{"α": "alpha", "β": "beta", "γ": "gamma", "κ": "kappa", "λ": "lambda", "ρ": "rho", "σ": "sigma"},
    }
)


def say(*parts: object, end: str = "\n", file: Any = None) -> None:
    """Prints to stdout, or a given stream, at once, as `print` does; what the stream can't take is replaced or left out.

    A character that its encoding lacks is replaced. A stream that is closed, full or not there (`None` under pythonw)
    gets nothing, as does a pipe that nobody reads any more: a training goes on without its lines.
    """
    stream = _Unbreakable(sys.stdout if file is None else file)
    stream.write(" ".join(map(str, parts)) + end)
    stream.flush()


@contextlib.contextmanager
def unbreakable() -> Iterator[None]:
    """Lets all that prints within it do so as `say` does: Keras' progress bars, argparse's help, warnings.

    Decorates functions too.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (stream if isinstance(stream, _Unbreakable) else _Unbreakable(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class _Unbreakable:
    """A stream of text whose `write` and `flush` never raise."""

    def __init__(self, stream: Any):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        try:
            return self._stream.isatty()
        except (AttributeError, ValueError):
            return False

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            encoding = getattr(self._stream, "encoding", None) or "ascii"
            self.write(text.translate(_PLAIN).encode(encoding, "replace").decode(encoding))
        except (AttributeError, OSError, ValueError) as error:
            self._gone(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (AttributeError, OSError, ValueError) as error:
            self._gone(error)

    def _gone(self, error: Exception) -> None:
        """Lets a pipe that nobody reads end nowhere: what Python writes into it while it exits would fail too."""
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            with contextlib.suppress(AttributeError, OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)
