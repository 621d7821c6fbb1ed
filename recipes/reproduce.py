"""The papers' tables and figures beside ours: runs or resumes their experiments over seeds, and prints what runs wrote.

    python recipes/reproduce.py --list                                          every table: where from, status, figures
    python recipes/reproduce.py cifar100 --only-table                           what there is, the rest marked
    python recipes/reproduce.py cifar100 --seeds 0 1 2 --data-dir DATA          runs what is missing: weeks on a GPU
    python recipes/reproduce.py tiny_imagenet --rows vanilla-w1 Cut-MixMo-w1    some of it
    python recipes/reproduce.py cifar10 --scale 0.01 --backbone wrn10_1         a trial; says that it is one
    python recipes/reproduce.py cifar10 --train-split train                     a tenth of the training images held out
    python recipes/reproduce.py all --budget 60 --data-dir DATA                 a rehearsal of all in 60 minutes, see below

Every figure of ours is read from a run's metrics.json, of the last epoch on the test split; the published ones are the
papers'. As there, runs train on all training images, MixMo's on one device and MIMO's of CIFAR on eight. Only of such runs a
difference is shown: what has other epochs, networks, data or devices is called a trial, and what holds images out says so.
Deep ensembles are networks of consecutive seeds. Figures out of distribution are of the data sets that the data folder has.

Figures over a setting are drawn too, published and ours, as curve.png in the runs' folder.

`--budget` runs the same code in small: other networks, images and epochs, as recipes/rehearsal.py says: an experiment of
each table, then as many more as the minutes are enough for. It shows that all of it runs; its figures are no results. With
`all` it writes docs/comparison.md.
"""

import argparse
import dataclasses
from typing import Any

import keras
import numpy as np
import paper_curves
import rehearsal
from paper_tables import PAPER_TABLES, Experiment

from mixmo_keras import experiments
from mixmo_keras.common import arguments as checks
from mixmo_keras.common import files
from mixmo_keras.common.console import say, unbreakable
from mixmo_keras.evaluation import plots
from mixmo_keras.experiments import Recipe, evaluating, results, running, tables
from mixmo_keras.experiments.options import TRAIN_SPLITS
from mixmo_keras.models.deep_ensemble import DeepEnsemble

TABLES: dict[str, dict[str, Experiment]] = {name: table.rows for name, table in PAPER_TABLES.items()}
OWN_FOLDERS = (
    "training_time",
    "mask_probability",
    "weight_root",
    "mimo_members",
    "mimo_repetition",
)  # one name for all
FIGURES = {  # beside the accuracy; the last is of members, how diverse they are
    "top5": "top-5",
    "nll": "NLL",
    "nll_c": "NLL_c",
    "ece": "ECE",
    "ratio_of_errors": "ratio of errors",
}

HELD_OUT = {
    "imagenet": "a hundredth held out",
    "mimo_repetition": "a hundredth held out",
}  # of the training images, with --train-split train
CHANGED = {  # setting: the words for a trial's value that differs from the paper's
    "backbone": "{}".format,
    "dataset": "{}".format,
    "devices": lambda devices: f"{devices} device{'s' if devices > 1 else ''}",
    "scale": "{:g} of the epochs".format,
}


def trial(row: Experiment, recipe: Recipe) -> list[str]:
    """In what a recipe is another experiment than the paper's, images held out aside."""
    ours, papers = vars(recipe), vars(row.recipe)
    return [say(ours[name]) for name, say in CHANGED.items() if ours[name] != papers[name]]


def difference(row: Experiment, recipe: Recipe, accuracies: list[float], held_out: str) -> str:
    """The mean accuracy less the published one, or why there is none."""
    if row.published is None:
        return ""
    if trial(row, recipe):
        return "a trial"
    return held_out if recipe.holds_out else f"{np.mean(accuracies) - row.published:+.2f}"


def recipes_of(row: Experiment, seed: int, folder: str, name: str, **changes) -> list[Recipe]:
    """The recipes of an experiment under a seed: one, or those of a deep ensemble's networks."""
    slug = f"{folder}/{rehearsal.slug(name)}" if folder.split("/")[-1].startswith(OWN_FOLDERS) else folder
    seeds = range(seed * row.networks, (seed + 1) * row.networks)
    return [dataclasses.replace(row.recipe, seed=one, output_dir=slug, **changes) for one in seeds]


def figures_of(row: Experiment, recipes: list[Recipe], run_missing: bool) -> dict[str, Any] | None:
    """The test figures of an experiment under one seed; `None` where its runs are not finished."""
    runs = experiments.finished_runs(recipes)
    if len(runs) < len(recipes):
        return None
    if row.networks == 1:
        return runs[0]["test"]
    file = recipes[0].folder.parent / f"{recipes[0].name}-{row.networks}networks.json"
    if not file.exists() and run_missing:
        networks = [keras.models.load_model(recipe.folder / "last.keras", compile=False) for recipe in recipes]
        test = running.load(recipes[0].resolved()).test
        files.write_json(file, results.test_figures(DeepEnsemble(networks), test, 1))
    return files.read_json_object(file, "remove it, and run again") if file.exists() else None


def shifted_figures(row: Experiment, recipe: Recipe, run_missing: bool) -> dict[str, tuple[float, float, float]]:
    """Accuracy in percent, NLL and ECE of a finished run out of distribution, by test set; of those that could be read."""
    found = {}
    for name in row.shifts:
        folder = recipe.folder / f"evaluation-{name}"
        if not (folder / "metrics.json").exists() and run_missing:
            corrupted = name.endswith("_c")
            options = dict(corruptions=name, corruption_images=50_000) if corrupted else dict(ood=name)
            try:
                evaluating.evaluate_runs([recipe.folder], data_dir=recipe.data_dir, output_dir=folder, **options)
            except FileNotFoundError as error:
                say(f"{name}: {error}")
        if (folder / "metrics.json").exists():
            figures = files.read_json_object(folder / "metrics.json", "remove it, and run again")
            values = figures.get("corruptions", {}) or figures["other_test_sets"][name]
            prefix = "mean_" if "corruptions" in figures else ""
            accuracy, nll, ece = (values[f"{prefix}{figure}"] for figure in ("accuracy", "nll", "ece"))
            found[name] = (100 * accuracy, nll, ece)
    return found


def table(rows: dict[str, Experiment], recipes: dict[str, list[list[Recipe]]], held_out: str, run_missing: bool) -> str:
    """Published beside ours, in Markdown; what was not run says so, and what can't be compared has no difference.

    Args:
        rows: The experiments by name.
        recipes: Of each experiment, for each seed, its recipes.
        held_out: What is said of runs that hold images out.
        run_missing: Whether to evaluate what needs the networks.
    """
    lines, trials, shifted = [], [], []
    for name, by_seed in recipes.items():
        row = rows[name]
        trials += trial(row, by_seed[0][0])
        found = [one for group in by_seed if (one := figures_of(row, group, run_missing)) is not None]
        scores = [{**one["ensemble"], "nll_c": one.get("nll_c"), **one.get("diversity", {})} for one in found]
        cells = ["not run", "", *[""] * len(FIGURES)]
        if scores:
            accuracies = [100 * score["accuracy"] for score in scores]
            cells = [tables.cell(accuracies, "{:.2f}"), difference(row, by_seed[0][0], accuracies, held_out)]
            cells += [_cell(scores, key) for key in FIGURES]
            shifted += [
                (name, shift, row.shifts[shift], values)
                for shift, values in shifted_figures(row, by_seed[0][0], run_missing).items()
            ]
        lines.append([name, _number(row.published, 2), *cells, f"{len(scores)} of {len(by_seed)}"])
    text = tables.markdown(["experiment", "published", "ours", "difference", *FIGURES.values(), "runs"], lines)
    if shifted:
        lines = [[name, shift, *_triple(theirs), *_triple(ours)] for name, shift, theirs, ours in shifted]
        header = [
            "experiment",
            "test set",
            *(f"{of} {what}" for of in ("published", "ours") for what in ("%", "NLL", "ECE")),
        ]
        text += "\n\n" + tables.markdown(header, lines, names=2)
    if not trials:
        return text
    return f"{text}\n\nTrials are not comparable with the published figures: {', '.join(dict.fromkeys(trials))}."


def _cell(scores: list[dict], key: str) -> str:
    values = [score[key] for score in scores if score.get(key) is not None]
    form = "{:.2%}" if key == "top5" else "{:.3f}"
    return tables.cell(values, form, deviation=False) if values else tables.NOTHING


def _triple(values: tuple[float, float, float]) -> list[str]:
    accuracy, nll, ece = values
    return [f"{accuracy:.1f}", f"{nll:.3f}", f"{ece:.3f}"]


def _number(value: float | None, digits: int = 3) -> str:
    return tables.NOTHING if value is None else f"{value:.{digits}f}"


def published(name: str, output_dir: str = "runs/reproduce") -> str:
    """What the paper has, in Markdown: its figures, and the settings that run them here; where from, and the status."""
    paper, lines = PAPER_TABLES[name], []
    for row_name, row in paper.rows.items():
        recipe = row.recipe
        others = [recipe.msda, "SAM" if recipe.sam else None, recipe.policy]
        method = " + ".join([recipe.method, *filter(None, others)])
        figures = [_number(row.published, 2), *(_number(row.others.get(key)) for key in ("nll", "ece"))]
        lines.append([row_name, recipe.dataset, method, recipe.backbone, f"{recipe.epochs}", *figures])
    header = ["experiment", "dataset", "method", "backbone", "epochs", "published %", "NLL", "ECE"]
    text = f"{name}: {paper.source}; {status(name, output_dir)}"
    return f"{text}\n\n{tables.markdown(header, lines, names=4)}" + (f"\n\n{paper.note}" if paper.note else "")


def status(name: str, output_dir: str = "runs/reproduce") -> str:
    """Whether a table was run at full scale in a folder, was rehearsed, and what a run needs."""
    paper = PAPER_TABLES[name]
    finished = sum(
        all(experiments.results.finished(recipe) for recipe in recipes_of(row, 0, f"{output_dir}/{name}", row_name))
        for row_name, row in paper.rows.items()
    )
    if finished:
        return f"ran here: {finished} of {len(paper.rows)} experiments"
    rehearsed = "rehearsed (docs/comparison.md), " if rehearsal.is_on_page(name) else ""
    return f"{rehearsed}needs {paper.needs}"


@unbreakable()
def main(arguments: list[str] | None = None) -> str | None:
    """Runs what is missing, unless told otherwise, and returns the table."""
    parser, options = parse(arguments)
    if options.list:
        given = [name for name, value in vars(options).items() if name != "list" and value != parser.get_default(name)]
        if given:
            parser.error(f"--list names tables: it has no use for {', '.join(sorted(given))}")
        say("\n\n".join(published(name) for name in TABLES))
        return None
    if options.table is None:
        parser.error("name a table, or --list them")
    if options.table == "all" and options.budget is None:
        parser.error("all tables take years of a GPU: name one, or pass --budget MINUTES for a rehearsal")
    try:
        if options.budget is not None:
            names = list(TABLES) if options.table == "all" else [options.table]
            text = rehearsal.rehearse(names, options.budget, options.data_dir, f"{options.output_dir}/rehearsal")
            if options.table == "all":
                say(f"written: {rehearsal.write(text)}")
        else:
            text = _beside_each_other(parser, options)
    except (ValueError, OSError, FloatingPointError, RuntimeError) as error:
        raise SystemExit(f"error: {error}") from error
    say(f"\n{text}")
    return text


def parse(arguments: list[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", nargs="?", choices=[*TABLES, "all"])
    parser.add_argument("--list", action="store_true", help="show the tables: experiments, settings, published figures")
    parser.add_argument("--budget", type=float, metavar="MINUTES", help="rehearse in small, for so many minutes")
    parser.add_argument("--rows", nargs="+", metavar="EXPERIMENT", help="these alone")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only-table", action="store_true", help="run nothing")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the epochs, for a trial")
    parser.add_argument("--backbone", help="another network, for a trial")
    parser.add_argument("--dataset", help="another dataset, for a trial")
    parser.add_argument("--devices", type=int, help="another number of devices than the paper's, for a trial")
    parser.add_argument(
        "--train-split", choices=TRAIN_SPLITS, help="train: hold images out (default: train+validation)"
    )
    parser.add_argument("--data-dir")
    parser.add_argument("--output-dir", default="runs/reproduce")
    options = parser.parse_args(arguments)
    if options.budget is not None:
        used = {"table", "budget", "data_dir", "output_dir"}
        given = [
            name for name, value in vars(options).items() if name not in used and value != parser.get_default(name)
        ]
        if given:
            parser.error(f"--budget has settings of its own: it has no use for {', '.join(sorted(given))}")
    return parser, options


def _beside_each_other(parser: argparse.ArgumentParser, options: argparse.Namespace) -> str:
    rows = TABLES[options.table]
    names = options.rows or list(rows)
    if unknown := set(names) - set(rows):
        parser.error(f"unknown experiments: {', '.join(sorted(unknown))}; known: {', '.join(rows)}")
    others = ("backbone", "dataset", "devices", "train_split")
    changes = {name: value for name in others if (value := getattr(options, name)) is not None}
    parts = [str(changes[name]) for name in ("backbone", "dataset") if name in changes]
    parts += [f"devices{options.devices}"] if options.devices is not None else []
    parts += [f"scale{options.scale:g}"] if options.scale < 1 else []
    folder = f"{options.output_dir}/{'-'.join([options.table, *parts])}"
    common = dict(data_dir=options.data_dir, export_dir=f"{options.output_dir}/saved_models", scale=options.scale)
    checks.different("rows", names)
    checks.different("seeds", options.seeds)
    recipes = {
        name: [recipes_of(rows[name], seed, folder, name, **common, **changes) for seed in options.seeds]
        for name in names
    }
    for name in names:
        if (before := rows[name].after) in recipes:
            weights = [[str(recipe.folder / "last.keras") for recipe in group] for group in recipes[before]]
            recipes[name] = [
                [dataclasses.replace(recipe, warm_start=file) for recipe, file in zip(group, of_group, strict=True)]
                for group, of_group in zip(recipes[name], weights, strict=True)
            ]
    if not options.only_table:
        for groups in zip(*recipes.values(), strict=True):  # so that a comparison that is stopped has whole tables
            for group in groups:
                experiments.run_missing({"": group})
    run_missing = not options.only_table
    text = table(rows, recipes, HELD_OUT.get(options.table, "a tenth held out"), run_missing)
    if PAPER_TABLES[options.table].curve:
        accuracies = {
            name: [
                100 * test["ensemble"]["accuracy"]
                for group in by_seed
                if (test := figures_of(rows[name], group, run_missing)) is not None
            ]
            for name, by_seed in recipes.items()
        }
        whose = "a trial" if any(trial(rows[name], recipes[name][0][0]) for name in names) else "ours"
        picture = paper_curves.draw(PAPER_TABLES[options.table], accuracies, whose)
        say(f"picture: {plots.save(picture, f'{folder}/curve.png')}")
    return text


if __name__ == "__main__":
    main()
