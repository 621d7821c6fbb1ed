"""What helps beyond the papers: SAM, TrivialAugment and averaged weights, for one network and for members, at equal compute.

    python studies/beyond.py digits --seeds 0 1 2                         a minute or two a run on one core
    python studies/beyond.py digits --noise 0.4 --seeds 0 1 2             where 40 % of the labels are wrong
    python studies/beyond.py cifar10 --seeds 0 1 2 --data-dir DATA        15 to 20 minutes a run
    python studies/beyond.py cifar10-10000 --data-dir DATA                10,000 images, 24 passes: 4 to 8 minutes a run

All rows have the same images, network and rows a step. A step of SAM computes two gradients, so its rows train for half the
epochs. Data and settings, and with the same --output-dir the runs of the same name, are those of noisy_labels.py, but for
those of the 10,000 images.
"""

import dataclasses

import noisy_labels
from rows import Row
from study import Study

SETTINGS = {
    **noisy_labels.SETTINGS,
    "cifar10-10000": dataclasses.replace(noisy_labels.SETTINGS["cifar10"], train_images=10_000, epochs=12),
}
TRIVIAL = dict(policy="trivial_augment")
MEAN = dict(average_from=0.75)
MIXMO = dict(method="cut_mixmo")
ROWS = {
    "single": noisy_labels.ROWS["single"],
    "single + CutMix": noisy_labels.ROWS["single + CutMix"],
    "single + SAM": noisy_labels.ROWS["single + SAM"],
    "single + TrivialAugment": Row(dict(method="single", **TRIVIAL)),
    "single + averaged weights": Row(dict(method="single", **MEAN)),
    "MIMO, ρ = 0.5": noisy_labels.ROWS["MIMO, ρ = 0.5"],
    "Cut-MixMo": noisy_labels.ROWS["Cut-MixMo"],
    "Cut-MixMo + SAM": Row(dict(**MIXMO, **noisy_labels.SAM), times_the_epochs=0.5),
    "Cut-MixMo + TrivialAugment": Row(dict(**MIXMO, **TRIVIAL)),
    "Cut-MixMo + averaged weights": Row(dict(**MIXMO, **MEAN)),
}


STUDY = Study("beyond", SETTINGS, ROWS, folder="runs/noisy_labels")

if __name__ == "__main__":
    STUDY.main(__doc__)
