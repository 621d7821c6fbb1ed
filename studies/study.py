"""A study as a command: it runs what is missing, prints its tables, and keeps its figures for `rebuild.py`."""

import argparse
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import gains
import pages
import rows
from rows import Figures, Measured, Row

from mixmo_keras.common import files
from mixmo_keras.experiments import Recipe

PARTS = {
    "last": "differences",
    "early": "stopped-early",
    "several a pass": "several-a-pass",
}  # of a page, by `gains.HELD`


@dataclasses.dataclass(frozen=True)
class Study:
    """Methods beside each other on the same images and labels, over seeds.

    Attributes:
        name: What it keeps and documents is called `NAME-SETTING-NOISE`.
        settings: The recipes that its rows change, by name.
        rows: The methods by name.
        folder: The folder of its runs.
        ours: The row that others are held against.
        noise: The rate of wrong labels.
        held: The tables of differences, keys of `gains.HELD`.
    """

    name: str
    settings: Mapping[str, Recipe]
    rows: Mapping[str, Row]
    folder: str
    ours: str = "Cut-MixMo"
    noise: float = 0.0
    held: tuple[str, ...] = ("last",)

    def main(self, description: str | None, arguments: list[str] | None = None) -> Measured:
        """Runs and evaluates what is missing, prints the tables, and returns figures by row and seed."""
        parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("setting", choices=self.settings)
        parser.add_argument("--noise", type=float, default=self.noise, help="rate of wrong labels")
        parser.add_argument("--rows", nargs="+", choices=self.rows, default=list(self.rows), metavar="METHOD")
        parser.add_argument("--ours", choices=self.rows, default=self.ours, help="the row that others are held against")
        parser.add_argument("--seeds", type=int, nargs="+", default=[0])
        parser.add_argument("--corrupted", action="store_true", help="evaluate corrupted test images too")
        parser.add_argument("--only-table", action="store_true", help="run nothing")
        parser.add_argument(
            "--keep", action="store_true", help="keep the figures, beside those of other rows and seeds"
        )
        parser.add_argument("--data-dir")
        parser.add_argument("--output-dir", default=self.folder)
        options = parser.parse_args(arguments)
        measured = self._measure(options)
        print("\n" + "\n\n".join(self.texts(measured, options.ours).values()))
        if options.keep:
            keep(pages.kept_at(f"{self.name}-{options.setting}-{options.noise:g}"), measured, list(self.rows))
        return measured

    def _measure(self, options: argparse.Namespace) -> Measured:
        base = self.settings[options.setting]
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
                figures = rows.measure(self.rows, name, base, seed, options.only_table, options.corrupted)
                if figures is not None:
                    measured[name][str(seed)] = figures
        return {name: by_seed for name, by_seed in measured.items() if by_seed}

    def texts(self, measured: Measured, ours: str) -> dict[str, str]:
        """The tables by part of a page: all figures; differences; and of corrupted images, where they were evaluated."""
        texts = {"table": gains.table(measured)}
        texts |= {PARTS[held]: gains.differences(measured, ours, held) for held in self.held}
        titles = [title for title, *_ in rows.CORRUPTED]
        known = {
            name: of_row
            for name, by_seed in measured.items()
            if (of_row := {seed: one for seed, one in by_seed.items() if one.get(titles[0]) is not None})
        }
        if ours in known:
            usual = [title.replace(", corrupted", "") for title in titles]
            texts["corrupted"] = gains.table(known, [*usual, *titles])
            texts["corrupted-differences"] = gains.differences(known, ours, "corrupted")
        return texts

    def document(self, name: str, ours: str) -> None:
        """Writes the tables of figures that were kept into docs/results.md."""
        texts = self.texts(pages.read(name), ours)
        pages.write("results.md", {f"{name}-{part}": text for part, text in texts.items()})


def keep(path: Path, measured: Measured, rows: list[str]) -> None:
    """Writes figures into a file, in the place of those of the same rows and seeds; others that it holds stay.

    Raises:
        ValueError: there are no figures.
    """
    if not measured:
        raise ValueError(f"--keep has nothing to keep in {path}: no run of these rows and seeds is finished.")
    before: Measured = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    names = [row for row in dict.fromkeys((*rows, *before, *measured)) if row in {*before, *measured}]
    files.write_json(path, {row: _together(before.get(row, {}), measured.get(row, {})) for row in names})


def _together(before: dict[str, Figures], now: dict[str, Figures]) -> dict[str, Figures]:
    """The figures of a row by seed. What an earlier evaluation of the same run knew, and this one doesn't, stays."""
    merged = dict(before)
    for seed, figures in now.items():
        old = before.get(seed, {})
        same_run = old.get("training_seconds") == figures["training_seconds"]
        merged[seed] = figures | {title: old[title] for title in old if same_run and figures.get(title) is None}
    return dict(sorted(merged.items(), key=lambda one: int(one[0])))
