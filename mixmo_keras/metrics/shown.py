"""How figures are shown: columns of a report's table, and charts as numbers, which a report draws."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Column(NamedTuple):
    """A column of a report's table.

    Attributes:
        title: Its title.
        meaning: What the numbers are.
        more_is_better: Whether higher numbers are better.
        form: The number format.
    """

    title: str
    meaning: str
    more_is_better: bool = False
    form: str = "{:.4f}"


class Series(NamedTuple):
    """The points of a chart that belong together.

    Attributes:
        name: In the legend; empty for none.
        x, y: Of the points, (n,) each.
    """

    name: str
    x: np.ndarray
    y: np.ndarray


class Chart(NamedTuple):
    """A chart as numbers.

    Attributes:
        title: What it shows.
        caption: How to read it.
        axes: The names of the horizontal and of the vertical axis.
        series: What is drawn.
        kind: `"lines"`, or `"points"` that aren't joined.
        diagonal: Whether a dashed line shows where both axes are equal.
        counts: Bars below the chart, of how much lies at a place of the horizontal axis; `None` for none.
        members: How many of the first series are those of members, which are drawn thin.
    """

    title: str
    caption: str
    axes: tuple[str, str]
    series: Sequence[Series]
    kind: str = "lines"
    diagonal: bool = False
    counts: Series | None = None
    members: int = 0


class Pictures(NamedTuple):
    """Maps as pixels, beside the images that they are of.

    Attributes:
        panels: By name, such as "label": pixels (n, H, W, 3) from 0 to 255.
        colors: By class, its colour on these maps, (3,) from 0 to 255.
        caption: How to read them.
    """

    panels: Mapping[str, np.ndarray]
    colors: Mapping[str, np.ndarray]
    caption: str
