"""An `Evaluation` for people: one HTML file that needs no network, a CSV, a JSON, and a table for the terminal.

The page begins with the main results in sentences and with advice, and explains its figures where they stand.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from scipy.special import softmax

from mixmo_keras.common import arguments, files
from mixmo_keras.evaluation import label_issues
from mixmo_keras.evaluation.by_task import TaskEvaluation
from mixmo_keras.evaluation.evaluate import Evaluation
from mixmo_keras.evaluation.report import details, sentences
from mixmo_keras.evaluation.report.pages import comparison_page, page, page_of_task
from mixmo_keras.evaluation.report.results_table import (
    COLUMNS,
    Column,
    by_part,
    columns,
    columns_of_parts,
    of_task,
    rows,
)
from mixmo_keras.evaluation.summary import Run
from mixmo_keras.metrics.summaries import formatted

__all__ = ["COLUMNS", "Run", "comparison_page", "formatted", "in_columns", "of_task", "page", "rows", "table", "write"]

IN_TERMINAL = ("accuracy", "top5", "nll", "brier", "ece", "adaptive_ece", "errors_auroc", "aurc")


def table(figures: dict, run: Run | None = None) -> str:
    """The figures as the terminal shows them, with the main results and advice in sentences."""
    shown = {name: column for name, column in columns(figures).items() if "task" in figures or name in IN_TERMINAL}
    title = f"{figures['name']}: {figures['images']['test']:,} test images, {figures['parameters']:,} parameters"
    lines = [title, *in_columns(rows(figures), shown)]
    if "task" in figures:
        parts = by_part(figures)
        lines += in_columns(parts, columns_of_parts(figures)) if len(parts) > 1 else []
        return "\n".join([*lines, *details.lines(figures), "", *figures["headline"]])
    advice = [f"→ {sentence}" for sentence in sentences.advice(figures, run)]
    return "\n".join([*lines, *details.lines(figures), "", *sentences.headline(figures, run), *advice])


def in_columns(networks: Sequence[tuple[str, Mapping]], shown: Mapping[str, Column]) -> list[str]:
    """The lines of a table for the terminal: titles of columns, and the figures of each network, by its name."""
    lines = [f"{'':<28}" + "".join(f"{column.title:>14}" for column in shown.values())]
    for network, values in networks:
        cells = [f"{formatted(values[name], column.form):>14}" for name, column in shown.items()]
        lines.append(f"{network:<28}" + "".join(cells))
    return lines


def write(evaluation: Evaluation | TaskEvaluation, folder: str | os.PathLike, run: Run | None = None) -> Path:
    """Writes `metrics.json`, `metrics.csv` and `report.html` into a folder, each whole or not at all.

    And `label_issues.csv`, where labels were ranked; and `answers.csv`, the answer to each test image, where images have
    names, such as those of their files.

    Args:
        evaluation: What `evaluate` gave.
        folder: The folder.
        run: The training run, for the page. Defaults to an unknown one.

    Returns:
        The path of the HTML file.
    """
    arguments.instance("evaluation", evaluation, (Evaluation, TaskEvaluation), "what `evaluate` gives")
    folder = Path(arguments.instance("folder", folder, (str, os.PathLike), "the path of a folder"))
    arguments.instance("run", run, (Run, type(None)), "a Run or None")
    figures = evaluation.figures
    shown = columns(figures)
    files.write_json(folder / "metrics.json", figures)
    cells = ([network, *[values.get(name) for name in shown]] for network, values in rows(figures))
    files.write_csv(folder / "metrics.csv", [["network", *shown], *cells])
    if isinstance(evaluation, TaskEvaluation):
        if evaluation.test_names is not None and (answers := _answers_of_task(evaluation)):
            files.write_csv(folder / "answers.csv", answers)
        return files.write_text(folder / "report.html", page_of_task(evaluation, run))
    if evaluation.label_issues is not None:
        label_issues.write_csv(
            evaluation.label_issues,
            folder / "label_issues.csv",
            evaluation.class_names,
            evaluation.right_labels,
            evaluation.labelled_names,
        )
    if evaluation.test_names is not None:
        files.write_csv(folder / "answers.csv", _answers(evaluation))
    return files.write_text(folder / "report.html", page(evaluation, run))


def _answers(evaluation: Evaluation) -> list[list[str]]:
    """Titles, and each test image's file, class, answer and confidence."""
    assert evaluation.test_names is not None
    lines = [["file", "class", "answer", "confidence"]]
    probabilities = softmax(evaluation.logits.astype("float64"), axis=-1)
    for name, label, row in zip(evaluation.test_names, evaluation.labels, probabilities, strict=True):
        answer = row.argmax()
        lines.append([name, evaluation.class_names[label], evaluation.class_names[answer], f"{row[answer]:.6f}"])
    return lines


def _answers_of_task(evaluation: TaskEvaluation) -> list[Sequence[str]]:
    """Titles, and each test image's file and numbers; nothing where answers are more than a row of numbers."""
    assert evaluation.test_names is not None
    names, columns, cells = evaluation.figures["names"], ["file"], [evaluation.test_names]
    if not evaluation.answers or any(values.shape[1:] != (len(names),) for values in evaluation.answers.values()):
        return []
    for title, values in evaluation.answers.items():
        columns += [title if len(names) == 1 else f"{title} of {name}" for name in names]
        cells += [[f"{value:.6g}" if value.dtype.kind == "f" else str(value) for value in row] for row in values.T]
    return [columns, *zip(*cells, strict=True)]
