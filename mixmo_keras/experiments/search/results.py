"""What a search found: rows, a table, the Pareto front, a picture, and the command that trains with it."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import keras_tuner
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mixmo_keras.common import arguments
from mixmo_keras.experiments import tables
from mixmo_keras.experiments.search.tuner import OBJECTIVES, failure, score, settings

# settings of a trial that the recipes have options for
OPTIONS = ("num_members", "weight_root", "alpha", "probability", "mask", "batch_repetitions", "learning_rate", "l2")


def results(tuned: keras_tuner.Tuner, objective: str = "nll") -> list[dict[str, Any]]:
    """Every finished trial, the best first and the failed last: settings, `score`, `epochs`, costs, `failure`."""
    rows = []
    for trial in tuned.oracle.trials.values():
        if trial.status not in ("COMPLETED", "FAILED", "INVALID"):
            continue
        value = score(trial)
        rows.append(
            {
                "trial": trial.trial_id,
                **settings(trial),
                "score": value,
                "epochs": trial.hyperparameters.values.get("tuner/epochs"),
                **tuned.hypermodel.costs[trial.hyperparameters.get("width")],
                "failure": None if value is not None else failure(trial),
            }
        )
    sign = _sign(objective)
    return sorted(rows, key=lambda row: (row["score"] is None, sign * (row["score"] or 0)))


def table(rows: Sequence[Mapping[str, Any]], objective: str = "nll") -> str:
    """Results in Markdown."""
    hidden = {"score", "failure", "epochs"} if all(row.get("epochs") is None for row in rows) else {"score", "failure"}
    names = list(dict.fromkeys(name for row in rows for name in row if name not in hidden))
    scores = [f"failed: {row['failure']}" if row["score"] is None else f"{row['score']:.4f}" for row in rows]
    return tables.markdown(
        [*(name.replace("_", " ") for name in names), _title(objective)],
        [[*(_cell(row.get(name)) for name in names), text] for row, text in zip(rows, scores, strict=True)],
        names=0,
    )


def pareto(rows: Sequence[Mapping[str, Any]], objective: str = "nll") -> list[Mapping[str, Any]]:
    """The results that none is better than at the same FLOPs or less, by rising FLOPs."""
    sign = _sign(objective)
    scored = [row for row in rows if row["score"] is not None]
    front: list[Mapping[str, Any]] = []
    for row in sorted(scored, key=lambda row: (row["flops"], sign * row["score"])):
        if not front or sign * row["score"] < sign * front[-1]["score"]:
            front.append(row)
    return front


def plot(rows: Sequence[Mapping[str, Any]], objective: str = "nll") -> Figure:
    """The objective against M, width and r, and against cost with the Pareto front."""
    scored = [row for row in rows if row["score"] is not None]
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    axes = figure.subplots(2, 2)
    widths, members, roots = (
        sorted({row[name] for row in scored if row.get(name) is not None})
        for name in ("width", "num_members", "weight_root")
    )
    colors = {width: f"C{number}" for number, width in enumerate(widths)}
    markers = {count: "osD^v*Px"[number % 8] for number, count in enumerate(members)}
    panels = (
        ("num_members", "members M", members),
        ("width", "width", widths),
        ("weight_root", "root r", roots),
        ("flops", "FLOPs an image", None),
    )
    for axis, (name, title, ticks) in zip(axes.flat, panels, strict=True):
        for row in scored:
            if row.get(name) is not None:
                axis.plot(row[name], row["score"], markers[row["num_members"]], color=colors[row["width"]], alpha=0.8)
        axis.set(xlabel=title, ylabel=_title(objective))
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
        if ticks is None:
            axis.set_xscale("log")
        else:
            axis.set_xticks(ticks)
    _draw_front(axes[1, 1], pareto(rows, objective))
    handles = [axes[0, 0].plot([], [], "o", color=colors[width], label=f"width {width}")[0] for width in widths]
    handles += [axes[0, 0].plot([], [], markers[count], color="grey", label=f"M = {count}")[0] for count in members]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    return figure


def command(recipe: str, row: Mapping[str, Any], backbone: str, **options) -> str:
    """The command that trains with a trial's settings: those that the recipes have options for."""
    single = row["num_members"] == 1
    chosen: dict[str, Any] = {"method": "single" if single else "cut_mixmo", "backbone": backbone}
    chosen |= {name: row[name] for name in OPTIONS if row.get(name) is not None}
    if single:
        del chosen["num_members"]
    chosen |= {name: value for name, value in options.items() if value is not None}
    words = [word for name, value in chosen.items() for word in (f"--{name.replace('_', '-')}", f"{value}")]
    return shlex.join(["python", *recipe.split(), *words])


def _sign(objective: str) -> int:
    """1 where less is better."""
    return 1 if OBJECTIVES[arguments.choice("objective", objective, OBJECTIVES)][1] == "min" else -1


def _title(objective: str) -> str:
    arguments.choice("objective", objective, OBJECTIVES)
    return f"validation {'NLL' if objective == 'nll' else 'accuracy'}"


def _cell(value) -> str:
    if value is None:
        return tables.NOTHING
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _draw_front(axis: Axes, front: Sequence[Mapping[str, Any]]) -> None:
    costs, scores = [row["flops"] for row in front], [row["score"] for row in front]
    axis.step(costs, scores, where="post", color="grey", zorder=0)
