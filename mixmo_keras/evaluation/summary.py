"""What an evaluation says, in words: a headline for who knows no statistics, and what to do next.

Each sentence is a function of the figures, and says nothing where they don't say it: a difference is called one beyond two
standard errors.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixmo_keras.common.significance import is_above_guessing, is_sure
from mixmo_keras.evaluation import answers

LONGER = 4  # times the epochs of a training in which nothing was learned
LITTLE = 0.25  # of the way from guessing to being always right


@dataclasses.dataclass(frozen=True)
class Run:
    """What a report says of the training that a model comes from.

    Attributes:
        settings: By name, what the run was told.
        log: By epoch, its losses and accuracies, as Keras logs them.
        seconds: How long it trained.
        data: What it learned from, in a sentence.
        single: The figures of the single network that was trained alike, if there is one.
        before: The figures of the classifier that it began as, if it did.
    """

    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    log: Sequence[Mapping[str, float]] = ()
    seconds: float | None = None
    data: str = ""
    single: Mapping[str, Any] | None = None
    before: Mapping[str, Any] | None = None

    @property
    def others(self) -> dict[str, Mapping[str, Any]]:
        """The networks that stand beside it, by what they are called, which are there."""
        both = {
            "the classifier that it began as": self.before,
            "the single network that was trained alike": self.single,
        }
        return {name: figures for name, figures in both.items() if figures is not None}


def headline(figures: Mapping[str, Any], run: Run | None = None) -> list[str]:
    """What matters, a sentence each: accuracy, calibration, the worst class, whether members help."""
    said = [_of_accuracy(figures), _of_calibration(figures), _of_worst_class(figures), _of_members(figures)]
    if run is not None:
        said += [_of_other(figures, name, other) for name, other in run.others.items()]
    return [sentence for sentence in said if sentence]


def advice(figures: Mapping[str, Any], run: Run | None = None) -> list[str]:
    """What to do next, a sentence each; none where the figures suggest nothing."""
    if untaught := _on_learning(figures, run):
        return [untaught]
    little = _on_little(figures, run)
    said = [_on_length(figures, run) or little, _on_test_images(figures), _on_calibration(figures)]
    if little is None:  # which classes are hard, and which images, is a matter of chance before
        said += [_on_classes(figures)]
    said += [_on_members(figures, run), _on_errors(figures)]
    return [sentence for sentence in said if sentence]


# -- the headline ------------------------------------------------------------------------------------------------------


def _of_accuracy(figures) -> str:
    accuracy, count = figures["ensemble"]["accuracy"], figures["images"]["test"]
    low, high = answers.interval(accuracy, count)
    return (
        f"Right on {accuracy:.1%} of {count:,} test images; on images like these, between {low:.1%} and {high:.1%} "
        f"(95 % interval). Always answering the most frequent class would be right on {guessing(figures):.1%}."
    )


def guessing(figures: Mapping[str, Any]) -> float:
    """The share that is right without looking: of the most frequent class among the test images."""
    counts = [one["images"] for one in figures["classes"]]
    return max(counts) / max(sum(counts), 1)


def calibration_gap(figures: Mapping[str, Any]) -> tuple[float, float]:
    """Mean confidence less accuracy, and the standard error of that accuracy."""
    accuracy, count = figures["ensemble"]["accuracy"], figures["images"]["test"]
    return figures["answers"]["mean_confidence"] - accuracy, math.sqrt(
        max(accuracy * (1 - accuracy), 1 / count) / count
    )


def _of_calibration(figures) -> str:
    gap, error = calibration_gap(figures)
    confidence, accuracy = figures["answers"]["mean_confidence"], figures["ensemble"]["accuracy"]
    both = f"its confidence is {confidence:.1%} on average, its accuracy {accuracy:.1%}"
    if not is_sure(gap, error):
        return f"Calibrated on average: {both}, a difference that may be chance."
    return f"Not calibrated, {'too sure of itself' if gap > 0 else 'too modest'}: {both}."


def _worst_class(figures) -> Mapping[str, Any] | None:
    tested = [one for one in figures["classes"] if one["accuracy"] is not None]
    return min(tested, key=lambda one: one["accuracy"]) if len(tested) > 1 else None


def _of_worst_class(figures) -> str | None:
    worst = _worst_class(figures)
    if worst is None or worst["accuracy"] == 1:
        return None
    low, high = answers.interval(worst["accuracy"], worst["images"])
    taken = [one for one in figures["answers"]["confused"] if one["label"] == worst["name"]]
    often = f", most often taken for {taken[0]['answer']} ({_times(taken[0]['images'])})" if taken else ""
    return (
        f"Worst class: {worst['name']}, right on {worst['accuracy']:.1%} of {worst['images']:,} images "
        f"({low:.0%} to {high:.0%}){often}."
    )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _of_members(figures) -> str | None:
    gain = figures["answers"]["gain_over_members"]
    if gain is None:
        return None
    points = f"{100 * gain['mean']:+.1f} ± {100 * gain['error']:.1f} points against its members on average"
    if not is_sure(gain["mean"], gain["error"]):
        return f"Whether the ensemble helps can't be said: {points}, which may be chance."
    return f"The ensemble {'helps' if gain['mean'] > 0 else 'does harm'}: {points}."


def accuracy_gain(figures: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[float, float]:
    """How much more accurate these figures are than the other, and its standard error: image by image, where both say so."""
    ours, theirs = answers.right_answers(figures), answers.right_answers(other)
    if ours is not None and theirs is not None and len(ours) == len(theirs):
        difference = ours.astype("float64") - theirs
        return float(difference.mean()), answers.standard_error(difference)
    shares = [one["ensemble"]["accuracy"] for one in (figures, other)]
    errors = [
        accuracy * (1 - accuracy) / one["images"]["test"]
        for accuracy, one in zip(shares, (figures, other), strict=True)
    ]
    return shares[0] - shares[1], float(np.sqrt(sum(errors)))


def _of_other(figures, name: str, other_figures: Mapping[str, Any]) -> str:
    gain, error = accuracy_gain(figures, other_figures)
    points = f"{100 * abs(gain):.1f} ± {100 * error:.1f} points"
    other = f"{name} ({other_figures['ensemble']['accuracy']:.1%})"
    if not is_sure(gain, error):
        return (
            f"It can't be told from {other}: {points} {'more' if gain > 0 else 'less'} accurate, which may be chance."
        )
    return f"{points} {'more' if gain > 0 else 'less'} accurate than {other}."


# -- what to do --------------------------------------------------------------------------------------------------------


def _on_learning(figures, run: Run | None) -> str | None:
    accuracy, count, chance = figures["ensemble"]["accuracy"], figures["images"]["test"], guessing(figures)
    if is_above_guessing(accuracy, chance, count):
        return None
    said = "It can't be told from guessing: it has learned next to nothing."
    return f"{said} Train longer {_longer(run)} before anything else."


def _longer(run: Run | None) -> str:
    """How a run is trained longer, in parentheses."""
    epochs = run.settings.get("epochs") if run is not None else None
    if run is None or not epochs:
        return "(--epochs)"
    took = "" if run.seconds is None else f", about {max(LONGER * run.seconds / 60, 1):.0f} min"
    return f"(the same command with --epochs {LONGER * epochs}{took})"


def _on_little(figures, run: Run | None) -> str | None:
    """What to do where answers are not much better than guessing."""
    accuracy, chance = figures["ensemble"]["accuracy"], guessing(figures)
    way = (accuracy - chance) / (1 - chance) if chance < 1 else 1.0
    if way >= LITTLE:
        return None
    backbone = str(run.settings.get("backbone", "")) if run is not None else ""
    trained = ""
    if backbone and not backbone.endswith(".keras") and ":" not in backbone:
        trained = ", or begin with a network that was trained already (--backbone keras:MobileNetV3Small)"
    return (
        f"It has learned little: {accuracy:.1%} is {way:.0%} of the way from guessing to being always right. Train longer "
        f"{_longer(run)}, on more images{trained}; what else is said here may change then."
    )


def _on_length(figures, run: Run | None) -> str | None:
    """Whether validation accuracy was rising at the end, or had fallen."""
    curve = [row["val_accuracy"] for row in run.log if "val_accuracy" in row] if run is not None else []
    count = figures["images"]["validation"]
    if len(curve) < 4 or not count:
        return None
    error = math.sqrt(2 * max(curve[-1] * (1 - curve[-1]), 1 / count) / count)
    quarter = max(len(curve) // 4, 1)
    best = int(np.argmax(curve))
    if is_sure(curve[best] - curve[-1], error):
        return (
            f"Validation accuracy fell from {curve[best]:.1%} in epoch {best + 1} to {curve[-1]:.1%} at the end: best.keras "
            "is the model of that epoch. Fewer epochs, or more augmentation, would do better."
        )
    rise = float(np.mean(curve[-quarter:]) - np.mean(curve[-2 * quarter : -quarter]))
    if rise > 0 and is_sure(rise, error / math.sqrt(quarter)):
        return (
            f"Validation accuracy was still rising in the last {quarter} epochs: the same command with --epochs "
            f"{2 * len(curve)} trains it further."
        )
    return None


def _on_test_images(figures) -> str | None:
    low, high = answers.interval(figures["ensemble"]["accuracy"], figures["images"]["test"])
    if high - low <= 0.1:
        return None
    return (
        f"With {figures['images']['test']:,} test images the accuracy is known to ± {50 * (high - low):.0f} points only: "
        "take no small difference seriously, and test on more images."
    )


def _on_calibration(figures) -> str | None:
    gap, error = calibration_gap(figures)
    temperature = figures["temperature"]
    if not is_sure(gap, error) or temperature["fitted_on"] or figures.get("trained_on_validation"):
        return None
    if "not_applied" in temperature:
        return (
            "Its confidence can't be mended by these validation images: hold out more, or use it to rank answers only."
        )
    return (
        "Fit a temperature, which mends its confidence: recipes/evaluate.py RUN --temperature, or model.calibrate(...)."
    )


def _on_classes(figures) -> str | None:
    worst, accuracy = _worst_class(figures), figures["ensemble"]["accuracy"]
    if worst is None or answers.interval(worst["accuracy"], worst["images"], z=3)[1] >= accuracy:
        return None  # one of many classes is the worst by chance: three standard errors, not two
    return (
        f"{worst['name']} is worse than the rest, more than chance explains: more images of it would help most, above all "
        "of the kind that is taken for other classes."
    )


def _on_members(figures, run: Run | None) -> str | None:
    if run is None or len(figures["members"]) == 1:
        return None
    if run.single is None and not run.settings:
        return None
    if run.single is None:
        return (
            "Whether a single network does as well isn't known here: train one on the same data for as many epochs "
            "(--method single), and the next report says it."
        )
    gain, error = accuracy_gain(figures, run.single)
    if not is_sure(gain, error):
        return "The single network is simpler; use it unless uncertainty or wrong labels are what members are for here."
    if gain > 0:
        return None
    return "Use the single network (--method single), or train members longer and on a wider network."


def _on_errors(figures) -> str | None:
    wrong = round((1 - figures["ensemble"]["accuracy"]) * figures["images"]["test"])
    if not wrong:
        return None
    return (
        "Look at the confidently wrong images below first: where the answer looks right, the label is wrong, and "
        "recipes/evaluate.py RUN --label-issues ranks those of the training images."
    )
