"""Trains on your own images: a folder with a folder of images for each class. Ends with a report and an exported model.

    python recipes/images.py photos                          images resized to 64×64 pixels
    python recipes/images.py photos@128 --epochs 60          ... to 128×128
    python recipes/images.py photos --method single          the network without members
    python recipes/images.py photos --compare-single         both, and a sentence that says which to use
    python recipes/images.py photos --backbone mine.keras    begins as the classifier in mine.keras
    python recipes/search.py --dataset photos --pilot        do two members pay on these images?

A fifth of each class is kept to test on and a tenth to validate on, by which the exported model is calibrated unless
--train-split train+validation trains on it. Takes all options of the recipes: --help lists them.
Cost: 30 epochs of 2 × your images through WRN-16-4.
"""

import sys

import evaluate

from mixmo_keras.experiments import Recipe, main, parse
from mixmo_keras.experiments.comparison import which_to_use
from mixmo_keras.experiments.run import load
from mixmo_keras.experiments.run import run as run_recipe

RECIPE = Recipe(
    method="cut_mixmo",
    backbone="wrn16_4",
    batch_repetitions=2,
    epochs=30,
    schedule="cosine",
)


def run(arguments: list[str]) -> dict:
    """Trains, evaluates, with a temperature where images were held out for it, and exports that as the next version."""
    if not arguments or arguments[0].startswith("-"):
        if {"-h", "--help"} & set(arguments):
            main(RECIPE, __doc__, ["--help"])
        raise SystemExit("error: say which folder of class folders: python recipes/images.py DIR")
    arguments = ["--dataset", *arguments]
    compare = "--compare-single" in arguments
    arguments = [argument for argument in arguments if argument != "--compare-single"]
    recipe = parse(RECIPE, __doc__, arguments)
    if compare and recipe.method in ("single", "cosub"):
        raise SystemExit(
            f"error: --compare-single has no meaning with --method {recipe.method}, which is a single network"
        )
    figures = main(RECIPE, __doc__, arguments)  # load → build → fit → evaluate → save → export
    temperature = ["--temperature"] if recipe.holds_out else []
    evaluate.main([str(recipe.folder), *temperature, "--export", str(recipe.saved_model.parent)])  # the next version
    if compare:
        compare_with_single(recipe, temperature)
    return figures


def compare_with_single(recipe: Recipe, temperature: list[str]) -> str:
    """Trains the single network on as many rows and steps, evaluates it, and prints which of the two to use."""
    single = recipe.with_method("single")
    run_recipe(single)
    evaluate.main([str(single.folder), *temperature])
    test = load(recipe.resolved()).test
    said = which_to_use(recipe.folder / "last.keras", single.folder / "last.keras", test)
    print(f"\n{said}")
    return said


if __name__ == "__main__":
    run(sys.argv[1:])
