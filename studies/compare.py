"""The methods side by side on one dataset: the same network, rows, epochs and seeds for all.

    python studies/compare.py --data-dir .data --backbone wrn10_2 --epochs 3 --seeds 0

Runs what is missing below --output-dir, one after the other, and prints the table of what is there as Markdown: every
figure is read from a run's metrics.json. Stop it and start it again as you like. --only-table runs nothing.
"""

import argparse
import dataclasses
from typing import Any

from mixmo_keras import experiments
from mixmo_keras.experiments import Recipe, tables

MEMBERS = dict(num_members=2, batch_repetitions=2)
METHODS: dict[str, dict[str, Any]] = {
    "single": dict(method="single", batch_repetitions=2),
    "single + CutMix": dict(method="single", batch_repetitions=2, msda="cutmix"),
    "MIMO": dict(method="mimo", **MEMBERS),
    "Linear-MixMo": dict(method="linear_mixmo", **MEMBERS),
    "Cut-MixMo": dict(method="cut_mixmo", **MEMBERS),
    "Cut-MixMo + CutMix": dict(method="cut_mixmo", msda="cutmix", **MEMBERS),
    "Cut-MixMo, unmixing": dict(method="cut_mixmo", unmixing=True, **MEMBERS),
    "cosub": dict(method="cosub", drop_path=0.1, batch_repetitions=2),
    "Cut-MixMo, co-training": dict(method="cut_mixmo", drop_path=0.1, co_training=0.5, **MEMBERS),
    "Cut-MixMo, drop-path alone": dict(method="cut_mixmo", drop_path=0.1, **MEMBERS),
}
COLUMNS = ("members", "ensemble", "NLL", "ECE", "ratio of errors", "minutes")


def cells(runs: list[dict]) -> list[str]:
    """The table's cells of one method: means over seeds, ± the standard deviation where there are several."""
    tests = [figures["test"] for figures in runs]
    members = zip(*[[member["accuracy"] * 100 for member in test["members"]] for test in tests], strict=True)
    ensembles = [test["ensemble"] for test in tests]
    ratios = [ratio for test in tests if (ratio := test["diversity"]["ratio_of_errors"]) is not None]
    return [
        " / ".join(tables.cell(accuracies, "{:.2f}") for accuracies in members),
        tables.cell([score["accuracy"] * 100 for score in ensembles], "{:.2f}"),
        tables.cell([score["nll"] for score in ensembles], "{:.3f}"),
        tables.cell([score["ece"] for score in ensembles], "{:.3f}"),
        tables.cell(ratios, "{:.2f}"),
        tables.cell([figures["training_seconds"] / 60 for figures in runs], "{:.1f}"),
    ]


def table(methods: dict[str, list[Recipe]]) -> str:
    """Markdown of the finished runs, with a note on those that are missing."""
    rows = []
    for name, recipes in methods.items():
        runs = experiments.finished_runs(recipes)
        values = cells(runs) if runs else ["not run"] + [""] * (len(COLUMNS) - 1)
        rows.append([name, *values, f"{len(runs)} of {len(recipes)}"])
    return tables.markdown(["method", *COLUMNS, "seeds"], rows)


def main(arguments: list[str] | None = None) -> str:
    """Runs what is missing, and returns the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--backbone", default="wrn16_2")
    parser.add_argument("--epochs", type=int, default=12, help="of 2 rows an image")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--data-dir")
    parser.add_argument("--output-dir", default="runs/compare")
    parser.add_argument("--only-table", action="store_true")
    options = parser.parse_args(arguments)
    common = Recipe(
        dataset=options.dataset,
        backbone=options.backbone,
        epochs=options.epochs,
        schedule="cosine",  # the papers' steps would end a short training before it began
        dtype="float32",  # whatever the machine is
        data_dir=options.data_dir,
        output_dir=f"{options.output_dir}/{options.backbone}-{options.epochs}-epochs",
        export_dir=f"{options.output_dir}/saved_models",
    )
    recipes = {
        name: [dataclasses.replace(common, seed=seed, **METHODS[name]) for seed in options.seeds]
        for name in options.methods
    }
    if not options.only_table:
        experiments.run_missing(recipes)
    text = table(recipes)
    print(f"\n{text}")
    return text


if __name__ == "__main__":
    main()
