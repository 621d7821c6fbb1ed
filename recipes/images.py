"""Trains on your own images: a folder with a folder of images for each class. Ends with a report and an exported model.

    python recipes/images.py photos                          images resized to 64×64 pixels
    python recipes/images.py photos@128 --epochs 60          ... to 128×128; photos@96x128 to 96 rows of 128
    python recipes/images.py photos@96x96x1                  ... in grey; with x3 in RGB (default: as the files are)
    python recipes/images.py photos --method single          the network without members
    python recipes/images.py photos --compare-single         both, and a sentence that says which to use
    python recipes/images.py photos --then-members           the network without members to its end, then members that begin
                                                             as it; keeps the better on validation images
    python recipes/images.py photos --task regression        numbers of a labels.csv in the folder: docs/own_images.md
    python recipes/images.py photos --keep best              tests and exports the best epoch on validation images
    python recipes/images.py photos --threshold              of two classes: the exported model names the second one from
                                                             a probability on that is chosen on validation images
    python recipes/images.py photos --backbone mine.keras    begins as the classifier in mine.keras
    python recipes/images.py photos@96 --backbone efficientnet_lite0
                                                             begins with pretrained weights, from pip; those of
                                                             keras:MobileNetV3Small or hub:PRESET are downloaded
    python recipes/search.py --dataset photos --pilot        do two members pay on these images?

A fifth of each class is kept to test on and a tenth to validate on, by which the exported model is calibrated unless
--train-split train+validation trains on it. Takes all options of the recipes: --help lists them.
Cost: 30 epochs of 2 × your images through WRN-16-4.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mixmo_keras import datasets
from mixmo_keras.common import files
from mixmo_keras.common.console import say, unbreakable
from mixmo_keras.experiments import Recipe, results, run, stages
from mixmo_keras.experiments.command_line import errors_in_one_line, parse_with
from mixmo_keras.experiments.comparison import which_to_use
from mixmo_keras.experiments.evaluating import check_threshold, evaluate_runs
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


THEN_MEMBERS = dataclasses.replace(RECIPE, method="mimo", num_members=2)  # what docs/classifiers.md measured
FLAGS = {
    "compare_single": "train the single network too, and say which of the two to use",
    "then_members": "train the single network, then members that begin as it for as many epochs; keep the better on "
    "validation images (then the default of --method is mimo, with two members)",
    "threshold": "of two classes: export a threshold of the second, chosen on validation images",
}


@unbreakable()
def main(arguments: list[str] | None = None) -> dict:
    """Trains, evaluates, with a temperature where images were held out for it, and exports that; returns the figures."""
    recipe, given = parse(RECIPE, arguments)
    if given["then_members"]:
        recipe, _ = parse(THEN_MEMBERS, arguments)
    with errors_in_one_line():
        check_flags(recipe, given)
        if given["compare_single"]:
            check_all(recipe, [recipe.with_method("single"), recipe])
            train(recipe.with_method("single"), exported=False)  # first: the other's report has it beside it
            return train(recipe, before_export=lambda: compare_with_single(recipe), threshold=given["threshold"])
        if given["then_members"]:
            check_all(recipe, [recipe.with_method("single")])
            return train_then_members(recipe, given["threshold"])
        return train(recipe, threshold=given["threshold"])


def parse(defaults: Recipe, arguments: list[str] | None) -> tuple[Recipe, dict[str, bool]]:
    """The recipe of a command line, and which flags it has."""
    folder = (
        "folder with a folder of images for each class, or DIR@SIZE, DIR@HEIGHTxWIDTH or DIR@HEIGHTxWIDTHxCHANNELS "
    )
    folder += "(default: @64, grey where all files are)"
    return parse_with(defaults, __doc__, arguments, folder=folder, flags=FLAGS)


def check_flags(recipe: Recipe, given: dict[str, bool]) -> None:
    """Raises before a training for what can't be done after it."""
    both = [name for name in ("compare_single", "then_members") if given[name]]
    if len(both) == 2:
        raise ValueError("--compare-single and --then-members both train the single network: choose one.")
    for name in both:
        flag = f"--{name.replace('_', '-')}"
        if recipe.method in ("single", "cosub"):
            raise ValueError(f"{flag} has no meaning with --method {recipe.method}, which is a single network")
        if reason := task_of(recipe, datasets.info(recipe.dataset, recipe.data_dir)).why_only_classes():
            raise ValueError(f"{flag} compares answers of classes: {reason}. Train both, and evaluate with --compare.")
    if given["then_members"] and not recipe.holds_out:
        raise ValueError("--then-members chooses on validation images, which --train-split train+validation trains on.")
    if given["threshold"]:
        check_threshold(recipe)


def check_all(recipe: Recipe, runs: Sequence[Recipe]) -> None:
    """Raises before the first of two trainings what would stop the second, or the comparison after it."""
    recipe.resolved()
    versions.check(recipe.saved_model, overwrite=True)
    for one in runs:
        results.check_folder(one.resolved(), may_be_longer=True)
        files.check_can_be_written(one.folder, f"The run can't write {one.folder}")


def train(
    recipe: Recipe, exported: bool = True, before_export: Callable[[], Any] | None = None, threshold: bool = False
) -> dict:
    """Load → build → fit → evaluate → save, then the report, then the export with its temperature."""
    figures = run(recipe, saved_model=False, exported_later=exported)
    return report(recipe, figures, str(recipe.saved_model) if exported else None, before_export, threshold)


def report(
    recipe: Recipe, figures: dict, saved_model: str | None, before_export: Callable[[], Any] | None, threshold: bool
) -> dict:
    """The report of a run, and the export with its temperature; returns the run's figures with the export's place."""
    evaluate_runs(
        [recipe.folder],
        data_dir=recipe.data_dir,
        temperature=recipe.holds_out,
        export=None if saved_model is None else Path(saved_model),
        before_export=before_export,
        threshold=threshold,
        overwrite=True,  # as a run does that is run again
    )
    if saved_model is not None:
        figures["saved_model"] = saved_model
        files.write_json(recipe.folder / "metrics.json", figures)
    return figures


def train_then_members(recipe: Recipe, threshold: bool) -> dict:
    """The single network to its end, then members that begin as it; the report and the export are of what is kept."""
    recipes, figures = [recipe.with_method("single"), stages.members_after(recipe)], []
    for one in recipes:
        if results.began_as_another_file(one):
            say("the members begin anew: the single network was trained further since")
            one = dataclasses.replace(one, fresh=True)
        figures.append(finished(one) or run(one, saved_model=False, exported_later=True))
    validation = load(recipes[0].resolved()).validation
    single, members = (results.kept_file(one.folder) for one in recipes)
    kept = stages.choose(single, members, validation)
    say(f"\n{kept.sentence(more_epochs=figures[1]['epochs'])}")
    chosen = {**figures[kept.members], "then_members": {"kept": recipes[kept.members].method, **kept.figures}}
    return report(recipes[kept.members], chosen, str(recipe.saved_model), None, threshold)


def finished(recipe: Recipe) -> dict | None:
    """The figures of a run that needs no more training; `None` where it does. Members begin as its file as it is."""
    found = None if recipe.fresh else results.finished(recipe, may_be_longer=True)
    return found if found is not None and found.get("keep") == recipe.keep else None


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
    if not recipe.begins_trained:  # of a pretrained network members gain nothing so: docs/classifiers.md
        lines.append(
            "Members that begin as a single network which knows its images by heart were more accurate than it "
            "(docs/classifiers.md): --then-members in place of --compare-single, with as many --epochs as that takes, "
            "trains the one and then the others, and keeps the better."
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
