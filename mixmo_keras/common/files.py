"""Files that are whole or not there: written beside their place, then renamed into it."""

import contextlib
import csv
import glob
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows, where processes that write at the same time are not kept apart
    fcntl = None  # type: ignore[assignment]

PART = ".part-"  # a half-written file's name begins with it
# of a path whose bytes the system's encoding, such as ASCII under LC_ALL=C, has no characters for
NOT_UTF_8 = (
    f"TensorFlow takes paths in UTF-8 only, and Python reads paths as {sys.getfilesystemencoding()} here. Set PYTHONUTF8=1, "
    "or choose a path of ASCII characters."
)
REPLACED = "replaced"  # what was in a folder's place


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A path beside `path` to write to, which takes its place when the block ends and is removed where the block raises.

    So a kill or a full disk leaves the old file or the new one. The folder is made where it is missing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{PART}{path.name}")
    try:
        yield part
        with open(part, "rb+") as written:
            os.fsync(written.fileno())  # the name must not come to disk before the content
        os.replace(part, path)
    except OSError as error:
        if error.errno is not None and error.filename is None:  # a full disk says nothing of the file
            error.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: str | os.PathLike) -> Iterator[Path]:
    """As `replacing`, of a folder with all that is written into it; what it replaces is removed when that is in its place.

    A kill between the two renames leaves the old one beside, which `put_back` finds.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f"{PART}{path.name}-", dir=path.parent))
    part = beside / path.name
    try:
        part.mkdir()
        yield part
        if os.path.lexists(path):
            os.replace(path, beside / REPLACED)  # a folder that isn't empty can't be renamed over
        os.replace(part, path)
    finally:
        _put_back(path, beside)


def put_back(path: str | os.PathLike) -> None:
    """Undoes what killed `replacing_folder`s of a path left: what was to be replaced takes its place again, the rest goes.

    Nobody else may be writing the folder: see `locked`.
    """
    path = Path(path)
    for beside in path.parent.glob(f"{PART}{glob.escape(path.name)}-*"):
        _put_back(path, beside)


def _put_back(path: Path, beside: Path) -> None:
    """Removes the folder beside a path that is written to; but first what was moved into it, if nothing took its place.

    Raises:
        OSError: it can't be put back; it stays where it is then.
    """
    if os.path.lexists(beside / REPLACED) and not os.path.lexists(path):
        try:
            os.replace(beside / REPLACED, path)
        except OSError as error:
            raise type(error)(
                f"{path} could not be replaced nor put back ({error}): it is in {beside / REPLACED}."
            ) from error
    shutil.rmtree(beside, ignore_errors=True)


@contextlib.contextmanager
def no_empty_folders(path: str | os.PathLike) -> Iterator[None]:
    """Removes what is empty, when the block ends, of a folder and those above it that weren't there before."""
    path = Path(path).absolute()
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        yield
    finally:
        for folder in missing:  # the deepest first
            with contextlib.suppress(OSError):  # it isn't empty, or not there
                folder.rmdir()


@contextlib.contextmanager
def locked(path: str | os.PathLike) -> Iterator[bool]:
    """Whether this process alone writes a file or folder, as long as the block lasts.

    By a lock on an empty file beside it, which the system ends with its process.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock_path = path.with_name(f"{PART}{path.name}.lock")
    with open(lock_path, "w", encoding="utf-8") as lock:
        try:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # the file may have been removed by its last owner, and made anew by another
            ours = lock_path.exists() and os.path.samestat(os.fstat(lock.fileno()), os.stat(lock_path))
        except OSError:
            ours = False
        try:
            yield ours
        finally:
            if ours:
                lock_path.unlink(missing_ok=True)


def check_can_be_written(folder: str | os.PathLike, what_fails: str) -> None:
    """Raises where nothing can be written into a folder, which may not be there yet; leaves nothing behind.

    Args:
        folder: Which will be written into.
        what_fails: How the message begins, such as "Nothing can be exported to saved_models/1".

    Raises:
        OSError: it can't.
        ValueError: TensorFlow, which writes into it too, can't take its name.
    """
    there = Path(folder).absolute()
    try:
        str(there).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{what_fails}: {NOT_UTF_8}") from error
    while not there.exists():
        there = there.parent
    try:
        with tempfile.TemporaryDirectory(prefix=PART, dir=there):
            pass
    except OSError as error:
        raise type(error)(f"{what_fails}: {there} can't be written into ({error.strerror}).") from error


def write_text(path: str | os.PathLike, content: str) -> Path:
    """Writes a text in UTF-8, whole or not at all. Names of files that are not UTF-8 are written as their bytes."""
    with replacing(path) as part:
        part.write_text(content, encoding="utf-8", errors="surrogateescape")
    return Path(path)


def write_csv(path: str | os.PathLike, rows: Iterable[Iterable[Any]]) -> Path:
    """Writes rows of cells, the titles first, as `write_text` does."""
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows(rows)
    return write_text(path, lines.getvalue())


def write_json(path: str | os.PathLike, content: Any) -> Path:
    """Writes JSON with two spaces of indentation, whole or not at all.

    Raises:
        ValueError: the content holds NaN or infinity, which JSON has no word for.
    """
    return write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json_object(
    path: str | os.PathLike, advice: str, needed: Mapping[str, Callable[[Any], bool]] | None = None
) -> dict[str, Any]:
    """A JSON file that holds an object.

    Args:
        path: Of the file.
        advice: What to do where it holds something else.
        needed: What must be in it: by place, such as "test/ensemble", a function that says whether a value is of the kind
            that belongs there. Defaults to anything.

    Raises:
        ValueError: it holds something else.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:  # nested too deeply
        raise ValueError(f"{path} is damaged, no JSON ({error}): {advice}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged, it holds {content!r:.40} and no object: {advice}.")
    for place, is_kind in (needed or {}).items():
        value: Any = content
        for name in place.split("/"):
            value = value.get(name) if isinstance(value, dict) else None
        if not is_kind(value):
            raise ValueError(f"{path} is damaged, at {place} it holds {value!r:.40}: {advice}.")
    return content


def _refuse(constant: str) -> None:
    raise ValueError(f"it holds {constant}")


# -- kinds of what is read ---------------------------------------------------------------------------------------------


def is_pattern(path: str | os.PathLike) -> bool:
    """Whether TensorFlow takes a path for a pattern, by which it then finds none of a SavedModel's files."""
    return bool(set(os.fspath(path).replace(os.sep, "/")) & set("*?[\\"))


@contextlib.contextmanager
def pattern_free(path: str | os.PathLike) -> Iterator[str]:
    """A path by which TensorFlow reads the SavedModel in a folder: that of the folder, or of a link to it."""
    if not is_pattern(path):
        yield os.fspath(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "model"
        link.symlink_to(Path(path).absolute(), target_is_directory=True)
        yield str(link)


def digest(path: str | os.PathLike) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_share(value: Any) -> bool:
    """Whether a value of JSON is a number within [0, 1], as accuracies are."""
    return is_number(value) and 0 <= value <= 1


def is_number_or_none(value: Any) -> bool:
    """Whether a value of JSON is a number, or null for what can't be said."""
    return value is None or is_number(value)


def are_counts_or_none(value: Any) -> bool:
    """Whether a value of JSON is a list of integers, or isn't there."""
    return value is None or (isinstance(value, list) and all(type(one) is int for one in value))


def is_text(value: Any) -> bool:
    """Whether a value of JSON is a text."""
    return isinstance(value, str)
