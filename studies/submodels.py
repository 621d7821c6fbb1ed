"""cosub against one network at equal compute: a small vision transformer and a ConvNeXt, 10,000 images of CIFAR-10.

    export TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1              so that a run takes one core
    python studies/submodels.py vit --seeds 0 1 2 --data-dir DATA --keep
    python studies/submodels.py convnext --rows cosub --seeds 0 --data-dir DATA --keep      one run

DeiT's recipe, shorter: AdamW with a decay of kernels, a cosine, 3-Augment with colour jitter, MixUp or CutMix, binary
cross-entropy, a moving average of the weights. LAMB, which cosub's recipe has, moves a weight by a share of its norm: in so
few steps layer scale would stay near its 1e-6. All compute in bfloat16. A step of cosub passes twice as many rows, so that
cosub has half the epochs. Finished runs are read, and those that were stopped go on.
"""

import dataclasses
import sys
from typing import Any

import pages
from rows import Row
from study import Study

sys.path.insert(0, str(pages.DOCS.parent / "recipes"))

import cosub

CONVNEXT = dataclasses.replace(
    cosub.SETTINGS["cifar10_vit"],
    backbone="convnext_atto",
    drop_path=0.1,
    optimizer="adamw",
    learning_rate=1e-3,
    batch_size=64,
    ema=0.99,  # over a hundred steps
    train_images=10_000,
    epochs=10,
    warmup_epochs=None,  # the schedule's share, also of half the epochs
    dtype="mixed_bfloat16",
)
VIT = dataclasses.replace(  # 16 tokens: by all of that augmentation ten epochs are too few, 19 % with seed 0
    CONVNEXT, backbone="vit_tiny8", policy=None, color_jitter=None, msda_probability=0.5
)
SETTINGS = {"vit": VIT, "convnext": CONVNEXT}
SINGLE: dict[str, Any] = dict(method="single", teaching="softmax")  # whose loss is multi_hot all the same
ROWS = {
    "single network": Row(SINGLE | dict(drop_path=0.0)),
    "single network + stochastic depth": Row(SINGLE),
    "cosub": Row(dict(method="cosub"), times_the_epochs=0.5),
}

STUDY = Study("cosub", SETTINGS, ROWS, folder="runs/cosub", ours="cosub")

if __name__ == "__main__":
    STUDY.main(__doc__)
