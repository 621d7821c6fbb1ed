"""A trained classifier, and what further training is best spent on: itself, an ensemble in it, or a second network.

    python studies/fine_tuning.py digits --noise 0.2 --seeds 0 1 2             a minute and a half a run on one core
    python studies/fine_tuning.py cifar10 --seeds 0 1 2 --data-dir DATA        four minutes a run
    python studies/fine_tuning.py cifar10-3000 --data-dir DATA                 3,000 images, 40 passes: four minutes a run
    python studies/fine_tuning.py cifar10-3000-long --data-dir DATA            the same with 80 passes
    python studies/fine_tuning.py cifar10 --seeds 0 1 2 --only-table           what there is
    python studies/fine_tuning.py cifar10 --docs                               tables of docs/results.md, from what was kept

A single network is trained to the end of its schedule. Every row then has as many rows and steps again: on from these
weights by each method (`mixmo_keras.from_classifier`), or for a second network from nothing, which makes a deep ensemble
of two with the first, at twice the price in use. A step of SAM computes two gradients, so its row has half of the steps. The
test labels are right; those of training and validation are as wrong as `--noise` says.
"""

import argparse
import dataclasses
import functools

import gains
import gains_command
import noisy_labels
import pages

from mixmo_keras.common import arguments as checks

IN_CLASSIFIERS = "fine_tuning-cifar10-0"
COLUMNS_IN_CLASSIFIERS = ("accuracy %", "stopped early %", "NLL", "NLL, calibrated", "ECE, calibrated", "AURC")
RATE = 1.0  # of the learning rate that trained the classifier
APART = dict(input_repetition=0.0)  # the default of members that begin as a classifier is 0.5
DEFAULT = "Cut-MixMo, ρ = 0.5"  # what `from_classifier` does unless told otherwise
CLASSIFIER, SECOND = "the classifier", "deep ensemble with a second network"
ROWS = {
    CLASSIFIER: gains.Row(dict(method="single")),
    "single, further": gains.Row(dict(method="single")),
    "single, further at a fifth of the rate": gains.Row(dict(method="single"), rate=0.2),
    "single + CutMix": gains.Row(dict(method="single", **noisy_labels.CUTMIX)),
    "single + SAM": gains.Row(dict(method="single", **noisy_labels.SAM), times_the_epochs=0.5),
    "Cut-MixMo": gains.Row(dict(method="cut_mixmo", **APART)),
    DEFAULT: gains.Row(dict(method="cut_mixmo", input_repetition=0.5)),
    "Linear-MixMo": gains.Row(dict(method="linear_mixmo", **APART)),
    "MIMO": gains.Row(dict(method="mimo", num_members=2, schedule="cosine", **APART)),
    "MIMO, ρ = 0.5": gains.Row(dict(method="mimo", num_members=2, schedule="cosine", input_repetition=0.5)),
    "single, further at a tenth of the rate": gains.Row(dict(method="single"), rate=0.1),
    "Cut-MixMo at a tenth of the rate": gains.Row(dict(method="cut_mixmo", **APART), rate=0.1),
    "MIMO, ρ = 0.5, at a tenth of the rate": gains.Row(
        dict(method="mimo", num_members=2, schedule="cosine", input_repetition=0.5), rate=0.1
    ),
    SECOND: gains.Row(dict(method="single"), networks=2),
}
CIFAR10 = dataclasses.replace(noisy_labels.SETTINGS["cifar10"], epochs=40)  # of two rows an image
SETTINGS = {
    "digits": noisy_labels.SETTINGS["digits"],
    "cifar10": CIFAR10,
    "cifar10-3000": dataclasses.replace(CIFAR10, train_images=3000, epochs=20),
    "cifar10-3000-long": dataclasses.replace(CIFAR10, train_images=3000),
}


def main(arguments: list[str] | None = None) -> gains_command.Measured:
    """Runs and evaluates what is missing, unless told otherwise; prints the tables, returns figures by row and seed."""
    parser = gains_command.parser(__doc__ or "", SETTINGS, ROWS, noise=0.0, folder="runs/fine_tuning")
    parser.set_defaults(ours=DEFAULT)
    parser.add_argument(
        "--rate", type=float, default=RATE, help=f"of the classifier's learning rate (default: {RATE:g})"
    )
    parser.add_argument("--encoder-noise", type=float, help="in place of the default")
    options = gains_command.parse(parser, arguments)
    with checks.told_by(parser):  # these are of the second training: here, before the first
        checks.number("rate", options.rate, above=0)
        if options.encoder_noise is not None:
            checks.number("encoder_noise", options.encoder_noise, least=0)
    name = f"fine_tuning-{options.setting}-{options.noise:g}"
    document = functools.partial(write_docs, name)
    return gains_command.run(
        options, pages.FIGURES / f"{name}.json", ROWS, measure, gains_command.tables_by_part, document
    )


def write_docs(name: str, measured: gains_command.Measured, shown: dict[str, str]) -> None:
    """Puts the tables into docs/results.md, and some columns into docs/classifiers.md.

    Raises:
        ValueError: a page has no place for them.
    """
    gains_command.write_parts(name, shown)
    if name == IN_CLASSIFIERS:
        pages.write(pages.DOCS / "classifiers.md", {name: gains.table(measured, COLUMNS_IN_CLASSIFIERS)})


def measure(options: argparse.Namespace) -> gains_command.Measured:
    """The figures by row and seed, of runs that are there or made."""
    setting = SETTINGS[options.setting]
    folder = f"{options.output_dir}/{options.setting}-{setting.backbone}-noise{options.noise:g}"
    first = dataclasses.replace(
        setting,
        label_noise=options.noise,
        data_dir=options.data_dir,
        output_dir=folder,
        export_dir=f"{options.output_dir}/saved_models",
    )
    measured: gains_command.Measured = {name: {} for name in options.rows}
    for seed in options.seeds:
        if gains.measure(ROWS, CLASSIFIER, first, seed, options.only_table) is None:
            continue
        path = gains.recipes(ROWS[CLASSIFIER], CLASSIFIER, first, seed)[0].folder / "last.keras"
        further = dataclasses.replace(
            first,
            backbone=str(path),
            learning_rate=options.rate * (first.learning_rate or 0),
            encoder_noise=options.encoder_noise,
        )
        for name in options.rows:
            base = first if name in (CLASSIFIER, SECOND) else further
            figures = gains.measure(ROWS, name, base, seed, options.only_table, options.corrupted)
            if figures is not None:
                measured[name][str(seed)] = figures
    return {name: by_seed for name, by_seed in measured.items() if by_seed}


if __name__ == "__main__":
    main()
