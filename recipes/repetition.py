"""How often all members should see the same image, ρ: between a single network's training and independent members'.

    python recipes/repetition.py cifar10 --data-dir DATA              two epochs of 45,000 images: ten minutes a run
    python recipes/repetition.py cifar10-16 --data-dir DATA           the same at half their size: three minutes a run
    python recipes/repetition.py digits --seeds 0 1 2                 less than a minute a run on one core
    python recipes/repetition.py cifar10-16 --docs                    tables of docs/results.md, from what was kept

ρ = 0 gives members capacity of their own alone, which a short training of a small network can't afford; ρ = 1 trains one
network. Rows say ρ, or what it falls to from 1 in the first half of training, or until its end. All rows of a table have
the same images, network, rows a step and steps.
"""

import dataclasses
from typing import Any

import digits
import noisy_labels

from mixmo_keras.experiments import Recipe, gains, gains_command

DOCS = noisy_labels.DOCS
METHODS: dict[str, dict[str, Any]] = {
    "Cut-MixMo": dict(method="cut_mixmo"),
    "MIMO": dict(method="mimo", num_members=2, schedule="cosine"),
}
SINGLE = "single"
RHOS = (0.0, 0.25, 0.5, 0.75, 0.9)
FALLS = ((0.0, 0.5), (0.0, 1.0), (0.5, 0.5))  # what ρ falls to, and the share of training in which it falls
ROWS = {SINGLE: gains.Row(dict(method="single")), "single + CutMix": noisy_labels.ROWS["single + CutMix"]}
for name, method in METHODS.items():
    ROWS |= {f"{name}, ρ = {rho:g}": gains.Row(dict(**method, input_repetition=rho)) for rho in RHOS}
    ROWS |= {
        f"{name}, ρ from 1 to {rho:g} in {share:.0%}": gains.Row(
            dict(**method, input_repetition=rho, repetition_decay=share)
        )
        for rho, share in FALLS
    }
SHORT = Recipe(
    dataset="cifar10",
    backbone="wrn10_1",
    batch_repetitions=2,
    epochs=2,  # of two rows an image
    batch_size=64,
    learning_rate=0.025,
    schedule="cosine",
)
SETTINGS = {
    "digits": dataclasses.replace(digits.RECIPE, backbone="wrn10_2", epochs=10, batch_size=64, learning_rate=0.05),
    "cifar10": SHORT,
    "cifar10-16": dataclasses.replace(SHORT, dataset="cifar10@16", padding=2),  # the images at half their size
}


def main(arguments: list[str] | None = None) -> gains_command.Measured:
    """Runs and evaluates what is missing, unless told otherwise; prints the tables, returns figures by row and seed."""
    return gains_command.compare(
        "repetition", __doc__ or "", SETTINGS, ROWS, DOCS, arguments, ours=SINGLE, folder="runs/repetition"
    )


if __name__ == "__main__":
    main()
