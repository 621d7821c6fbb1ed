"""The numbers that an evaluation's headline and advice are made of: `summarize` computes them, `report` words them."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixmo_keras.evaluation import answers
from mixmo_keras.metrics import differences
from mixmo_keras.metrics.differences import Difference

BY_CHANCE = 0.025  # the probability of as many right answers below which they are no guesses: two standard errors


@dataclasses.dataclass(frozen=True)
class Run:
    """The training run that an evaluated model comes from.

    Attributes:
        settings: The run's settings, by name.
        log: The losses and accuracies of each epoch, as Keras logs them.
        seconds: How long the training took.
        data: A sentence about the training data.
        single: The figures of the single network that was trained alike, if there is one.
        before: The figures of the classifier that the run began from, if it did.
    """

    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    log: Sequence[Mapping[str, float]] = ()
    seconds: float | None = None
    data: str = ""
    single: Mapping[str, Any] | None = None
    before: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class WorstClass:
    """The class with the lowest accuracy.

    Attributes:
        interval: The 95 % interval of its accuracy.
        taken_for: The most frequent wrong answer to its images, and how often it was given; `None` where it is not among
            the most frequent wrong answers.
        stands_out: Whether it is worse than all classes together by more than three standard errors. Two would not do: one
            of many classes is the worst by chance.
    """

    name: str
    accuracy: float
    images: int
    interval: tuple[float, float]
    taken_for: tuple[str, int] | None
    stands_out: bool


@dataclasses.dataclass(frozen=True)
class Validation:
    """How validation accuracy developed over a training.

    Attributes:
        epochs: The number of epochs.
        best_epoch: The epoch with the highest accuracy, from 1.
        best: The accuracy of that epoch.
        last: The accuracy of the last epoch.
        fell: Whether the accuracy surely fell after the best epoch.
        last_quarter: The number of epochs in the last quarter.
        rises: Whether the accuracy of the last quarter surely is above that of the quarter before.
    """

    epochs: int
    best_epoch: int
    best: float
    last: float
    fell: bool
    last_quarter: int
    rises: bool


@dataclasses.dataclass(frozen=True)
class Summary:
    """The main results of an evaluation.

    Attributes:
        images: The number of test images.
        accuracy: The ensemble's accuracy on them.
        interval: The 95 % interval of the accuracy.
        guessing: The accuracy of always answering the most frequent class.
        by_chance: How probable as many right answers are by chance; `None` of an earlier version.
        balanced: The balanced accuracy and that of guessing, one over the number of classes; `None` of an earlier version.
        confidence: The mean confidence of the answers.
        worst_class: `None` where there is one class only.
        gain_over_members: How much more accurate the ensemble is than its members on average; `None` of one member.
        gain_over_single: How much more accurate it is than the single network that was trained alike, if there is one.
        gain_over_before: How much more accurate it is than the classifier that the run began from, if it did.
        validation: `None` where the log has fewer than four epochs of validation accuracy.
    """

    images: int
    accuracy: float
    interval: tuple[float, float]
    guessing: float
    by_chance: float | None
    balanced: tuple[float, float] | None
    confidence: float
    worst_class: WorstClass | None
    gain_over_members: Difference | None
    gain_over_single: Difference | None
    gain_over_before: Difference | None
    validation: Validation | None

    @property
    def learned(self) -> bool:
        """Whether the answers surely have to do with the classes, by the confusions where these are known."""
        if self.by_chance is not None:
            return self.by_chance < BY_CHANCE
        return differences.is_above_guessing(self.accuracy, self.guessing, self.images)

    @property
    def progress(self) -> float:
        """How far the balanced accuracy, or else the accuracy, is on the way from guessing (0) to being always right (1)."""
        reached, guessing = self.balanced or (self.accuracy, self.guessing)
        return (reached - guessing) / (1 - guessing) if guessing < 1 else 1.0

    @property
    def calibration_gap(self) -> Difference:
        """The mean confidence less the accuracy."""
        error = differences.standard_error_of_share(self.accuracy, self.images)
        return Difference(self.confidence - self.accuracy, error)


def summarize(figures: Mapping[str, Any], run: Run | None = None) -> Summary:
    """The main results of an evaluation.

    Args:
        figures: The `figures` of an `Evaluation`.
        run: The training run. Defaults to an unknown one.
    """
    run = run or Run()
    accuracy, images = figures["ensemble"]["accuracy"], figures["images"]["test"]
    class_sizes = [one["images"] for one in figures["classes"]]
    over_members = figures["answers"]["gain_over_members"]
    return Summary(
        images=images,
        accuracy=accuracy,
        interval=differences.share_interval(accuracy, images),
        guessing=max(class_sizes) / max(sum(class_sizes), 1),
        by_chance=figures.get("by_chance"),
        balanced=_balanced(figures),
        confidence=figures["answers"]["mean_confidence"],
        worst_class=_worst_class(figures),
        gain_over_members=None if over_members is None else Difference(**over_members),
        gain_over_single=None if run.single is None else accuracy_gain([figures], [run.single]),
        gain_over_before=None if run.before is None else accuracy_gain([figures], [run.before]),
        validation=_validation(run.log, figures["images"]["validation"]),
    )


def _balanced(figures: Mapping[str, Any]) -> tuple[float, float] | None:
    reached = figures.get("balanced", {}).get("balanced_accuracy")
    return None if reached is None else (reached, 1 / len(figures["classes"]))


def accuracy_gain(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> Difference:
    """How much more accurate one model is than another: paired image by image where the figures allow it.

    Args:
        ours: The figures of evaluations of one model, one for each seed.
        theirs: The figures of the other model.
    """
    our_answers, their_answers = (_right_answers(group) for group in (ours, theirs))
    if our_answers is not None and their_answers is not None and len(our_answers[0]) == len(their_answers[0]):
        return differences.of_answers(our_answers, their_answers)
    our_accuracies, their_accuracies = (
        [figures["ensemble"]["accuracy"] for figures in group] for group in (ours, theirs)
    )
    return differences.of_accuracies(
        our_accuracies, their_accuracies, (ours[0]["images"]["test"], theirs[0]["images"]["test"])
    )


def _right_answers(group: Sequence[Mapping[str, Any]]) -> list[np.ndarray] | None:
    """Whether each run's answer to each image is right; `None` where one of the evaluations doesn't say so."""
    answers_of_runs = [right for figures in group if (right := answers.right_answers(figures)) is not None]
    return answers_of_runs if len(answers_of_runs) == len(group) else None


def _worst_class(figures: Mapping[str, Any]) -> WorstClass | None:
    tested = [one for one in figures["classes"] if one["accuracy"] is not None]
    if len(tested) < 2:
        return None
    worst = min(tested, key=lambda one: one["accuracy"])
    accuracy, images = worst["accuracy"], worst["images"]
    taken = [
        (pair["answer"], pair["images"]) for pair in figures["answers"]["confused"] if pair["label"] == worst["name"]
    ]
    return WorstClass(
        name=worst["name"],
        accuracy=accuracy,
        images=images,
        interval=differences.share_interval(accuracy, images),
        taken_for=taken[0] if taken else None,
        stands_out=differences.share_interval(accuracy, images, z=3)[1] < figures["ensemble"]["accuracy"],
    )


def _validation(log: Sequence[Mapping[str, float]], images: int) -> Validation | None:
    curve = [epoch["val_accuracy"] for epoch in log if "val_accuracy" in epoch]
    if len(curve) < 4 or not images:
        return None
    best, quarter = int(np.argmax(curve)), len(curve) // 4
    fall = differences.of_accuracies([curve[best]], [curve[-1]], (images, images))
    rise = float(np.mean(curve[-quarter:]) - np.mean(curve[-2 * quarter : -quarter]))
    error = math.sqrt(2 / quarter) * differences.standard_error_of_share(curve[-1], images)
    return Validation(
        epochs=len(curve),
        best_epoch=best + 1,
        best=curve[best],
        last=curve[-1],
        fell=fall.is_sure,
        last_quarter=quarter,
        rises=rise > 0 and Difference(rise, error).is_sure,
    )
