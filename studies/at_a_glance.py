"""Writes the table of what members gain and when nothing, and its picture, from studies/figures.

It stands first in README.md and in docs/results.md.
"""

import dataclasses
import functools
from typing import Any

import gains
import gains_command
import pages

from mixmo_keras.evaluation import plots
from mixmo_keras.experiments import tables

# page: docs/results.md, whose sections it links to, as seen from it
PAGES = {pages.DOCS.parent / "README.md": "docs/results.md", pages.DOCS / "results.md": ""}
PLACE = "at-a-glance"
HALF = "Cut-MixMo, ρ = 0.5"
NLL = "NLL, calibrated"
QUARTER = "single, a quarter of the passes"
AFTER_A_CLASSIFIER = ("single + CutMix", "single + SAM", "deep ensemble with a second network")


@dataclasses.dataclass(frozen=True)
class Case:
    """What somebody has: its figures, ours and one network's row of them, and those of other ways to the same end."""

    text: str
    use: str
    section: str  # of docs/results.md
    kept: str
    ours: str
    single: str
    others: tuple[str, ...] = ()
    panel: str = ""  # its title in the picture, where it is shown

    @functools.cached_property
    def figures(self) -> gains_command.Measured:
        """Those of the rows that are held beside each other here, by row and seed."""
        kept = gains_command.read(pages.FIGURES / f"{self.kept}.json")
        return {name: kept[name] for name in (self.single, *self.others, self.ours)}

    @property
    def rivals(self) -> dict[str, dict[str, Any]]:
        """How far ours leads each other at its last and at its early-stopped epoch, as `gains.against` has it."""
        return gains.against(self.figures, self.ours) | gains.against(self.figures, self.ours, "early")

    @property
    def best_rival(self) -> tuple[str, dict[str, Any]]:
        """The most accurate of them, whom ours leads least."""
        return min(self.rivals.items(), key=lambda rival: rival[1]["mean"])


CASES = (
    Case(
        "right labels, a long training",
        "`CutMixMo(input_repetition=0.5)`",
        "right-labels-a-long-training",
        "noisy_labels-cifar10-0",
        HALF,
        "single",
        (QUARTER, "single + CutMix", "single + SAM", "two networks"),
        "right labels, from nothing",
    ),
    Case(
        "40 % of the labels drawn at random, a long training",
        "`CutMixMo()`, or one network for fewer passes",
        "where-some-labels-are-wrong",
        "noisy_labels-cifar10-0.4",
        "Cut-MixMo",
        "single",
        (QUARTER, "single + CutMix", "single + SAM", "two networks, a quarter of the passes"),
        "40 % of the labels at random, from nothing",
    ),
    Case(
        "a classifier that knows its images by heart",
        "`from_classifier()`",
        "three-times-the-images-as-many-passes",
        "fine_tuning-cifar10-3000-long-0",
        HALF,
        "single, further",
        AFTER_A_CLASSIFIER,
        "a trained classifier, right labels",
    ),
    Case(
        "the same, 20 % of the labels drawn at random",
        "`from_classifier()`",
        "three-times-the-images-a-fifth-of-the-labels-wrong",
        "fine_tuning-cifar10-3000-long-0.2",
        HALF,
        "single, further",
        AFTER_A_CLASSIFIER,
    ),
    Case(
        "a classifier that would gain from more training",
        "one network",
        "three-times-the-images-half-the-passes",
        "fine_tuning-cifar10-3000-0",
        HALF,
        "single, further",
        ("single + CutMix", "deep ensemble with a second network"),
    ),
    Case(
        "right labels, a short training",
        "one network",
        "10000-images-24-passes",
        "beyond-cifar10-10000-0",
        "Cut-MixMo",
        "single",
        ("single + SAM", "single + TrivialAugment"),
        "right labels, a short training",
    ),
    Case(
        "40 % of the labels drawn at random, a short training",
        "one network",
        "10000-images-24-passes",
        "beyond-cifar10-10000-0.4",
        "Cut-MixMo",
        "single",
        ("single + SAM", "single + TrivialAugment"),
    ),
)


def table(results: str = "") -> str:
    """By case: accuracy and NLL of one network and of members, and what members gain on it and on their best rival.

    Args:
        results: The page with the sections that it links to. Defaults to the page that it stands in.
    """
    header = ("you have", "use", "one network %", "members %", "points", "on the best rival", f"{NLL}: one → members")
    return tables.markdown(header, [line(case, results) for case in CASES], names=2)


def line(case: Case, results: str) -> list[str]:
    """The cells of a case, with links into the page `results`."""
    single, ours, (rival, lead) = case.figures[case.single], case.figures[case.ours], case.best_rival
    return [
        f"[{case.text}]({results}#{case.section})",
        case.use,
        shown(single, gains.ACCURACY),
        shown(ours, gains.ACCURACY),
        said(case.rivals[case.single]),
        f"{'one network' if rival == case.single else rival}: {said(lead)}",
        f"{shown(single, NLL, False)} → {shown(ours, NLL, False)}",
    ]


def said(lead: dict[str, Any]) -> str:
    """A difference in points: bold where it is a gain, in italics where it is a loss."""
    mark = {"a gain": "**", "a loss": "*"}.get(lead["called"], "")
    return f"{mark}{gains.points(lead)}{mark}"


def shown(by_seed: dict[str, gains.Figures], title: str, deviation: bool = True) -> str:
    """A figure of a row, as tables show it."""
    values = [number for one in by_seed.values() if (number := one[title]) is not None]
    form = next(form for of_column, _, form, _ in gains.COLUMNS if of_column == title)
    return tables.cell(values, form, deviation)


if __name__ == "__main__":
    for page, results in PAGES.items():
        pages.write(page, {PLACE: table(results)})
    panels = {case.panel: case.figures for case in CASES if case.panel}
    plots.save(gains.chart(panels, ours=[case.ours for case in CASES], stacked=True), pages.DOCS / "at_a_glance.png")
