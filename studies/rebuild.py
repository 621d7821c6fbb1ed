"""Writes all tables and pictures of the documentation that come from kept figures, without measuring: `make studies`."""

import at_a_glance
import beyond
import both_modes
import fast
import fast_members
import fine_tuning
import gains
import int8
import load
import memory
import noisy_labels
import pages
import photographs
import precision
import repetition
import submodels
import tasks
import then_members

from mixmo_keras.evaluation import plots

HALF = "Cut-MixMo, ρ = 0.5"
OURS = {"noisy_labels-cifar10-0": HALF, "noisy_labels-cifar10-wrn10_4-0": HALF}  # where it isn't the study's own choice
IN_CLASSIFIERS = ("accuracy %", "stopped early %", "NLL", "NLL, calibrated", "ECE, calibrated", "AURC")
PANELS = {
    "cifar10": "CIFAR-10, 400 passes or as named",
    "digits": "digits, 80 passes",
}  # of the picture of wrong labels


def main() -> None:
    """Writes them."""
    for study in (
        noisy_labels.STUDY,
        beyond.STUDY,
        fine_tuning.STUDY,
        repetition.STUDY,
        submodels.STUDY,
        fast_members.STUDY,
    ):
        for path in sorted(pages.FIGURES.glob(f"{study.name}-*.json")):
            study.document(path.stem, OURS.get(path.stem, study.ours))
    classifiers = gains.table(pages.read("fine_tuning-cifar10-0"), IN_CLASSIFIERS)
    pages.write("classifiers.md", {"fine_tuning-cifar10-0": classifiers})
    panels = {title: pages.read(f"noisy_labels-{setting}-0.4") for setting, title in PANELS.items()}
    plots.save(gains.chart(panels, noisy_labels.WITH_MEMBERS), pages.DOCS / "noisy_labels.png")
    at_a_glance.document()
    both_modes.document()
    fast.document()
    int8.document()
    load.document()
    memory.document()
    photographs.document()
    precision.document()
    tasks.document()
    then_members.document()


if __name__ == "__main__":
    main()
