"""Evaluations side by side: what recipes/evaluate.py --compare does; and which of two networks to use, in a sentence."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mixmo_keras import files
from mixmo_keras.evaluation import report
from mixmo_keras.experiments import tables
from mixmo_keras.experiments.evaluating import without_seed

COMPARED = ("accuracy", "nll", "brier", "ece", "errors_auroc", "aurc")


def compare_evaluations(folders: Sequence[Path], output_dir: Path) -> str:
    """The table of several evaluations in Markdown; also written as comparison.md, .csv and .json."""
    groups: dict[str, list[dict]] = {}
    for figures in map(_read, folders):
        groups.setdefault(without_seed(figures["name"]), []).append(figures)
    sizes = {figures["images"]["test"] for group in groups.values() for figures in group}
    if len(sizes) > 1:
        raise ValueError(
            f"The evaluations are of different test sets, of {sorted(sizes)} images: they can't be compared."
        )
    shown = {name: [_compared(figures) for figures in group] for name, group in groups.items()}
    columns = list(dict.fromkeys(column for group in shown.values() for values in group for column in values))
    rows, lines = [], []
    for name, group in shown.items():
        row, cells = {"model": name, "runs": len(group)}, []
        for column in columns:
            values = [value for figures in group if (value := figures.get(column)) is not None]
            row[column], row[f"{column} ±"] = tables.mean_and_deviation(values)
            cells.append(tables.cell(values, _form(column), deviation=column != "parameters"))
        rows.append(row)
        lines.append([name, *cells, f"{len(group)}"])
    text = tables.markdown(["model", *columns, "runs"], lines)
    files.write_text(output_dir / "comparison.md", text + "\n")
    files.write_json(output_dir / "comparison.json", rows)
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(output_dir / "comparison.csv", table.getvalue())
    return text


def which_to_use(members: Path, single: Path, test) -> str:
    """Which of two trained networks to use, by how much, and how sure that is: in words.

    Args:
        members: The file of a network of several members.
        single: That of the single network.
        test: Batches of test images and labels, which both answer.
    """
    of_members, of_single = (keras.models.load_model(path).predict_with_labels(test) for path in (members, single))
    return verdict(*(np.mean(logits, axis=1).argmax(-1) == labels for logits, labels in (of_members, of_single)))


def verdict(members: np.ndarray, single: np.ndarray) -> str:
    """The same from whether each image was answered rightly, (n,) booleans of the same n images.

    The standard error is of the paired difference: only images that one of them gets right tell anything.
    """
    difference = members.astype("float64") - single
    gain, error = 100 * difference.mean(), 100 * difference.std(ddof=1) / math.sqrt(len(difference))
    figures = f"{100 * members.mean():.1f} % against {100 * single.mean():.1f} % of {len(members):,} test images"
    points = f"{abs(gain):.1f} ± {error:.1f} points"
    if gain > 2 * error:
        said = f"Use the members: {points} more accurate than the single network ({figures})."
    elif gain < -2 * error:
        said = f"Use the single network: {points} more accurate than the members ({figures})."
    else:
        said = (
            f"It can't be said which is more accurate: {figures}, {points} apart, which may be chance. The single network "
            "is simpler; a longer training or more images would tell."
        )
    return f"{said} One training each: with another seed a small difference may be another."


def _read(folder: Path) -> dict[str, Any]:
    """The figures of an evaluation."""
    candidates = (folder / "evaluation/metrics.json", folder / "metrics.json")
    file = next((path for path in candidates if path.is_file()), None)
    figures = files.read_json_object(file, "run recipes/evaluate.py again") if file else {}
    if "ensemble" not in figures:
        raise FileNotFoundError(f"{folder} holds no evaluation: run recipes/evaluate.py on it first.")
    return figures


def _compared(figures: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures of an evaluation that are compared, by column."""
    shown = {report.COLUMNS[key][0]: figures["ensemble"][key] for key in COMPARED}
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
