"""A network that was fine-tuned to its end on photographs: what are more epochs best spent on, and do members gain there?

    export TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1              so that processor time is that of one core
    python studies/then_members.py elpv --seeds 0 1 2 --photographs DIR   solar cells at 128 pixels, half an hour a seed
    python studies/then_members.py cifar10 --seeds 0 1 2 --data-dir DATA   CIFAR-10 enlarged to 96 pixels
    python studies/then_members.py elpv --only-table                      what there is

Data, splits and network are those of `photographs.py`, and the network is fine-tuned in the recipes' default way, for 20
epochs. Then it goes on for 8 more, at half the core's rate unless said otherwise, as one network or as members. Two networks
of 14 epochs each are what the same 28 epochs of one network cost; they take two passes to answer. Every finished run is kept
at once, so that a study that was stopped goes on.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pages
import photographs
from photographs import Arrays, Kept, Split

import mixmo_keras
from mixmo_keras.experiments import tables
from mixmo_keras.training.losses import CrossEntropy

SIZES = {"elpv": 128, "cifar10": 96}
EPOCHS, FURTHER_EPOCHS = 20, 8
TUNED = f"fine-tuned, {EPOCHS} epochs"
NETWORKS = f"two networks, {(EPOCHS + FURTHER_EPOCHS) // 2} epochs each"
ONE, LONGER = "one network", f"one network, {2 * FURTHER_EPOCHS} epochs"


@dataclasses.dataclass(frozen=True)
class Further:
    """What a fine-tuned network's further epochs are spent on.

    Attributes:
        method: A method, and its options in `from_classifier`.
        epochs: How many.
        rate: The learning rate, by the rate that the core had before.
        label_smoothing: Of the loss.
        average_from: The share of training after which weights are averaged; `None` for not.
    """

    method: Mapping[str, Any]
    epochs: int = FURTHER_EPOCHS
    rate: float = 0.5
    label_smoothing: float = 0.0
    average_from: float | None = None


SINGLE: dict[str, Any] = dict(method="single")
MIMO: dict[str, Any] = dict(method="mimo", num_members=2, input_repetition=0.5)
WAYS = {
    ONE: Further(SINGLE),
    "one network, CutMix": Further(SINGLE | dict(msda="cutmix")),
    "one network, label smoothing 0.1": Further(SINGLE, label_smoothing=0.1),
    "one network, mean of the weights": Further(SINGLE, average_from=0.5),
    "MIMO, ρ = 0.5": Further(MIMO),
    "Cut-MixMo, ρ = 0.5": Further(MIMO | dict(method="cut_mixmo")),
    "MIMO, ρ = 0.75": Further(MIMO | dict(input_repetition=0.75)),
    "MIMO, ρ = 0.5, three members": Further(MIMO | dict(num_members=3)),
    "MIMO, ρ = 0.5, twice the rate": Further(MIMO, rate=1.0),
    LONGER: Further(SINGLE, epochs=2 * FURTHER_EPOCHS),
    f"MIMO, ρ = 0.5, {2 * FURTHER_EPOCHS} epochs": Further(MIMO, epochs=2 * FURTHER_EPOCHS),
}
COLUMNS = (
    ("accuracy %", "accuracy", "{:.1f}", 100),
    ("balanced accuracy %", "balanced_accuracy", "{:.1f}", 100),
    *photographs.COLUMNS[1:],
)
COMPARED = ("accuracy", "nll", "nll_calibrated", "aurc")


def core_rate() -> float:
    """Of the recipes' default way to fine-tune."""
    return photographs.WAYS[photographs.DEFAULT]


def further(way: Further, of_seed: Split, seed: int, network: Path) -> mixmo_keras.MixMo:
    """A model that begins as a fine-tuned network."""
    model = mixmo_keras.from_classifier(network, **photographs.options_of(seed, **way.method))
    rate, loss = photographs.RATE * core_rate() * way.rate, CrossEntropy(way.label_smoothing)
    photographs.compile(model, rate, loss=loss, average_from=way.average_from)
    callbacks = [mixmo_keras.SwapAveragedWeights()] if way.average_from is not None else []
    model.fit(*of_seed.train, photographs.BATCH_SIZE, way.epochs, callbacks=callbacks, verbose=0)
    return model


def two_networks(of_seed: Split, seed: int) -> mixmo_keras.DeepEnsemble:
    """A deep ensemble whose networks together had as many epochs as one that goes on."""
    epochs = (EPOCHS + FURTHER_EPOCHS) // 2
    seeds = (1000 + 2 * seed, 1001 + 2 * seed)  # heads and order of images; not of the network that goes on
    return mixmo_keras.DeepEnsemble([photographs.fine_tuned(of_seed, one, core_rate(), epochs) for one in seeds])


def measure(kept: Kept, data: Arrays, seeds: list[int]) -> None:
    """Runs what is missing, seed by seed."""
    for seed in seeds:
        of_seed, network = photographs.split(data, seed), kept.network(TUNED, seed)
        kept.run(TUNED, seed, of_seed, lambda: photographs.fine_tuned(of_seed, seed, core_rate(), EPOCHS))  # noqa: B023
        for row, way in WAYS.items():
            kept.run(row, seed, of_seed, lambda: further(way, of_seed, seed, network))  # noqa: B023
        kept.run(NETWORKS, seed, of_seed, lambda: two_networks(of_seed, seed))  # noqa: B023


def differences(kept: dict[str, dict[str, Any]]) -> str:
    """What each way has more than the network that goes on as long, and than the one before it: mean ± standard error."""
    lines = []
    for row in kept:
        as_long = row != LONGER and row in WAYS and WAYS[row].epochs == WAYS[LONGER].epochs
        other = LONGER if as_long else ONE
        if row != other and other in kept:
            gained = photographs.compared(kept, row, TUNED, COMPARED[:1])
            lines.append([row, other, *photographs.compared(kept, row, other, COMPARED), *gained])
    head = ["way", "against", "accuracy, points", "NLL", "NLL, calibrated", "AURC", f"points against {EPOCHS} epochs"]
    return tables.markdown(head, lines)


def document() -> None:
    """Writes the tables of docs/classifiers.md."""
    for path in sorted(pages.FIGURES.glob("then_members-*.json")):
        kept = pages.read(path.stem)
        texts = {path.stem: photographs.table(kept, COLUMNS), f"{path.stem}-differences": differences(kept)}
        pages.write("classifiers.md", texts)


def main(arguments: list[str] | None = None) -> None:
    """Measures and prints the tables."""
    options = photographs.parsed(__doc__, "runs/then_members", arguments)
    kept = Kept(f"then_members-{options.data}", options.output_dir, with_network=(TUNED,))
    if not options.only_table:
        measure(kept, photographs.load(options, SIZES[options.data]), options.seeds)
    print(f"{photographs.table(kept.read(), COLUMNS)}\n\n{differences(kept.read())}")


if __name__ == "__main__":
    main()
