"""Where some labels are wrong: members beside what else helps a network that learns from them. Runs what is missing.

    python recipes/noisy_labels.py digits --seeds 0 1 2 3 4                 a minute or two a run on one core
    python recipes/noisy_labels.py cifar10 --seeds 0 1 2 --data-dir DATA    10 to 15 minutes a run
    python recipes/noisy_labels.py cifar10 --seeds 0 1 2 --only-table       what there is

All rows of a table have the same images, wrong labels, network, rows a step and steps; two networks cost twice. The labels
of the validation images, by which trainings are stopped early and calibrated, are as wrong as those of the training images;
those of the test images are right. docs/results.md shows the tables.
"""

import argparse
import dataclasses
from pathlib import Path

import digits

from mixmo_keras.experiments import Recipe, gains

CUTMIX = dict(msda="cutmix", msda_probability=1.0, msda_alpha=1.0)
ROWS = {
    "single": gains.Row(dict(method="single")),
    "single + label smoothing": gains.Row(dict(method="single", label_smoothing=0.1)),
    "single + MixUp": gains.Row(dict(method="single", msda="mixup", msda_probability=1.0, msda_alpha=1.0)),
    "single + CutMix": gains.Row(dict(method="single", **CUTMIX)),
    "two networks": gains.Row(dict(method="single"), networks=2),
    "two networks + CutMix": gains.Row(dict(method="single", **CUTMIX), networks=2),
    "MIMO": gains.Row(dict(method="mimo", num_members=2, schedule="cosine")),
    "Linear-MixMo": gains.Row(dict(method="linear_mixmo")),
    "Cut-MixMo": gains.Row(dict(method="cut_mixmo")),
    "Cut-MixMo + CutMix": gains.Row(dict(method="cut_mixmo", **CUTMIX)),
}
SETTINGS = {
    "digits": dataclasses.replace(
        digits.RECIPE, train_images=1000, backbone="wrn10_2", epochs=40, batch_size=64, learning_rate=0.05
    ),
    "cifar10": Recipe(
        dataset="cifar10@16",  # the images at half their size
        train_images=1000,
        padding=2,
        backbone="wrn10_2",
        batch_repetitions=2,
        epochs=200,  # of two rows an image
        batch_size=64,
        learning_rate=0.025,
        schedule="cosine",
    ),
}


def main(arguments: list[str] | None = None) -> dict[str, dict[int, dict]]:
    """Runs and evaluates what is missing, unless told otherwise; prints the tables, returns the figures by row and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setting", choices=list(SETTINGS))
    parser.add_argument("--noise", type=float, default=0.4, help="rate of wrong labels (default: 0.4)")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="METHOD")
    parser.add_argument("--ours", choices=list(ROWS), default="Cut-MixMo", help="the row that others are held against")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only-table", action="store_true", help="run nothing")
    parser.add_argument("--figures", type=Path, help="JSON file to keep the table's figures in")
    parser.add_argument("--data-dir")
    parser.add_argument("--output-dir", default="runs/noisy_labels")
    options = parser.parse_args(arguments)
    base = SETTINGS[options.setting]
    base = dataclasses.replace(
        base,
        label_noise=options.noise,
        data_dir=options.data_dir,
        output_dir=f"{options.output_dir}/{options.setting}-{base.backbone}-noise{options.noise:g}",
        export_dir=f"{options.output_dir}/saved_models",
    )
    measured: dict[str, dict[int, dict]] = {name: {} for name in options.rows}
    try:
        for seed in options.seeds:
            for name in options.rows:
                figures = gains.measure(ROWS, name, base, seed, options.only_table)
                if figures is not None:
                    measured[name][seed] = figures
    except (ValueError, OSError, FloatingPointError) as error:
        raise SystemExit(f"error: {error}") from error
    measured = {name: by_seed for name, by_seed in measured.items() if by_seed}
    print(f"\n{gains.table(measured)}\n\n{gains.differences(measured, options.ours)}")
    print(f"\n{gains.differences(measured, options.ours, early=True)}")
    if options.figures:
        gains.write_figures(measured, options.figures)
    return measured


if __name__ == "__main__":
    main()
