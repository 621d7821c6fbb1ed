"""The papers' tables beside ours: runs or resumes their experiments over seeds, and prints what finished runs wrote.

    python recipes/reproduce.py --list                                          the tables: experiments and published figures
    python recipes/reproduce.py cifar100 --only-table                           what there is, the rest marked
    python recipes/reproduce.py cifar100 --seeds 0 1 2 --data-dir DATA          runs what is missing: weeks on a GPU
    python recipes/reproduce.py tiny_imagenet --rows vanilla-w1 Cut-MixMo-w1    some of it
    python recipes/reproduce.py cifar10 --scale 0.01 --backbone wrn10_1         a trial; says that it is one
    python recipes/reproduce.py cifar10 --train-split train                     a tenth of the training images held out

Every figure of ours is read from a run's metrics.json, of the last epoch on the test split; the published ones are the
papers'. As there, runs train on all training images, MixMo's on one device and MIMO's of CIFAR on eight. Only of such runs a
difference is shown: what has other epochs, networks, data or devices is called a trial, and what holds images out says so.
"""

import argparse
import dataclasses
from typing import Any

import cifar10
import cifar100
import imagenet
import mimo
import numpy as np
import tiny_imagenet

from mixmo_keras import experiments
from mixmo_keras.common import arguments as checks
from mixmo_keras.common.console import say, unbreakable
from mixmo_keras.experiments import Recipe, tables
from mixmo_keras.experiments.options import TRAIN_SPLITS

LINEAR, CUT = dict(method="linear_mixmo"), dict(method="cut_mixmo")
CUTMIX, MIXUP = dict(msda="cutmix", msda_probability=0.5), dict(msda="mixup", msda_probability=0.5)
# our MSDA mixes half of the images, as MixMo's does; the papers' baselines likewise
METHODS: dict[str, dict[str, Any]] = {
    "vanilla": dict(method="single"),
    "MixUp": dict(method="single", **MIXUP),
    # as in MixMo's code, which averages logits for all
    "MIMO": dict(method="mimo", num_members=2, averaging="logits", schedule="mixmo"),
    "CutMix": dict(method="single", **CUTMIX),
    "Linear-MixMo": LINEAR,
    "Cut-MixMo": CUT,
    "Linear-MixMo + CutMix": {**LINEAR, **CUTMIX},
    "Cut-MixMo + CutMix": {**CUT, **CUTMIX},
}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """An experiment: the paper's top-1 accuracy in percent, none where nobody has published one, and the recipe."""

    published: float | None
    recipe: Recipe


def _all_images(recipe: Recipe, **changes) -> Recipe:
    """A recipe on all training images, as the papers' runs are: none is held out."""
    return dataclasses.replace(recipe, train_split="train+validation", **changes)


def _cifar(base: Recipe, published: dict[str, float]) -> dict[str, Experiment]:
    return {name: Experiment(value, _all_images(base, devices=1, **METHODS[name])) for name, value in published.items()}


def _tiny(published: dict[str, tuple]) -> dict[str, Experiment]:
    return {
        f"{name}-w{width}": Experiment(
            value,
            _all_images(tiny_imagenet.RECIPE, devices=1, backbone=f"preact_resnet18_{width}", **_tiny_method(name)),
        )
        for name, values in published.items()
        for width, value in enumerate(values, start=1)
    }


def _tiny_method(name: str) -> dict:
    if name == "vanilla":
        return dict(method="single", batch_repetitions=1)
    return METHODS[name]


def _sam(base: Recipe, radius: float, published: dict[str, float]) -> dict[str, Experiment]:
    """The single network with SAM, as its code trains it: 256 images a step, a decay of 5e-4, cosine."""
    settings: dict[str, Any] = dict(
        batch_size=256, batch_repetitions=1, learning_rate=0.1, schedule="cosine", l2=2.5e-4
    )
    plain = _all_images(base.with_method("single"), devices=1, epochs=200, **settings)
    sharp = dataclasses.replace(plain, sam=radius, policy="auto_augment_cifar10")
    recipes = {
        "SGD": plain,
        "SAM + AutoAugment": sharp,
        "SAM + AutoAugment, long": dataclasses.replace(sharp, epochs=1800),
    }
    return {name: Experiment(value, recipes[name]) for name, value in published.items()}


def _best(recipe: Recipe) -> dict[str, Experiment]:
    return {"ours, --best": Experiment(None, _all_images(recipe, devices=1))}


# Ramé et al. 2021, tables 1 and 3 and the figure over widths; Havasi et al. 2021, tables 1 and 2
TABLES = {
    "cifar100": _cifar(
        cifar100.RECIPE,
        {
            "vanilla": 81.79,
            "MixUp": 83.43,
            "CutMix": 83.95,
            "MIMO": 82.92,
            "Linear-MixMo": 82.96,
            "Cut-MixMo": 85.52,
            "Linear-MixMo + CutMix": 85.36,
            "Cut-MixMo + CutMix": 85.77,
        },
    ),
    "cifar10": _cifar(
        cifar10.RECIPE,
        {
            "vanilla": 96.37,
            "MixUp": 97.07,
            "CutMix": 97.28,
            "MIMO": 96.71,
            "Linear-MixMo": 96.88,
            "Cut-MixMo": 97.52,
            "Linear-MixMo + CutMix": 97.73,
            "Cut-MixMo + CutMix": 97.83,
        },
    ),
    "tiny_imagenet": _tiny(
        {
            "vanilla": (62.75, 64.91, 65.84),
            "Linear-MixMo": (62.91, 67.03, 68.36),
            "Cut-MixMo": (64.32, 69.12, 70.23),
        }
    ),
    "imagenet": {
        "deterministic": Experiment(
            76.1,
            _all_images(imagenet.RECIPE.with_method("single"), batch_repetitions=1, epochs=90, schedule="imagenet"),
        ),
        "MIMO": Experiment(77.5, _all_images(imagenet.RECIPE)),
    },
    "mimo_cifar": {
        "MIMO, CIFAR-10": Experiment(96.4, _all_images(mimo.RECIPE, dataset="cifar10")),
        "MIMO, CIFAR-100": Experiment(82.0, _all_images(mimo.RECIPE, dataset="cifar100")),
    },
    # Foret et al. 2021, table 1; the long runs have a table of their own, since runs are named by their method
    "sam_cifar100": _sam(cifar100.RECIPE, 0.1, {"SGD": 81.2, "SAM + AutoAugment": 86.4}) | _best(cifar100.BEST),
    "sam_cifar100_long": _sam(cifar100.RECIPE, 0.1, {"SAM + AutoAugment, long": 87.2}),
    "sam_cifar10": _sam(cifar10.RECIPE, 0.05, {"SGD": 96.5, "SAM + AutoAugment": 97.9}) | _best(cifar10.BEST),
    "sam_cifar10_long": _sam(cifar10.RECIPE, 0.05, {"SAM + AutoAugment, long": 98.4}),
    "cifar100_widths": {
        f"{name}-w{width}": Experiment(
            published, _all_images(cifar100.RECIPE, devices=1, backbone=f"wrn28_{width}", **METHODS[name])
        )
        for name, curve in {
            "vanilla": {2: 76.4, 3: 77.9, 4: 78.8, 5: 79.7, 7: 81.1, 10: 81.6},
            "Cut-MixMo": {2: 75.6, 3: 79.8, 4: 81.7, 5: 83.1, 7: 84.3, 10: 85.4},
        }.items()
        for width, published in curve.items()
    },
}


HELD_OUT = {"imagenet": "a hundredth held out"}  # of the training images, with --train-split train
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


def table(rows: dict[str, Experiment], recipes_of: dict[str, list[Recipe]], held_out: str) -> str:
    """Published beside ours, in Markdown; what was not run says so, and what can't be compared has no difference."""
    lines, trials = [], []
    for name, recipes in recipes_of.items():
        trials += trial(rows[name], recipes[0])
        scores = [figures["test"]["ensemble"] for figures in experiments.finished_runs(recipes)]
        cells = ["not run", "", "", ""]
        if scores:
            accuracies = [100 * score["accuracy"] for score in scores]
            cells = [
                tables.cell(accuracies, "{:.2f}"),
                difference(rows[name], recipes[0], accuracies, held_out),
                *(tables.cell([score[key] for score in scores], "{:.3f}", deviation=False) for key in ("nll", "ece")),
            ]
        lines.append([name, _percent(rows[name].published), *cells, f"{len(scores)} of {len(recipes)}"])
    text = tables.markdown(["experiment", "published", "ours", "difference", "NLL", "ECE", "runs"], lines)
    if not trials:
        return text
    return f"{text}\n\nTrials are not comparable with the published figures: {', '.join(dict.fromkeys(trials))}."


def _percent(published: float | None) -> str:
    return tables.NOTHING if published is None else f"{published:.2f}"


def published(rows: dict[str, Experiment]) -> str:
    """What the paper has, in Markdown: its figures, and the settings that run them here."""
    lines = []
    for name, row in rows.items():
        recipe = row.recipe
        others = [recipe.msda, "SAM" if recipe.sam else None, recipe.policy]
        method = " + ".join([recipe.method, *filter(None, others)])
        lines.append([name, recipe.dataset, method, recipe.backbone, f"{recipe.epochs}", _percent(row.published)])
    return tables.markdown(["experiment", "dataset", "method", "backbone", "epochs", "published %"], lines, names=4)


@unbreakable()
def main(arguments: list[str] | None = None) -> str | None:
    """Runs what is missing, unless told otherwise, and returns the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", nargs="?", choices=list(TABLES))
    parser.add_argument("--list", action="store_true", help="show the tables: experiments, settings, published figures")
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
    if options.list:
        given = [name for name, value in vars(options).items() if name != "list" and value != parser.get_default(name)]
        if given:
            parser.error(f"--list names tables: it has no use for {', '.join(sorted(given))}")
        say("\n\n".join(f"{name}\n\n{published(rows)}" for name, rows in TABLES.items()))
        return None
    if options.table is None:
        parser.error("name a table, or --list them")
    rows = TABLES[options.table]
    names = options.rows or list(rows)
    if unknown := set(names) - set(rows):
        parser.error(f"unknown experiments: {', '.join(sorted(unknown))}; known: {', '.join(rows)}")
    others = ("backbone", "dataset", "devices", "train_split")
    changes = {name: value for name in others if (value := getattr(options, name)) is not None}
    parts = [str(changes[name]) for name in ("backbone", "dataset") if name in changes]
    parts += [f"devices{options.devices}"] if options.devices is not None else []
    parts += [f"scale{options.scale:g}"] if options.scale < 1 else []
    folder = "-".join([options.table, *parts])
    common = dict(
        data_dir=options.data_dir,
        output_dir=f"{options.output_dir}/{folder}",
        export_dir=f"{options.output_dir}/saved_models",
        scale=options.scale,
        **changes,
    )
    recipes = {
        name: [dataclasses.replace(rows[name].recipe, seed=seed, **common) for seed in options.seeds] for name in names
    }
    try:
        checks.different("rows", names)
        checks.different("seeds", options.seeds)
        if not options.only_table:
            experiments.run_missing(recipes)
        text = table(rows, recipes, HELD_OUT.get(options.table, "a tenth held out"))
    except (ValueError, OSError, FloatingPointError, RuntimeError) as error:
        raise SystemExit(f"error: {error}") from error
    say(f"\n{text}")
    return text


if __name__ == "__main__":
    main()
