"""How often all members should see the same image, ρ: between a single network's training and independent members'.

    python studies/repetition.py cifar10 --data-dir DATA              two epochs of 45,000 images: ten minutes a run
    python studies/repetition.py cifar10-16 --data-dir DATA           the same at half their size: three minutes a run
    python studies/repetition.py digits --seeds 0 1 2                 less than a minute a run on one core

ρ = 0 gives members capacity of their own alone, which a short training of a small network can't afford; ρ = 1 trains one
network. Rows say ρ, or what it falls to from 1 in the first half of training, or until its end. All rows of a table have
the same images, network, rows a step and steps.
"""

import dataclasses

import noisy_labels
from rows import Row
from study import Study

METHODS = ("Cut-MixMo", "MIMO")
SINGLE = "single"
RHOS = (0.0, 0.25, 0.5, 0.75, 0.9)
FALLS = ((0.0, 0.5), (0.0, 1.0), (0.5, 0.5))  # what ρ falls to, and the share of training in which it falls
ROWS = {name: noisy_labels.ROWS[name] for name in (SINGLE, "single + CutMix")}
for name in METHODS:
    method = noisy_labels.ROWS[name].changes
    ROWS |= {f"{name}, ρ = {rho:g}": Row(dict(**method, input_repetition=rho)) for rho in RHOS}
    ROWS |= {
        f"{name}, ρ from 1 to {rho:g} in {share:.0%}": Row(dict(**method, input_repetition=rho, repetition_decay=share))
        for rho, share in FALLS
    }
SHORT = dataclasses.replace(noisy_labels.SETTINGS["cifar10"], train_images=None, backbone="wrn10_1", epochs=2)
SETTINGS = {
    "digits": dataclasses.replace(noisy_labels.SETTINGS["digits"], train_images=None, epochs=10),
    "cifar10": dataclasses.replace(SHORT, dataset="cifar10", padding=4),
    "cifar10-16": SHORT,  # the images at half their size
}


STUDY = Study("repetition", SETTINGS, ROWS, folder="runs/repetition", ours=SINGLE)

if __name__ == "__main__":
    STUDY.main(__doc__)
