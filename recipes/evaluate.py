"""Evaluates what a recipe trained, or any saved model: a table, and a report to open in a browser.

    python recipes/evaluate.py runs/cifar10-cut_mixmo-wrn16_2-seed0 --data-dir .data --temperature
    python recipes/evaluate.py RUN --data-dir .data --temperature --multiplexed
    python recipes/evaluate.py RUN --data-dir .data --ood tiny_imagenet --corruptions on_the_fly
    python recipes/evaluate.py RUN --data-dir .data --ood svhn --corruptions cifar10_c --corruption-images 10000
    python recipes/evaluate.py RUN RUN --ensemble --output-dir runs/deep-ensemble --data-dir .data
    python recipes/evaluate.py model.keras --dataset cifar10 --data-dir .data --output-dir runs/mine
    python recipes/evaluate.py RUN --data-dir .data --label-issues
    python recipes/evaluate.py RUN --temperature --export saved_models/digits
    python recipes/evaluate.py --compare EVALUATION EVALUATION ... --output-dir runs/comparison
    python recipes/evaluate.py --compare RUN plain.keras

A RUN is a folder that a recipe wrote; its last.keras is evaluated on its dataset's test split, and metrics.json, metrics.csv
and report.html are written into RUN/evaluation/, or into --output-dir; of a folder of images answers.csv too, the answer to
each test image by the name of its file. --label-issues adds label_issues.csv, the training
images in the order of how suspicious their labels are. --compare reads such folders and sets them side by side, with
mean ± standard deviation over runs that differ in their seed alone; a .keras file among them is evaluated first, on the
runs' test images. A .keras file may hold a plain Keras classifier: it is evaluated as a single network.
"""

import argparse
from pathlib import Path

from mixmo_keras.common.console import say, unbreakable
from mixmo_keras.experiments.command_line import errors_in_one_line
from mixmo_keras.experiments.comparison import compare_evaluations, evaluated
from mixmo_keras.experiments.evaluating import evaluate_runs
from mixmo_keras.experiments.shifted_data import CORRUPTED


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; what is not given is not in it."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("paths", nargs="+", type=Path, help="folders of runs, or .keras files")
    parser.add_argument("--ensemble", action="store_true", help="take the networks of all paths as one deep ensemble")
    parser.add_argument("--compare", action="store_true", help="set evaluations side by side")
    parser.add_argument("--dataset", help="a name or a folder (default: the run's own)")
    parser.add_argument("--data-dir", help="folder of TensorFlow Datasets (default: MIXMO_DATA_DIR, else TFDS' own)")
    parser.add_argument("--temperature", action="store_true", help="calibrate on the validation split")
    parser.add_argument("--multiplexed", action="store_true", help="evaluate M images a pass too, and their partners")
    parser.add_argument("--save-calibrated", action="store_true", help="save the calibrated model beside the report")
    parser.add_argument("--export", type=Path, metavar="PATH", help="export it with its figures: mixmo_keras.export")
    parser.add_argument("--coverage", type=float, help="of conformal sets (default: 0.9)")
    parser.add_argument(
        "--threshold",
        action="store_true",
        help="of two classes: name one from a probability on that is chosen on the validation split, in what is saved or "
        "exported",
    )
    parser.add_argument("--ood", metavar="NAME", help="dataset of images from elsewhere, such as svhn, imagenet_a")
    parser.add_argument(
        "--corruptions",
        choices=CORRUPTED,
        help=", ".join(CORRUPTED[:-1]) + ": the dataset's",
    )
    parser.add_argument("--corruption-images", type=int, help="of the test split (default: 2000)")
    parser.add_argument(
        "--label-noise",
        type=lambda text: text if text == "estimate" else float(text),
        metavar="RATE",
        help="of wrong labels among those of --temperature, or: estimate",
    )
    parser.add_argument(
        "--label-issues", action="store_true", help="rank the labels of the training images: which are wrong?"
    )
    parser.add_argument("--output-dir", type=Path, help="default: the run's evaluation/; to compare: runs/comparison")
    options = parser.parse_args(arguments)
    used = {"paths", "compare", "output_dir"}
    if any(path.suffix == ".keras" for path in options.paths):  # which is evaluated first
        used |= {"dataset", "data_dir"}
    if "compare" in options and (unused := set(vars(options)) - used):
        parser.error(f"--compare evaluates nothing, and has no use for: {', '.join(sorted(unused))}")
    if "corruption_images" in options and not ("corruptions" in options and options.corruption_images > 0):
        parser.error("--corruption-images needs --corruptions, and an image at least")
    return options


@unbreakable()
def main(arguments: list[str] | None = None) -> dict | str:
    """Evaluates or compares, as the command line says."""
    options = vars(parse(arguments))
    with errors_in_one_line():
        if not options.pop("compare", False):
            return evaluate_runs(**options)
        folder = options.get("output_dir", Path("runs/comparison"))
        evaluations = evaluated(options["paths"], folder, options.get("dataset"), options.get("data_dir"))
        text = compare_evaluations(evaluations, folder)
    say(text)
    return text


if __name__ == "__main__":
    main()
