"""The table of what members gain and lose, first in docs/results.md, and its picture, first in README.md too."""

import dataclasses
import functools
import textwrap
from typing import Any

import gains
import pages
from matplotlib.figure import Figure
from rows import Figures, Measured

from mixmo_keras.evaluation import plots
from mixmo_keras.evaluation.report import charts
from mixmo_keras.experiments import tables

HALF = "Cut-MixMo, ρ = 0.5"
QUARTER = "single, a quarter of the passes"
# what rows of the kept figures are called in a table that is read alone
RIVALS = {
    "two networks": "two networks",
    "two networks, a quarter of the passes": "two networks, trained for 100 passes",
    "single + SAM": "one network with SAM",
}
AFTER_A_CLASSIFIER = ("single + CutMix", "single + SAM", "deep ensemble with a second network")


@dataclasses.dataclass(frozen=True)
class Case:
    """A situation of a user: members and one network in it, and other ways to the same end."""

    text: str
    use: str
    section: str  # of docs/results.md
    kept: str  # its file in studies/figures
    ours: str  # the members' row of that file
    single: str  # the row of one network that is trained as long
    others: tuple[str, ...] = ()  # the rows of other rivals

    @functools.cached_property
    def figures(self) -> Measured:
        """The figures of the compared rows, by row and seed."""
        kept = pages.read(self.kept)
        return {name: kept[name] for name in (self.single, *self.others, self.ours)}

    @property
    def rivals(self) -> dict[str, dict[str, Any]]:
        """By how many points members lead each rival at its last and at its early-stopped epoch: see `gains.against`."""
        return gains.against(self.figures, self.ours) | gains.against(self.figures, self.ours, "early")

    @property
    def best_rival(self) -> tuple[str, dict[str, Any]]:
        """The most accurate rival: the one that members lead least."""
        return min(self.rivals.items(), key=lambda rival: rival[1]["mean"])


CASES = (
    Case(
        "1,000 images, right labels, 400 passes",
        "`CutMixMo(input_repetition=0.5)`",
        "right-labels-a-long-training",
        "noisy_labels-cifar10-0",
        HALF,
        "single",
        (QUARTER, "single + CutMix", "single + SAM", "two networks"),
    ),
    Case(
        "1,000 images, 40 % of the labels random, 400 passes",
        "`CutMixMo()`, or one network for fewer passes",
        "where-some-labels-are-wrong",
        "noisy_labels-cifar10-0.4",
        "Cut-MixMo",
        "single",
        (QUARTER, "single + CutMix", "single + SAM", "two networks, a quarter of the passes"),
    ),
    Case(
        "a classifier that knows its 3,000 images by heart",
        "`from_classifier()`",
        "three-times-the-images-as-many-passes",
        "fine_tuning-cifar10-3000-long-0",
        HALF,
        "single, further",
        AFTER_A_CLASSIFIER,
    ),
    Case(
        "a classifier that knows 3,000 images by heart, 20 % of the labels random",
        "`from_classifier()`",
        "three-times-the-images-a-fifth-of-the-labels-wrong",
        "fine_tuning-cifar10-3000-long-0.2",
        HALF,
        "single, further",
        AFTER_A_CLASSIFIER,
    ),
    Case(
        "a classifier of 3,000 images that still learns",
        "one network",
        "three-times-the-images-half-the-passes",
        "fine_tuning-cifar10-3000-0",
        HALF,
        "single, further",
        ("single + CutMix", "deep ensemble with a second network"),
    ),
    Case(
        "10,000 images, right labels, 24 passes",
        "one network",
        "10000-images-24-passes",
        "beyond-cifar10-10000-0",
        "Cut-MixMo",
        "single",
        ("single + SAM", "single + TrivialAugment"),
    ),
    Case(
        "10,000 images, 40 % of the labels random, 24 passes",
        "one network",
        "10000-images-24-passes",
        "beyond-cifar10-10000-0.4",
        "Cut-MixMo",
        "single",
        ("single + SAM", "single + TrivialAugment"),
    ),
)


def table() -> str:
    """By case: the accuracy of one network and of members, and what members gain on it and on their best rival."""
    header = ("you have", "use", "accuracy %, one network → members", "gain in points", "gain on the best rival")
    return tables.markdown(header, [line(case) for case in CASES], names=2)


def line(case: Case) -> list[str]:
    """The cells of a case."""
    rival, lead = case.best_rival
    row, stopped_early, _ = rival.partition(", stopped early")
    name = "one network" if row == case.single else RIVALS.get(row, row)
    return [
        f"[{case.text}](#{case.section})",
        case.use,
        f"{accuracy(case.figures[case.single])} → {accuracy(case.figures[case.ours])}",
        marked(case.rivals[case.single]),
        f"{name}{stopped_early}: {marked(lead)}",
    ]


def marked(lead: dict[str, Any]) -> str:
    """A difference in points: bold where it is a gain, in italics where it is a loss."""
    mark = {"a gain": "**", "a loss": "*"}.get(lead["called"], "")
    return f"{mark}{gains.points(lead)}{mark}"


def accuracy(by_seed: dict[str, Figures]) -> str:
    """The mean accuracy of a row over its seeds, in percent."""
    return tables.cell(gains.values(by_seed, gains.ACCURACY), "{:.1f}", deviation=False)


def chart() -> Figure:
    """What members gain on one network (filled) and on their best rival (hollow), in points; bars are standard errors."""
    figure = Figure(figsize=(8.4, 0.46 * len(CASES) + 1.2), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color=charts.GREY, linewidth=1)
    for place, case in enumerate(reversed(CASES)):
        gain, (_, lead) = case.rivals[case.single], case.best_rival
        single, best = (dict(x=one["mean"], y=place, xerr=one["standard_error"], fmt="o") for one in (gain, lead))
        axes.errorbar(**single, color=charts.BLUE, zorder=3, label="on one network, trained as long")
        best |= dict(color=charts.GREY, markerfacecolor="white", markersize=9)
        axes.errorbar(**best, label="on the best of several rivals")
    axes.set_yticks(range(len(CASES)), [textwrap.fill(case.text, 40) for case in reversed(CASES)])
    axes.set_ylim(-0.6, len(CASES) - 0.4)
    axes.set_xlabel("points of accuracy that members gain (right of 0) or lose (left)")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    handles, names = axes.get_legend_handles_labels()
    shown = dict(zip(names, handles, strict=True))
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def document() -> None:
    """Writes the table and the picture."""
    pages.write("results.md", {"at-a-glance": table()})
    plots.save(chart(), pages.DOCS / "at_a_glance.png")
