"""Members at 89 % on CIFAR-10: the fast recipe's network beside its rivals, at equal training cost.

    export TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1              so that a run takes one core
    python studies/fast_members.py cifar10 --seeds 0 1 2 --data-dir DATA --corrupted --keep      a quarter of an hour a run
    python studies/fast_members.py cifar10 --rows "Cut-MixMo, ρ = 0.5" --seeds 0 --data-dir DATA --keep      one run

45,000 images at 32 pixels, recipes/cifar10_fast.py's settings; 5,000 images are held out. Every row computes as much in
training as the single network does in ten epochs: a step of SAM costs two, a network half as wide again 2.25, two networks
have half the epochs each. Rows that begin as the trained network have five epochs more than it.
"""

import dataclasses
import sys
from typing import Any

import noisy_labels
import pages
from rows import Row
from study import Study

sys.path.insert(0, str(pages.DOCS.parent / "recipes"))

import cifar10_fast

SINGLE: dict[str, Any] = dict(method="single")
CUT_MIXMO: dict[str, Any] = dict(method="cut_mixmo", num_members=2, input_repetition=0.5, batch_repetitions=1)
MIMO: dict[str, Any] = CUT_MIXMO | dict(method="mimo", schedule="airbench")
TRAINED = "single network"
FURTHER: dict[str, Any] = dict(schedule="cosine", learning_rate=0.15)  # a tenth of the highest before


def further(**changes) -> Row:
    """A row that begins as the trained network."""
    return Row({**changes, **FURTHER}, times_the_epochs=0.5, after=TRAINED)


ROWS = {
    TRAINED: Row(SINGLE),
    "single + CutMix": Row(SINGLE | noisy_labels.CUTMIX),
    "single + SAM": Row(SINGLE | noisy_labels.SAM, times_the_epochs=0.5),
    "wider single": Row(SINGLE | dict(backbone="airbench96"), times_the_epochs=1 / 2.25),
    "single, half the epochs": Row(SINGLE, times_the_epochs=0.5),
    "two networks, half the epochs each": Row(SINGLE, networks=2, times_the_epochs=0.5),
    "Cut-MixMo, ρ = 0.5": Row(CUT_MIXMO),
    "MIMO, ρ = 0.5": Row(MIMO),
    "then single": further(**SINGLE),
    "then single + CutMix": further(**SINGLE, **noisy_labels.CUTMIX),
    "then Cut-MixMo, ρ = 0.5": further(**CUT_MIXMO),
    "then MIMO, ρ = 0.5": further(**MIMO),
}
SETTINGS = {"cifar10": dataclasses.replace(cifar10_fast.RECIPE, train_split="train", views=1, dtype="mixed_bfloat16")}
STUDY = Study("fast_members", SETTINGS, ROWS, folder="runs/fast_members", ours="Cut-MixMo, ρ = 0.5")

if __name__ == "__main__":
    STUDY.main(__doc__)
