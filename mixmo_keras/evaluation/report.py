"""An `Evaluation` for people: one HTML file that needs no network, a CSV, a JSON, and a table for the terminal."""

import base64
import csv
import html
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from scipy.special import softmax

from mixmo_keras import files, metrics
from mixmo_keras.evaluation.evaluate import Evaluation

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
BLUE, RED, GREY = "#2563eb", "#dc2626", "#6b7280"


def text(value: float | None, form: str) -> str:
    """A number for people; a dash for what can't be said."""
    return "–" if value is None else form.format(value)


def rows(figures: dict) -> list[tuple[str, dict]]:
    """The networks of an evaluation by name, each with its figures, in the order of a table."""
    members = figures["members"]
    found = []
    if len(members) > 1:
        found += [(f"member {number}", member) for number, member in enumerate(members)]
        found += [("members' mean", figures["members_mean"])]
    whole = "ensemble" if len(members) > 1 else "network"
    if figures["temperature"]["value"] != 1:
        found += [(whole, figures["uncalibrated"])]
        found += [(f"{whole}, T = {figures['temperature']['value']:.3f}", figures["ensemble"])]
    else:
        found += [(whole, figures["ensemble"])]
    return found


def table(figures: dict) -> str:
    """What the terminal shows."""
    lines = [f"{figures['name']}: {figures['images']['test']:,} test images, {figures['parameters']:,} parameters"]
    shown = ("accuracy", "top5", "nll", "brier", "ece", "adaptive_ece", "errors_auroc", "aurc")
    lines.append(f"{'':<20}" + "".join(f"{COLUMNS[key][0]:>14}" for key in shown))
    for name, values in rows(figures):
        lines.append(f"{name:<20}" + "".join(f"{text(values[key], COLUMNS[key][1]):>14}" for key in shown))
    return "\n".join([*lines, *sentences(figures)])


def sentences(figures: dict) -> list[str]:
    """What doesn't fit into a table, a line each."""
    found = []
    temperature = figures["temperature"]
    if temperature["fitted_on"]:
        found.append(
            f"temperature {temperature['value']:.3f}, fitted on {temperature['fitted_on']:,} validation images"
        )
    elif temperature["value"] != 1:
        found.append(f"temperature {temperature['value']:.3f}, as saved with the model")
    if figures["nll_c"] is not None:
        found.append(f"NLL_c {figures['nll_c']:.4f}: each half of the test images under the other half's temperature")
    diversity = figures["diversity"]
    if len(figures["members"]) > 1:
        found.append(
            f"diversity: ratio of errors {text(diversity['ratio_of_errors'], '{:.3f}')}, "
            f"disagreement {text(diversity['disagreement'], '{:.2%}')}, Q {text(diversity['q_statistic'], '{:.3f}')}, "
            f"KL {text(diversity['pairwise_kl'], '{:.3f}')}, mutual information {diversity['mutual_information']:.4f}"
        )
    if conformal := figures.get("conformal"):
        for method in ("thr", "aps"):
            found.append(
                f"conformal {method.upper()}: {conformal[method]['coverage']:.2%} of the right classes in sets of "
                f"{conformal[method]['mean_size']:.2f} classes (asked: {conformal['coverage_asked']:.0%}, fitted on "
                f"{conformal['fitted_on']:,} validation images)"
            )
    if strangers := figures.get("out_of_distribution"):
        found.append(f"told from {strangers['images']:,} images of {strangers['dataset']}, AUROC / AUPR / FPR95:")
        for measure, values in strangers["measures"].items():
            cells = " / ".join(text(values[key], "{:.4f}") for key in ("auroc", "aupr", "fpr95"))
            found.append(f"    {measure.replace('_', ' '):<20}{cells}")
    if corrupted := figures.get("corruptions"):
        found.append(
            f"under {len(corrupted['accuracy'])} corruptions at 5 severities ({corrupted['images']:,} images each): "
            f"mean accuracy {corrupted['mean_accuracy']:.2%}, mean NLL {corrupted['mean_nll']:.4f}"
        )
    return found


def write(evaluation: Evaluation, folder: str | os.PathLike) -> Path:
    """Writes `metrics.json`, `metrics.csv` and `report.html` into a folder, each whole or not at all.

    Returns:
        The path of the HTML file.
    """
    folder = Path(folder)
    figures = evaluation.figures
    files.write_text(folder / "metrics.json", json.dumps(figures, indent=2, allow_nan=False) + "\n")
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["network", *COLUMNS])
    writer.writerows([[name, *[values[key] for key in COLUMNS]] for name, values in rows(figures)])
    files.write_text(folder / "metrics.csv", file.getvalue())
    return files.write_text(folder / "report.html", page(evaluation))


# -- the page ----------------------------------------------------------------------------------------------------------

STYLE = """
:root { color-scheme: light; font: 15px/1.5 system-ui, sans-serif; color: #111827; background: #f8fafc; }
body { max-width: 75rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; margin: .5rem 0; overflow-wrap: anywhere; } h2 { font-size: 1.05rem; margin: 0 0 .25rem; }
p { margin: .25rem 0; color: #374151; }
.scroll { overflow-x: auto; background: white; border: 1px solid #e5e7eb; border-radius: .5rem; margin: 1rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .55rem; text-align: right; white-space: nowrap; border-top: 1px solid #f1f5f9; }
th { font-weight: 600; color: #374151; white-space: normal; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: white; }
tr.whole td, tr.whole td:first-child { font-weight: 600; background: #eff6ff; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1rem; }
figure { margin: 0; padding: 1rem; background: white; border: 1px solid #e5e7eb; border-radius: .5rem; }
figure.wide { grid-column: 1 / -1; overflow-x: auto; } figure.wide img { min-width: 48rem; }
figure svg, figure img { width: 100%; height: auto; display: block; }
figcaption { color: #4b5563; font-size: .9rem; margin-bottom: .5rem; }
ul { padding-left: 1.2rem; margin: .5rem 0; } pre { margin: 0; overflow-x: auto; font-size: .85rem; }
"""


def page(evaluation: Evaluation) -> str:
    """The report as HTML with everything inside."""
    figures = evaluation.figures
    cells = "".join(
        f"<tr{' class=whole' if values is figures['ensemble'] else ''}><td>{html.escape(name)}</td>"
        + "".join(f"<td>{text(values[key], form)}</td>" for key, (_, form, _) in COLUMNS.items())
        + "</tr>"
        for name, values in rows(figures)
    )
    head = "".join(f"<th>{title}&nbsp;{'↑' if more else '↓'}</th>" for title, _, more in COLUMNS.values())
    items = "".join(
        f"<pre>{html.escape(line)}</pre>" if line.startswith(" ") else f"<li>{html.escape(line)}"
        for line in sentences(figures)
    )
    drawn = "".join(
        _figure(title, caption, draw(evaluation), wide) for title, caption, draw, wide in _sections(evaluation)
    )
    images = figures["images"]
    fitted = f"{images['validation']:,} validation images" if images["validation"] else "nothing"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(figures["name"])}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body>'
        f"<h1>{html.escape(figures['name'])}</h1>"
        f"<p>{images['test']:,} test images, {figures['parameters']:,} parameters. What was fitted was fitted on {fitted}; "
        "the test images were only looked at.</p>"
        f"<div class=scroll><table><tr><th></th>{head}</tr>{cells}</table></div>"
        f"<ul>{items}</ul><div class=grid>{drawn}</div></body></html>\n"
    )


def _figure(title: str, caption: str, figure: Figure, wide: bool) -> str:
    if wide:  # pictures of pixels
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=110)
        content = (
            f'<img alt="{html.escape(title)}" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'
        )
    else:
        drawing = io.StringIO()
        # ids that don't change from run to run, nor clash between the figures of a page
        with matplotlib.rc_context({"svg.hashsalt": title, "svg.id": title.replace(" ", "-")}):
            figure.savefig(drawing, format="svg", metadata={"Date": None})
        content = drawing.getvalue()[drawing.getvalue().index("<svg") :]
    return (
        f"<figure{' class=wide' if wide else ''}><h2>{title}</h2><figcaption>{caption}</figcaption>{content}</figure>"
    )


def _sections(evaluation: Evaluation) -> list[tuple[str, str, Callable[[Evaluation], Figure], bool]]:
    """Title, caption, what draws it, and whether it takes the page's width."""
    found: list[Any] = [
        ("Reliability", "Accuracy against confidence, in 15 bins; the bars below count images.", reliability, False),
        ("Risk and coverage", "Share of errors if only the most confident images are answered.", risk_coverage, False),
        ("Accuracy by class", "Of the ensemble; with many classes the worst and the best.", class_accuracy, False),
        ("Entropy", "Predictive entropy of the test images, and of images from elsewhere.", entropy_histogram, False),
    ]
    if evaluation.member_logits.shape[1] > 1:
        found.append(("Members' agreement", "Share of test images with the same answer.", agreement, False))
    if "corruptions" in evaluation.figures:
        found.append(("Corruptions", "Accuracy in percent by corruption and severity.", corruption_map, False))
    caption = (
        "The test images with the highest mutual information; the right class first, then what the members say."
        if evaluation.member_logits.shape[1] > 1
        else "The test images with the highest entropy; the right class first, then the answer."
    )
    found.append(("Most disputed images", caption, disputed_images, True))
    return found


# -- the figures -------------------------------------------------------------------------------------------------------


def _axes(height: float = 3.4) -> tuple[Figure, Any]:
    figure = Figure(figsize=(4.8, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def reliability(evaluation: Evaluation) -> Figure:
    """Accuracy against confidence, before and after the temperature."""
    figure = Figure(figsize=(4.8, 4.4), layout="constrained")
    axes, counts = figure.subplots(2, 1, height_ratios=[4, 1], sharex=True)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    temperature = evaluation.figures["temperature"]["value"]
    curves = [(evaluation.logits, BLUE, "ensemble" if temperature == 1 else f"T = {temperature:.2f}")]
    if temperature != 1:
        curves.insert(0, (evaluation.logits * temperature, RED, "T = 1"))
    for logits, color, label in curves:
        bins = metrics.reliability(logits, evaluation.labels)
        full = bins[:, 0] > 0
        axes.plot(bins[full, 1], bins[full, 2], "o-", color=color, markersize=4, label=label)
        counts.stairs(bins[:, 0], np.linspace(0, 1, 16), color=color, fill=len(curves) == 1, alpha=0.8)
    axes.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    axes.legend(frameon=False, loc="upper left")
    counts.set(xlabel="confidence", ylabel="images")
    for part in (axes, counts):
        part.spines[["top", "right"]].set_visible(False)
    return figure


def risk_coverage(evaluation: Evaluation) -> Figure:
    """Errors among the most confident images, of the ensemble and of each member."""
    figure, axes = _axes()
    members = evaluation.member_logits.shape[1]
    for member in range(members if members > 1 else 0):
        coverage, risk = metrics.risk_coverage(evaluation.member_logits[:, member], evaluation.labels)
        axes.plot(coverage, risk, color=GREY, linewidth=0.8, label="members" if member == 0 else None)
    coverage, risk = metrics.risk_coverage(evaluation.logits, evaluation.labels)
    axes.plot(coverage, risk, color=BLUE, label="ensemble" if members > 1 else "network")
    axes.set(xlabel="coverage", ylabel="share of errors", xlim=(0, 1), ylim=(0, None))
    axes.legend(frameon=False)
    return figure


def class_accuracy(evaluation: Evaluation, most: int = 24) -> Figure:
    """Accuracy of each class; of many the worst and the best."""
    classes = [one for one in evaluation.figures["classes"] if one["accuracy"] is not None]
    classes.sort(key=lambda one: one["accuracy"])
    shown = classes if len(classes) <= most else classes[: most // 2] + classes[-most // 2 :]
    figure, axes = _axes(max(2.2, 0.19 * len(shown) + 0.8))
    values = [one["accuracy"] for one in shown]
    axes.barh(range(len(shown)), values, color=BLUE, height=0.7)
    axes.set_yticks(range(len(shown)), [_short(one["name"], 22) for one in shown], fontsize=8)
    if len(shown) < len(classes):
        axes.axhline(most // 2 - 0.5, color=GREY, linestyle=":")
    axes.set(xlabel="accuracy", xlim=(0, 1))
    axes.margins(y=0.02)
    return figure


def entropy_histogram(evaluation: Evaluation) -> Figure:
    """Predictive entropies, in and out of distribution."""
    figure, axes = _axes()
    own, others = evaluation.uncertainty["entropy"]
    top = np.log(evaluation.logits.shape[-1])
    bins = np.linspace(0, top, 41).tolist()
    axes.hist(own, bins, weights=np.full(len(own), 1 / len(own)), color=BLUE, alpha=0.6, label="test images")
    if others is not None:
        name = evaluation.figures["out_of_distribution"]["dataset"]
        axes.hist(others, bins, weights=np.full(len(others), 1 / len(others)), color=RED, alpha=0.5, label=name)
        axes.legend(frameon=False)
    axes.set(xlabel="entropy (nats)", ylabel="share of images", xlim=(0, top))
    return figure


def agreement(evaluation: Evaluation) -> Figure:
    """Share of images for which two members give the same answer."""
    answers = evaluation.member_logits.argmax(-1)
    same = (answers[:, :, None] == answers[:, None, :]).mean(0)
    return _map(same, [f"member {number}" for number in range(len(same))], [str(number) for number in range(len(same))])


def corruption_map(evaluation: Evaluation) -> Figure:
    """Accuracy under each corruption at each severity."""
    accuracy = evaluation.figures["corruptions"]["accuracy"]
    return _map(
        np.array(list(accuracy.values())), [name.replace("_", " ") for name in accuracy], ["1", "2", "3", "4", "5"]
    )


def _map(values: np.ndarray, names: list[str], columns: list[str]) -> Figure:
    figure, axes = _axes(max(2.4, 0.3 * len(values) + 0.6))
    low, high = values.min(), values.max()
    axes.imshow(values, cmap="Blues", aspect="auto", vmin=low - 0.1, vmax=high + 0.05)
    for (row, column), value in np.ndenumerate(values):
        dark = value > (low + high) / 2 + 0.05
        axes.text(
            column, row, f"{value * 100:.1f}", ha="center", va="center", color="white" if dark else "black", fontsize=8
        )
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def disputed_images(evaluation: Evaluation, columns: int = 9) -> Figure:
    """The images that members disagree on most, with the right class and the members' answers."""
    numbers, images = evaluation.disagreement
    num_rows = -(-len(numbers) // columns)
    lines = 1 + min(evaluation.member_logits.shape[1], 4)
    figure = Figure(figsize=(1.25 * columns, num_rows * (1.3 + 0.16 * lines)), layout="constrained")
    grid = figure.subplots(num_rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, number, image in zip(grid.flat, numbers, images, strict=False):
        axes.imshow(image.astype("uint8").squeeze(), cmap="gray", vmin=0, vmax=255)
        names = evaluation.class_names
        probabilities = softmax(evaluation.member_logits[number].astype("float64"), axis=-1)[:4]
        said = [f"{_short(names[member.argmax()], 13)} {member.max():.0%}" for member in probabilities]
        axes.set_title("\n".join([_short(names[evaluation.labels[number]], 16).upper(), *said]), fontsize=7)
    return figure


def _short(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
