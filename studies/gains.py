"""Methods beside each other on the same images and labels, over seeds: what each gains on a rival, and how sure that is.

Every figure is read from the files of finished runs and their evaluations, of the last epoch but where a column says so.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mixmo_keras.experiments import tables
from mixmo_keras.experiments.recipe import Recipe
from mixmo_keras.metrics.differences import SURE, mean_and_deviation, paired

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LATER_NETWORKS = 100  # added to the seed of each further network of a deep ensemble

# title, where it is in the evaluations of a row, number format, and by how much it is multiplied
COLUMNS = (
    ("accuracy %", ("last", "uncalibrated", "accuracy"), "{:.1f}", 100),
    ("stopped early %", ("early", "uncalibrated", "accuracy"), "{:.1f}", 100),
    ("each member %", ("last", "members_mean", "accuracy"), "{:.1f}", 100),
    ("M images a pass %", ("last", "multiplexed", "network", "accuracy"), "{:.1f}", 100),
    ("NLL", ("last", "uncalibrated", "nll"), "{:.2f}", 1),
    ("NLL, calibrated", ("last", "ensemble", "nll"), "{:.2f}", 1),
    ("NLL, early, calibrated", ("early", "ensemble", "nll"), "{:.2f}", 1),
    ("ECE, calibrated", ("last", "ensemble", "ece"), "{:.3f}", 1),
    ("AURC", ("last", "uncalibrated", "aurc"), "{:.3f}", 1),
    ("wrong labels found %", ("last", "label_issues", "margin", "found"), "{:.0f}", 100),
    ("AUROC of wrong labels", ("last", "label_issues", "margin", "auroc"), "{:.3f}", 1),
)
# of M images a pass: the share of answers that are not the image's usual one, by who its partners are
PARTNERS = tuple(
    (f"changed beside {title} %", ("last", "multiplexed", "partners", kind, "changed"), "{:.1f}", 100)
    for kind, title in (
        ("any", "any images"),
        ("same_class", "its class"),
        ("other_class", "other classes"),
        ("noise", "noise"),
    )
)
# of test images that are corrupted on purpose, means over all corruptions and severities
CORRUPTED = tuple(
    (f"{title}, corrupted{unit}", ("corrupted", "corruptions", f"mean_{key}"), form, times)
    for title, unit, key, form, times in (
        ("accuracy", " %", "accuracy", "{:.1f}", 100),
        ("NLL, calibrated", "", "nll", "{:.2f}", 1),
        ("ECE, calibrated", "", "ece", "{:.3f}", 1),
    )
)
ACCURACY, STOPPED_EARLY, _, SEVERAL_A_PASS = (title for title, *_ in COLUMNS[:4])
OF_CORRUPTED = CORRUPTED[0][0]
# what of ours is held against what of each other, and what that is called beside its name
HELD = {
    "last": (ACCURACY, ACCURACY, ""),
    "early": (ACCURACY, STOPPED_EARLY, ", stopped early"),
    "several a pass": (SEVERAL_A_PASS, SEVERAL_A_PASS, ", M images a pass"),  # with its accuracy, if it can't do that
    "corrupted": (OF_CORRUPTED, OF_CORRUPTED, ", corrupted"),
}

Figures = dict[str, float | None]  # by title


@dataclasses.dataclass(frozen=True)
class Row:
    """A method: the settings that it changes in a recipe, and of how many networks it is a deep ensemble.

    It may train for more or fewer times the epochs of others: half where its steps cost twice. The rate is a factor of the
    learning rate.
    """

    changes: Mapping[str, Any]
    networks: int = 1
    times_the_epochs: float = 1.0
    rate: float = 1.0


def recipes(row: Row, name: str, base: Recipe, seed: int) -> list[Recipe]:
    """The runs of a row for one seed, which is also that of the data, where images are chosen or labels are wrong.

    Raises:
        ValueError: the row has a rate, and the recipe no learning rate that it is a factor of.
    """
    epochs = round(base.epochs * row.times_the_epochs)
    base = dataclasses.replace(base, epochs=epochs, **row.changes)
    if base.train_images or base.label_noise:
        base = dataclasses.replace(base, data_seed=seed)
    if row.rate != 1:
        if base.learning_rate is None:
            raise ValueError(f"the rate of {name!r} is a factor of the recipe's learning_rate, which is None.")
        base = dataclasses.replace(base, learning_rate=row.rate * base.learning_rate)
    folder = f"{base.output_dir}/{name.replace(' ', '_')}"
    seeds = [seed + LATER_NETWORKS * network for network in range(row.networks)]
    return [dataclasses.replace(base, seed=one, output_dir=folder) for one in seeds]


def shared(rows: Mapping[str, Row], name: str) -> str:
    """The row in whose folder the networks of a row are: a deep ensemble takes those of the row with the same settings."""
    row = rows[name]
    if row.networks == 1:
        return name
    return next((other for other, one in rows.items() if one == dataclasses.replace(row, networks=1)), name)


def measure(
    rows: Mapping[str, Row], name: str, base: Recipe, seed: int, only_read: bool = False, corrupted: bool = False
) -> Figures | None:
    """Runs and evaluates what is missing of a row and returns its figures, None where something is missing.

    Args:
        rows: The rows by name.
        name: The row.
        base: The recipe that rows change.
        seed: The seed.
        only_read: Whether to run and evaluate nothing. Defaults to False.
        corrupted: Whether to evaluate it on corrupted test images too. Where that was done, its figures are read anyway.
    """
    # here, since recipes list their rows before they know whether anything is to be run
    from mixmo_keras.experiments.evaluating import evaluate_runs
    from mixmo_keras.experiments.results import finished
    from mixmo_keras.experiments.running import run

    of_row = recipes(rows[name], shared(rows, name), base, seed)
    for recipe in of_row:
        if finished(recipe) is None:
            if only_read:
                return None
            run(recipe)
    folders = [recipe.folder for recipe in of_row]
    together = len(folders) > 1
    into = folders[0].parent / f"{folders[0].name}-of{len(folders)}" if together else folders[0]
    common: dict[str, Any] = dict(
        ensemble=together,
        data_dir=base.data_dir,
        temperature=True,
        label_noise="estimate" if base.label_noise else None,
    )
    evaluations: dict[str, tuple[str, dict[str, Any]]] = {  # the networks' file, and what else is evaluated
        "last": ("last", dict(label_issues=True, multiplexed=_has_members(of_row[0].resolved()))),
        "early": ("best", {}),
        "corrupted": ("last", dict(corruptions="on_the_fly")),
    }
    evaluated = {}
    for key, (saved, others) in evaluations.items():
        path = into / f"evaluation_{key}"
        if not (path / "metrics.json").is_file():
            if key == "corrupted" and (only_read or not corrupted):
                continue
            if only_read:
                return None
            evaluate_runs([folder / f"{saved}.keras" for folder in folders], output_dir=path, **common, **others)
        evaluated[key] = json.loads((path / "metrics.json").read_text())
    seconds = [json.loads((folder / "metrics.json").read_text())["training_seconds"] for folder in folders]
    figures = {title: _value(evaluated, path, times) for title, path, _, times in (*COLUMNS, *PARTNERS, *CORRUPTED)}
    return {**figures, "training_seconds": sum(seconds)}


def _has_members(recipe: Recipe) -> bool:
    """Whether a resolved recipe's model has members that can answer several images in one pass."""
    return isinstance(recipe.num_members, int) and recipe.num_members > 1


def _value(figures: Mapping[str, Any], path: Sequence[str], times: float) -> float | None:
    """A number somewhere in figures, times a factor; None where it can't be said."""
    found: Any = figures
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return None if found is None else times * found


def difference(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """The mean difference over seeds that both have, its standard error, and what it may be called.

    Args:
        ours: By seed.
        theirs: By seed, of the same length.
    """
    gain, seeds = paired(ours, theirs), len(ours)
    if seeds == 1:
        return {"mean": gain.mean, "standard_error": None, "seeds": seeds, "called": "one seed"}
    called = "no difference" if not gain.is_sure else "a gain" if gain.mean > 0 else "a loss"
    return {"mean": gain.mean, "standard_error": gain.error, "seeds": seeds, "called": called}


def table(measured: Mapping[str, Mapping[str, Figures]], titles: Sequence[str] | None = None) -> str:
    """Rows by columns, mean ± standard deviation over seeds, in Markdown.

    Args:
        measured: Figures by row and seed.
        titles: The columns to show, of `COLUMNS`, `PARTNERS` and `CORRUPTED`. Defaults to all of `COLUMNS`.
    """
    titles = [title for title, *_ in COLUMNS] if titles is None else titles
    shown = [(title, form) for title, _, form, _ in (*COLUMNS, *PARTNERS, *CORRUPTED) if title in titles]
    lines = []
    for name, by_seed in measured.items():
        columns = [[number for one in by_seed.values() if (number := one.get(title)) is not None] for title, _ in shown]
        cells = [tables.cell(values, form) for values, (_, form) in zip(columns, shown, strict=True)]
        lines.append([name, *cells, f"{len(by_seed)}"])
    return tables.markdown(["method", *[title for title, _ in shown], "seeds"], lines)


def differences(measured: Mapping[str, Mapping[str, Figures]], ours: str, held: str = "last") -> str:
    """How much more accurate, in points, one row is than each other, and whether that is a gain.

    Args:
        measured: Figures by row and seed.
        ours: The row.
        held: What is held against what, a key of `HELD`: `"last"`, the last epochs; `"early"`, our last against theirs
            that validation images choose; `"several a pass"`, M images a pass where the other can do that too, and its
            usual answers where not; or `"corrupted"`, on corrupted images.
    """
    lines = [[name, points(result), result["called"]] for name, result in against(measured, ours, held).items()]
    own, _, state = HELD[held]
    title = ours if own == ACCURACY else f"{ours}{state},"
    return tables.markdown([f"{title} against", "points ± standard error", f"beyond {SURE} standard errors"], lines)


def points(result: Mapping[str, Any]) -> str:
    """A difference with its sign, and its standard error where there is one."""
    error = "" if result["standard_error"] is None else f" ± {result['standard_error']:.1f}"
    return f"{result['mean']:+.1f}{error}"


def against(measured: Mapping[str, Mapping[str, Figures]], ours: str, held: str = "last") -> dict[str, dict[str, Any]]:
    """The differences of `differences`, as `difference` gives them, by the other's name."""
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
        if not known:
            continue
        found[name if usual else f"{name}{state}"] = difference(*zip(*known, strict=True))
    return found


def chart(panels: Mapping[str, Mapping[str, Mapping[str, Figures]]], ours: Sequence[str] = ()) -> "Figure":
    """Accuracy after the last epoch of each row, and that of the epoch which validation images would choose.

    Args:
        panels: Figures by title of a panel, row and seed. Dots are means over seeds, thin bars standard deviations.
        ours: The rows that stand out by their colour. Defaults to all.
    """
    from matplotlib.figure import Figure

    from mixmo_keras.evaluation.report import charts

    heights = [len(measured) for measured in panels.values()]
    figure = Figure(figsize=(5.2 * len(panels), 0.42 * max(heights) + 1.5), layout="constrained")
    places = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, measured) in zip(places, panels.items(), strict=True):
        for place, (name, by_seed) in enumerate(reversed(list(measured.items()))):
            color = charts.BLUE if name in ours or not ours else charts.GREY
            last, early = (
                mean_and_deviation([number for one in by_seed.values() if (number := one[column]) is not None])
                for column in (ACCURACY, STOPPED_EARLY)
            )
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
