"""The headline of a report and its advice, in sentences for readers who know no statistics.

A difference within two standard errors is called possible chance.
"""

import math
from collections.abc import Mapping
from typing import Any

from mixmo_keras.evaluation.summary import Run, Summary, summarize
from mixmo_keras.metrics import differences
from mixmo_keras.metrics.differences import Difference
from mixmo_keras.metrics.summaries import formatted

LONGER = 4  # times the epochs of a training in which nothing was learned
IMBALANCED = 1.5  # times the images of a class from which another is rare
LITTLE = 0.25  # of the way from guessing to being always right


def headline(figures: Mapping[str, Any], run: Run | None = None) -> list[str]:
    """The main results, a sentence each: accuracy, calibration, the worst class, the gain over members and others."""
    summary, run = summarize(figures, run), run or Run()
    sentences = [_accuracy(summary), _threshold(figures)]
    sentences += [_calibration(summary), _worst_class(summary), _members(summary)]
    sentences += [
        other_network(gain, f"{name} ({other['ensemble']['accuracy']:.1%})")
        for name, gain, other in (
            ("the classifier that it began as", summary.gain_over_before, run.before),
            ("the single network that was trained alike", summary.gain_over_single, run.single),
        )
        if gain is not None and other is not None
    ]
    return [sentence for sentence in sentences if sentence]


def advice(figures: Mapping[str, Any], run: Run | None = None) -> list[str]:
    """What to do next, a sentence each; empty where the figures suggest nothing."""
    summary, run = summarize(figures, run), run or Run()
    if not summary.learned:
        return [
            "It can't be told from guessing: it has learned next to nothing. "
            f"Train longer {_longer(run)} before anything else."
        ]
    learned_little = _advice_on_learning(summary, run)
    sentences = [
        _advice_on_length(summary) or learned_little,
        _advice_on_test_images(summary),
        _advice_on_calibration(summary, figures),
        # which classes are hard is a matter of chance while little is learned
        _advice_on_imbalance(figures, run) or (None if learned_little else _advice_on_classes(summary)),
        _advice_on_members(summary, figures, run),
        _advice_on_errors(summary),
    ]
    return [sentence for sentence in sentences if sentence]


# -- the headline ------------------------------------------------------------------------------------------------------


def _accuracy(summary: Summary) -> str:
    low, high = summary.interval
    return (
        f"Right on {summary.accuracy:.1%} of {summary.images:,} test images; on images like these, between {low:.1%} and "
        f"{high:.1%} (95 % interval). Always answering the most frequent class would be right on {summary.guessing:.1%}."
    )


def _threshold(figures: Mapping[str, Any]) -> str | None:
    """What is exported with a threshold, whose answers aren't the table's."""
    threshold = figures.get("threshold", {})
    if not threshold.get("applied"):
        return None
    ours, usual = threshold["balanced_accuracy"], figures["balanced"]["balanced_accuracy"]
    worse = (
        ""
        if None in (ours, usual) or ours > usual
        else " On these test images it gains nothing: leave --threshold out."
    )
    return (
        f"What is exported answers {threshold['class']} from a probability of {threshold['value']:.3f} on: right on "
        f"{threshold['accuracy']:.1%}, balanced accuracy {formatted(ours, '{:.1%}')}, to {formatted(usual, '{:.1%}')} by "
        f"the most probable class.{worse}"
    )


def _calibration(summary: Summary) -> str:
    gap = summary.calibration_gap
    both = f"its confidence is {summary.confidence:.1%} on average, its accuracy {summary.accuracy:.1%}"
    if not gap.is_sure:
        return f"Calibrated on average: {both}, a difference that may be chance."
    return f"Not calibrated, {'too sure of itself' if gap.mean > 0 else 'too modest'}: {both}."


def _worst_class(summary: Summary) -> str | None:
    worst = summary.worst_class
    if worst is None or worst.accuracy == 1:
        return None
    confusion = ""
    if worst.taken_for is not None:
        answer, count = worst.taken_for
        confusion = f", most often taken for {answer} ({'once' if count == 1 else f'{count:,} times'})"
    low, high = worst.interval
    return (
        f"Worst class: {worst.name}, right on {worst.accuracy:.1%} of {worst.images:,} images "
        f"({low:.0%} to {high:.0%}){confusion}."
    )


def _members(summary: Summary) -> str | None:
    gain = summary.gain_over_members
    if gain is None:
        return None
    points = f"{gain.in_points()} points against its members on average"
    if not gain.is_sure:
        return f"Whether the ensemble helps can't be said: {points}, which may be chance."
    return f"The ensemble {'helps' if gain.mean > 0 else 'does harm'}: {points}."


def other_network(gain: Difference, other: str) -> str:
    """How much more accurate a model is than another, and whether that may be chance."""
    points = f"{gain.size_in_points()} points {'more' if gain.mean > 0 else 'less'} accurate"
    return (
        f"{points} than {other}." if gain.is_sure else f"It can't be told from {other}: {points}, which may be chance."
    )


# -- what to do --------------------------------------------------------------------------------------------------------


def _longer(run: Run) -> str:
    """How to train a run longer, in parentheses."""
    epochs = run.settings.get("epochs")
    if not epochs:
        return "(--epochs)"
    duration = "" if run.seconds is None else f", about {max(LONGER * run.seconds / 60, 1):.0f} min"
    return f"(the same command with --epochs {LONGER * epochs}{duration})"


def _advice_on_learning(summary: Summary, run: Run) -> str | None:
    """What to do where answers are not much better than guessing."""
    if summary.progress >= LITTLE:
        return None
    backbone = str(run.settings.get("backbone", ""))
    trained = ""
    if backbone and not backbone.endswith(".keras") and ":" not in backbone:
        trained = ", or begin with a network that was trained already (--backbone keras:MobileNetV3Small)"
    return (
        f"It has learned little: {_reached(summary)} is {summary.progress:.0%} of the way from guessing to being always "
        f"right. Train longer {_longer(run)}, on more images{trained}; the other statements here may change then."
    )


def _reached(summary: Summary) -> str:
    if summary.balanced is None:
        return f"{summary.accuracy:.1%}"
    return f"its balanced accuracy of {summary.balanced[0]:.1%}"


def _advice_on_length(summary: Summary) -> str | None:
    """Whether to train for fewer epochs or for more."""
    validation = summary.validation
    if validation is None:
        return None
    if validation.fell:
        return (
            f"Validation accuracy fell from {validation.best:.1%} in epoch {validation.best_epoch} to {validation.last:.1%} "
            "at the end: best.keras is the model of that epoch. Fewer epochs, or more augmentation, would do better."
        )
    if validation.rises:
        return (
            f"Validation accuracy was still rising in the last {validation.last_quarter} epochs: the same command with "
            f"--epochs {2 * validation.epochs} trains it further."
        )
    return None


def _advice_on_test_images(summary: Summary) -> str | None:
    low, high = summary.interval
    if high - low <= 0.1:
        return None
    return (
        f"With {summary.images:,} test images the accuracy is known to ± {50 * (high - low):.0f} points only: take no small "
        "difference seriously, and test on more images."
    )


def _advice_on_calibration(summary: Summary, figures: Mapping[str, Any]) -> str | None:
    temperature = figures["temperature"]
    if not summary.calibration_gap.is_sure or temperature["fitted_on"] or figures.get("trained_on_validation"):
        return None
    if "not_applied" in temperature:
        return (
            "Its confidence can't be mended by these validation images: hold out more, or use it to rank answers only."
        )
    return (
        "Fit a temperature, which mends its confidence: recipes/evaluate.py RUN --temperature, or model.calibrate(...)."
    )


def _advice_on_imbalance(figures: Mapping[str, Any], run: Run) -> str | None:
    """What to do where rare classes are answered less often than others, which more images of all don't mend."""
    tested = [one for one in figures["classes"] if one["accuracy"] is not None]
    if len(tested) < 2 or "balanced" not in figures or run.settings.get("class_weights"):
        return None
    if figures.get("threshold", {}).get("applied"):
        return None
    rare, common = (choose(tested, key=lambda one: one["images"]) for choose in (min, max))
    gap = Difference(
        common["accuracy"] - rare["accuracy"],
        math.hypot(*(differences.standard_error_of_share(one["accuracy"], one["images"]) for one in (rare, common))),
    )
    if common["images"] < IMBALANCED * rare["images"] or not gap.is_sure or gap.mean < 0:
        return None
    threshold = " or name it from a lower probability on (--threshold)," if len(tested) == 2 else ""
    return (
        f"{rare['name']} is rare, {rare['images']:,} images to {common['images']:,} of {common['name']}, and is found in "
        f"{rare['accuracy']:.1%} of them, to {common['accuracy']:.1%}. If finding it matters as much, train with "
        f"--class-weights balanced,{threshold} and judge by the balanced accuracy."
    )


def _advice_on_classes(summary: Summary) -> str | None:
    worst = summary.worst_class
    if worst is None or not worst.stands_out:
        return None
    return (
        f"{worst.name} is worse than the rest, more than chance explains: more images of it would help most, above all of "
        "the kind that is taken for other classes."
    )


def _advice_on_members(summary: Summary, figures: Mapping[str, Any], run: Run) -> str | None:
    gain = summary.gain_over_single
    if len(figures["members"]) == 1 or (gain is None and not run.settings):
        return None
    if gain is None:
        return (
            "Whether a single network does as well isn't known here: train one on the same data for as many epochs "
            "(--method single), and the next report says it."
        )
    if not gain.is_sure:
        return "The single network is simpler; use it unless uncertainty or wrong labels are what members are for here."
    if gain.mean > 0:
        return None
    return "Use the single network (--method single), or train members longer and on a wider network."


def _advice_on_errors(summary: Summary) -> str | None:
    if not round((1 - summary.accuracy) * summary.images):
        return None
    return (
        "Look at the confidently wrong images below first: where the answer looks right, the label is wrong, and "
        "recipes/evaluate.py RUN --label-issues ranks those of the training images."
    )
