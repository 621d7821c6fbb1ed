"""Where some labels are wrong: members beside what else helps a network that learns from them. Runs what is missing.

    python studies/noisy_labels.py digits --seeds 0 1 2 3 4                 a minute or two a run on one core
    python studies/noisy_labels.py cifar10 --seeds 0 1 2 --data-dir DATA    15 to 20 minutes a run
    python studies/noisy_labels.py cifar10 --seeds 0 1 2 --corrupted        also on corrupted images, a minute a run
    python studies/noisy_labels.py cifar10 --seeds 0 1 2 --only-table       what there is

The other settings of cifar10 change its width, or both width and number of images.

All rows of a table have the same images, wrong labels, network, rows a step and steps, but where a name says that it ends
after a quarter of them, or goes on for as many again. Two networks cost twice, and SAM and cosub, whose steps cost twice,
train for half the epochs. The labels of the validation images, by which trainings are stopped early and calibrated, are as
wrong as those of the training images; those of the test images are right.
"""

import dataclasses
from typing import Any

from rows import Row
from study import Study

from mixmo_keras.experiments import Recipe

CUTMIX: dict[str, Any] = dict(msda="cutmix", msda_probability=1.0, msda_alpha=1.0)
SAM: dict[str, Any] = dict(sam=0.05)
NARROWER = "wrn10_1"  # nearly twice as fast as WRN-10-2, as that is with two images a pass
ROWS = {
    "single": Row(dict(method="single")),
    "single, a quarter of the passes": Row(dict(method="single"), times_the_epochs=0.25),
    "single + label smoothing": Row(dict(method="single", label_smoothing=0.1)),
    "single + MixUp": Row(dict(method="single", msda="mixup", msda_probability=1.0, msda_alpha=1.0)),
    "single + CutMix": Row(dict(method="single", **CUTMIX)),
    "single + SAM": Row(dict(method="single", **SAM), times_the_epochs=0.5),
    "narrower single": Row(dict(method="single", backbone=NARROWER)),
    "narrower single + CutMix": Row(dict(method="single", backbone=NARROWER, **CUTMIX)),
    "two networks": Row(dict(method="single"), networks=2),
    "two networks, a quarter of the passes": Row(dict(method="single"), networks=2, times_the_epochs=0.25),
    "two networks + CutMix": Row(dict(method="single", **CUTMIX), networks=2),
    "MIMO": Row(dict(method="mimo", num_members=2, schedule="cosine")),
    "MIMO, ρ = 0.5": Row(dict(method="mimo", num_members=2, schedule="cosine", input_repetition=0.5)),
    "Linear-MixMo": Row(dict(method="linear_mixmo")),
    "Cut-MixMo": Row(dict(method="cut_mixmo")),
    "Cut-MixMo, ρ = 0.5": Row(dict(method="cut_mixmo", input_repetition=0.5)),
    "Cut-MixMo, a quarter of the passes": Row(dict(method="cut_mixmo"), times_the_epochs=0.25),
    "Cut-MixMo, twice the passes": Row(dict(method="cut_mixmo"), times_the_epochs=2.0),
    "Cut-MixMo, M = 3": Row(dict(method="cut_mixmo", num_members=3)),
    "Cut-MixMo + CutMix": Row(dict(method="cut_mixmo", **CUTMIX)),
    "cosub": Row(dict(method="cosub"), times_the_epochs=0.5),
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
    dtype="float32",  # as the figures that were kept
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
    dtype="float32",
)
SETTINGS = {
    "digits": DIGITS,
    "cifar10": PHOTOGRAPHS,
    "cifar10-wrn10_1": dataclasses.replace(PHOTOGRAPHS, backbone="wrn10_1"),
    "cifar10-wrn10_4": dataclasses.replace(PHOTOGRAPHS, backbone="wrn10_4"),
    "cifar10-2000-wrn10_4": dataclasses.replace(PHOTOGRAPHS, train_images=2000, backbone="wrn10_4"),
}


WITH_MEMBERS = [name for name in ROWS if not name.startswith(("single", "narrower", "two networks", "cosub"))]
STUDY = Study(
    "noisy_labels",
    SETTINGS,
    ROWS,
    folder="runs/noisy_labels",
    noise=0.4,
    held=("last", "early", "several a pass"),
)

if __name__ == "__main__":
    STUDY.main(__doc__)
