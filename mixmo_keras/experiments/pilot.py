"""Whether two members pay, before a long training is spent on them: short runs of one member and of two, side by side.

Every run has the same rows and epochs; what differs is one member, two members, and two with unmixing, at each width.
Judged is the ensemble's accuracy on validation data.
"""

import functools
import itertools
import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mixmo_keras import arguments, datasets, files
from mixmo_keras.experiments import tables
from mixmo_keras.experiments.epochs import duration
from mixmo_keras.models import beginning
from mixmo_keras.models.ensemble import EVALUATED_AT_ONCE
from mixmo_keras.models.mixmo import MixMo
from mixmo_keras.networks import backbones
from mixmo_keras.significance import is_above_guessing, is_sure

OF_TRAINING = (
    "This holds for runs of this length. Two members learn more slowly and gain most in long training: in the MixMo "
    "paper they lose at WRN-28-2 and win four points at WRN-28-10 after 300 epochs."
)
OF_FURTHER_TRAINING = (
    "This holds for further training of this length: members begin alike, and learn to differ more slowly than one network "
    "learns the images."
)
LONGER = 4  # times the epochs of a pilot in which nothing was learned
VARIANTS: dict[str, dict[str, Any]] = {  # method and options
    "one member": dict(method="single"),
    "two members": dict(method="cut_mixmo"),
    "two members, unmixing": dict(method="cut_mixmo", unmixing=True),
}


def run(
    backbone: Callable[[int], str | backbones.Backbone | Any],
    train,
    validation,
    widths: Sequence[int],
    epochs: int = 4,
    seeds: Sequence[int] = (0, 1),
    rows: int = 64,
    batch_repetitions: int = 2,
    folder: Path | str | None = None,
    fresh: bool = False,
    report: Callable[[str], None] = functools.partial(print, flush=True),
    **options,
) -> dict[str, Any]:
    """Trains every variant at every width with every seed, and gathers their learning curves.

    Args:
        backbone: A function of the width, as in `search.MixMoHyperModel`: of a network of one's own too, or a trained one.
        train: Images one by one, as `datasets.load` gives them.
        validation: Likewise. Nothing else is looked at.
        widths: What `backbone` takes. Two or more show whether width helps.
        epochs: Epochs of each run. Only their length is common: the learning rate falls over each run, so that the curve
            before the end is lower than a run that ended there.
        seeds: Seeds of the runs. Two or more give the spread.
        rows: Rows of a step.
        batch_repetitions: b.
        folder: Where finished runs are kept, so that a pilot that was killed goes on. Defaults to keeping none.
        fresh: Whether to run again what is there.
        report: A function that gets a line for each run.
        **options: Arguments of the models.

    Returns:
        For JSON: `images` (to train on and to validate on), `epochs`, `trained` (whether the network was trained before, so
        that its width is what it is), and `runs`, each with `variant`, `width`, `seed`, `num_classes`, the `seconds` that it
        took, and by epoch `accuracy` and `nll`.
    """
    arguments.function("backbone", backbone, "the width")
    arguments.instance("folder", folder, (str, os.PathLike, type(None)), "the path of a folder or None")
    for name, values in (("widths", widths), ("seeds", seeds)):
        arguments.instance(name, values, Sequence, "a list of integers")
    fresh = arguments.boolean("fresh", fresh)
    images_a_step = _images_a_step(rows, batch_repetitions)
    epochs = arguments.integer("epochs", epochs, least=1)
    widths = [arguments.integer("widths", width, least=1) for width in widths]
    seeds = [arguments.integer("seeds", seed, least=0) for seed in seeds]
    if not widths or not seeds:
        raise ValueError("A pilot needs a width and a seed at least.")
    arguments.different("widths", widths)
    arguments.different("seeds", seeds)
    check_rows(train, rows, batch_repetitions)
    steps = datasets.steps_per_epoch(train, images_a_step)
    runs: list[dict[str, Any]] = []
    planned = list(itertools.product(seeds, widths, VARIANTS))  # whole comparisons come first
    for seed, width, variant in planned:
        network = backbone(width)
        key = f"{_label(network)}width{width}-seed{seed}-{epochs}epochs-{rows}rows-b{batch_repetitions}-{steps}steps"
        path = None if folder is None else Path(folder) / f"{_file_name(variant)}-{key}.json"
        if path is not None and path.exists() and not fresh:
            runs.append(_finished(path, epochs, variant=variant, width=width, seed=seed))
            continue
        schedule = beginning.schedule(network, images_a_step)
        common = dict(batch_repetitions=batch_repetitions, schedule=schedule, seed=seed)
        model = beginning.begin(backbone=network, verbose=False, **VARIANTS[variant], **common, **options)
        start = time.monotonic()
        curve = _learning_curve(model, train, validation, images_a_step, epochs, seed)
        took = {"num_classes": model.num_classes, "seconds": round(time.monotonic() - start, 1)}
        runs.append({"variant": variant, "width": width, "seed": seed, **took, **curve})
        said = f"accuracy {curve['accuracy'][-1]:.2%}, NLL {curve['nll'][-1]:.3f}"
        left = len(planned) - len(runs)
        many = f"; {left} of {len(planned)} runs are left, this one took {duration(took['seconds'])}" if left else ""
        report(f"{variant}, width {width}, seed {seed}: {said}{many}")
        if path is not None:
            files.write_text(path, json.dumps(runs[-1]))
    images = [steps * images_a_step, datasets.steps_per_epoch(validation, 1)]
    return {"images": images, "epochs": epochs, "trained": beginning.is_trained(network), "runs": runs}


def _label(network: Any) -> str:
    """What tells the kept runs of a network from those of others: its name, and what a classifier's file holds."""
    if not isinstance(network, str):
        return ""
    name = re.sub(r"\W+", "_", network)
    return f"{name}-{files.digest(network)[:12]}-" if beginning.is_file(network) else f"{name}-"


def _images_a_step(rows: int, batch_repetitions: int) -> int:
    rows = arguments.integer("rows", rows, least=1)
    if rows % arguments.integer("batch_repetitions", batch_repetitions, least=1):
        raise ValueError(f"`rows` (={rows}) must be divisible by `batch_repetitions` (={batch_repetitions}).")
    return rows // batch_repetitions


def check_rows(train, rows: int, batch_repetitions: int) -> None:
    """Raises `ValueError` where a step has more rows than images to train on give."""
    num_images, images_a_step = datasets.steps_per_epoch(train, 1), _images_a_step(rows, batch_repetitions)
    if num_images < images_a_step:
        raise ValueError(
            f"`rows` (={rows}) takes {images_a_step} images a step (`batch_repetitions` is {batch_repetitions}); there are "
            f"{num_images} to train on. Pass fewer rows."
        )


def _finished(path: Path, epochs: int, **settings) -> dict[str, Any]:
    """A finished run as its file has it, which must be of these settings."""
    advice = "remove it, or start over with --fresh"
    found = files.read_json_object(path, advice)
    wrong = [name for name, value in settings.items() if found.get(name) != value]
    for name in ("accuracy", "nll"):
        curve = found.get(name)
        if not isinstance(curve, list) or len(curve) != epochs or not all(isinstance(one, float) for one in curve):
            wrong.append(name)
    if not isinstance(found.get("seconds", 0.0), (int, float)):
        wrong.append("seconds")
    if wrong:
        raise ValueError(f"{path} is damaged, it lacks {', '.join(wrong)} of such a run: {advice}.")
    return found


def _file_name(variant: str) -> str:
    return variant.replace(", ", "-").replace(" ", "_")


def _learning_curve(model: MixMo, train, validation, images_a_step: int, epochs: int, seed: int) -> dict[str, Any]:
    """Accuracy and NLL on validation data by epoch."""
    history = model.fit(
        datasets.batches(train, images_a_step, training=True, seed=seed, first_epoch=0),
        steps_per_epoch=datasets.steps_per_epoch(train, images_a_step),
        validation_data=datasets.batches(validation, EVALUATED_AT_ONCE),
        epochs=epochs,
        verbose=0,
    ).history
    return {"accuracy": history["val_accuracy"], "nll": history["val_loss"]}


def gains(pilot: Mapping[str, Any]) -> list[dict[str, Any]]:
    """By width and variant of two members: the gain in accuracy over one member, and its standard error.

    The error holds the spread over seeds, where there are several, and that of judging on so many validation images.
    """
    num_validation = pilot["images"][1]
    rows = []
    widths = sorted({one["width"] for one in pilot["runs"]})
    for width, variant in itertools.product(widths, list(VARIANTS)[1:]):
        ours, single = (_final(pilot, name, width) for name in (variant, "one member"))
        gain = float(np.mean(ours) - np.mean(single))
        of_images = sum(p * (1 - p) / num_validation for p in (np.mean(ours), np.mean(single)))
        of_seeds = sum(np.var(values, ddof=1) / len(values) for values in (ours, single)) if len(ours) > 1 else 0.0
        rows.append(
            {
                "width": width,
                "variant": variant,
                "gain": gain,
                "error": math.sqrt(of_images + of_seeds),
                "seeds": len(ours),
            }
        )
    return rows


def _final(pilot: Mapping[str, Any], variant: str, width: int) -> list[float]:
    return [one["accuracy"][-1] for one in pilot["runs"] if (one["variant"], one["width"]) == (variant, width)]


def table(pilot: Mapping[str, Any]) -> str:
    """Final accuracies and gains, in Markdown."""
    gain_of = {(row["width"], row["variant"]): row for row in gains(pilot)}
    lines = []
    for width in sorted({one["width"] for one in pilot["runs"]}):
        accuracies = [[100 * value for value in _final(pilot, variant, width)] for variant in VARIANTS]
        differences = [gain_of[width, variant] for variant in list(VARIANTS)[1:]]
        lines.append(
            [
                f"{width}",
                *(tables.cell(values, "{:.2f}") for values in accuracies),
                *(f"{100 * row['gain']:+.2f} ± {100 * row['error']:.2f}" for row in differences),
            ]
        )
    return tables.markdown(["width", *VARIANTS, "gain of two", "gain with unmixing"], lines, names=0)


def verdict(pilot: Mapping[str, Any]) -> str:
    """In plain words: whether two members pay here, and from which width on they would, with how sure that is."""
    if untaught := _nothing_learned(pilot):
        return untaught
    rows = gains(pilot)
    best = max(rows, key=lambda row: row["gain"])
    images, epochs = pilot["images"], pilot["epochs"]
    scale = f"after {epochs} epochs of {images[0]:,} images, judged on {images[1]:,}"
    points, error = 100 * best["gain"], 100 * best["error"]
    trained = pilot.get("trained", False)
    where = best["variant"] if trained else f"width {best['width']}, {best['variant']}"
    lines = []
    if not is_sure(best["gain"], best["error"]):
        lines.append(
            f"It can't be said: {points:+.1f} ± {error:.1f} points at best ({where}), {scale}. More seeds would tell."
        )
    elif best["gain"] > 0:
        lines.append(f"Two members pay here: {points:+.1f} ± {error:.1f} points at {where}, {scale}.")
    else:
        lines.append(f"Two members do not pay here: at best {points:+.1f} ± {error:.1f} points ({where}), {scale}.")
    for variant in [] if trained else list(VARIANTS)[1:]:
        lines.append(_trend(variant, [row for row in rows if row["variant"] == variant]))
    if epochs > 1:
        lines.append(_growth(pilot, best))
    lines += _fallen(pilot)
    lines.append(OF_FURTHER_TRAINING if trained else OF_TRAINING)
    if min(row["seeds"] for row in rows) < 2:
        lines.append("With one seed the errors count validation images alone; two seeds or more would show the spread.")
    return "\n".join(lines)


class Advice(NamedTuple):
    """What to do after a pilot.

    Attributes:
        action: `"longer"`, another pilot of more epochs; `"seeds"`, one of more seeds; or `"train"`.
        epochs: Of the pilot.
        seeds: Number of seeds of the pilot.
        seconds: About how long that pilot takes; `None` where that isn't known, and for a training.
        variant: What to train.
        width: Of what to train.
    """

    action: str
    epochs: int
    seeds: int
    seconds: float | None
    variant: str
    width: int


def advice(pilot: Mapping[str, Any]) -> Advice:
    """A longer pilot where nothing was learned yet, more seeds where the gain is within its error, else what was best."""
    rows, epochs = gains(pilot), pilot["epochs"]
    best, seeds = max(rows, key=lambda row: row["gain"]), min(row["seeds"] for row in rows)
    seconds = [one.get("seconds") for one in pilot["runs"]]
    taken = None if None in seconds else sum(seconds)
    if _nothing_learned(pilot):
        return Advice("longer", LONGER * epochs, seeds, taken and LONGER * taken, best["variant"], best["width"])
    if not is_sure(best["gain"], best["error"]):
        return Advice("seeds", epochs, 2 * seeds, taken and 2 * taken, best["variant"], best["width"])
    if best["gain"] > 0:
        return Advice("train", epochs, seeds, None, best["variant"], best["width"])
    widest = max((row["width"] for row in rows), key=lambda width: np.mean(_final(pilot, "one member", width)))
    return Advice("train", epochs, seeds, None, "one member", widest)


def _nothing_learned(pilot: Mapping[str, Any]) -> str | None:
    """That the best runs are no better than guessing, and what then; `None` where some are, or classes aren't counted."""
    num_classes = pilot["runs"][0].get("num_classes")
    if num_classes is None:
        return None
    means = {
        (variant, width): float(np.mean(_final(pilot, variant, width)))
        for variant, width in {(one["variant"], one["width"]) for one in pilot["runs"]}
    }
    (variant, width), accuracy = max(means.items(), key=lambda item: item[1])
    named = variant if pilot.get("trained") else f"{variant}, width {width}"
    chance = 1 / num_classes
    if is_above_guessing(accuracy, chance, pilot["images"][1]):
        return None
    return (
        f"Nothing was learned yet, so that nothing can be said of members: the best runs ({named}) have "
        f"{accuracy:.1%} of {pilot['images'][1]:,} images right after {pilot['epochs']} epochs, and guessing one of "
        f"{num_classes} classes {chance:.1%}. Train longer."
    )


def _fallen(pilot: Mapping[str, Any]) -> list[str]:
    """A line for each variant and width whose validation accuracy fell before the end by more than two standard errors."""
    lines = []
    for variant, width in sorted({(one["variant"], one["width"]) for one in pilot["runs"]}):
        of_runs = [one["accuracy"] for one in pilot["runs"] if (one["variant"], one["width"]) == (variant, width)]
        curve = np.mean(of_runs, axis=0)
        peak = int(np.argmax(curve))
        error = math.sqrt(2 * curve[peak] * (1 - curve[peak]) / pilot["images"][1])
        if is_sure(curve[peak] - curve[-1], error):
            of_width = "" if pilot.get("trained") else f", width {width}"
            fell = f"fell from {curve[peak]:.1%} in epoch {peak + 1} to {curve[-1]:.1%}"
            lines.append(
                f"{variant.capitalize()}{of_width}: validation accuracy {fell}. It learns its images by heart, or its "
                "learning rate is too high; more epochs won't help."
            )
    return lines


def _trend(variant: str, rows: list[dict[str, Any]]) -> str:
    """The gain against the logarithm of the width, weighted by its errors, and where the line reaches zero."""
    if len(rows) < 2:
        return f"{variant.capitalize()}: a second width would show whether width helps."
    x = np.log2([row["width"] for row in rows])
    gain, weight = np.array([row["gain"] for row in rows]), np.array([row["error"] for row in rows]) ** -2.0
    center = np.average(x, weights=weight)
    slope = float(np.sum(weight * (x - center) * gain) / np.sum(weight * (x - center) ** 2))
    error = float(np.sum(weight * (x - center) ** 2) ** -0.5)
    change = f"{100 * slope:+.1f} ± {100 * error:.1f} points"
    said = f"{variant.capitalize()}: each doubling of the width changes the gain by {change}"
    widest = rows[-1]
    if slope <= error:
        return f"{said}, which is no sure sign that a wider network would help."
    if widest["gain"] >= 0:
        return f"{said}."
    low, middle, high = (
        widest["width"] * 2 ** (-widest["gain"] / s) for s in (slope + error, slope, max(slope - error, 1e-9))
    )
    return (
        f"{said}. If it went on like that, they would be even at a width of about {_about(middle)} ({_about(low)} to "
        f"{_about(high)} within one standard error): a line drawn beyond what was measured, not a measurement."
    )


def _growth(pilot: Mapping[str, Any], best: Mapping[str, Any]) -> str:
    """How the gain of a variant at a width went from the first half of the runs to their end."""
    curves = {
        variant: np.mean(
            [one["accuracy"] for one in pilot["runs"] if (one["variant"], one["width"]) == (variant, best["width"])],
            axis=0,
        )
        for variant in (best["variant"], "one member")
    }
    gain = curves[best["variant"]] - curves["one member"]
    middle, change, error = len(gain) // 2, gain[-1] - gain[len(gain) // 2 - 1], math.sqrt(2) * best["error"]
    values = f"from {100 * gain[middle - 1]:+.1f} to {100 * gain[-1]:+.1f} points"
    said = f"From epoch {middle} to epoch {len(gain)} that gain went {values}"
    if change > error:
        return f"{said}: longer training helps two members, and may close the gap; a longer pilot would tell where."
    if change < -error:
        return f"{said}: at these lengths longer training helps one member more."
    within = f"a change within the error of ± {100 * error:.1f}"
    return f"{said}, {within}: the pilot is too short to say at which length they would be even."


def _about(width: float) -> str:
    return f"{width:.0f}" if width < 200 else "hundreds"


def plot(pilot: Mapping[str, Any]) -> Figure:
    """Learning curves on validation data by width, a line a seed."""
    widths = sorted({one["width"] for one in pilot["runs"]})
    figure = Figure(figsize=(1.2 + 3.6 * len(widths), 3.6), layout="constrained")
    for axis, width in zip(figure.subplots(1, len(widths), squeeze=False, sharey=True)[0], widths, strict=True):
        for number, variant in enumerate(VARIANTS):
            runs = [one for one in pilot["runs"] if (one["variant"], one["width"]) == (variant, width)]
            for index, one in enumerate(runs):
                epochs = range(1, len(one["accuracy"]) + 1)
                axis.plot(
                    epochs, one["accuracy"], "o-", markersize=3, color=f"C{number}", label=None if index else variant
                )
        axis.set(title="" if pilot.get("trained") else f"width {width}", xlabel="epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("validation accuracy")
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure
