"""The charts of a report on another task than classes: those that the task gives as numbers, and images."""

import functools
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mixmo_keras import tasks
from mixmo_keras.evaluation.by_task import TaskEvaluation
from mixmo_keras.evaluation.report.charts import BLUE, GREY, Section, training_section
from mixmo_keras.evaluation.summary import Run
from mixmo_keras.metrics.shown import Chart


def sections(evaluation: TaskEvaluation, run: Run) -> list[Section]:
    """The charts of a report, in order."""
    task = tasks.BY_NAME.get(evaluation.figures["task"])
    return [
        *([] if task is None else training_section(run, task.watched)),
        *(Section(chart.title, chart.caption, functools.partial(drawn, chart)) for chart in evaluation.charts),
        Section(
            "Images of most doubt",
            "The test images that it is least sure about: first what is true, then what it says.",
            wide=True,
            images=doubtful_images,
        ),
    ]


def drawn(chart: Chart, _: Any = None) -> Figure:
    """A chart as a figure."""
    figure = Figure(figsize=(4.8, 3.6), layout="constrained")
    axes = figure.subplots()
    several = len(chart.series) > 1
    for number, series in enumerate(chart.series):
        color, name = f"C{number}" if several else BLUE, series.name if several else None
        style: dict[str, Any] = dict(linestyle="", alpha=0.4) if chart.kind == "points" else dict(linewidth=1)
        axes.plot(series.x, series.y, color=color, label=name, marker=".", **style)
    if chart.diagonal:
        values = [value for series in chart.series for values in (series.x, series.y) for value in values]
        ends = [min(values, default=0), max(values, default=1)]
        axes.plot(ends, ends, color=GREY, linewidth=1, linestyle="--")
    axes.set(xlabel=chart.axes[0], ylabel=chart.axes[1])
    axes.spines[["top", "right"]].set_visible(False)
    if several:
        axes.legend(frameon=False, fontsize=7)
    return figure


def doubtful_images(evaluation: TaskEvaluation) -> tuple[np.ndarray, list[list[str]]]:
    """The images of most doubt, with what is true and what is predicted, and the names of their files."""
    names = evaluation.test_names
    lines = [
        [*in_words, *([] if names is None else [names[index]])]
        for index, in_words in zip(evaluation.doubtful, evaluation.in_words, strict=True)
    ]
    return evaluation.doubtful_images, lines
