"""An `Evaluation` for people: one HTML file that needs no network, a CSV, a JSON, and a table for the terminal.

The page begins with what matters in words (`summary`), says what to do next, and explains its figures where they stand.
"""

import base64
import csv
import datetime
import html
import io
import os
import string
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from mixmo_keras.common import arguments, files
from mixmo_keras.evaluation import charts, label_issues, summary
from mixmo_keras.evaluation.evaluate import Evaluation
from mixmo_keras.evaluation.sentences import sentences, text
from mixmo_keras.evaluation.summary import Run

TEMPLATE = Path(__file__).with_name("report_template.html")

# figure: what it is called, its number format, and whether more is better
COLUMNS: dict[str, tuple[str, str, bool]] = {
    "accuracy": ("accuracy", "{:.2%}", True),
    "top5": ("top-5", "{:.2%}", True),
    "nll": ("NLL", "{:.4f}", False),
    "brier": ("Brier", "{:.4f}", False),
    "ece": ("ECE", "{:.4f}", False),
    "adaptive_ece": ("adaptive ECE", "{:.4f}", False),
    "classwise_ece": ("class-wise ECE", "{:.4f}", False),
    "errors_auroc": ("error AUROC", "{:.4f}", True),
    "errors_aupr": ("error AUPR", "{:.4f}", True),
    "errors_fpr95": ("error FPR95", "{:.4f}", False),
    "aurc": ("AURC", "{:.4f}", False),
}
MEANING = {
    "accuracy": "share of images that are answered rightly",
    "top5": "share of images whose class is among the five most probable ones",
    "nll": "negative log-likelihood, −log of the right class's probability in nats, mean: punishes sure errors",
    "brier": "squared distance of the probabilities from the right answer, 0 to 2",
    "ece": "expected calibration error: by how much confidence and accuracy differ, in 15 bins of confidence",
    "adaptive_ece": "the same in 15 bins of equally many images",
    "classwise_ece": "the same for the probability of each class",
    "errors_auroc": "how well low confidence finds errors: 0.5 is chance, 1 perfect",
    "errors_aupr": "the same as average precision, which is the share of errors by chance",
    "errors_fpr95": "share of errors that are accepted where 95 % of the right answers are",
    "aurc": "share of errors among the most confident images, mean over how many are answered",
}
IN_TERMINAL = ("accuracy", "top5", "nll", "brier", "ece", "adaptive_ece", "errors_auroc", "aurc")


# what belongs to the lines below the table
WORDS = {
    "NLL_c": "apart from calibration, which one number mends: for comparing networks",
    "ratio of errors": "errors of one member alone over errors of both: the higher, the more different members are",
    "disagreement": "share of images on which members answer differently",
    "Q": "Yule's Q of two members' errors: 1 if they err on the same images, 0 if by chance",
    "KL": "Kullback-Leibler divergence of two members' probabilities, in nats",
    "mutual information": "how much members disagree about an image, in nats; high where the model should not be trusted",
    "conformal": "sets of classes that hold the right one in a share of images that is asked for",
}


def columns(figures: dict) -> dict[str, tuple[str, str, bool]]:
    """The columns that mean something: the right class is always among the five most probable of five classes."""
    few = len(figures["classes"]) <= 5
    return {key: column for key, column in COLUMNS.items() if not (few and key == "top5")}


def networks(figures: dict) -> list[tuple[str, dict]]:
    """The networks of an evaluation by name, each with its figures, in the order of a table."""
    members, temperature = figures["members"], figures["temperature"]["value"]
    named = []
    if len(members) > 1:
        named += [(f"member {number}", member) for number, member in enumerate(members)]
        named += [("members' mean", figures["members_mean"])]
    together = "ensemble" if len(members) > 1 else "network"
    if temperature != 1:
        named += [(together, figures["uncalibrated"])]
        together = f"{together}, T = {temperature:.3f}"
    named += [(together, figures["ensemble"])]
    if "multiplexed" in figures:
        multiplexed = figures["multiplexed"]
        name, temperature = f"{multiplexed['images_a_pass']} images a pass", multiplexed["temperature"]["value"]
        if temperature != 1:
            named += [(name, multiplexed["uncalibrated"])]
            name = f"{name}, T = {temperature:.3f}"
        named += [(name, multiplexed["network"])]
    return named


def table(figures: dict, run: Run | None = None) -> str:
    """The figures as the terminal shows them, and what they say in words."""
    shown = [key for key in IN_TERMINAL if key in columns(figures)]
    lines = [f"{figures['name']}: {figures['images']['test']:,} test images, {figures['parameters']:,} parameters"]
    lines.append(f"{'':<28}" + "".join(f"{COLUMNS[key][0]:>14}" for key in shown))
    for name, values in networks(figures):
        lines.append(f"{name:<28}" + "".join(f"{text(values[key], COLUMNS[key][1]):>14}" for key in shown))
    words = ["", *summary.headline(figures, run), *(f"→ {sentence}" for sentence in summary.advice(figures, run))]
    return "\n".join([*lines, *sentences(figures), *words])


def write(evaluation: Evaluation, folder: str | os.PathLike, run: Run | None = None) -> Path:
    """Writes `metrics.json`, `metrics.csv` and `report.html` into a folder, each whole or not at all.

    And `label_issues.csv`, where labels were ranked.

    Args:
        evaluation: What `evaluate` gave.
        folder: The folder.
        run: What the page says of the training. Defaults to nothing.

    Returns:
        The path of the HTML file.
    """
    arguments.instance("evaluation", evaluation, Evaluation, "what `evaluate` gives")
    folder = Path(arguments.instance("folder", folder, (str, os.PathLike), "the path of a folder"))
    arguments.instance("run", run, (Run, type(None)), "a Run or None")
    figures = evaluation.figures
    shown = columns(figures)
    files.write_json(folder / "metrics.json", figures)
    lines = io.StringIO()
    writer = csv.writer(lines)
    writer.writerow(["network", *shown])
    writer.writerows([[name, *[values[key] for key in shown]] for name, values in networks(figures)])
    files.write_text(folder / "metrics.csv", lines.getvalue())
    if evaluation.label_issues is not None:
        label_issues.write_csv(
            evaluation.label_issues,
            folder / "label_issues.csv",
            evaluation.class_names,
            right_labels=evaluation.right_labels,
        )
    return files.write_text(folder / "report.html", page(evaluation, run))


# -- the page ----------------------------------------------------------------------------------------------------------


def page(evaluation: Evaluation, run: Run | None = None) -> str:
    """The report as HTML with everything inside."""
    arguments.instance("evaluation", evaluation, Evaluation, "what `evaluate` gives")
    figures, run = evaluation.figures, run or Run()
    images = figures["images"]
    drawn = [_figure_element(section, section.draw(evaluation)) for section in charts.sections(evaluation)]
    if len(run.log) > 1:
        caption = (
            "Loss and accuracy by epoch. Where members see mixed images in training, accuracy there is low; what counts is "
            "that on validation data."
        )
        section = charts.Section("Training", caption, lambda _: charts.training_curves(run.log), wide=True)
        drawn.insert(0, _figure_element(section, section.draw(evaluation)))
    return string.Template(TEMPLATE.read_text()).substitute(
        name=html.escape(figures["name"]),
        num_test=f"{images['test']:,}",
        num_parameters=f"{figures['parameters']:,}",
        fitted_on=f"{images['validation']:,} validation images" if images["validation"] else "nothing",
        headline=_items(summary.headline(figures, run)),
        advice=_part("What to do next", f"<ul>{_items(found)}</ul>" if (found := summary.advice(figures, run)) else ""),
        table=_table_rows(figures, run),
        meaning=_meanings(figures),
        sentences="\n".join(
            f"<pre>{html.escape(line)}</pre>" if line.startswith(" ") else f"<li>{html.escape(line)}"
            for line in sentences(figures)
        ),
        charts="\n".join(drawn),
        run=_part("The run", _of_run(run)),
    )


def _meanings(figures: dict) -> str:
    """What the columns mean, and the words of the lines below that are there."""
    meanings = {title: MEANING[key] for key, (title, _, _) in columns(figures).items()}
    lines = " ".join(sentences(figures))
    meanings |= {word: text for word, text in WORDS.items() if f"{word} " in lines}
    return "\n".join(f"<dt>{word}</dt><dd>{html.escape(text)}</dd>" for word, text in meanings.items())


def comparison_page(
    header: Sequence[str],
    lines: Sequence[Sequence[str]],
    said: Sequence[str],
    figure: Figure,
    meaning: Mapping[str, str],
) -> str:
    """Several evaluations as HTML with everything inside.

    Args:
        header: Titles of the table's columns.
        lines: Its cells.
        said: The verdict, in sentences.
        figure: What is drawn.
        meaning: What columns mean.
    """
    template = TEMPLATE.read_text()
    head = template[: template.index("<body>")].replace("$name", "Comparison")
    titles = "".join(f'<th title="{html.escape(meaning.get(title, ""))}">{html.escape(title)}</th>' for title in header)
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    explained = "".join(f"<dt>{html.escape(key)}</dt><dd>{meaning[key]}</dd>" for key in header if key in meaning)
    return (
        f"{head}<body>\n<h1>Comparison</h1>\n<ul class=headline>{_items(said)}</ul>\n"
        f'<figure style="max-width: 48rem">{_svg(figure, "Accuracy")}</figure>\n'
        f"<div class=scroll><table><tr>{titles}</tr>{rows}</table></div>\n"
        f"<details open><summary>what the columns mean</summary><dl>{explained}</dl></details>\n</body>\n</html>\n"
    )


def _items(lines: Sequence[str]) -> str:
    return "\n".join(f"<li>{html.escape(line)}" for line in lines)


def _part(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>" if content else ""


def _of_run(run: Run) -> str:
    """Data, date and time, and the settings that are not left out."""
    lines = [f"Evaluated on {datetime.datetime.now():%d %B %Y at %H:%M}."]
    if run.data:
        lines.append(run.data)
    if run.seconds is not None:
        minutes = run.seconds / 60
        took = (
            f"{run.seconds:.0f} s"
            if minutes < 2
            else f"{minutes:.0f} min"
            if minutes < 120
            else f"{minutes / 60:.1f} h"
        )
        lines.append(f"Trained for {took}.")
    said = f"<p>{html.escape(' '.join(lines))}</p>"
    rows = [(name, value) for name, value in run.settings.items() if value is not None and value is not False]
    if not rows:
        return said
    cells = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(str(value))}</td></tr>" for name, value in rows)
    return f"{said}<details><summary>settings</summary><div class=scroll><table>{cells}</table></div></details>"


def _table_rows(figures: dict, run: Run) -> str:
    shown = columns(figures)
    titles = "".join(
        f'<th title="{html.escape(MEANING[key])}">{title}&nbsp;{"↑" if more else "↓"}</th>'
        for key, (title, _, more) in shown.items()
    )
    lines = [f"<tr><th></th>{titles}</tr>"]
    rows = networks(figures)
    if run.before is not None:
        rows.append((f"before: {run.before['name']}", run.before["ensemble"]))
    if run.single is not None:
        rows.append((f"single network: {run.single['name']}", run.single["ensemble"]))
    for name, values in rows:
        cells = "".join(f"<td>{text(values.get(key), form)}</td>" for key, (_, form, _) in shown.items())
        emphasis = " class=whole" if values is figures["ensemble"] else ""
        lines.append(f"<tr{emphasis}><td>{html.escape(name)}</td>{cells}</tr>")
    return "\n".join(lines)


def _figure_element(section: charts.Section, figure: Figure) -> str:
    content = _png(figure, section.title) if section.wide else _svg(figure, section.title)
    return (
        f"<figure{' class=wide' if section.wide else ''}><h2>{section.title}</h2>"
        f"<figcaption>{section.caption}</figcaption>{content}</figure>"
    )


def _png(figure: Figure, title: str) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return f'<img alt="{html.escape(title)}" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'


def _svg(figure: Figure, title: str) -> str:
    file = io.StringIO()
    # ids that don't change from run to run, nor clash between the figures of a page
    with matplotlib.rc_context({"svg.hashsalt": title, "svg.id": title.replace(" ", "-")}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()[file.getvalue().index("<svg") :]
