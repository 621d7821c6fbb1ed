"""The papers' figures over a setting (width, training time, p, r, M, ρ) as a picture: published beside ours."""

import itertools
from collections.abc import Mapping

from matplotlib.figure import Figure
from paper_tables import Experiment, Table

from mixmo_keras.evaluation.report import charts
from mixmo_keras.metrics.differences import mean_and_deviation

COLORS = (charts.BLUE, charts.RED, charts.GREY)


def method(row: Experiment) -> str:
    """The name of the line that an experiment is a point of."""
    name = " + ".join(filter(None, [row.recipe.method, row.recipe.msda]))
    return name if row.networks == 1 else f"{row.networks} × {name}"


def draw(table: Table, accuracies: Mapping[str, list[float]], whose: str = "ours") -> Figure:
    """Accuracy over the setting: hollow and dashed what the paper has, full what runs here gave, with its deviation.

    Args:
        table: One that has a `curve`.
        accuracies: Of an experiment's name, those of runs here, in percent, one for each seed.
        whose: What the legend calls them.
    """
    label, value_of = table.curve or ("", lambda row: None)
    lines: dict[str, list[tuple[float, str]]] = {}
    for name, row in table.rows.items():
        if (value := value_of(row)) is not None:  # r = None has no place on the axis: its loss isn't weighted
            lines.setdefault(method(row), []).append((value, name))
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for color, (line, points) in zip(itertools.cycle(COLORS), lines.items()):
        points = sorted(points)
        published = [(value, y) for value, name in points if (y := table.rows[name].published) is not None]
        if published:
            axes.plot(*zip(*published, strict=True), "o--", mfc="none", color=color, label=f"{line}, paper")
        found = [(value, *mean_and_deviation(accuracies[name])) for value, name in points if accuracies.get(name)]
        if found:
            values, means, deviations = zip(*found, strict=True)
            spread = [deviation or 0.0 for deviation in deviations]
            axes.errorbar(values, means, yerr=spread, fmt="s-", color=color, capsize=3, label=f"{line}, {whose}")
    axes.set(xlabel=label, ylabel="accuracy %", title=table.source)
    axes.legend()
    return figure
