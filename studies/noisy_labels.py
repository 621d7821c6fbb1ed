"""Where some labels are wrong: members beside what else helps a network that learns from them. Runs what is missing.

    python studies/noisy_labels.py digits --seeds 0 1 2 3 4                 a minute or two a run on one core
    python studies/noisy_labels.py cifar10 --seeds 0 1 2 --data-dir DATA    15 to 20 minutes a run
    python studies/noisy_labels.py cifar10 --seeds 0 1 2 --corrupted        also on corrupted images, a minute a run
    python studies/noisy_labels.py cifar10 --seeds 0 1 2 --only-table       what there is
    python studies/noisy_labels.py cifar10 --docs                           the tables of docs/results.md, from what was kept

The other settings of cifar10 change its width, or both width and number of images.

All rows of a table have the same images, wrong labels, network, rows a step and steps, but where a name says that it ends
after a quarter of them, or goes on for as many again. Two networks cost twice, and SAM and cosub, whose steps cost twice,
train for half the epochs. The labels of the validation images, by which trainings are stopped early and calibrated, are as
wrong as those of the training images; those of the test images are right.
"""

import argparse
import dataclasses
import functools

import gains
import gains_command
import pages

import mixmo_keras
from mixmo_keras.experiments import Recipe

OF_ONE = ("single", "narrower", "two networks", "cosub")  # how the names of rows without members begin
IN_PICTURE = 0.4  # rate of wrong labels
CUTMIX = dict(msda="cutmix", msda_probability=1.0, msda_alpha=1.0)
SAM = dict(sam=0.05)
NARROWER = "wrn10_1"  # nearly twice as fast as WRN-10-2, as that is with two images a pass
ROWS = {
    "single": gains.Row(dict(method="single")),
    "single, a quarter of the passes": gains.Row(dict(method="single"), times_the_epochs=0.25),
    "single + label smoothing": gains.Row(dict(method="single", label_smoothing=0.1)),
    "single + MixUp": gains.Row(dict(method="single", msda="mixup", msda_probability=1.0, msda_alpha=1.0)),
    "single + CutMix": gains.Row(dict(method="single", **CUTMIX)),
    "single + SAM": gains.Row(dict(method="single", **SAM), times_the_epochs=0.5),
    "narrower single": gains.Row(dict(method="single", backbone=NARROWER)),
    "narrower single + CutMix": gains.Row(dict(method="single", backbone=NARROWER, **CUTMIX)),
    "two networks": gains.Row(dict(method="single"), networks=2),
    "two networks, a quarter of the passes": gains.Row(dict(method="single"), networks=2, times_the_epochs=0.25),
    "two networks + CutMix": gains.Row(dict(method="single", **CUTMIX), networks=2),
    "MIMO": gains.Row(dict(method="mimo", num_members=2, schedule="cosine")),
    "MIMO, ρ = 0.5": gains.Row(dict(method="mimo", num_members=2, schedule="cosine", input_repetition=0.5)),
    "Linear-MixMo": gains.Row(dict(method="linear_mixmo")),
    "Cut-MixMo": gains.Row(dict(method="cut_mixmo")),
    "Cut-MixMo, ρ = 0.5": gains.Row(dict(method="cut_mixmo", input_repetition=0.5)),
    "Cut-MixMo, a quarter of the passes": gains.Row(dict(method="cut_mixmo"), times_the_epochs=0.25),
    "Cut-MixMo, twice the passes": gains.Row(dict(method="cut_mixmo"), times_the_epochs=2.0),
    "Cut-MixMo, M = 3": gains.Row(dict(method="cut_mixmo", num_members=3)),
    "Cut-MixMo + CutMix": gains.Row(dict(method="cut_mixmo", **CUTMIX)),
    "cosub": gains.Row(dict(method="cosub"), times_the_epochs=0.5),
}
PHOTOGRAPHS = Recipe(
    dataset="cifar10@16",  # the images at half their size
    train_images=1000,
    padding=2,
    backbone="wrn10_2",
    batch_repetitions=2,
    epochs=200,  # of two rows an image
    batch_size=64,
    learning_rate=0.025,
    schedule="cosine",
)
DIGITS = Recipe(
    dataset="digits",
    train_images=1000,
    crop="pad",
    padding=1,
    flip=False,  # a mirrored 2 is no digit
    method="cut_mixmo",
    backbone="wrn10_2",
    batch_repetitions=2,
    epochs=40,
    batch_size=64,
    learning_rate=0.05,
    schedule="cosine",
)
SETTINGS = {
    "digits": DIGITS,
    "cifar10": PHOTOGRAPHS,
    "cifar10-wrn10_1": dataclasses.replace(PHOTOGRAPHS, backbone="wrn10_1"),
    "cifar10-wrn10_4": dataclasses.replace(PHOTOGRAPHS, backbone="wrn10_4"),
    "cifar10-2000-wrn10_4": dataclasses.replace(PHOTOGRAPHS, train_images=2000, backbone="wrn10_4"),
}


def main(arguments: list[str] | None = None) -> gains_command.Measured:
    """Runs and evaluates what is missing, unless told otherwise; prints the tables, returns figures by row and seed."""
    parser = gains_command.parser(__doc__ or "", SETTINGS, ROWS, noise=0.4, folder="runs/noisy_labels")
    options = gains_command.parse(parser, arguments)
    name = f"noisy_labels-{options.setting}-{options.noise:g}"
    document = functools.partial(write_docs, name, options.noise)
    return gains_command.run(options, pages.FIGURES / f"{name}.json", ROWS, measure, texts, document)


def write_docs(name: str, noise: float, measured: gains_command.Measured, shown: dict[str, str]) -> None:
    """Puts the tables into docs/results.md, and draws the picture if it is of these wrong labels.

    Raises:
        ValueError: docs/results.md has no place for them.
    """
    gains_command.write_parts(name, shown)
    if noise == IN_PICTURE:
        members = [name for name in ROWS if not name.startswith(OF_ONE)]
        mixmo_keras.plots.save(gains.chart(kept_panels(noise), members), pages.DOCS / "noisy_labels.png")


def measure(options: argparse.Namespace) -> gains_command.Measured:
    """The figures by row and seed, of runs that are there or made."""
    return gains_command.measure(options, SETTINGS, ROWS)


def kept_panels(noise: float) -> dict[str, gains_command.Measured]:
    """What was kept of each setting at a rate of wrong labels, by the title of its panel."""
    titles = {"cifar10": "CIFAR-10, 400 passes or as named", "digits": "digits, 80 passes"}
    kept = {title: pages.FIGURES / f"noisy_labels-{setting}-{noise:g}.json" for setting, title in titles.items()}
    return {title: gains_command.read(path) for title, path in kept.items() if path.exists()}


def texts(measured: gains_command.Measured, ours: str) -> dict[str, str]:
    """The tables by part: all figures; differences from the others' last and best epochs, and of M a pass; corruptions."""
    return {
        "table": gains.table(measured),
        "differences": gains.differences(measured, ours),
        "stopped-early": gains.differences(measured, ours, "early"),
        "several-a-pass": gains.differences(measured, ours, "several a pass"),
        **gains_command.corrupted(measured, ours),
    }


if __name__ == "__main__":
    main()
