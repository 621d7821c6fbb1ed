"""The pages of a report: HTML files that open without a network, with charts and images inside."""

import base64
import datetime
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from mixmo_keras.common import arguments
from mixmo_keras.common.durations import duration
from mixmo_keras.evaluation.by_task import TaskEvaluation
from mixmo_keras.evaluation.evaluate import Evaluation
from mixmo_keras.evaluation.report import charts, details, sentences, task_charts
from mixmo_keras.evaluation.report.results_table import by_part, columns, columns_of_parts, rows
from mixmo_keras.evaluation.summary import Run
from mixmo_keras.metrics.summaries import formatted


def _combined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    return {**first, **second}


TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters |= {"formatted": formatted, "combined": _combined}


def page(evaluation: Evaluation, run: Run | None = None) -> str:
    """The report as HTML with everything inside."""
    arguments.instance("evaluation", evaluation, Evaluation, "what `evaluate` gives")
    figures, run = evaluation.figures, run or Run()
    table = rows(figures)
    if run.before is not None:
        table.append((f"before: {run.before['name']}", run.before["ensemble"]))
    if run.single is not None:
        table.append((f"single network: {run.single['name']}", run.single["ensemble"]))
    return _page(
        evaluation,
        run,
        charts.sections(evaluation, run),
        headline=sentences.headline(figures, run),
        advice=sentences.advice(figures, run),
        rows=table,
        parts=[],
        columns_of_parts={},
    )


def page_of_task(evaluation: TaskEvaluation, run: Run | None = None) -> str:
    """The report of another task than classes as HTML with everything inside."""
    figures, run = evaluation.figures, run or Run()
    parts = by_part(figures)
    return _page(
        evaluation,
        run,
        task_charts.sections(evaluation, run),
        headline=figures["headline"],
        advice=[],
        rows=rows(figures),
        parts=parts if len(parts) > 1 else [],
        columns_of_parts=columns_of_parts(figures),
    )


def _page(
    evaluation: Evaluation | TaskEvaluation, run: Run, sections: Sequence[charts.Section], **of_the_task: Any
) -> str:
    """What the reports of all tasks have, and what `report.html` takes of one."""
    figures = evaluation.figures
    lines = details.lines(figures)
    return TEMPLATES.get_template("report.html").render(
        title=figures["name"],
        figures=figures,
        columns=columns(figures),
        lines=lines,
        terms={term: meaning for term, meaning in details.TERMS.items() if f"{term} " in " ".join(lines)},
        sections=[_drawn(section, evaluation) for section in sections],
        run=" ".join(_about(run)),
        settings={name: value for name, value in run.settings.items() if value is not None and value is not False},
        **of_the_task,
    )


def comparison_page(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    verdicts: Sequence[str],
    figure: Figure,
    meanings: Mapping[str, str],
) -> str:
    """Several evaluations as HTML with everything inside.

    Args:
        columns: Titles of the table's columns.
        rows: The cells of each row.
        verdicts: Which model is the best, in sentences.
        figure: The chart.
        meanings: What columns mean, by title.
    """
    return TEMPLATES.get_template("comparison.html").render(
        title="Comparison",
        columns=columns,
        rows=rows,
        verdicts=verdicts,
        chart=_svg(figure, "Accuracy"),
        meanings=meanings,
    )


def _about(run: Run) -> list[str]:
    """Sentences about a run: the date of its evaluation, its data, its duration."""
    about = [f"Evaluated on {datetime.datetime.now():%d %B %Y at %H:%M}."]
    if run.data:
        about.append(run.data)
    if run.seconds is not None:
        about.append(f"Trained for {duration(run.seconds)}.")
    return about


def _drawn(section: charts.Section, evaluation: Evaluation | TaskEvaluation) -> dict[str, Any]:
    """A section with its chart as HTML: pixels where it takes the page's width, lines otherwise; or with its images."""
    if section.images is not None:
        chart = _legend(section.colors) + _gallery(*section.images(evaluation))
    else:
        assert section.draw is not None
        figure = section.draw(evaluation)
        chart = _png(figure, section.title) if section.wide else _svg(figure, section.title)
    return {"title": section.title, "caption": section.caption, "wide": section.wide, "chart": chart}


def _gallery(images: np.ndarray, texts: Sequence[Sequence[str]]) -> Markup:
    """Images (n, H, W, C) with lines of text below each: as many in a row as the window is wide for."""
    items = []
    for image, lines in zip(images, texts, strict=True):
        file = io.BytesIO()
        Image.fromarray((image[..., 0] if image.shape[-1] == 1 else image).astype("uint8")).save(file, "PNG")
        pixels = base64.b64encode(file.getvalue()).decode()
        text = "<br>".join(html.escape(line) for line in lines)
        items.append(f'<div><img alt="{html.escape(lines[-1])}" src="data:image/png;base64,{pixels}"><p>{text}</div>')
    kind = "strips" if len(images) and images.shape[2] > 2 * images.shape[1] else "gallery"
    return Markup(f"<div class={kind}>{''.join(items)}</div>")


def _legend(colors: Mapping[str, np.ndarray]) -> Markup:
    """Names beside their colours; nothing without colours."""
    items = [
        f'<span><i style="background:rgb({",".join(map(str, color))})"></i>{html.escape(name)}</span>'
        for name, color in colors.items()
    ]
    return Markup(f"<p class=legend>{''.join(items)}</p>" if items else "")


def _png(figure: Figure, title: str) -> Markup:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    pixels = base64.b64encode(file.getvalue()).decode()
    return Markup(f'<img alt="{html.escape(title)}" src="data:image/png;base64,{pixels}">')


def _svg(figure: Figure, title: str) -> Markup:
    file = io.StringIO()
    # ids that don't change from run to run, nor clash between the figures of a page
    with matplotlib.rc_context({"svg.hashsalt": title, "svg.id": title.replace(" ", "-")}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return Markup(file.getvalue()[file.getvalue().index("<svg") :])
