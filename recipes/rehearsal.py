"""The papers' experiments in small: the same code from data to figures, with other networks, images and epochs.

A rehearsal shows that every table runs end to end before a GPU is paid for. Its figures say nothing about the papers'.
"""

import dataclasses
import itertools
import re
import time
from pathlib import Path
from typing import Any

import keras
from paper_tables import PAPER_TABLES, Experiment

from mixmo_keras import experiments
from mixmo_keras.common import files
from mixmo_keras.common.console import say
from mixmo_keras.experiments import Recipe, evaluating, results, running, tables
from mixmo_keras.models.deep_ensemble import DeepEnsemble

PAGE = Path(__file__).resolve().parents[1] / "docs" / "comparison.md"
DATASET, IMAGES = "cifar10", 256  # what stands in for all data, and how much of it to train on
CORRUPTED_IMAGES = 20
# the smallest network of each family: the first pattern that fits a backbone's name, and its stand-in and image size
STAND_INS = (
    (r"wrn\d+_\d+", "wrn10_1", 16),
    (r"preact_resnet18_\d", "preact_resnet18_1", 16),
    (r"resnet50", "resnet50", 32),
    (r"deit3_\w+?\d+", "vit_tiny4", 16),
    (r"swin_\w+", "swin_tiny", 32),
    (r"regnety_\w+", "regnety_200mf", 32),
    (r"pit_\w+", "pit_tiny", 32),
    (r"convnext_\w+", "convnext_tiny", 32),
    (r"xcit_\w+", "xcit_nano12_4", 16),
)
INTRODUCTION = """# The papers' tables, and our rehearsals of them

**No figure of ours on this page is a result.** A rehearsal runs an experiment from data to figures by the same code, but in
small: it shows that the experiment runs. Figures at full scale come from `python recipes/reproduce.py NAME`; none of these
tables was run at full scale yet.

`python recipes/reproduce.py {names} --budget {budget:g}` wrote this page: {rehearsed} of {experiments} experiments
in {tables}, rehearsed in {minutes:.0f} minutes.

Each table is in two parts that don't share a column: what the **paper** printed, and what **our rehearsal** gave, whose
networks and images are named beside it. CIFAR-10 stands in for all data: one epoch of {images} images, then all test images.
"""


def slug(name: str) -> str:
    """A name as a part of a path."""
    return re.sub(r"[^\w.=]+", "_", name).strip("_")


def is_on_page(name: str) -> bool:
    """Whether docs/comparison.md has a rehearsal of a table."""
    return PAGE.exists() and f"\n## {name}:" in PAGE.read_text(encoding="utf-8")


def scaled(recipe: Recipe, **changes) -> Recipe:
    """A recipe in small: CIFAR-10 in place of its data, the smallest network of its family, one epoch of few images."""
    backbone, size = _stand_in(recipe.backbone)
    crop: dict[str, Any] = dict(crop="pad", interpolation=None, smallest_area=None) if recipe.crop == "whole" else {}
    return dataclasses.replace(
        recipe,
        dataset=f"{DATASET}@{size}",
        backbone=backbone,
        train_images=IMAGES,
        train_split="train",
        epochs=1,
        batch_size=64 if recipe.batch_repetitions != 3 else 48,
        warmup_epochs=None,
        learning_rate=recipe.learning_rate if recipe.optimizer not in (None, "sgd") else None,
        devices=1,
        dtype="float32",
        **crop,
        **changes,
    )


def _stand_in(backbone: str) -> tuple[str, int]:
    """The small network in a backbone's place, and the images' size."""
    for pattern, stand_in, size in STAND_INS:
        if match := re.match(pattern, backbone):
            return stand_in + backbone[match.end() :], size
    raise ValueError(f"There is no small network in place of {backbone}: add it to `STAND_INS`.")


def rehearse(names: list[str], budget: float, data_dir: str | None, output_dir: str) -> str:
    """Rehearses tables within some minutes: one experiment of each table, then as many more as there is time for.

    An experiment of a table's further rounds begins only if it ends in time, judged by the longest of that table so far.

    Returns:
        The page, in Markdown.
    """
    if not budget > 0:
        raise ValueError(f"`budget` must be minutes above 0, got {budget:g}.")
    begin = time.monotonic()
    figures: dict[str, dict[str, list[str]]] = {name: {} for name in names}
    longest = dict.fromkeys(names, 0.0)
    for name, row_name in in_rounds(names):
        start = time.monotonic()
        if figures[name] and start + longest[name] > begin + 60 * budget:
            continue
        say(f"\n{(start - begin) / 60:.1f} min: rehearsal of {name}: {row_name}")
        figures[name][row_name] = _run(PAPER_TABLES[name].rows, row_name, data_dir, f"{output_dir}/{name}")
        longest[name] = max(longest[name], time.monotonic() - start)
        keras.backend.clear_session()
    introduction = INTRODUCTION.format(
        names=" ".join(names) if len(names) == 1 else "all",
        budget=budget,
        rehearsed=sum(map(len, figures.values())),
        experiments=sum(len(PAPER_TABLES[name].rows) for name in names),
        tables=f"{len(names)} table{'s' if len(names) > 1 else ''}",
        minutes=(time.monotonic() - begin) / 60,
        images=IMAGES,
    )
    return "\n".join([introduction, *(_section(name, figures[name]) for name in names)])


def in_rounds(names: list[str]) -> list[tuple[str, str]]:
    """Table and experiment, in the order of a rehearsal: one of each table, then the second of each, and so on.

    Of a table come first those with figures out of distribution, then the others from the last, which most code is in.
    """
    orders = []
    for name in names:
        rows = PAPER_TABLES[name].rows
        shifted = [row_name for row_name, row in rows.items() if row.shifts]
        orders.append([(name, row) for row in [*shifted, *(row for row in reversed(rows) if row not in shifted)]])
    return [one for of_round in itertools.zip_longest(*orders) for one in of_round if one is not None]


def write(text: str) -> Path:
    """Writes the page, and returns its path."""
    PAGE.write_text(text, encoding="utf-8")
    return PAGE


def _section(name: str, figures: dict[str, list[str]]) -> str:
    """A table's section of the page."""
    paper = PAPER_TABLES[name]
    elsewhere = "out of distribution: accuracy %"
    theirs = [[row_name, *_published(row)] for row_name, row in paper.rows.items()]
    ours = [[row_name, *figures.get(row_name, ["not reached", *[""] * 5])] for row_name in paper.rows]
    header = ["experiment", "in small", "accuracy %", "NLL", "ECE", elsewhere]
    return "\n".join(
        [
            f"## {name}: {paper.source}\n",
            *([paper.note, ""] if paper.note else []),
            f"**The paper's figures.** Ours at full scale: not run, needs {paper.needs}.\n",
            tables.markdown(["experiment", "accuracy %", "NLL", "ECE", f"{elsewhere} / NLL / ECE"], theirs),
            "\n**Our rehearsal, no result: not comparable with the figures above.**\n",
            tables.markdown(header, ours, names=2),
            "",
        ]
    )


def _published(row: Experiment) -> list[str]:
    shifts = "; ".join(f"{name} {accuracy:g} / {nll:g} / {ece:g}" for name, (accuracy, nll, ece) in row.shifts.items())
    figures = [row.published, row.others.get("nll"), row.others.get("ece")]
    return [*(tables.NOTHING if figure is None else f"{figure:g}" for figure in figures), shifts or tables.NOTHING]


def _run(rows: dict[str, Experiment], name: str, data_dir: str | None, folder: str) -> list[str]:
    """Trains an experiment in small, and evaluates it: the cells behind its name."""
    row = rows[name]
    common = dict(data_dir=data_dir, export_dir=f"{folder}/saved_models")
    recipes = [
        scaled(row.recipe, seed=seed, output_dir=f"{folder}/{slug(name)}", **common) for seed in range(row.networks)
    ]
    if row.after is not None:  # another image size than that of the run that it begins with
        before = scaled(rows[row.after].recipe, output_dir=f"{folder}/{slug(row.after)}", **common)
        experiments.run_missing({"": [before]}, _without_export)
        larger = re.sub(r"@(\d+)", lambda size: f"@{2 * int(size[1])}", before.dataset)
        recipes = [dataclasses.replace(one, dataset=larger, warm_start=str(before.folder)) for one in recipes]
    experiments.run_missing({"": recipes}, _without_export)
    scores = _figures(row, recipes)["ensemble"]
    elsewhere = tables.NOTHING
    if row.shifts:
        elsewhere = _under_corruptions(recipes[0], data_dir)
    settings = f"{recipes[0].backbone}, {recipes[0].dataset}"
    return [settings, f"{100 * scores['accuracy']:.1f}", f"{scores['nll']:.2f}", f"{scores['ece']:.2f}", elsewhere]


def _without_export(recipe: Recipe) -> None:
    running.run(recipe, saved_model=False)


def _figures(row: Experiment, recipes: list[Recipe]) -> dict[str, Any]:
    if row.networks == 1:
        return files.read_json_object(recipes[0].folder / "metrics.json", "remove it, and run again")["test"]
    networks, _ = zip(*(evaluating.load([recipe.folder], False) for recipe in recipes), strict=True)
    return results.test_figures(DeepEnsemble(networks), running.load(recipes[0].resolved()).test, 1)


def _under_corruptions(recipe: Recipe, data_dir: str | None) -> str:
    """The mean accuracy under corruptions made here, which stand in for the published ones."""
    figures = evaluating.evaluate_runs(
        [recipe.folder], data_dir=data_dir, corruptions="on_the_fly", corruption_images=CORRUPTED_IMAGES
    )
    return f"made here {100 * figures['corruptions']['mean_accuracy']:.1f}"
