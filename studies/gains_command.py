"""The command line of a recipe that holds methods beside each other over seeds: measure, show, keep, document."""

import argparse
import dataclasses
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import gains
import pages
from gains import Figures, Row

from mixmo_keras.common import arguments as checks
from mixmo_keras.common import files
from mixmo_keras.experiments.recipe import Recipe

Measured = dict[str, dict[str, Figures]]  # figures by row and seed
_OF_DOCS = ("setting", "noise", "ours", "docs")  # what `--docs` has a use for


def parser(
    description: str, settings: Collection[str], rows: Collection[str], noise: float, folder: str
) -> argparse.ArgumentParser:
    """The options that all such recipes have.

    Args:
        description: The recipe's docstring.
        settings: Names of data and training, one of which is chosen.
        rows: Names of the methods.
        noise: The default rate of wrong labels.
        folder: The default folder of the runs.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setting", choices=list(settings))
    parser.add_argument("--noise", type=float, default=noise, help=f"rate of wrong labels (default: {noise:g})")
    parser.add_argument("--rows", nargs="+", choices=list(rows), default=list(rows), metavar="METHOD")
    parser.add_argument("--ours", choices=list(rows), default="Cut-MixMo", help="the row that others are held against")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--corrupted", action="store_true", help="evaluate on corrupted test images too")
    parser.add_argument("--only-table", action="store_true", help="run nothing")
    parser.add_argument(
        "--docs", action="store_true", help="run and read nothing: tables from studies/figures/ into docs/"
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep the figures in studies/figures/, beside those of other rows and seeds"
    )
    parser.add_argument("--data-dir")
    parser.add_argument("--output-dir", default=folder)
    return parser


def parse(parser: argparse.ArgumentParser, arguments: list[str] | None) -> argparse.Namespace:
    """The options; ends with an error where `--docs` stands beside one that decides what is measured, and for wrong ones."""
    options = parser.parse_args(arguments)
    with checks.told_by(parser):
        checks.number("noise", options.noise, least=0, most=1)
        for seed in options.seeds:
            checks.integer("seeds", seed, least=0)
        for name in ("seeds", "rows"):
            checks.different(name, getattr(options, name))
    if options.only_table and options.corrupted:
        parser.error("--only-table runs nothing, and shows what was evaluated with --corrupted anyway: leave one out")
    for option, value in vars(options).items():
        if options.docs and option not in _OF_DOCS and value != parser.get_default(option):
            parser.error(f"--docs shows what was kept: it has no use for --{option.replace('_', '-')}")
    return options


def run(
    options: argparse.Namespace,
    kept: Path,
    rows: Collection[str],
    measure: Callable[[argparse.Namespace], Measured],
    show: Callable[[Measured, str], dict[str, str]],
    document: Callable[[Measured, dict[str, str]], None],
) -> Measured:
    """Measures, or reads what was kept, and prints tables; returns the figures.

    Args:
        options: Of `parse`.
        kept: The file in which figures are kept.
        rows: Names of the methods, in the order of tables.
        measure: Makes and evaluates the runs that are missing.
        show: Tables by the name of their part, of the figures and of the row that others are held against.
        document: Puts them into the documentation.

    Raises:
        SystemExit: what can't be read, run or written.
    """
    try:
        measured = read(kept) if options.docs else measure(options)
        shown = show(measured, options.ours)
        if options.docs:
            document(measured, shown)
        print("\n" + "\n\n".join(shown.values()))
        if options.keep:
            keep(kept, measured, rows)
    except (ValueError, OSError, FloatingPointError) as error:
        raise SystemExit(f"error: {error}") from error
    return measured


def compare(
    name: str,
    description: str,
    settings: Mapping[str, Recipe],
    rows: Mapping[str, Row],
    arguments: list[str] | None,
    ours: str,
    folder: str,
) -> Measured:
    """A whole recipe whose rows train from nothing: runs and evaluates what is missing, prints tables, returns figures.

    Args:
        name: Of the recipe: what it keeps and documents is called `NAME-SETTING-NOISE`.
        description: The recipe's docstring.
        settings: What every row trains on and how, by name.
        rows: The methods by name.
        arguments: Of the command line. Defaults to this process's.
        ours: The row that others are held against, unless told otherwise.
        folder: The default folder of the runs.
    """
    of_command = parser(description, settings, rows, noise=0.0, folder=folder)
    of_command.set_defaults(ours=ours)
    options = parse(of_command, arguments)
    kept = f"{name}-{options.setting}-{options.noise:g}"
    return run(
        options,
        pages.FIGURES / f"{kept}.json",
        rows,
        lambda options: measure(options, settings, rows),
        tables_by_part,
        lambda measured, shown: write_parts(kept, shown),
    )


def tables_by_part(measured: Measured, ours: str) -> dict[str, str]:
    """The tables by part: all figures, differences in accuracy, and what is known of corrupted images."""
    return {
        "table": gains.table(measured),
        "differences": gains.differences(measured, ours),
        **corrupted(measured, ours),
    }


def corrupted(measured: Measured, ours: str) -> dict[str, str]:
    """The tables of what was evaluated on corrupted images too, by part: figures, and differences in accuracy there."""
    titles = [title for title, *_ in gains.CORRUPTED]
    known = {
        name: of_row
        for name, by_seed in measured.items()
        if (of_row := {seed: one for seed, one in by_seed.items() if one.get(titles[0]) is not None})
    }
    if ours not in known:
        return {}
    usual = [title.replace(", corrupted", "") for title in titles]
    return {
        "corrupted": gains.table(known, [*usual, *titles]),
        "corrupted-differences": gains.differences(known, ours, "corrupted"),
    }


def read(kept: Path) -> Measured:
    """The figures that were kept in a file.

    Raises:
        ValueError: nothing was kept there, or the file is damaged.
    """
    if not kept.exists():
        raise ValueError(f"nothing was kept in {kept}: measure first, and pass --keep.")
    measured = json.loads(kept.read_text())
    if not isinstance(measured, dict) or not all(isinstance(by_seed, dict) for by_seed in measured.values()):
        raise ValueError(f"{kept} holds no figures by row and seed.")
    return measured


def keep(kept: Path, measured: Measured, rows: Collection[str]) -> None:
    """Writes figures into a file, in the place of those of the same rows and seeds; others that it has stay.

    Args:
        kept: The file.
        measured: Figures by row and seed.
        rows: All rows in the order of the table.

    Raises:
        ValueError: there are none, or the file is damaged.
    """
    if not measured:
        raise ValueError(f"--keep has nothing to keep in {kept}: no run of these rows and seeds is finished.")
    before = read(kept) if kept.exists() else {}
    names = [row for row in dict.fromkeys((*rows, *before, *measured)) if row in {*before, *measured}]
    files.write_json(kept, {row: _together(before.get(row, {}), measured.get(row, {})) for row in names})


def _together(before: dict[str, Figures], found: dict[str, Figures]) -> dict[str, Figures]:
    """Figures of a row by seed: what was found, and of the same runs what was kept and is not measured now."""
    merged = dict(before)
    for seed, figures in found.items():
        old = before.get(seed, {})
        same_run = old.get("training_seconds") == figures["training_seconds"]
        kept = {title: value for title, value in old.items() if same_run and figures.get(title) is None}
        merged[seed] = figures | kept
    return dict(sorted(merged.items(), key=_seed))


def _seed(of_seed: tuple[str, Figures]) -> int:
    return int(of_seed[0])


def measure(options: argparse.Namespace, settings: Mapping[str, Recipe], rows: Mapping[str, Row]) -> Measured:
    """The figures of rows that train from nothing, by row and seed, of runs that are there or made.

    Args:
        options: Of `parse`.
        settings: What every row trains on and how, by name.
        rows: The methods by name.
    """
    base = settings[options.setting]
    base = dataclasses.replace(
        base,
        label_noise=options.noise,
        data_dir=options.data_dir,
        output_dir=f"{options.output_dir}/{options.setting}-{base.backbone}-noise{options.noise:g}",
        export_dir=f"{options.output_dir}/saved_models",
    )
    measured: Measured = {name: {} for name in options.rows}
    for seed in options.seeds:
        for name in options.rows:
            figures = gains.measure(rows, name, base, seed, options.only_table, options.corrupted)
            if figures is not None:
                measured[name][str(seed)] = figures
    return {name: by_seed for name, by_seed in measured.items() if by_seed}


def write_parts(name: str, texts: dict[str, str]) -> None:
    """Puts texts into docs/results.md, each in the place that is marked by `name` and its part.

    Raises:
        ValueError: the page has no such place.
    """
    pages.write(pages.DOCS / "results.md", {f"{name}-{part}": text for part, text in texts.items()})
