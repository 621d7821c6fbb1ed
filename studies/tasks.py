"""Other tasks than classes, on scenes of digits: the single network, members, and a deep ensemble of two.

    python studies/tasks.py --keep                      what is missing, a minute a run on an idle core
    python studies/tasks.py --only-table                what there is

Small networks on small images: 2,000 scenes of 16×16 pixels, WRN-10-1, as many rows and steps for each network. The deep
ensemble of a seed is the single networks of this seed and the next, at twice the price. All are calibrated on the validation
images.
"""

import argparse
import dataclasses
from typing import Any

import keras
import pages

from mixmo_keras import DeepEnsemble, tasks
from mixmo_keras.common import files
from mixmo_keras.experiments import Recipe, results, run, tables
from mixmo_keras.experiments.running import load

SEEDS = (0, 1, 2)
NAME = "tasks"
QUESTIONS = {
    "multi_label": "which digits",
    "binary": "is a 3 there",
    "angle": "tilt in degrees",
    "count": "how many digits",
    "segmentation": "which digit by pixel",
}
OF_QUESTION: dict[
    str, dict[str, Any]
] = {  # changes of the recipe; SGD at its rate leaves digits apart from ground alone
    "segmentation": dict(optimizer="adamw", learning_rate=3e-3),
}
SINGLE, MEMBERS, BOTH = "single network", "two members, Cut-MixMo, ρ = 0.5", "deep ensemble of two"
METHODS: dict[str, dict[str, Any]] = {
    SINGLE: dict(method="single"),
    MEMBERS: dict(method="cut_mixmo", input_repetition=0.5),
}
SHOWN = {
    "multi_label": ("auroc", "average_precision", "f1", "nll", "ece"),
    "binary": ("auroc", "average_precision", "f1", "nll", "ece"),
    "regression": ("rmse", "mae", "nll", "crps", "coverage", "width"),
    "segmentation": ("miou", "accuracy", "nll", "ece"),
}
RECIPE = Recipe(
    crop="pad",
    padding=1,
    flip=False,
    backbone="wrn10_1",
    batch_repetitions=2,
    epochs=6,
    batch_size=64,
    learning_rate=0.05,
    schedule="cosine",
    train_images=2000,
    output_dir="runs/tasks",
)


def recipe(question: str, row: str, seed: int) -> Recipe:
    """The recipe of a network."""
    changes = dict(dataset=f"digit_scenes_{question}@16", seed=seed, **METHODS[row], **OF_QUESTION.get(question, {}))
    return dataclasses.replace(RECIPE, **changes)


def measured(question: str, only_table: bool) -> dict[str, dict[str, Any]]:
    """The figures of the test images by row and seed, of what there is; runs what is missing."""
    if not only_table:
        for seed in SEEDS:
            for row in METHODS:
                if results.finished(recipe(question, row, seed)) is None:
                    run(recipe(question, row, seed), saved_model=False)
    found: dict[str, dict[str, Any]] = {row: {} for row in (*METHODS, BOTH)}
    data = load(recipe(question, SINGLE, SEEDS[0]).resolved())
    models: dict[tuple[str, int], Any] = {
        (row, seed): keras.models.load_model(one.folder / "last.keras")
        for row in METHODS
        for seed in SEEDS
        if results.finished(one := recipe(question, row, seed)) is not None
    }
    for seed, other in zip(SEEDS, SEEDS[1:] + SEEDS[:1], strict=True):
        if (SINGLE, seed) in models and (SINGLE, other) in models:
            models[BOTH, seed] = DeepEnsemble([models[SINGLE, one] for one in (seed, other)])
    for (row, seed), model in models.items():
        model.calibrate(data.validation)
        figures = model.figures(data.test)["ensemble"]
        found[row][str(seed)] = {name: figures[name] for name in SHOWN[model.task.name]}
    return found


def text(kept: dict[str, dict[str, Any]]) -> str:
    """The tables in Markdown, mean ± deviation over seeds."""
    parts = []
    for question, by_row in kept.items():
        name = question if question in SHOWN else "regression"
        columns = [(key, tasks.BY_NAME[name].columns[key]) for key in SHOWN[name]]
        lines = [
            [row, *(tables.cell([one[key] for one in by_seed.values()], column.form) for key, column in columns)]
            for row, by_seed in by_row.items()
        ]
        titles = [f"{QUESTIONS[question]} (`{name}`)", *(column.title for _, column in columns)]
        parts.append(tables.markdown(titles, lines))
    return "\n\n".join(parts)


def document() -> None:
    """Writes the tables of kept figures into docs/tasks.md."""
    pages.write("tasks.md", {NAME: text(pages.read(NAME))})


def main(arguments: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """Runs what is missing, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", nargs="+", choices=QUESTIONS, default=list(QUESTIONS))
    parser.add_argument("--only-table", action="store_true", help="run nothing")
    parser.add_argument("--keep", action="store_true", help="keep the figures, beside those of other questions")
    options = parser.parse_args(arguments)
    found = {question: measured(question, options.only_table) for question in options.questions}
    print(text(found))
    if options.keep:
        before = pages.read(NAME) if pages.kept_at(NAME).exists() else {}
        both = before | found
        files.write_json(pages.kept_at(NAME), {question: both[question] for question in QUESTIONS if question in both})
    return found


if __name__ == "__main__":
    main()
