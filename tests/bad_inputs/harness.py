"""One row, one bad input: what is called, and the pattern of the message that must answer it.

A row is `clear` where an error that users expect comes within the time limit, its one message matching the pattern;
`poor` with any other error; `silent` where nonsense was accepted; `hang` where nothing came; `loss` where a file that was
there before is gone or another, which a row says by a `LossError`. A row of good input, near to the bad ones, is `accepted`;
of input that is degenerate, and taken with a warning of this package's, `warned`. `tests/conftest.py` prints the count by
class.
"""

import contextlib
import dataclasses
import faulthandler
import io
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tiny

NAN, INF = float("nan"), float("inf")
SECONDS = 60  # after which a row hangs; freeing TensorFlow graphs takes up to 40, whoever happens to do it
CLASSES = ("clear", "poor", "silent", "hang", "loss", "warned", "accepted")
EXPECTED = (ValueError, TypeError, OSError, FloatingPointError, SystemExit)
PROPERTY = "bad input"


@dataclasses.dataclass(frozen=True)
class Row:
    """An input.

    Attributes:
        name: What it is, in words.
        call: A function of a `Here`.
        pattern: Of the error's message; empty where the input is taken.
        expected: The kinds of errors that may say it.
        slow: Whether it is left to `make slow`.
        warns: Pattern of the warning that the input is taken with; empty where it is good.
    """

    name: str
    call: Callable[["Here"], Any]
    pattern: str = ""
    expected: tuple[type[BaseException], ...] = EXPECTED
    slow: bool = False
    warns: str = ""


class LossError(Exception):
    """What a row raises where its input made something be lost."""


class Here:
    """What the rows of a module share: one tiny model that is built, images and labels; and an empty folder for each row."""

    def __init__(self, folder: Path, kept: dict):
        self.folder, self.kept = folder, kept

    def once(self, name: str, make: Callable[[], Any]):
        """What `make` gives, made once for all rows."""
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]

    @property
    def backbone(self):
        """A backbone for images (8, 8, 3)."""
        return self.once("backbone", tiny.backbone)

    @property
    def model(self) -> keras.Model:
        """A compiled model of two members and five classes for images (8, 8, 3)."""
        return self.once("model", self.another_model)

    def another_model(self, **options) -> keras.Model:
        """A model for one row, which may spoil it. It runs without a graph: to trace one takes longer than the row."""
        model = tiny.model(**dict(backbone=self.backbone, batch_repetitions=1, augmentation=None) | options)
        model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
        return model

    @property
    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Eight images and their labels."""
        return self.once("data", tiny.data)


class _HangError(BaseException):
    pass


@contextlib.contextmanager
def _limited():
    def stop(*_):
        raise _HangError

    before = signal.signal(signal.SIGALRM, stop)
    # the last resort for what hangs outside of Python, where no signal reaches it
    faulthandler.dump_traceback_later(6 * SECONDS, exit=True, file=sys.__stderr__)
    signal.setitimer(signal.ITIMER_REAL, SECONDS, 0.5)  # again: TensorFlow swallows some exceptions
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


def outcome(row: Row, here: Here) -> tuple[str, str]:
    """The class of what a row's call came to, and what it said."""
    printed, folder = io.StringIO(), Path.cwd()
    try:
        with warnings.catch_warnings(record=True) as warned, contextlib.redirect_stderr(printed), _limited():
            warnings.simplefilter("always")
            result = row.call(here)
    except _HangError:
        return "hang", f"no answer within {SECONDS} s"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        if isinstance(error, LossError):
            return "loss", str(error)
        message = printed.getvalue().strip().splitlines()[-1] if _is_argparse(error) else str(error)
        clear = isinstance(error, row.expected) and row.pattern and re.search(row.pattern, message)
        return "clear" if clear else "poor", f"{type(error).__name__}: {message}"
    finally:
        os.chdir(folder)
    if row.pattern:
        return "silent", f"returned {result!r:.200}"
    if said := [str(one.message) for one in warned if is_own(one)]:
        is_expected = row.warns and any(re.search(row.warns, message) for message in said)
        return "warned" if is_expected else "poor", f"warned of: {'; '.join(said)}"
    return "silent" if row.warns else "accepted", f"returned {result!r:.200}"


def is_own(warning: warnings.WarningMessage) -> bool:
    """Whether a warning is for users, as all of this package's are; those of libraries for developers are not."""
    return warning.category is UserWarning


def _is_argparse(error: BaseException) -> bool:
    """Whether argparse ended the program, and said why on stderr."""
    return isinstance(error, SystemExit) and error.code == 2


class BeginsError(Exception):
    """Training would begin: nothing was refused before."""


def would_begin(*_, **__):
    """In the place of what trains."""
    raise BeginsError


def check(row: Row, here: Here, record_property) -> None:
    """Fails where a row's outcome is not what it must be, and keeps the outcome for the count."""
    judge(row, *outcome(row, here), record_property)


def judge(row: Row, found: str, said: str, record_property) -> None:
    """Fails where the class that was found is not what it must be, and keeps it for the count."""
    record_property(PROPERTY, found)
    wanted = "clear" if row.pattern else "warned" if row.warns else "accepted"
    if found != wanted:
        pytest.fail(f"{row.name}: {found}, not {wanted}: {said}\n  pattern: {row.pattern}", pytrace=False)


def each(rows: Iterable[Row]):
    """`pytest.mark.parametrize` over rows, each by its name."""
    rows = list(rows)
    names = [row.name for row in rows]
    assert len(set(names)) == len(names), f"rows twice: {sorted({name for name in names if names.count(name) > 1})}"
    marks = [[pytest.mark.slow] if row.slow else [] for row in rows]
    parameters = [pytest.param(row, id=row.name, marks=mark) for row, mark in zip(rows, marks, strict=True)]
    return pytest.mark.parametrize("row", parameters)


# -- wrong kinds, by what an argument should be ----------------------------------------------------------------------------

Call = Callable[[Here, Any], Any]  # with the value of the argument that is tried


def integers(of: str, name: str, call: Call, good: int, below: int | None = None, none: bool = False) -> list[Row]:
    """Rows of an argument that is an integer; `below` is one below its least, `none` says that None is allowed."""
    bad = [1.5, "2", NAN, True, [good], *([] if below is None else [below]), *([] if none else [None])]
    return [*_rows(of, name, call, bad, f"`{name}` must be an integer"), *_good(of, name, call, [np.int64(good)])]


def numbers(
    of: str, name: str, call: Call, good: float | None, bad: Iterable = (), none: bool = False, also: str = ""
) -> list[Row]:
    """Rows of an argument that is a number; `bad` are numbers out of its range, `also` another name in the message."""
    values = [NAN, INF, "0.5", [0.5], *bad, *([] if none else [None])]
    pattern = f"`{also or name}` must be a.*(number|integer)"
    return [*_rows(of, name, call, values, pattern), *_good(of, name, call, [] if good is None else [np.float32(good)])]


def booleans(of: str, name: str, call: Call, pattern: str = "") -> list[Row]:
    """Rows of an argument that is True or False."""
    return _rows(of, name, call, ["yes", 1, None, NAN], pattern or f"`{name}` must be True or False")


def choices(of: str, name: str, call: Call, none: bool = False) -> list[Row]:
    """Rows of an argument that is one of several names."""
    return _rows(of, name, call, ["nonsense", 3, [], *([] if none else [None])], f"`{name}` must be one of")


def anything_else(of: str, name: str, call: Call, bad: Iterable, pattern: str) -> list[Row]:
    """Rows of an argument with values of one's own."""
    return _rows(of, name, call, bad, pattern)


def first_quickly(rows: list[Row]) -> list[Row]:
    """The rows of an argument, of which all but the first are left to `make slow`: they take the same way, and as long."""
    return [rows[0], *[dataclasses.replace(row, slow=True) for row in rows[1:]]]


def _rows(of: str, name: str, call: Call, values: Iterable, pattern: str) -> list[Row]:
    return [Row(f"{of}({name}={_short(value)})", _calling(call, value), pattern) for value in values]


def _good(of: str, name: str, call: Call, values: Iterable) -> list[Row]:
    return [Row(f"{of}({name}={type(value).__name__}({value}))", _calling(call, value)) for value in values]


def _calling(call: Call, value) -> Callable[[Here], Any]:
    return lambda here: call(here, value)


def _short(value) -> str:
    return f"{value!r}".replace("\n", " ")[:40]
