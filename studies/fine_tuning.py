"""A trained classifier, and what further training is best spent on: itself, an ensemble in it, or a second network.

    python studies/fine_tuning.py digits --noise 0.2 --seeds 0 1 2             a minute and a half a run on one core
    python studies/fine_tuning.py cifar10 --seeds 0 1 2 --data-dir DATA        four minutes a run
    python studies/fine_tuning.py cifar10-3000 --data-dir DATA                 3,000 images, 40 passes: four minutes a run
    python studies/fine_tuning.py cifar10-3000-long --data-dir DATA            the same with 80 passes
    python studies/fine_tuning.py cifar10 --seeds 0 1 2 --only-table           what there is

A single network is trained to the end of its schedule. Every row then has as many rows and steps again: on from these
weights by each method (`mixmo_keras.from_classifier`), or for a second network from nothing, which makes a deep ensemble
of two with the first, at twice the price in use. A step of SAM computes two gradients, so its row has half of the steps. The
test labels are right; those of training and validation are as wrong as `--noise` says.
"""

import dataclasses
from typing import Any

import noisy_labels
from rows import Row
from study import Study

CLASSIFIER, SECOND = "the classifier", "deep ensemble with a second network"
HALF: dict[str, Any] = dict(input_repetition=0.5)  # the default of members that begin as a classifier
APART: dict[str, Any] = dict(input_repetition=0.0)
MIMO: dict[str, Any] = dict(method="mimo", num_members=2, schedule="cosine")
DEFAULT = "Cut-MixMo, ρ = 0.5"  # what `from_classifier` does unless told otherwise


def further(rate: float = 1.0, times_the_epochs: float = 1.0, **changes) -> Row:
    """A row that trains on from the classifier."""
    return Row(changes, rate=rate, times_the_epochs=times_the_epochs, after=CLASSIFIER)


ROWS = {
    CLASSIFIER: Row(dict(method="single")),
    "single, further": further(method="single"),
    "single, further at a fifth of the rate": further(method="single", rate=0.2),
    "single + CutMix": further(method="single", **noisy_labels.CUTMIX),
    "single + SAM": further(method="single", **noisy_labels.SAM, times_the_epochs=0.5),
    "Cut-MixMo": further(method="cut_mixmo", **APART),
    DEFAULT: further(method="cut_mixmo", **HALF),
    "Linear-MixMo": further(method="linear_mixmo", **APART),
    "MIMO": further(**MIMO, **APART),
    "MIMO, ρ = 0.5": further(**MIMO, **HALF),
    "single, further at a tenth of the rate": further(method="single", rate=0.1),
    "Cut-MixMo at a tenth of the rate": further(method="cut_mixmo", **APART, rate=0.1),
    "MIMO, ρ = 0.5, at a tenth of the rate": further(**MIMO, **HALF, rate=0.1),
    SECOND: Row(dict(method="single"), networks=2),
}
CIFAR10 = dataclasses.replace(noisy_labels.SETTINGS["cifar10"], epochs=40)  # of two rows an image
SETTINGS = {
    "digits": noisy_labels.SETTINGS["digits"],
    "cifar10": CIFAR10,
    "cifar10-3000": dataclasses.replace(CIFAR10, train_images=3000, epochs=20),
    "cifar10-3000-long": dataclasses.replace(CIFAR10, train_images=3000),
}


STUDY = Study("fine_tuning", SETTINGS, ROWS, folder="runs/fine_tuning", ours=DEFAULT)

if __name__ == "__main__":
    STUDY.main(__doc__)
