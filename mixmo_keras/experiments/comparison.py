"""Evaluations side by side: what recipes/evaluate.py --compare does; and which of two networks to use, in a sentence.

A difference is called one beyond two standard errors. The error of a difference is over images, answer by answer where the
evaluations are of the same images and say which answers are right, and over seeds where there are several.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure

from mixmo_keras.common import arguments, class_labels, files, trained
from mixmo_keras.common.console import say
from mixmo_keras.evaluation import report, summary
from mixmo_keras.evaluation.report import charts, sentences
from mixmo_keras.experiments import tables
from mixmo_keras.experiments.evaluating import dataset_of, evaluate_runs, name_of, without_seed
from mixmo_keras.metrics import differences
from mixmo_keras.models.ensemble import Ensemble

MEANING = {
    "NLL_c": "NLL with each half of the test images under the other half's temperature: apart from calibration",
    "ratio of errors": "errors of one member alone over errors of both: higher is more diverse",
    "corrupted accuracy": "mean accuracy over corruptions and severities",
    "parameters": "of the whole model",
}
COMPARED = ("accuracy", "nll", "brier", "ece", "errors_auroc", "aurc")
# what an evaluation's metrics.json must have, and what it has where it has the part at all
NEEDED: dict[str, Callable[[Any], bool]] = {
    "name": files.is_text,
    "images/test": files.is_number,
    "ensemble": lambda value: isinstance(value, dict) and all(name in value for name in COMPARED),
    **{f"ensemble/{name}": files.is_number_or_none for name in COMPARED},
    "ensemble/accuracy": files.is_share,
    "nll_c": files.is_number_or_none,
    "diversity": lambda value: isinstance(value, dict) and "ratio_of_errors" in value,
    "diversity/ratio_of_errors": files.is_number_or_none,
    "parameters": files.is_number,
}
NEEDED_OF_TASK = {name: NEEDED[name] for name in ("name", "images/test", "parameters")} | {
    "ensemble/nll": files.is_number
}
NEEDED_OF_PARTS: dict[str, Callable[[Any], bool]] = {
    "out_of_distribution/dataset": files.is_text,
    "out_of_distribution/measures/entropy/auroc": files.is_share,
    "corruptions/mean_accuracy": files.is_share,
}


def compare_evaluations(folders: Sequence[Path], output_dir: Path) -> str:
    """The table of several evaluations in Markdown; also written as comparison.md and .json, and as a page, .html."""
    arguments.different("paths", [folder.resolve() for folder in folders])
    groups: dict[str, list[dict]] = {}
    for figures in map(_read, folders):
        groups.setdefault(without_seed(figures["name"]), []).append(figures)
    kinds = sorted({str(figures.get("task", "classification")) for group in groups.values() for figures in group})
    if len(kinds) > 1:
        raise ValueError(f"The evaluations are of different tasks, {' and '.join(kinds)}: they can't be compared.")
    sizes = {figures["images"]["test"] for group in groups.values() for figures in group}
    if len(sizes) > 1:
        raise ValueError(
            f"The evaluations are of different test sets, of {sorted(sizes)} images: they can't be compared."
        )
    every = (figures.get("classes", []) for group in groups.values() for figures in group)
    if len({tuple((one["name"], one["images"]) for one in classes) for classes in every if classes}) > 1:
        raise ValueError("The evaluations are of different test images, whose classes differ: they can't be compared.")
    of_runs = (figures.get("test_set") for group in groups.values() for figures in group)
    if len(set(filter(None, of_runs))) > 1:  # None of an earlier version
        raise ValueError(
            "The evaluations are of different test images, of other datasets or of a folder that has changed between them: "
            "evaluate all of them again on the same test images."
        )
    shown = {name: [_compared(figures) for figures in group] for name, group in groups.items()}
    columns = list(dict.fromkeys(column for group in shown.values() for values in group for column in values))
    rows, lines = [], []
    for name, group in shown.items():
        row, cells = {"model": name, "runs": len(group)}, []
        for column in columns:
            values = [value for figures in group if (value := figures.get(column)) is not None]
            row[column], row[f"{column} ±"] = differences.mean_and_deviation(values)
            cells.append(tables.cell(values, _form(column), deviation=column != "parameters"))
        rows.append(row)
        lines.append([name, *cells, f"{len(group)}"])
    text = tables.markdown(["model", *columns, "runs"], lines)
    files.write_text(output_dir / "comparison.md", text + "\n")
    files.write_json(output_dir / "comparison.json", rows)
    if kinds != ["classification"]:  # whose accuracies the page is about
        return text
    short, common = told_apart(list(groups))
    groups = {short[name]: group for name, group in groups.items()}
    said = verdicts(groups) + ([f"All: {common}."] if common else [])
    lines = [[short[name], *cells] for name, *cells in lines]
    files.write_text(output_dir / "comparison.html", page(groups, said, columns, lines))
    say("\n".join(said))
    say(f"page: {output_dir / 'comparison.html'}")
    return text


def evaluated(paths: Sequence[Path], output_dir: Path, dataset: str | None, data_dir: str | None) -> list[Path]:
    """The folders of evaluations, where .keras files among the paths are evaluated first, as the others were.

    Args:
        paths: Folders of runs or evaluations, and .keras files, such as those of plain Keras classifiers.
        output_dir: Files' evaluations are written into folders in it.
        dataset: Of the files. Defaults to that of the runs.
        data_dir: Folder of TensorFlow Datasets.
    """
    runs = [path for path in paths if not trained.is_file(str(path))]
    if len(runs) == len(paths):
        return list(paths)
    if dataset is None:
        with_settings = [path for run in runs for path in (run, run.parent) if (path / "config.json").is_file()]
        if not with_settings:
            raise ValueError(
                "--compare evaluates a .keras file on the test images of a run beside it, or of a --dataset."
            )
        dataset = dataset_of(with_settings)
    calibrated = any(_read(run)["temperature"]["fitted_on"] for run in runs)
    folders = []
    for path in paths:
        if path in runs:
            folders.append(path)
            continue
        folders.append(output_dir / name_of(path))
        evaluate_runs([path], dataset=dataset, data_dir=data_dir, temperature=calibrated, output_dir=folders[-1])
    return folders


def told_apart(names: Sequence[str]) -> tuple[dict[str, str], str]:
    """What tells names of runs apart, by name, and the parts that they all have."""
    parts = [name.split("-") for name in names]
    common = [part for part in parts[0] if all(part in others for others in parts)]
    short = {name: "-".join(part for part in one if part not in common) for name, one in zip(names, parts, strict=True)}
    if not all(short.values()) or len(set(short.values())) < len(names):
        return {name: name for name in names}, ""
    return short, "-".join(common)


def verdicts(groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Which model is the most accurate, and by how much against each other one: a sentence each.

    Args:
        groups: The figures of the evaluations by model, one for each seed.
    """
    means = {name: float(np.mean([one["ensemble"]["accuracy"] for one in group])) for name, group in groups.items()}
    best = max(means, key=lambda name: means[name])
    low, high = accuracy_interval(groups[best])
    said = [f"Most accurate: {best}, {means[best]:.1%} ({low:.1%} to {high:.1%})."]
    for name, group in groups.items():
        if name != best:
            said.append(sentences.other_network(summary.accuracy_gain(groups[best], group), name))
    if min(map(len, groups.values())) < 2 and len(groups) > 1:
        said.append("Of models with one run, the errors hold for these trained networks; another seed may differ more.")
    return said


def accuracy_interval(group: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The 95 % interval of a model's accuracy: over images, and over seeds where there are several."""
    accuracies = [figures["ensemble"]["accuracy"] for figures in group]
    return differences.accuracy_interval(accuracies, group[0]["images"]["test"])


def page(groups: Mapping[str, Sequence[Mapping[str, Any]]], said: Sequence[str], columns, lines) -> str:
    """The comparison as HTML with everything inside: verdict, accuracies with their intervals, the table, its meaning."""
    figure = Figure(figsize=(7.2, 0.45 * len(groups) + 1.0), layout="constrained")
    axes = figure.subplots()
    for place, group in enumerate(reversed(list(groups.values()))):
        mean = float(np.mean([one["ensemble"]["accuracy"] for one in group]))
        low, high = accuracy_interval(group)
        axes.errorbar(100 * mean, place, xerr=[[100 * (mean - low)], [100 * (high - mean)]], fmt="o", color=charts.BLUE)
    axes.set_yticks(range(len(groups)), list(groups)[::-1])
    axes.set(xlabel="accuracy %, 95 % intervals")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    meaning = {report.COLUMNS[key].title: report.COLUMNS[key].meaning for key in COMPARED} | MEANING
    return report.comparison_page(["model", *columns, "runs"], lines, said, figure, meaning)


def which_to_use(members: Path, single: Path, test) -> str:
    """Which of two trained networks to use, by how much, and how sure that is: in words.

    Args:
        members: The file of a network of several members.
        single: That of the single network.
        test: Batches of test images and labels, which both answer.
    """
    return verdict(*(_answered_rightly(keras.models.load_model(path), test) for path in (members, single)))


def _answered_rightly(model: Ensemble, test) -> np.ndarray:
    """Whether each image was, (n,) booleans: by what the model answers, which may be the mean of probabilities."""
    member_logits, labels = model.predict_with_labels(test)
    return model.pooled(member_logits).argmax(-1) == class_labels.most(labels)


def verdict(members: np.ndarray, single: np.ndarray) -> str:
    """The same from whether each image was answered rightly, (n,) booleans of the same n images.

    The standard error is of the paired difference: only images that one of them gets right tell anything.
    """
    gain = differences.paired(members, single)
    figures = f"{100 * members.mean():.1f} % against {100 * single.mean():.1f} % of {len(members):,} test images"
    points = f"{gain.size_in_points()} points"
    if not gain.is_sure:
        said = (
            f"It can't be said which is more accurate: {figures}, {points} apart, which may be chance. The single network "
            "is simpler; a longer training or more images would tell."
        )
    elif gain.mean > 0:
        said = f"Use the members: {points} more accurate than the single network ({figures})."
    else:
        said = f"Use the single network: {points} more accurate than the members ({figures})."
    return f"{said} One training each: with another seed a small difference may be another."


def _read(folder: Path) -> dict[str, Any]:
    """The figures of an evaluation."""
    candidates = (folder / "evaluation/metrics.json", folder / "metrics.json")
    file = next((path for path in candidates if path.is_file()), None)
    advice = "run recipes/evaluate.py again"
    figures = files.read_json_object(file, advice) if file else {}
    if file is None or "ensemble" not in figures:
        raise FileNotFoundError(f"{folder} holds no evaluation: run recipes/evaluate.py on it first.")
    if "task" in figures:
        return files.read_json_object(file, advice, NEEDED_OF_TASK)
    needed = NEEDED | {name: kind for name, kind in NEEDED_OF_PARTS.items() if name.partition("/")[0] in figures}
    return files.read_json_object(file, advice, needed)


def _compared(figures: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures of an evaluation that are compared, by column."""
    if "task" in figures:
        columns = report.of_task(figures["task"])
        shown = {column.title: figures["ensemble"].get(name) for name, column in columns.items()}
        return shown | {"parameters": figures["parameters"]}
    shown = {report.COLUMNS[key].title: figures["ensemble"][key] for key in COMPARED}
    shown["NLL_c"] = figures["nll_c"]
    shown["ratio of errors"] = figures["diversity"]["ratio_of_errors"]
    if others := figures.get("out_of_distribution"):
        shown[f"AUROC {others['dataset']}"] = others["measures"]["entropy"]["auroc"]
    if under_corruptions := figures.get("corruptions"):
        shown["corrupted accuracy"] = under_corruptions["mean_accuracy"]
    shown["parameters"] = figures["parameters"]
    return shown


def _form(column: str) -> str:
    return "{:,.0f}" if column == "parameters" else "{:.2%}" if "accuracy" in column else "{:.4f}"
