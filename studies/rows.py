"""The runs of a study: methods on the same images and labels, each for several seeds, and what is read of them.

Figures come from the files of finished runs and their evaluations, of the last epoch but where a column says otherwise.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from mixmo_keras.experiments import Recipe
from mixmo_keras.experiments.evaluating import evaluate_runs
from mixmo_keras.experiments.results import finished
from mixmo_keras.experiments.running import run

LATER_NETWORKS = 100  # added to the seed of each further network of a deep ensemble

# title, where it is in the evaluations of a row, number format, and by how much it is multiplied
COLUMNS = (
    ("accuracy %", ("last", "uncalibrated", "accuracy"), "{:.1f}", 100),
    ("stopped early %", ("early", "uncalibrated", "accuracy"), "{:.1f}", 100),
    ("each member %", ("last", "members_mean", "accuracy"), "{:.1f}", 100),
    ("M images a pass %", ("last", "multiplexed", "network", "accuracy"), "{:.1f}", 100),
    ("NLL", ("last", "uncalibrated", "nll"), "{:.2f}", 1),
    ("NLL, calibrated", ("last", "ensemble", "nll"), "{:.2f}", 1),
    ("NLL, early, calibrated", ("early", "ensemble", "nll"), "{:.2f}", 1),
    ("ECE, calibrated", ("last", "ensemble", "ece"), "{:.3f}", 1),
    ("AURC", ("last", "uncalibrated", "aurc"), "{:.3f}", 1),
    ("wrong labels found %", ("last", "label_issues", "margin", "found"), "{:.0f}", 100),
    ("AUROC of wrong labels", ("last", "label_issues", "margin", "auroc"), "{:.3f}", 1),
)
# of M images a pass: the share of answers that differ from the image's usual one, by its partners in the pass
PARTNERS = tuple(
    (f"changed beside {title} %", ("last", "multiplexed", "partners", kind, "changed"), "{:.1f}", 100)
    for kind, title in (
        ("any", "any images"),
        ("same_class", "its class"),
        ("other_class", "other classes"),
        ("noise", "noise"),
    )
)
# of corrupted test images: means over all corruptions and severities
CORRUPTED = tuple(
    (f"{title}, corrupted{unit}", ("corrupted", "corruptions", f"mean_{key}"), form, times)
    for title, unit, key, form, times in (
        ("accuracy", " %", "accuracy", "{:.1f}", 100),
        ("NLL, calibrated", "", "nll", "{:.2f}", 1),
        ("ECE, calibrated", "", "ece", "{:.3f}", 1),
    )
)

Figures = dict[str, float | None]  # by title
Measured = dict[str, dict[str, Figures]]  # by row and seed


@dataclasses.dataclass(frozen=True)
class Row:
    """A method of a study.

    Attributes:
        changes: The settings that it changes in the study's recipe.
        networks: The number of networks, of which several are a deep ensemble.
        times_the_epochs: Its epochs, as a multiple of the recipe's: half where its steps cost twice.
        rate: Its learning rate, as a multiple of the recipe's.
        after: The row whose trained network it begins as.
    """

    changes: Mapping[str, Any]
    networks: int = 1
    times_the_epochs: float = 1.0
    rate: float = 1.0
    after: str = ""


def recipes(rows: Mapping[str, Row], name: str, base: Recipe, seed: int) -> list[Recipe]:
    """The runs of a row for one seed, which also chooses the images and the wrong labels."""
    row = rows[name]
    if row.after:
        base = dataclasses.replace(base, backbone=str(recipes(rows, row.after, base, seed)[0].folder / "last.keras"))
    base = dataclasses.replace(base, epochs=round(base.epochs * row.times_the_epochs), **row.changes)
    if base.train_images or base.label_noise:
        base = dataclasses.replace(base, data_seed=seed)
    if row.rate != 1:
        if base.learning_rate is None:
            raise ValueError(f"The rate of {name!r} is a multiple of the recipe's learning_rate, which is None.")
        base = dataclasses.replace(base, learning_rate=row.rate * base.learning_rate)
    folder = f"{base.output_dir}/{shared(rows, name).replace(' ', '_')}"
    seeds = [seed + LATER_NETWORKS * network for network in range(row.networks)]
    return [dataclasses.replace(base, seed=one, output_dir=folder) for one in seeds]


def shared(rows: Mapping[str, Row], name: str) -> str:
    """The row whose folder holds a row's networks: a deep ensemble shares those of the row with the same settings."""
    row = rows[name]
    if row.networks == 1:
        return name
    return next((other for other, one in rows.items() if one == dataclasses.replace(row, networks=1)), name)


def measure(
    rows: Mapping[str, Row], name: str, base: Recipe, seed: int, only_read: bool = False, corrupted: bool = False
) -> Figures | None:
    """Runs and evaluates what is missing of a row and returns its figures; None where something is missing.

    Args:
        rows: The rows by name.
        name: The row.
        base: The recipe that rows change.
        seed: The seed.
        only_read: Whether to run and evaluate nothing.
        corrupted: Whether to evaluate corrupted test images too. Earlier evaluations of them are read anyway.
    """
    if rows[name].after and measure(rows, rows[name].after, base, seed, only_read) is None:
        return None
    runs = recipes(rows, name, base, seed)
    for recipe in runs:
        if finished(recipe) is None:
            if only_read:
                return None
            run(recipe)
    folders = [recipe.folder for recipe in runs]
    together = len(folders) > 1
    into = folders[0].parent / f"{folders[0].name}-of{len(folders)}" if together else folders[0]
    common: dict[str, Any] = dict(
        ensemble=together,
        data_dir=base.data_dir,
        temperature=True,
        label_noise="estimate" if base.label_noise else None,
    )
    members = runs[0].resolved().num_members
    evaluations: dict[str, tuple[str, dict[str, Any]]] = {  # the networks' file, and what else is evaluated
        "last": ("last", dict(label_issues=True, multiplexed=isinstance(members, int) and members > 1)),
        "early": ("best", {}),
        "corrupted": ("last", dict(corruptions="on_the_fly")),
    }
    evaluated = {}
    for key, (saved, others) in evaluations.items():
        path = into / f"evaluation_{key}"
        if not (path / "metrics.json").is_file():
            if key == "corrupted" and (only_read or not corrupted):
                continue
            if only_read:
                return None
            evaluate_runs([folder / f"{saved}.keras" for folder in folders], output_dir=path, **common, **others)
        evaluated[key] = json.loads((path / "metrics.json").read_text(encoding="utf-8"))
    seconds = [
        json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["training_seconds"] for folder in folders
    ]
    figures = {title: _value(evaluated, path, times) for title, path, _, times in (*COLUMNS, *PARTNERS, *CORRUPTED)}
    return {**figures, "training_seconds": sum(seconds)}


def _value(figures: Mapping[str, Any], path: tuple[str, ...], times: float) -> float | None:
    """A number somewhere in figures, times a factor; None where there is none."""
    value: Any = figures
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return None if value is None else times * value
