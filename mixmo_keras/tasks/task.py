"""What every task decides: from the head of a member to what a SavedModel serves. Models, training and serving ask it.

A new task is one class with these methods, in a file of its own, and a line in `tasks/__init__.py`.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import keras
import numpy as np
from keras import ops

from mixmo_keras.common import arguments
from mixmo_keras.common.settings import Settings
from mixmo_keras.metrics.shown import Chart, Column, Pictures
from mixmo_keras.mixing import msda


@dataclasses.dataclass(frozen=True)
class Task(Settings):
    """What is predicted of an image: frozen, compared by its fields, and saved with the model.

    Members give outputs (B, M, ...), and an ensemble pools them to (B, ...). A target belongs to an image, and is (n,) or
    (n, ...). A subclass is a frozen dataclass, registered with Keras, whose fields are what `get_config` returns.

    Attributes:
        name: The class's name as command lines have it, such as `multi_label`.
        are_maps: Whether targets are maps (n, H, W), which augmentation must move as it moves images.
        border: The value of target maps outside of the images.
        least_to_calibrate: The least number of images to fit a temperature on.
        also_fitted: What `fit_answers` fits, such as "thresholds"; empty for nothing.
        averagings: The ways in which members can be pooled (`averaging` of a model); the first is the default.
        monitor: The log of validation by which the best epoch is chosen, and whether its `"max"` or `"min"` is the best.
        watched: The name of the first of `metrics`, which a recipe's log has of each member too.
        kind: What is named in an export: "class", "label" or "target".
        parts: The figures that are one for each class, label or target, by the name that `figures` has them under.
        columns: Of a report's table, by the name in `figures`; empty for a task without reports.
        columns_of_parts: Further ones, of the table by class, label or target.
        named_output: The served output that is an index of a name, beside which the name itself is served.
        outputs_in_words: What is served, for a model's card.
    """

    name: ClassVar[str]
    are_maps: ClassVar[bool] = False
    border: ClassVar[int] = 0
    least_to_calibrate: ClassVar[int] = 50
    also_fitted: ClassVar[str] = ""
    averagings: ClassVar[tuple[str, ...]] = ("logits", "probabilities")
    monitor: ClassVar[tuple[str, str]] = ("val_loss", "min")
    watched: ClassVar[str] = "loss"
    kind: ClassVar[str] = "class"
    parts: ClassVar[str] = "classes"
    columns: ClassVar[Mapping[str, Column]] = {}
    columns_of_parts: ClassVar[Mapping[str, Column]] = {}
    named_output: ClassVar[str | None] = None
    outputs_in_words: ClassVar[str]

    @classmethod
    def of_names(cls, names: Sequence[str]) -> Self:
        """The task of data whose classes, labels or targets have these names."""
        return cls(tuple(names))  # type: ignore[call-arg]

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        cls.name = re.sub("(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()

    # -- the network -----------------------------------------------------------------------------------------------------

    def core(self, core: keras.Model) -> keras.Model:
        """A backbone's core, which ends in a vector (B, F), made to end in what the heads take. By default it stays."""
        return core

    def heads(
        self, num_members: int, shared: bool, kernel_initializer, image_size: tuple[int, int]
    ) -> keras.layers.Layer:
        """The layer of all members' heads, named "heads": what the core ends in to outputs (B, M, ...)."""
        raise NotImplementedError

    def pooling(self, averaging: str | None, temperature: float, applies_to: str) -> keras.layers.Layer:
        """The layer that makes the ensemble's outputs of its members': a `networks.member_average.Pooling`.

        Args:
            averaging: One of `averagings`; `None` for the first.
            temperature: Of the calibration; 1 for none.
            applies_to: What the temperature is about, `"ensemble"` or `"members"`.
        """
        raise NotImplementedError

    def averaging_of(self, averaging: str | None) -> str:
        """How members are pooled, checked."""
        return self.averagings[0] if averaging is None else arguments.choice("averaging", averaging, self.averagings)

    # -- targets: the one place where they are checked --------------------------------------------------------------------

    def check_shape(self, targets) -> None:
        """Raises `ValueError` for targets of another shape, as far as it is known when a step is traced."""
        raise NotImplementedError

    def check_size(self, targets, image_shape: tuple[int, int, int]) -> None:
        """Raises `ValueError` for targets, of a shape that is right, which don't fit images (H, W, C)."""

    def check(self, targets: np.ndarray) -> None:
        """Raises `ValueError` where an array, of a shape that is right, holds targets that are wrong."""
        raise NotImplementedError

    def wrong(self, targets) -> tuple[Any, Any, Any]:
        """Whether a step's targets are wrong, a boolean, and two numbers about them for `error`."""
        raise NotImplementedError

    def error(self, first: float, second: float) -> ValueError:
        """The error to raise for targets that a step found to be wrong, of the two numbers that `wrong` gave."""
        raise NotImplementedError

    def canonical(self, targets):
        """Targets of a step in one form, such as (n,) for (n, 1)."""
        return targets

    def to_evaluate(self, targets, count: int) -> np.ndarray:
        """Targets of so many images as an array that `figures` and `calibrate` take, checked. By default float64."""
        targets = np.asarray(targets)
        self.check_shape(targets)
        if len(targets) != count:
            raise ValueError(f"There are {len(targets)} rows of targets for {count} images.")
        self.check(targets)
        return self.canonical(targets).astype("float64")

    def joined(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """The targets of several batches, each as `to_evaluate` gives it, as one array."""
        return np.concatenate(parts)

    def in_form(self, targets, form: Any) -> tuple[Any, Any]:
        """Targets in the form that metrics saw first, and this form; `form` is `None` at first. By default canonical."""
        return self.canonical(targets), form

    # -- training ----------------------------------------------------------------------------------------------------------

    def check_settings(self, msda, co_training) -> None:
        """Raises `ValueError` for settings of training that can't be combined with the task.

        Args:
            msda: An `MSDA`, or `None`.
            co_training: A `CoTraining`, or `None`.
        """

    def check_augmentation(self, augment) -> None:
        """Raises `ValueError` for an augmentation, a function or `None`, that can't be combined with the task."""

    def check_fit(self, options: dict) -> None:
        """Raises `ValueError` for options of `fit` that can't be combined with the task."""

    def prepare(self, model, x, y, steps: int | None) -> None:
        """Takes from `fit`'s data what a model needs before its first step. Nothing, for most tasks."""

    def check_prepared(self, model) -> None:
        """Raises `ValueError` where a step outside of `fit` would lack what `prepare` takes from the data."""

    def seen(self, targets, partners, pixel_masks, masks):
        """What the loss sees of targets (B, M, ...): by default themselves, or under MSDA what `mix` makes of them.

        Args:
            targets: Of what each member is shown.
            partners: Those of the images that MSDA mixes in; `None` without MSDA.
            pixel_masks: (B, M, H, W, 1), the part of the own image that MSDA keeps; `None` without MSDA.
            masks: (B, M, h, w, 1 or c), how members are mixed; `None` where they are summed.
        """
        return targets if partners is None else self.mix(targets, partners, msda.visible_shares(pixel_masks, masks))

    def mix(self, targets, partners, shares):
        """Targets (B, M, ...) of images that are mixed with partners', where `shares` (B, M) of the own image are seen.

        By default share·target + (1 − share)·partner's target.
        """
        for _ in range(len(targets.shape) - 2):
            shares = shares[..., None]
        own, others = (ops.cast(values, shares.dtype) for values in (targets, partners))
        return shares * own + (1 - shares) * others

    def loss(self, teaching: str | None = None):
        """The loss by default: of targets (n, ...) and outputs (n, ...), of a member or of the ensemble, to (n,).

        Args:
            teaching: How submodels teach each other, if they do, as in `CoTraining`.
        """
        raise NotImplementedError

    def checked_loss(self, loss, model):
        """A loss for `compile`, which may be a name, after a check that it suits the task."""
        raise NotImplementedError

    def metrics(self) -> list:
        """The metrics that are shown by default."""
        raise NotImplementedError

    # -- after training ----------------------------------------------------------------------------------------------------

    def calibrate(self, average, member_outputs, targets, applies_to: str, label_noise: float | str | None) -> float:
        """The temperature that suits held-out images best; sets further ones, such as those of labels, in the pooling layer.

        Args:
            average: The model's pooling layer.
            member_outputs: Of the images, (n, M, ...).
            targets: As `to_evaluate` gives them.
            applies_to: What the temperature is about.
            label_noise: Rate of wrong targets, `"estimate"`, or `None`.
        """
        raise NotImplementedError

    def nll(self, average, member_outputs, targets) -> float:
        """The ensemble's negative log-likelihood: a temperature that raises it on images left out of its fit is not kept."""
        return self.figures(average, member_outputs, targets)["ensemble"]["nll"]

    def fit_answers(self, average, member_outputs, targets) -> None:
        """Fits on held-out images what else answers need, such as thresholds, under the temperature that is kept."""

    def sample(self, member_outputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is kept of a batch's outputs and targets, to calibrate on and for charts: everything, but of maps a part."""
        return member_outputs, targets

    def figures_of_batches(self, average, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
        """`figures` of batches of (member outputs, targets), which by default are put together."""
        outputs, targets = zip(*batches, strict=True)
        return self.figures(average, np.concatenate(outputs), self.joined(targets))

    def figures(self, average, member_outputs, targets) -> dict[str, Any]:
        """All figures of predictions, by name: of the `ensemble`, of its `members`, and of what else there is."""
        raise NotImplementedError

    def watch(self, outputs: np.ndarray, targets: np.ndarray) -> float:
        """The figure called `watched` of a member's, or the ensemble's, outputs (n, ...)."""
        values = self.metrics()[0](targets, ops.convert_to_tensor(outputs, "float32"))
        return float(np.mean(ops.convert_to_numpy(values)))

    def at_once(self, image_shape: tuple[int, int, int], most: int) -> int:
        """Of how many images outputs are kept at a time in an evaluation: by default `most`."""
        return most

    def charts(self, average, member_outputs, targets) -> list[Chart]:
        """The charts of a report, of what `sample` keeps of the test images."""
        return []

    def pictures(self, average, member_outputs, targets) -> Pictures | None:
        """Maps to show beside images; `None` for a task without maps."""
        return None

    def headline(self, figures: Mapping[str, Any]) -> list[str]:
        """The main results of an evaluation's figures, a sentence each."""
        return []

    def doubt(self, average, member_outputs) -> np.ndarray:
        """How little the ensemble is sure about each image, (n,), by what `sample` keeps: a report shows the highest."""
        raise NotImplementedError

    def in_words(self, member_outputs, average, target) -> list[str]:
        """What is true of one image, and what is predicted, in short lines: always as many."""
        raise NotImplementedError

    def conformal_figures(
        self, held_out: tuple[np.ndarray, np.ndarray], tested: tuple[np.ndarray, np.ndarray], coverage: float
    ) -> dict[str, Any] | None:
        """The figures of sets that hold what is right with a chosen probability; `None` for a task without such sets.

        Args:
            held_out: The ensemble's outputs (m, ...) and targets of images that nothing was trained on.
            tested: Those of the test images.
            coverage: The probability.
        """
        return None

    def why_only_classes(self) -> str | None:
        """Why what is written for one class an image can't take this task; `None` if it can."""
        return f"it is written for one class an image (tasks.Classification) so far, and the task is {self}"

    # -- serving ---------------------------------------------------------------------------------------------------------

    def served(self, member_outputs, average) -> dict[str, Any]:
        """What is served of images, by name, each (n, ...), from the members' outputs (n, M, ...).

        Names that begin with `member_` are served by the signature for members, all others by the one for the ensemble.
        """
        raise NotImplementedError

    def names(self, names: Sequence[str] | None) -> list[str]:
        """The names of the classes, labels or targets, checked; by default numbers, or the task's own."""
        own = getattr(self, dataclasses.fields(self)[0].name)  # their number, or their names
        own = [str(number) for number in range(own)] if isinstance(own, int) else list(own)
        return own if names is None else checked_names("class_names", names, len(own), self.kind)

    def summary(self, images: str, names: Sequence[str]) -> str:
        """A sentence for a model's card, such as "Classifies images of 8×8 pixels into 3 classes: a, b, c."

        Args:
            images: What the images are: "images of 8×8 pixels".
            names: Of the classes, labels or targets.
        """
        raise NotImplementedError

    def limits(self) -> list[str]:
        """Sentences for the limits in a model's card."""
        return []


def number_or_names(argument: str, value: Any) -> int | tuple[str, ...]:
    """How many there are of something, or a tuple of their different names."""
    if isinstance(value, (str, bool)) or not isinstance(value, (Sequence, np.ndarray)):
        return arguments.integer(argument, value, least=1)
    names = tuple(arguments.names(argument, value))
    return tuple(checked_names(argument, names, max(len(names), 1), "name"))


def checked_names(argument: str, names: Sequence[str], count: int, kind: str) -> list[str]:
    """So many different names, which are texts.

    Raises:
        ValueError: another number of names, one twice, or what is no text.
    """
    found = arguments.names(argument, names)
    if len(found) != count:
        plural = "classes" if kind == "class" else f"{kind}s"
        raise ValueError(f"`{argument}` has {len(found)} names for {count} {plural}.")
    arguments.different(argument, found)
    for name in found:
        if not name.strip() or any("\ud800" <= letter <= "\udfff" for letter in name):  # of bytes that are no UTF-8
            raise ValueError(f"`{argument}` must be texts that can be written in UTF-8 and aren't empty, got {name!r}.")
    return found
