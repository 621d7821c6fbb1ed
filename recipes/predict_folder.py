"""Asks an exported model what is on any number of images, and writes a table: a row for each image.

    python recipes/predict_folder.py photos --saved-model saved_models/cifar10 --output answers.csv
    python recipes/predict_folder.py photos 'more/*.jpg' --url http://localhost:8501/v1/models/cifar10 --output answers.csv
    python recipes/predict_folder.py --list files.txt --saved-model saved_models/cifar10 --output answers.parquet

Folders are searched with all folders in them, patterns in quotes stand for the files that they fit, and --list names a text
file with a path in each line. Images are read and sent some at a time, so that memory doesn't grow with their number. After
an interruption, the same command goes on: a file that is in the table is not asked again.

The table's columns: path, what the model says, and error, for a file that couldn't be read. Of classes: class, confidence,
entropy, mutual_information, and the probability of each class by its number. Of labels: those that hold, and the probability
of each. Of numbers: each with its deviation and the ends of its interval. A name that ends in .parquet needs pyarrow.
"""

import argparse
import csv
import glob
import io
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import answer_kinds
import predict

ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")
MOST_BYTES = 2**26  # of encoded images that are read at a time
SECONDS = 5  # between two lines of progress
ALIKE = 0.01  # by which a number of one model may differ from one day to the next


def find(names: Iterable[str], list_file: Path | None = None) -> list[str]:
    """The paths of images, each once: of files as they are named, of what patterns fit, and of all images in folders.

    Args:
        names: Files, folders and patterns.
        list_file: A text file with one of these in each line. Defaults to none.

    Raises:
        FileNotFoundError: a name that stands for nothing.
    """
    listed = [] if list_file is None else list_file.read_text(encoding="utf-8").splitlines()
    paths: dict[str, None] = {}
    for name in (*names, *filter(None, map(str.strip, listed))):
        found = [name] if os.path.exists(name) else sorted(glob.glob(name, recursive=True))
        if not found:
            raise FileNotFoundError(f"There is no file, folder or pattern {name}.")
        for path in found:
            paths |= dict.fromkeys(_images_below(path) if os.path.isdir(path) else [path])
    if not paths:
        raise FileNotFoundError(f"There are no images in {', '.join(names)}: files that end in {', '.join(ENDINGS)}.")
    return list(paths)


def _images_below(folder: str) -> Iterator[str]:
    """The images in a folder and the folders in it, in the order of their names; not hidden ones."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.lower().endswith(ENDINGS) and not name.startswith("."):
                yield os.path.join(place, name)


def read(path: str) -> bytes:
    """A file's content; of a TIFF file, which models can't decode, that of a PNG file of its first image."""
    content = Path(path).read_bytes()
    if not path.lower().endswith((".tif", ".tiff")):
        return content
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ValueError("TIFF files need Pillow: pip install pillow") from error
    with Image.open(io.BytesIO(content)) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
            upright = upright.convert("RGB")
        file = io.BytesIO()
        upright.save(file, "PNG", compress_level=1, exif=b"")
    return file.getvalue()


# -- asking ------------------------------------------------------------------------------------------------------------


def answers(
    paths: Sequence[str], ask: Callable[[Sequence[bytes]], list[dict]], batch_size: int
) -> Iterator[list[tuple[str, dict | str]]]:
    """The answer to each image, or why there is none: (path, answer or reason), some at a time.

    Raises:
        ConnectionError: a server doesn't answer.
        ValueError: the model answers to no image of the first ones.
    """
    waiting: list[tuple[str, bytes]] = []
    answered = False
    for number, path in enumerate(paths, start=1):
        unread: list[tuple[str, dict | str]] = []
        try:
            waiting.append((path, read(path)))
        except (OSError, ValueError) as error:
            unread = [(path, getattr(error, "strerror", None) or str(error))]
        is_full = len(waiting) >= batch_size or sum(len(content) for _, content in waiting) >= MOST_BYTES
        if not is_full and number < len(paths):
            if unread:
                yield unread
            continue
        rows = _ask(waiting, ask)
        failed = [answer for _, answer in rows if isinstance(answer, str)]
        if rows and len(failed) == len(rows) and not answered:
            raise ValueError(f"The model answers to none of the first {len(rows)} images, to {rows[0][0]}: {failed[0]}")
        answered = answered or len(failed) < len(rows)
        waiting = []
        yield rows + unread


def _ask(waiting: Sequence[tuple[str, bytes]], ask: Callable) -> list[tuple[str, dict | str]]:
    """The answers to some images; where the model refuses them together, each is asked about alone."""
    if not waiting:
        return []
    try:
        found = ask([content for _, content in waiting])
        return [(path, answer) for (path, _), answer in zip(waiting, found, strict=True)]
    except ValueError as error:
        if len(waiting) == 1:
            return [(waiting[0][0], str(error))]
    return [row for one in waiting for row in _ask([one], ask)]


# -- the table ---------------------------------------------------------------------------------------------------------


def columns(answer: dict) -> dict[str, str]:
    """The cells of an answer by column, between those of the path and of an error."""
    return answer_kinds.kind_of(answer).cells(answer)


def rows_of(file: Path) -> tuple[list[str], list[list[str]]]:
    """The header and the whole rows of a table; a row that was being written when its program was killed is left out."""
    if not file.is_file():
        return [], []
    content = file.read_text(encoding="utf-8", errors="surrogateescape")
    rows = list(csv.reader(io.StringIO(content[: content.rfind("\n") + 1])))
    if not rows:
        return [], []
    header, *others = rows
    if header[0] != "path" or header[-1] != "error":
        raise ValueError(
            f"{file} is no table of answers, it begins with {','.join(header)[:60]!r}: pass another --output."
        )
    return header, [row for row in others if len(row) == len(header)]


def check_same_model(file: Path, header: list[str], rows: list[list[str]], ask: Callable) -> None:
    """Raises `ValueError` where the answers in a table are another model's: asks about the first of its images again."""
    answered = next((row for row in rows if not row[-1] and os.path.isfile(row[0])), None)
    if answered is None:
        return
    path, *before, _ = answered
    (answer,) = ask([read(path)])
    now = columns(answer)
    first = {name: (then, now[name]) for name, then in zip(header[1:3], before, strict=False) if name in now}
    if list(now) != header[1:-1] or not all(_are_alike(*values) for values in first.values()):
        changed = ", ".join(f"{name} {then} then, {value} now" for name, (then, value) in first.items())
        raise ValueError(
            f"{file} has the answers of another model, or {path} has changed: {changed or header[1]}. Pass another --output."
        )


def _are_alike(then: str, now: str) -> bool:
    try:
        return math.isclose(float(then), float(now), rel_tol=ALIKE, abs_tol=ALIKE)
    except ValueError:  # a text
        return then == now


def write(paths: Sequence[str], ask: Callable, file: Path, batch_size: int) -> dict[str, int]:
    """Writes the rows that a CSV file lacks, some at a time; returns how many images it has then, and how many failed.

    Args:
        paths: Of the images.
        ask: A function of encoded images to their predictions, as `predict.source` gives.
        file: The table.
        batch_size: Number of images that are read and asked about at a time, at most.
    """
    header, rows = rows_of(file)
    done = {row[0] for row in rows}
    left = [path for path in paths if path not in done]
    if rows:
        if left:
            check_same_model(file, header, rows, ask)
        _write_rows(file, "w", [header, *rows])  # without one that was cut off
    counts = {"images": len(rows), "failed": sum(bool(row[-1]) for row in rows)}
    waiting: list[tuple[str, dict | str]] = []  # until an answer says which columns there are
    report = _Progress(len(left))
    for some in answers(left, ask, batch_size):
        waiting += some
        report(len(some))
        first = next((one for _, one in waiting if isinstance(one, dict)), None)
        if not header and first is not None:
            header = ["path", *columns(first), "error"]
            _write_rows(file, "w", [header])
        if header:
            _write_rows(file, "a", [_row(path, answer, header) for path, answer in waiting])
            counts["images"] += len(waiting)
            counts["failed"] += sum(isinstance(answer, str) for _, answer in waiting)
            waiting = []
    if waiting:
        raise ValueError(f"None of the {len(waiting)} files can be read, such as {waiting[0][0]}: {waiting[0][1]}")
    return counts


def _row(path: str, answer: dict | str, header: Sequence[str]) -> list[str]:
    if isinstance(answer, str):
        return [path, *[""] * (len(header) - 2), answer]
    cells = columns(answer)
    return [path, *(cells.get(name, "") for name in header[1:-1]), ""]


class _Progress:
    """Says now and then how many images are done, and how long the others will take."""

    def __init__(self, num_images: int):
        self.num_images, self.done = num_images, 0
        self.began = self.reported = time.monotonic()

    def __call__(self, num_done: int) -> None:
        self.done += num_done
        now = time.monotonic()
        if now - self.reported < SECONDS:
            return
        self.reported = now
        rate = self.done / (now - self.began)
        left = (self.num_images - self.done) / rate
        print(f"{self.done:,} of {self.num_images:,} images, {rate:.0f} a second, {left:.0f} s left", file=sys.stderr)


def _write_rows(file: Path, mode: str, rows: Iterable[Sequence[str]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, mode, newline="", encoding="utf-8", errors="surrogateescape") as text:
        csv.writer(text, lineterminator="\n").writerows(rows)


def parquet_modules() -> tuple:
    """`pyarrow`, `pyarrow.csv` and `pyarrow.parquet`.

    Raises:
        ValueError: it isn't installed.
    """
    try:
        import pyarrow  # type: ignore[import-untyped]
        import pyarrow.csv  # type: ignore[import-untyped]
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ImportError as error:
        raise ValueError("A Parquet file needs pyarrow: pip install pyarrow, or write a .csv file") from error
    return pyarrow, pyarrow.csv, pyarrow.parquet


def to_parquet(table: Path, file: Path) -> None:
    """Writes a table as a Parquet file, some rows at a time."""
    pyarrow, of_csv, parquet = parquet_modules()
    texts = dict.fromkeys(("path", "class", "labels", "error"), pyarrow.string())
    with open(table, newline="", encoding="utf-8") as text:
        header = next(csv.reader(text))
    types = {name: texts.get(name, pyarrow.float64()) for name in header}
    reader = of_csv.open_csv(
        table,
        parse_options=of_csv.ParseOptions(newlines_in_values=True),
        convert_options=of_csv.ConvertOptions(column_types=types),
    )
    part = file.with_name(f".part-{file.name}")
    with parquet.ParquetWriter(part, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
    os.replace(part, file)


def main(arguments: list[str] | None = None) -> dict[str, int]:
    """Writes the table, and says how many images are in it."""
    predict.print_any_character()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", help="files, folders, and patterns in quotes")
    parser.add_argument("--list", type=Path, metavar="FILE", help="text file with one of these in each line")
    parser.add_argument("--output", type=Path, required=True, help="the table, .csv or .parquet")
    parser.add_argument("--batch-size", type=int, default=32, help="images at a time (default: 32)")
    predict.add_source(parser)
    options = parser.parse_args(arguments)
    predict.check_source(parser, options)
    if not options.images and options.list is None:
        parser.error("name images, or a --list of them")
    if options.batch_size < 1:
        parser.error("--batch-size takes a number of at least 1")
    if options.output.suffix not in (".csv", ".parquet"):
        parser.error("--output takes a name that ends in .csv or .parquet")
    is_parquet = options.output.suffix == ".parquet"
    try:
        if is_parquet:
            parquet_modules()  # before all is asked, not after
        paths = find(options.images, options.list)
        table = options.output.with_name(f"{options.output.name}.csv") if is_parquet else options.output
        counts = write(paths, predict.source(options, len(paths)), table, options.batch_size)
        if is_parquet:
            to_parquet(table, options.output)
            table.unlink()
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    failed = f", {counts['failed']:,} of them without an answer: see the column error" if counts["failed"] else ""
    print(f"{options.output}: {counts['images']:,} images{failed}")
    return counts


if __name__ == "__main__":
    main()
