"""Where some labels are wrong: members beside what else helps a network that learns from them. Runs what is missing.

    python recipes/noisy_labels.py digits                                   seconds to minutes a run
    python recipes/noisy_labels.py cifar10 --seeds 0 1 2 --data-dir DATA    15 minutes a run on one core
    python recipes/noisy_labels.py cifar10 --only-table                     what there is

All rows of a table have the same images, wrong labels, network, rows a step and steps. The labels of the validation images
are as wrong as those of the training images; those of the test images are right.
"""

import argparse
import dataclasses

import digits

from mixmo_keras.experiments import Recipe, run_missing

METHODS = {
    "single": dict(method="single"),
    "single + label smoothing": dict(method="single", label_smoothing=0.1),
    "single + MixUp": dict(method="single", msda="mixup", msda_probability=1.0, msda_alpha=1.0),
    "single + CutMix": dict(method="single", msda="cutmix", msda_probability=1.0, msda_alpha=1.0),
    "MIMO": dict(method="mimo", num_members=2, schedule="cosine"),
    "Linear-MixMo": dict(method="linear_mixmo"),
    "Cut-MixMo": dict(method="cut_mixmo"),
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


def experiments(setting: str, noise: float, rows: list[str], seeds: list[int], **common) -> dict[str, list[Recipe]]:
    """The recipes of each row, one a seed, which is also that of the wrong labels."""
    base = dataclasses.replace(SETTINGS[setting], label_noise=noise, **common)
    return {
        name: [
            dataclasses.replace(
                base,
                seed=seed,
                data_seed=seed,
                output_dir=f"{base.output_dir}/{setting}-{base.backbone}-noise{noise:g}/{name.replace(' ', '_')}",
                **METHODS[name],
            )
            for seed in seeds
        ]
        for name in rows
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setting", choices=list(SETTINGS))
    parser.add_argument("--noise", type=float, default=0.4, help="rate of wrong labels (default: 0.4)")
    parser.add_argument("--rows", nargs="+", choices=list(METHODS), default=list(METHODS), metavar="METHOD")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--data-dir")
    parser.add_argument("--output-dir", default="runs/noisy_labels")
    options = parser.parse_args(arguments)
    folders = dict(output_dir=options.output_dir, export_dir=f"{options.output_dir}/saved_models")
    run_missing(
        experiments(options.setting, options.noise, options.rows, options.seeds, data_dir=options.data_dir, **folders)
    )


if __name__ == "__main__":
    main()
