"""Trains on your own images: a folder with a folder of images for each class. Ends with a report and an exported model.

    python recipes/images.py photos                          images resized to 64×64 pixels
    python recipes/images.py photos@128 --epochs 60          ... to 128×128; photos@96x128 to 96 rows of 128
    python recipes/images.py photos@96x96x1                  ... in grey; with x3 in RGB (default: as the files are)
    python recipes/images.py photos --method single          the network without members
    python recipes/images.py photos --compare-single         both, and a sentence that says which to use
    python recipes/images.py photos --task regression        numbers of a labels.csv in the folder: docs/own_images.md
    python recipes/images.py photos --keep best              tests and exports the best epoch on validation images
    python recipes/images.py photos --backbone mine.keras    begins as the classifier in mine.keras
    python recipes/images.py photos@96 --backbone efficientnet_lite0
                                                             begins with pretrained weights, from pip; those of
                                                             keras:MobileNetV3Small or hub:PRESET are downloaded
    python recipes/search.py --dataset photos --pilot        do two members pay on these images?

A fifth of each class is kept to test on and a tenth to validate on, by which the exported model is calibrated unless
--train-split train+validation trains on it. Takes all options of the recipes: --help lists them.
Cost: 30 epochs of 2 × your images through WRN-16-4.
"""

import shlex
from collections.abc import Callable
from typing import Any

from mixmo_keras import datasets
from mixmo_keras.common import files, trained
from mixmo_keras.common.console import say, unbreakable
from mixmo_keras.experiments import Recipe, results, run
from mixmo_keras.experiments.command_line import errors_in_one_line, parse_with
from mixmo_keras.experiments.comparison import which_to_use
from mixmo_keras.experiments.evaluating import evaluate_runs
from mixmo_keras.experiments.running import load
from mixmo_keras.experiments.task import task_of
from mixmo_keras.serving import versions

RECIPE = Recipe(
    method="cut_mixmo",
    backbone="wrn16_4",
    batch_repetitions=2,
    epochs=30,
    schedule="cosine",
)


@unbreakable()
def main(arguments: list[str] | None = None) -> dict:
    """Trains, evaluates, with a temperature where images were held out for it, and exports that; returns the figures."""
    recipe, given = parse_with(
        RECIPE,
        __doc__,
        arguments,
        folder="folder with a folder of images for each class, or DIR@SIZE, DIR@HEIGHTxWIDTH or "
        "DIR@HEIGHTxWIDTHxCHANNELS (default: @64, grey where all files are)",
        flags={"compare_single": "train the single network too, and say which of the two to use"},
    )
    with errors_in_one_line():
        if given["compare_single"] and recipe.method in ("single", "cosub"):
            raise ValueError(
                f"--compare-single has no meaning with --method {recipe.method}, which is a single network"
            )
        if given["compare_single"]:
            if reason := task_of(recipe, datasets.info(recipe.dataset, recipe.data_dir)).why_only_classes():
                raise ValueError(
                    f"--compare-single compares accuracies: {reason}. Train both, and evaluate with --compare."
                )
            check_both(recipe)
            train(recipe.with_method("single"), exported=False)  # first: the other's report has it beside it
            return train(recipe, before_export=lambda: compare_with_single(recipe))
        return train(recipe)


def check_both(recipe: Recipe) -> None:
    """Raises before the first of two trainings what would stop the second, or the comparison after it."""
    versions.check(recipe.saved_model, overwrite=True)
    for one in (recipe.with_method("single"), recipe):
        results.check_folder(one.resolved(), may_be_longer=True)
        files.check_can_be_written(one.folder, f"The run can't write {one.folder}")


def train(recipe: Recipe, exported: bool = True, before_export: Callable[[], Any] | None = None) -> dict:
    """Load → build → fit → evaluate → save, then the report, then the export with its temperature."""
    figures = run(recipe, saved_model=False, exported_later=exported)
    evaluate_runs(
        [recipe.folder],
        data_dir=recipe.data_dir,
        temperature=recipe.holds_out,
        export=recipe.saved_model if exported else None,
        before_export=before_export,
        overwrite=True,  # as a run does that is run again
    )
    if exported:
        figures["saved_model"] = str(recipe.saved_model)
        files.write_json(recipe.folder / "metrics.json", figures)
    return figures


def compare_with_single(recipe: Recipe) -> str:
    """Prints which of the two networks to use, which had as many rows and steps."""
    single = recipe.with_method("single")
    test = load(recipe.resolved()).test
    said = which_to_use(results.kept_file(recipe.folder), results.kept_file(single.folder), test)
    if not said.startswith("Use the members"):
        say(f"\n{other_ways(recipe)}")
    say(f"\n{said}")
    return said


def other_ways(recipe: Recipe) -> str:
    """What to do where the single network is not beaten: export it, and let members begin as it once it is at its end."""
    lines = [
        "The members are what is exported. The single network is too by the same command with --method single in place of "
        "--compare-single, which trains nothing again."
    ]
    if not trained.is_file(recipe.backbone):
        single = recipe.with_method("single").folder / "last.keras"
        lines.append(
            "Members that begin as a single network which knows its images by heart were more accurate than it "
            "(docs/classifiers.md): train that one to its end, with more --epochs and --method single, and then members by "
            f"--backbone {shlex.quote(str(single))}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
