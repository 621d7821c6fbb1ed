"""The table and the picture of what members gain, on figures of the test's own."""

import re

import at_a_glance
import pages
import pytest


def case(accuracies: dict[str, tuple[float, float]]) -> at_a_glance.Case:
    """A case with two seeds, whose last accuracies are one point apart and whose early-stopped ones are equal."""
    made = at_a_glance.Case("mine", "`this`", "there", "kept", ours="ours", single="one")
    figures = {
        name: {str(seed): {"accuracy %": last + seed, "stopped early %": early} for seed in (0, 1)}
        for name, (last, early) in accuracies.items()
    }
    vars(made)["figures"] = figures  # in place of kept ones
    return made


def test_the_page_has_the_table_of_kept_figures():
    page = (pages.DOCS / "results.md").read_text()
    assert f"\n\n{at_a_glance.table()}\n\n" in page, "make studies writes it anew"
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert {case.section for case in at_a_glance.CASES} <= anchors


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        (
            {"one": (50, 51), "CutMix": (56, 57), "single + SAM": (55, 58), "ours": (60, 0)},
            ["50.5 → 60.5", "**+10.0 ± 0.0**", "one network with SAM, stopped early: **+2.5 ± 0.5**"],
        ),
        (
            {"one": (50, 49), "single + SAM": (51, 50), "ours": (52, 0)},
            ["50.5 → 52.5", "**+2.0 ± 0.0**", "one network with SAM: **+1.0 ± 0.0**"],
        ),
        ({"one": (50, 49), "ours": (48, 0)}, ["50.5 → 48.5", "*-2.0 ± 0.0*", "one network: *-2.0 ± 0.0*"]),
    ],
)
def test_the_best_rival_is_the_most_accurate_at_its_last_or_best_epoch(accuracies, expected):
    assert at_a_glance.line(case(accuracies)) == ["[mine](#there)", "`this`", *expected]


def test_the_picture_shows_the_gain_on_one_network_and_on_the_best_rival(monkeypatch):
    accuracies = {"one": (50, 49), "CutMix": (56, 57), "ours": (60, 0)}
    monkeypatch.setattr(at_a_glance, "CASES", (case(accuracies),))
    [axes] = at_a_glance.chart().axes
    dots = [tuple(line.get_xydata()[0]) for line in axes.get_lines() if line.get_marker() == "o"]
    assert dots == [(10, 0), (3.5, 0)]
