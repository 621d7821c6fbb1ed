"""The charts of a report. Each function draws one as a matplotlib figure; `sections` lists those of an evaluation."""

import functools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.special import softmax

from mixmo_keras.evaluation.evaluate import Evaluation
from mixmo_keras.evaluation.summary import Run
from mixmo_keras.metrics import class_charts
from mixmo_keras.metrics.shown import Chart

WHOLE_MATRIX = 20  # classes, of which the whole confusion matrix can be read
BLUE, RED, GREY = "#2563eb", "#dc2626", "#6b7280"


class Section(NamedTuple):
    """A chart of a report. A `wide` one takes the page's width and is a picture of pixels.

    A section of test or training images has `images` in place of a chart: a function of the evaluation to their pixels
    (n, H, W, C), and the lines of text below each; and a legend of `colors` by name, if they have some.
    """

    title: str
    caption: str
    draw: Callable[[Any], Figure] | None = None
    wide: bool = False
    images: Callable[[Any], tuple[np.ndarray, list[list[str]]]] | None = None
    colors: Mapping[str, np.ndarray] = {}


def sections(evaluation: Evaluation, run: Run) -> list[Section]:
    """The charts of a report, in order: those that the evaluation and the run have figures for."""
    several = evaluation.member_logits.shape[1] > 1
    reliability, risk = (of_chart(chart) for chart in _about_confidence(evaluation))
    chosen = training_section(run, "accuracy")
    chosen += [
        reliability,
        _confusion_section(evaluation),
        risk,
        Section("Accuracy by class", "Of the ensemble; with many classes the worst and the best.", class_accuracy),
        Section(
            "Entropy",
            "How undecided the answers are: 0 is sure of one class, the right end as likely all of them. Images from "
            "elsewhere, if there are some, should lie further right.",
            entropy_histogram,
        ),
    ]
    if several:
        chosen.append(Section("Members' agreement", "Share of test images with the same answer.", agreement))
    if "corruptions" in evaluation.figures:
        chosen.append(Section("Corruptions", "Accuracy in percent by corruption and severity.", corruption_map))
    caption = (
        "The test images with the highest mutual information; the right class first, then what the members say."
        if several
        else "The test images with the highest entropy; the right class first, then the answer."
    )
    chosen.append(Section("Most disputed images", caption, wide=True, images=disputed))
    if len(evaluation.confidently_wrong[0]):
        caption = (
            "The wrong answers that are the surest; the right class first, then the answer. Some labels may be wrong."
        )
        chosen.append(Section("Confidently wrong images", caption, wide=True, images=confidently_wrong))
    if evaluation.label_issues is not None:
        caption = (
            "The training images whose labels the ensemble contradicts most: the label first, then what the ensemble "
            "says, and what is right where it is known."
        )
        chosen.append(Section("Most suspicious labels", caption, wide=True, images=suspicious))
    return chosen


def _about_confidence(evaluation: Evaluation) -> list[Chart]:
    members = [*evaluation.member_logits.swapaxes(0, 1)] if evaluation.member_logits.shape[1] > 1 else []
    temperature, name = evaluation.figures["temperature"]["value"], "ensemble" if len(members) else "network"
    logits = {name: evaluation.logits}
    if temperature != 1:
        logits = {"T = 1": evaluation.logits * temperature, f"T = {temperature:.2f}": evaluation.logits}
    return class_charts.charts(logits, evaluation.labels, members)


def of_chart(chart: Chart) -> Section:
    """The section of a chart that is given as numbers."""
    return Section(chart.title, chart.caption, functools.partial(drawn, chart))


def drawn(chart: Chart, _: Any = None) -> Figure:
    """A chart as a figure."""
    figure = Figure(figsize=(4.8, 3.6 if chart.counts is None else 4.4), layout="constrained")
    if chart.counts is None:
        axes = lowest = figure.subplots()
    else:
        axes, lowest = figure.subplots(2, 1, height_ratios=[4, 1], sharex=True)
        lowest.bar(chart.counts.x, chart.counts.y, width=1 / len(chart.counts.x), color=BLUE, alpha=0.8)
        lowest.set(ylabel=chart.counts.name)
        lowest.spines[["top", "right"]].set_visible(False)
    several = len(chart.series) > 1
    for number, series in enumerate(chart.series):
        is_member = number < chart.members
        color = GREY if is_member else f"C{number - chart.members}" if len(chart.series) - chart.members > 1 else BLUE
        style: dict[str, Any] = dict(linewidth=0.8 if is_member else 1, marker="" if len(series.x) > 100 else ".")
        if chart.kind == "points":
            style = dict(linestyle="", alpha=0.4, marker=".")
        axes.plot(series.x, series.y, color=color, label=(series.name or None) if several else None, **style)
    if chart.diagonal:
        values = [value for series in chart.series for values in (series.x, series.y) for value in values]
        ends = [min(values, default=0), max(values, default=1)]
        axes.plot(ends, ends, color=GREY, linewidth=1, linestyle="--")
    axes.set(ylabel=chart.axes[1])
    lowest.set(xlabel=chart.axes[0])
    axes.spines[["top", "right"]].set_visible(False)
    if several:
        axes.legend(frameon=False, fontsize=7)
    return figure


def training_section(run: Run, watched: str) -> list[Section]:
    """The curves of a training of several epochs: of the loss, and of another figure in its log."""
    if len(run.log) < 2:
        return []
    caption = (
        f"Loss and {watched.replace('_', ' ')} by epoch. Where members see mixed images in training, both are worse there: "
        "what counts is validation data."
    )
    return [Section("Training", caption, lambda _: training_curves(run.log, watched), wide=True)]


def _confusion_section(evaluation: Evaluation) -> Section:
    if len(evaluation.class_names) <= WHOLE_MATRIX:
        caption = "Images by their class (rows) and the answer (columns); on the diagonal it is right."
        return Section("Confusion", caption, confusion)
    return Section("Confusion", "The most frequent wrong answers: class → answer, by images.", confusion)


def _axes(height: float = 3.4) -> tuple[Figure, Any]:
    figure = Figure(figsize=(4.8, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def class_accuracy(evaluation: Evaluation, most: int = 24) -> Figure:
    """Accuracy of each class; of many classes, that of the worst and the best."""
    classes = [figures for figures in evaluation.figures["classes"] if figures["accuracy"] is not None]
    classes.sort(key=lambda figures: figures["accuracy"])
    shown = classes if len(classes) <= most else classes[: most // 2] + classes[-most // 2 :]
    figure, axes = _axes(max(2.2, 0.19 * len(shown) + 0.8))
    values = [figures["accuracy"] for figures in shown]
    axes.barh(range(len(shown)), values, color=BLUE, height=0.7)
    axes.set_yticks(range(len(shown)), [_in_lines(figures["name"], 22) for figures in shown], fontsize=8)
    if len(shown) < len(classes):
        axes.axhline(most // 2 - 0.5, color=GREY, linestyle=":")
    axes.set(xlabel="accuracy", xlim=(0, 1))
    axes.margins(y=0.02)
    return figure


def confusion(evaluation: Evaluation) -> Figure:
    """Images by class and answer; of many classes the most frequent wrong answers."""
    names = evaluation.class_names
    if len(names) > WHOLE_MATRIX:
        pairs = evaluation.figures["answers"]["confused"][::-1]
        figure, axes = _axes(max(2.2, 0.26 * len(pairs) + 0.8))
        axes.barh(range(len(pairs)), [pair["images"] for pair in pairs], color=BLUE, height=0.7)
        labels = [_in_lines(f"{pair['label']} → {pair['answer']}", 30) for pair in pairs]
        axes.set_yticks(range(len(pairs)), labels, fontsize=8)
        axes.set(xlabel="images")
        return figure
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (evaluation.labels, evaluation.logits.argmax(-1)), 1)
    figure, axes = _axes(max(2.6, 0.26 * len(names) + 1.2))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", aspect="auto", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            color = "white" if shares[row, column] > 0.55 else "black"
            axes.text(column, row, f"{count}", ha="center", va="center", color=color, fontsize=7)
    shown = [_in_lines(name, 14) for name in names]
    slanted = dict(rotation=45, ha="right", rotation_mode="anchor") if max(map(len, names)) > 2 else {}
    axes.set_xticks(range(len(names)), shown, fontsize=7, **slanted)
    axes.set_yticks(range(len(names)), shown, fontsize=7)
    axes.set(xlabel="answer", ylabel="class")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def training_curves(log: Sequence[Mapping[str, float]], watched: str = "accuracy") -> Figure:
    """Loss and accuracy by epoch, in training and on validation data, of the members too.

    Args:
        log: The losses and accuracies of each epoch, as Keras logs them.
        watched: Which other figure than the loss. Defaults to the accuracy.
    """
    figure = Figure(figsize=(9.6, 3.2), layout="constrained")
    epochs = [int(row["epoch"]) + 1 for row in log]
    for axes, kind in zip(figure.subplots(1, 2), ("loss", watched), strict=True):
        members = sorted(name for name in log[-1] if name.startswith("val_member_") and name.endswith(kind))
        for number, name in enumerate(members):
            label = "members, validation" if number == 0 else None
            axes.plot(epochs, [row.get(name, np.nan) for row in log], color=BLUE, linewidth=0.8, alpha=0.5, label=label)
        for name, color, label in ((kind, GREY, "training"), (f"val_{kind}", BLUE, "validation")):
            if name in log[-1]:
                values = [row.get(name, np.nan) for row in log]
                axes.plot(epochs, values, color=color, label=label, marker="o" if len(log) < 15 else "", markersize=3)
        axes.set(xlabel="epoch", ylabel=kind.replace("_", " "))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    return figure


def entropy_histogram(evaluation: Evaluation) -> Figure:
    """Predictive entropies, in and out of distribution."""
    figure, axes = _axes()
    tested, elsewhere = evaluation.uncertainty["entropy"]
    top = np.log(evaluation.logits.shape[-1])
    bins = np.linspace(0, top, 41).tolist()
    axes.hist(tested, bins, weights=np.full(len(tested), 1 / len(tested)), color=BLUE, alpha=0.6, label="test images")
    if elsewhere is not None:
        name, weights = (
            evaluation.figures["out_of_distribution"]["dataset"],
            np.full(len(elsewhere), 1 / len(elsewhere)),
        )
        axes.hist(elsewhere, bins, weights=weights, color=RED, alpha=0.5, label=name)
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


def disputed(evaluation: Evaluation) -> tuple[np.ndarray, list[list[str]]]:
    """The images that members disagree on most, with the right class and the members' answers."""
    indices, images = evaluation.disagreement
    names, texts = evaluation.class_names, []
    for index in indices:
        probabilities = softmax(evaluation.member_logits[index].astype("float64"), axis=-1)[:4]
        answers = [f"{member.max():.0%} {names[member.argmax()]}" for member in probabilities]
        texts.append([names[evaluation.labels[index]].upper(), *answers, *_file(evaluation.test_names, index)])
    return images, texts


def confidently_wrong(evaluation: Evaluation) -> tuple[np.ndarray, list[list[str]]]:
    """The images whose wrong answers are the surest, with the right class and the answer."""
    indices, images = evaluation.confidently_wrong
    names, texts = evaluation.class_names, []
    for index in indices:
        probabilities = softmax(evaluation.logits[index].astype("float64"))
        answer = f"{probabilities.max():.0%} {names[probabilities.argmax()]}"
        texts.append([names[evaluation.labels[index]].upper(), answer, *_file(evaluation.test_names, index)])
    return images, texts


def suspicious(evaluation: Evaluation) -> tuple[np.ndarray, list[list[str]]]:
    """The training images whose labels are the most suspicious, with the label and the ensemble's answer."""
    assert evaluation.suspicious_images is not None
    assert evaluation.label_issues is not None
    indices, images = evaluation.suspicious_images
    issues, right, names, texts = evaluation.label_issues, evaluation.right_labels, evaluation.class_names, []
    for index in indices:
        lines = [names[issues.labels[index]].upper(), f"says {names[issues.predicted[index]]}"]
        if right is not None:
            label_is_right = right[index] == issues.labels[index]
            lines.append("label is right" if label_is_right else f"is {names[right[index]]}")
        texts.append(lines + _file(evaluation.labelled_names, index))
    return images, texts


def suspicious_labels(evaluation: Evaluation, columns: int = 9) -> Figure:
    """`suspicious` as a chart, whose lines are shortened to the pictures' width."""
    images, texts = suspicious(evaluation)
    has_files = evaluation.labelled_names is not None
    shown = [[_short(line, 18) for line in lines[: len(lines) - has_files]] for lines in texts]
    if has_files:
        shown = [[*lines, _end_of(whole[-1], 18)] for lines, whole in zip(shown, texts, strict=True)]
    return gallery(images, ["\n".join(lines) for lines in shown], columns)


def gallery(images, titles: Sequence[str], columns: int = 9) -> Figure:
    """Images with titles of the same number of lines, in rows."""
    num_rows = -(-len(images) // columns)
    lines = titles[0].count("\n") + 1
    figure = Figure(figsize=(1.25 * columns, num_rows * (1.3 + 0.16 * lines)), layout="constrained")
    grid = figure.subplots(num_rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, title in zip(grid.flat, images, titles, strict=False):
        axes.imshow(image.astype("uint8").squeeze(), cmap="gray", vmin=0, vmax=255)
        axes.set_title(title, fontsize=7)
    return figure


def _file(names: Sequence[str] | None, index: int) -> list[str]:
    """A line with an image's name; no line where images have no names."""
    return [] if names is None else [names[index]]


def _end_of(name: str, length: int) -> str:
    return name if len(name) <= length else f"…{name[1 - length :]}"


def _short(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def _in_lines(name: str, width: int) -> str:
    """A name in lines of so many letters, three at most."""
    return "\n".join(textwrap.wrap(name, width, max_lines=3, placeholder="…"))
