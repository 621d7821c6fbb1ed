"""How often all members should see the same image, ρ: between a single network's training and independent members'.

    python recipes/repetition.py cifar10 --seeds 0 1 2 --data-dir DATA    two epochs of 45,000 images: six minutes a run
    python recipes/repetition.py digits --seeds 0 1 2                     a minute or two a run on one core
    python recipes/repetition.py cifar10 --docs                           tables of docs/results.md, from what was kept

ρ = 0 gives members capacity of their own alone, which a short training of a small network can't afford; ρ = 1 trains one
network. Rows say ρ, or what it falls to from 1 in the first half of training, or until its end. All rows of a table have
the same images, network, rows a step and steps.
"""

import argparse
import dataclasses
import functools
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
SETTINGS = {
    "digits": dataclasses.replace(digits.RECIPE, backbone="wrn10_2", epochs=10, batch_size=64, learning_rate=0.05),
    "cifar10": Recipe(
        dataset="cifar10",
        backbone="wrn10_1",
        batch_repetitions=2,
        epochs=2,  # of two rows an image
        batch_size=64,
        learning_rate=0.025,
        schedule="cosine",
    ),
}


def main(arguments: list[str] | None = None) -> gains_command.Measured:
    """Runs and evaluates what is missing, unless told otherwise; prints the tables, returns figures by row and seed."""
    parser = gains_command.parser(__doc__ or "", SETTINGS, ROWS, noise=0.0, folder="runs/repetition")
    parser.set_defaults(ours=SINGLE)
    options = gains_command.parse(parser, arguments)
    name = f"repetition-{options.setting}-{options.noise:g}"
    document = functools.partial(write_docs, name)
    return gains_command.run(options, DOCS / f"figures/{name}.json", measure, texts, document)


def measure(options: argparse.Namespace) -> gains_command.Measured:
    """The figures by row and seed, of runs that are there or made."""
    return gains_command.measure(options, SETTINGS, ROWS)


def texts(measured: gains_command.Measured, ours: str) -> dict[str, str]:
    """The tables by part: all figures, and differences in accuracy."""
    return {"table": gains.table(measured), "differences": gains.differences(measured, ours)}


def write_docs(name: str, measured: gains_command.Measured, shown: dict[str, str]) -> None:
    """Puts the tables into docs/results.md."""
    gains_command.write_parts(DOCS / "results.md", name, shown)


if __name__ == "__main__":
    main()
