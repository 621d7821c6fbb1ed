"""Measured figures as tables and charts: what each method reaches, and what one gains on another."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from rows import COLUMNS, CORRUPTED, PARTNERS, Measured

from mixmo_keras.evaluation.report import charts
from mixmo_keras.experiments import tables
from mixmo_keras.metrics.differences import SURE, mean_and_deviation, paired

TITLES = tuple(title for title, *_ in COLUMNS)
ACCURACY, STOPPED_EARLY, _, SEVERAL_A_PASS = TITLES[:4]
OF_CORRUPTED = CORRUPTED[0][0]
# by name: our column, the others' column, and what is written beside a row's name
HELD = {
    "last": (ACCURACY, ACCURACY, ""),
    "early": (ACCURACY, STOPPED_EARLY, ", stopped early"),
    "several a pass": (SEVERAL_A_PASS, SEVERAL_A_PASS, ", M images a pass"),  # the usual accuracy, if it can't do that
    "corrupted": (OF_CORRUPTED, OF_CORRUPTED, ", corrupted"),
}


def difference(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """The mean difference of figures by seed, its standard error, and what it may be called."""
    gain, seeds = paired(ours, theirs), len(ours)
    if seeds == 1:
        return {"mean": gain.mean, "standard_error": None, "seeds": seeds, "called": "one seed"}
    called = "no difference" if not gain.is_sure else "a gain" if gain.mean > 0 else "a loss"
    return {"mean": gain.mean, "standard_error": gain.error, "seeds": seeds, "called": called}


def values(by_seed: Mapping[str, Mapping], title: str) -> list[float]:
    """What is known of a column, by seed."""
    return [number for one in by_seed.values() if (number := one.get(title)) is not None]


def table(measured: Measured, titles: Sequence[str] = TITLES) -> str:
    """Rows by columns in Markdown, mean ± standard deviation over seeds."""
    shown = [(title, form) for title, _, form, _ in (*COLUMNS, *PARTNERS, *CORRUPTED) if title in titles]
    lines = [
        [name, *(tables.cell(values(by_seed, title), form) for title, form in shown), f"{len(by_seed)}"]
        for name, by_seed in measured.items()
    ]
    return tables.markdown(["method", *(title for title, _ in shown), "seeds"], lines)


def differences(measured: Measured, ours: str, held: str = "last") -> str:
    """How much more accurate, in points, the row `ours` is than each other, and whether that is a gain.

    Args:
        measured: Figures by row and seed.
        ours: The row.
        held: A key of `HELD`: `"last"`, the last epochs; `"early"`, our last epoch against theirs that validation images
            choose; `"several a pass"`, M images a pass where the other can do that too, and its usual answers where not;
            or `"corrupted"`, on corrupted images.
    """
    lines = [[name, points(result), result["called"]] for name, result in against(measured, ours, held).items()]
    own, _, state = HELD[held]
    title = ours if own == ACCURACY else f"{ours}{state},"
    return tables.markdown([f"{title} against", "points ± standard error", f"beyond {SURE} standard errors"], lines)


def points(result: Mapping[str, Any]) -> str:
    """A difference with its sign, and its standard error where there is one."""
    error = "" if result["standard_error"] is None else f" ± {result['standard_error']:.1f}"
    return f"{result['mean']:+.1f}{error}"


def against(measured: Measured, ours: str, held: str = "last") -> dict[str, dict[str, Any]]:
    """The differences of `differences`, as `difference` gives them, by the other row's name."""
    own, theirs, state = HELD[held]
    found = {}
    for name, by_seed in measured.items():
        seeds = sorted(set(by_seed) & set(measured.get(ours, {})))
        if name == ours or not seeds:
            continue
        usual = theirs == SEVERAL_A_PASS and any(by_seed[seed].get(theirs) is None for seed in seeds)
        column = ACCURACY if usual else theirs
        pairs = [(measured[ours][seed].get(own), by_seed[seed].get(column)) for seed in seeds]
        known = [(mine, other) for mine, other in pairs if mine is not None and other is not None]
        if known:
            found[name if usual else f"{name}{state}"] = difference(*zip(*known, strict=True))
    return found


def chart(panels: Mapping[str, Measured], ours: Sequence[str]) -> Figure:
    """Accuracy after the last epoch of each row, and that of the epoch which validation images would choose.

    Args:
        panels: Figures by title of a panel, row and seed. Dots are means over seeds, thin bars standard deviations.
        ours: The rows that stand out by their colour.
    """
    heights = [len(measured) for measured in panels.values()]
    figure = Figure(figsize=(5.2 * len(panels), 0.42 * max(heights) + 1.5), layout="constrained")
    places = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, measured) in zip(places, panels.items(), strict=True):
        for place, (name, by_seed) in enumerate(reversed(measured.items())):
            color = charts.BLUE if name in ours else charts.GREY
            last, early = (mean_and_deviation(values(by_seed, column)) for column in (ACCURACY, STOPPED_EARLY))
            axes.plot([early[0], last[0]], [place, place], color=charts.GREY, linewidth=1, zorder=1)
            axes.errorbar(last[0], place, xerr=last[1], fmt="o", color=color, label="after the last epoch")
            axes.plot(early[0], place, "o", color=color, markerfacecolor="white", label="stopped early")
        seeds = {len(by_seed) for by_seed in measured.values()}
        axes.set_yticks(range(len(measured)), list(measured)[::-1])
        axes.set_ylim(-0.6, len(measured) - 0.4)
        axes.set_title(f"{title} ({'–'.join(map(str, sorted({min(seeds), max(seeds)})))} seeds)", fontsize=10)
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in places:
        axes.set_xlabel("accuracy on right labels, %")
    handles, names = axes.get_legend_handles_labels()
    shown = dict(zip(names, handles, strict=True))
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure
