"""The table of a report: its columns, with their meaning, and its rows."""

from mixmo_keras import tasks
from mixmo_keras.metrics.shown import Column
from mixmo_keras.metrics.summaries import COLUMNS
from mixmo_keras.multiplexing import wording

PARTS = tuple(sorted({task.parts for task in tasks.BY_NAME.values()}))


def columns(figures: dict) -> dict[str, Column]:
    """The columns that an evaluation needs: with five classes or fewer, the right one is always among the top five."""
    if "task" in figures:
        return of_task(figures["task"])
    few = len(figures["classes"]) <= 5
    return {name: column for name, column in COLUMNS.items() if not (few and name == "top5")}


def of_task(name: str) -> dict[str, Column]:
    """The columns of a task of this name; of a task that is not of this library, NLL alone."""
    return dict(tasks.BY_NAME[name].columns) if name in tasks.BY_NAME else {"nll": COLUMNS["nll"]}


def by_part(figures: dict) -> list[tuple[str, dict]]:
    """The names of labels or targets and the ensemble's figures of each, of a task that has such figures."""
    if "task" not in figures or (key := next((key for key in PARTS if key in figures["ensemble"]), None)) is None:
        return []
    found = figures["ensemble"][key]
    return [
        (name, {figure: values[place] for figure, values in found.items()})
        for place, name in enumerate(figures["names"])
    ]


def columns_of_parts(figures: dict) -> dict[str, Column]:
    """The columns of the figures of each label or target."""
    task, parts = tasks.BY_NAME.get(figures.get("task", "")), by_part(figures)
    known = {} if task is None else {**task.columns_of_parts, **task.columns}
    return {name: column for name, column in known.items() if parts and name in parts[0][1]}


def rows(figures: dict) -> list[tuple[str, dict]]:
    """The names and figures of an evaluation's networks: members, their mean, the ensemble without and with temperature."""
    members, temperature = figures["members"], figures["temperature"]["value"]
    named = []
    if len(members) > 1:
        named += [(f"member {number}", member) for number, member in enumerate(members)]
        if "members_mean" in figures:
            named += [("members' mean", figures["members_mean"])]
    together = "ensemble" if len(members) > 1 else "network"
    if temperature != 1:
        if "uncalibrated" in figures:
            named += [(together, figures["uncalibrated"])]
        together = f"{together}, T = {temperature:.3f}"
    named += [(together, figures["ensemble"])]
    return named + wording.rows(figures)
