"""What a pilot measured: gains with their errors, a table, a picture."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mixmo_keras.experiments import tables
from mixmo_keras.experiments.pilot.runs import VARIANTS
from mixmo_keras.metrics import differences


def gains(pilot: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The gain in accuracy of two members over one member, for each width and each variant of two members.

    Args:
        pilot: What `run` returned.

    Returns:
        A list of `width`, `variant`, `gain` (a share, 0.01 is a point), its standard `error`, and the number of `seeds`. The
        error has two parts: the spread over seeds, where there are several, and that of judging on few images.
    """
    num_validation = pilot["images"][1]
    rows = []
    widths = sorted({one["width"] for one in pilot["runs"]})
    for width, variant in itertools.product(widths, list(VARIANTS)[1:]):
        ours, single = (final(pilot, name, width) for name in (variant, "one member"))
        gain, error = differences.of_accuracies(ours, single, (num_validation, num_validation))
        rows.append({"width": width, "variant": variant, "gain": gain, "error": error, "seeds": len(ours)})
    return rows


def runs_of(pilot: Mapping[str, Any], variant: str, width: int) -> list[Mapping[str, Any]]:
    """The runs of a variant at a width, one for each seed."""
    return [run for run in pilot["runs"] if (run["variant"], run["width"]) == (variant, width)]


def final(pilot: Mapping[str, Any], variant: str, width: int) -> list[float]:
    """The accuracies of a variant at a width after the last epoch, one for each seed."""
    return [run["accuracy"][-1] for run in runs_of(pilot, variant, width)]


def label_noise(pilot: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """The rate of labels drawn at random that explains the runs' answers best: median over runs, the least, the greatest.

    Of labels that are confused with one other class it sees nothing. A network that learned wrong labels by heart errs as if
    more were wrong; one that answers as unsurely as they are given shows none.

    Args:
        pilot: What `run` returned.

    Returns:
        Three numbers in [0, 1]; `None` where no run has an estimate.
    """
    rates = [rate for one in pilot["runs"] if (rate := one.get("label_noise")) is not None]
    return (float(np.median(rates)), min(rates), max(rates)) if rates else None


def table(pilot: Mapping[str, Any]) -> str:
    """Returns a table in Markdown: final accuracies in percent, and the gains of two members in points.

    Args:
        pilot: What `run` returned.
    """
    gain_of = {(row["width"], row["variant"]): row for row in gains(pilot)}
    lines = []
    for width in sorted({one["width"] for one in pilot["runs"]}):
        accuracies = [[100 * value for value in final(pilot, variant, width)] for variant in VARIANTS]
        differences = [gain_of[width, variant] for variant in list(VARIANTS)[1:]]
        lines.append(
            [
                f"{width}",
                *(tables.cell(values, "{:.2f}") for values in accuracies),
                *(f"{100 * row['gain']:+.2f} ± {100 * row['error']:.2f}" for row in differences),
            ]
        )
    return tables.markdown(["width", *VARIANTS, "gain of two", "gain with ρ = 0.5"], lines, names=0)


def plot(pilot: Mapping[str, Any]) -> Figure:
    """Draws learning curves on validation data: a panel a width, a colour a variant, a line a seed.

    Args:
        pilot: What `run` returned.
    """
    widths = sorted({one["width"] for one in pilot["runs"]})
    figure = Figure(figsize=(1.2 + 3.6 * len(widths), 3.6), layout="constrained")
    for axis, width in zip(figure.subplots(1, len(widths), squeeze=False, sharey=True)[0], widths, strict=True):
        for number, variant in enumerate(VARIANTS):
            for index, run in enumerate(runs_of(pilot, variant, width)):
                epochs = range(1, len(run["accuracy"]) + 1)
                label = None if index else variant
                axis.plot(epochs, run["accuracy"], "o-", markersize=3, color=f"C{number}", label=label)
        axis.set(title="" if pilot.get("trained") else f"width {width}", xlabel="epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("validation accuracy")
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure
