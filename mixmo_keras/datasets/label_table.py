"""A CSV file of images and what they show, in place of class folders: classes, shares of classes, or other numbers.

```
path,class,group,split                 path,functional,defective
cells/0001.png,functional,p1,train     cells/0001.png,1,0
cells/0002.png,defective,p2,test       cells/0002.png,0.333,0.667
```

`path` is below the file's own folder. Either `class` names the class of each image; or every further column holds a number
for each image, such as the shares of a class, or targets. `group` and `split` may be left out.
"""

import csv
import math
import os
from collections import Counter
from pathlib import Path

import numpy as np

from mixmo_keras.datasets import listing
from mixmo_keras.datasets.listing import NAMED, SPLIT_FOLDERS, Listing

FILE = "labels.csv"  # in a folder, it takes the place of class folders
ENDING = ".csv"
PATH, CLASS, GROUP, SPLIT = "path", "class", "group", "split"
_RESERVED = (PATH, CLASS, GROUP, SPLIT)

Columns = dict[str, list[str]]  # the cells of each column by its title, which is in lower case if it is one of these


def is_table(path: str | os.PathLike) -> bool:
    """Whether a path is that of a file that ends in `.csv`."""
    return os.fspath(path).lower().endswith(ENDING) and os.path.isfile(path)


def of_path(path: Path) -> Path | None:
    """The CSV file that a path stands for: itself, or `labels.csv` in a folder; `None` where there is none."""
    if is_table(path):
        return path
    return path / FILE if (path / FILE).is_file() else None


def of_file(file: Path) -> Listing:
    """The images that a CSV file names, their labels and their splits.

    A column `split` of `train`, `val` and `test` says which images are which; what it has no images for is held out of the
    training images. Without it, a fifth are the test split and a tenth validation (`listing.split_of`). Images with the same
    text in the column `group` are never in two splits.

    Raises:
        ValueError: no such file; it says what was expected, and names the line.
    """
    listing.check_name(str(file))
    (columns, lines), folder = _read(file), file.parent
    names = _names(file, columns, lines)
    class_names, labels, values, notes = _labels(file, columns, lines)
    splits, rule, of_splits = _splits(file, columns, lines, names, labels)
    order = sorted(range(len(names)), key=lambda row: (labels[row] if values is None else 0, names[row]))
    return Listing(
        folder,
        class_names,
        tuple(names[row] for row in order),
        tuple(labels[row] for row in order),
        tuple(splits[row] for row in order),
        rule,
        Counter(),
        (*notes, *of_splits, *_without_row(folder, names)),
        None if values is None else values[order],
    )


def _read(file: Path) -> tuple[Columns, list[int]]:
    """The columns of a file in UTF-8, and the number of each row's line; without empty lines and spaces around cells."""
    lines: list[int] = []
    cells: list[tuple[str, ...]] = []
    with open(file, newline="", encoding="utf-8-sig") as text:
        reader = csv.reader(text, strict=True)
        try:
            for row in reader:
                if any(cell.strip() for cell in row):
                    lines.append(reader.line_num)
                    cells.append(tuple(cell.strip() for cell in row))
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{file} is no CSV file in UTF-8, in line {reader.line_num + 1} ({error}).") from error
    header = [name.lower() if name.lower() in _RESERVED else name for name in cells[0]] if cells else []
    if PATH not in header:
        raise ValueError(
            f"{file} must have a column `{PATH}` of images below its folder, and commas between columns; its first line "
            f"is {','.join(header)[:100]!r}. If it isn't about these images, give it another name."
        )
    if len(set(header)) < len(header) or "" in header:
        raise ValueError(f"{file} must have columns of different names, got {', '.join(header)}.")
    for line, of_row in zip(lines[1:], cells[1:], strict=True):
        if len(of_row) != len(header):
            raise ValueError(f"{file} has {len(header)} columns, and line {line} has {len(of_row)} cells.")
    return {name: [row[place] for row in cells[1:]] for place, name in enumerate(header)}, lines[1:]


def _names(file: Path, columns: Columns, lines: list[int]) -> list[str]:
    """The images' paths below the folder, with `/` between the parts; each is there once, and is an image's."""
    names: list[str] = []
    seen: dict[str, int] = {}
    for path, line in zip(columns[PATH], lines, strict=True):
        name = os.path.normpath(path).replace(os.sep, "/")
        if not path or os.path.isabs(path) or name.split("/")[0] == "..":
            raise ValueError(f"{file}: a path must be below {file.parent}, got {path!r} in line {line}.")
        if name in seen:
            raise ValueError(f"{file} names {name} twice, in lines {seen[name]} and {line}: keep one of them.")
        if not listing.is_read(os.path.join(file.parent, *name.split("/"))):
            raise ValueError(f"{file}: {name} in line {line} is no image of a kind that is read.")
        seen[name] = line
        names.append(name)
    if not names:
        raise ValueError(f"{file} names no images.")
    return names


def _labels(
    file: Path, columns: Columns, lines: list[int]
) -> tuple[tuple[str, ...], list[int], np.ndarray | None, list[str]]:
    """The names of the classes or targets; the images' classes; numbers (n, K), or `None` of classes; and notes."""
    numbers = [name for name in columns if name not in _RESERVED]
    classes = columns.get(CLASS)
    if classes is not None:
        for name, line in zip(classes, lines, strict=True):
            if not name:
                raise ValueError(f"{file} has no class in line {line}.")
        class_names = sorted(set(classes))
        index = {name: number for number, name in enumerate(class_names)}
        notes = [f"columns that are not used: {', '.join(numbers[:NAMED])}"] if numbers else []
        return tuple(class_names), [index[name] for name in classes], None, notes
    if not numbers:
        raise ValueError(f"{file} must have a column `{CLASS}`, or a column of numbers for each class or target.")
    rows = [[_number(file, line, name, columns[name][row]) for name in numbers] for row, line in enumerate(lines)]
    values = np.array(rows, "float32")
    labels = values.argmax(-1) if listing.are_shares(values) else np.zeros(len(values), int)
    return tuple(numbers), labels.tolist(), values, []


def _number(file: Path, line: int, name: str, cell: str) -> float:
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"{file}: without a column `{CLASS}`, the other columns must hold a number for each image; `{name}` in line "
            f"{line} holds {cell!r}. Remove the column, or name the column of classes `{CLASS}`."
        )
    return number


def _splits(
    file: Path, columns: Columns, lines: list[int], names: list[str], labels: list[int]
) -> tuple[list[str], str, list[str]]:
    """The split of each image, the rule in words, and notes. A group is in one split."""
    groups = columns.get(GROUP)
    # an image without a group is one by itself
    keys = [group or name for group, name in zip(groups or names, names, strict=True)]
    by_hash = [listing.split_of(key) for key in keys]
    rule = listing.RULE if groups is None else "by a hash of each group's name"
    cells = columns.get(SPLIT)
    if cells is None:
        splits, notes = listing.without_empty(keys, labels, by_hash)
        return splits, rule, notes
    splits = []
    for cell, line in zip(cells, lines, strict=True):
        if cell.lower() not in SPLIT_FOLDERS:
            raise ValueError(f"{file}: `{SPLIT}` must be train, val or test, got {cell!r} in line {line}.")
        splits.append(SPLIT_FOLDERS[cell.lower()])
    if "train" not in splits:
        raise ValueError(f"{file}: its column `{SPLIT}` has no `train`.")
    first: dict[str, int] = {}
    for row, key in enumerate(keys):
        if splits[first.setdefault(key, row)] != splits[row]:
            raise ValueError(
                f"{file}: group {key!r} is in two splits, {splits[first[key]]} in line {lines[first[key]]} and "
                f"{splits[row]} in line {lines[row]}. All images of a group must be in one."
            )
    fixed = f"as the column `{SPLIT}` says"
    if not (missing := {"test", "validation"} - set(splits)):
        return splits, fixed, []
    splits = [
        held if split == "train" and held in missing else split for split, held in zip(splits, by_hash, strict=True)
    ]
    splits, notes = listing.without_empty(keys, labels, splits)
    return splits, f"{fixed}; {' and '.join(sorted(missing))} held out of train {rule}", notes


def _without_row(folder: Path, names: list[str]) -> list[str]:
    """A sentence about the images in the folder that no row names."""
    there = {Path(path).relative_to(folder).as_posix() for path in listing.walk(str(folder)) if listing.is_read(path)}
    others = sorted(there - set(names))
    return [f"{len(others):,} images have no row, such as {others[0]}, and are passed over"] if others else []
