"""Numbers for each image, each with a deviation: Gaussians of members, pooled as a mixture."""

import dataclasses
from collections.abc import Iterable
from typing import Any, ClassVar

import keras
import numpy as np
import scipy.stats
from keras import ops

from mixmo_keras.common import arguments
from mixmo_keras.metrics import gaussians
from mixmo_keras.mixing.batch import unpack
from mixmo_keras.networks.gaussians import GaussianHead, GaussianMixture
from mixmo_keras.tasks.task import Task, number_or_names
from mixmo_keras.training import data_checks, distribution, losses


class _OfOutputs(keras.losses.Loss):
    """A loss of outputs (n, D, 2 or 3): a mean, and variances that add up. It may know the targets' deviation (D,)."""

    deviation: Any = None  # a weight of the heads, once a model is compiled with the loss

    def squared_deviation(self):
        return 1.0 if self.deviation is None else ops.square(ops.convert_to_tensor(self.deviation))


@keras.saving.register_keras_serializable("mixmo_keras")
class GaussianNegativeLogLikelihood(_OfOutputs):
    """½·log(2πσ²) + (y − μ)²/(2σ²), the mean over targets: of Gaussians, or of the one with a mixture's mean and variance.

    Args:
        beta: β ∈ [0, 1]: each target's loss is weighted by σ^(2β) of the standardised target, through which no gradient runs
            (β-NLL; Seitzer et al., ICLR 2022, equation 5). With 0.5, as they recommend, targets whose variance is large
            keep their share in the gradient of the mean. Defaults to 0: the likelihood itself.
    """

    def __init__(self, beta: float = 0.0, name="gaussian_nll", reduction="sum_over_batch_size", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.beta = arguments.number("beta", beta, least=0, most=1)

    def call(self, y_true, y_pred):
        error = ops.reshape(ops.cast(y_true, y_pred.dtype), ops.shape(y_pred)[:-1]) - y_pred[..., 0]
        variance = ops.sum(y_pred[..., 1:], axis=-1)
        values = 0.5 * (ops.log(2 * np.pi * variance) + ops.square(error) / variance)
        if self.beta:
            values = values * ops.stop_gradient(variance / self.squared_deviation()) ** self.beta
        return ops.mean(values, axis=-1)

    def get_config(self):
        return {**super().get_config(), "beta": self.beta}


@keras.saving.register_keras_serializable("mixmo_keras")
class SquaredError(_OfOutputs):
    """(y − μ)² in squared deviations of the targets, the mean over targets. Nothing is learnt about variances."""

    def __init__(self, name="squared_error", reduction="sum_over_batch_size", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        error = ops.reshape(ops.cast(y_true, y_pred.dtype), ops.shape(y_pred)[:-1]) - y_pred[..., 0]
        return ops.mean(ops.square(error) / self.squared_deviation(), axis=-1)


@keras.saving.register_keras_serializable("mixmo_keras")
def absolute_error(y_true, y_pred):
    """|y − μ| of targets (n, D) and outputs (n, D, 2 or 3), the mean over targets: (n,), in their units."""
    error = ops.reshape(ops.cast(y_true, y_pred.dtype), ops.shape(y_pred)[:-1]) - y_pred[..., 0]
    return ops.mean(ops.abs(error), axis=-1)


@keras.saving.register_keras_serializable("mixmo_keras")
@dataclasses.dataclass(frozen=True)
class Regression(Task):
    """D numbers an image, each with its deviation: members are Gaussians, and an ensemble is their mixture.

    Targets are (n, D), or (n,) for one. Networks learn standardised targets; the mean and deviation that this takes come
    from the training data when `fit` begins, in one pass over a dataset, and are saved with the weights. All that a model
    gives is in the targets' units. The ensemble's output is (n, D, 3): mean, aleatoric variance and epistemic variance.
    `model.calibrate` fits one factor of all deviations, and split-conformal intervals.

    Args:
        targets: D, or the targets' names.
        beta: β of `GaussianNegativeLogLikelihood`, the default loss. Defaults to 0.
        coverage: The probability that an interval should hold its target, within (0, 1). Defaults to 0.9.
        mean, deviation: Of the training targets, numbers or D of them, in place of what `fit` would take from the data.

    Example:

    ```python
    from mixmo_keras import tasks

    model = mixmo_keras.CutMixMo("wrn16_2", task=tasks.Regression(["angle", "size"]))
    ```
    """

    targets: int | tuple[str, ...]
    beta: float = dataclasses.field(default=0.0, compare=False)
    coverage: float = 0.9
    mean: float | tuple[float, ...] | None = dataclasses.field(default=None, compare=False)
    deviation: float | tuple[float, ...] | None = dataclasses.field(default=None, compare=False)

    averagings: ClassVar[tuple[str, ...]] = ("probabilities",)
    also_fitted: ClassVar[str] = "intervals"
    watched: ClassVar[str] = "absolute_error"
    kind: ClassVar[str] = "target"
    parts: ClassVar[str] = "targets"
    columns = gaussians.COLUMNS
    outputs_in_words: ClassVar[str] = (
        "by target, in its unit: mean, aleatoric deviation, epistemic deviation, lower and upper end of an interval"
    )

    def __post_init__(self):
        object.__setattr__(self, "targets", number_or_names("targets", self.targets))
        object.__setattr__(self, "beta", arguments.number("beta", self.beta, least=0, most=1))
        object.__setattr__(self, "coverage", arguments.number("coverage", self.coverage, above=0, below=1))
        if (self.mean is None) != (self.deviation is None):
            raise ValueError("`mean` and `deviation` of the targets belong together: pass both, or neither.")
        if self.mean is not None:
            object.__setattr__(self, "mean", self._numbers("mean", self.mean))
            object.__setattr__(self, "deviation", self._numbers("deviation", self.deviation, above=0))

    def _numbers(self, name: str, value, **bounds) -> tuple[float, ...]:
        values = value if isinstance(value, (list, tuple, np.ndarray)) else [value] * self.num_targets
        if len(values) != self.num_targets:
            raise ValueError(f"`{name}` must be a number, or {self.num_targets} of them, got {len(values)}.")
        return tuple(arguments.number(name, one, **bounds) for one in values)

    @property
    def num_targets(self) -> int:
        """D."""
        return self.targets if isinstance(self.targets, int) else len(self.targets)

    # -- the network -----------------------------------------------------------------------------------------------------

    def heads(self, num_members, shared, kernel_initializer, image_size):
        heads = GaussianHead(num_members, self.num_targets, shared, kernel_initializer, name="heads")
        if self.mean is not None:
            heads.standardize(self.mean, self.deviation)
        return heads

    def pooling(self, averaging, temperature, applies_to):
        self.averaging_of(averaging)
        self._check_applies_to(applies_to)
        width = float(scipy.stats.norm.ppf((1 + self.coverage) / 2))
        return GaussianMixture(self.num_targets, temperature, width, dtype="float32", name="average")

    def averaging_of(self, averaging):
        if averaging == "logits":
            raise ValueError(
                "averaging='logits' is about classes and labels: members that are Gaussians are pooled as a mixture, which "
                "is the mean of probability densities. Leave `averaging` out."
            )
        return super().averaging_of(averaging)

    def _check_applies_to(self, applies_to) -> None:
        if applies_to != "ensemble":
            raise ValueError(
                f"temperature_applies_to={applies_to!r} is about classes and labels: the factor of deviations is the "
                "ensemble's."
            )

    # -- targets ---------------------------------------------------------------------------------------------------------

    def check_shape(self, targets):
        shape, width = tuple(targets.shape), self.num_targets
        if not (len(shape) == 2 and shape[1] in (None, width)) and not (len(shape) == 1 and width == 1):
            raise ValueError(
                f"Targets of {width} number{'s' if width > 1 else ''} an image must be (n, {width}), got shape {shape}."
            )

    def check(self, targets):
        broken = ~np.isfinite(targets)
        if broken.any():
            raise self.error(float(targets[broken][0]), 0.0)

    def wrong(self, targets):
        targets = ops.cast(targets, "float32")
        return ops.logical_not(ops.all(ops.isfinite(targets))), float("nan"), 0.0

    def error(self, first, second):
        return ValueError("Targets of a regression must be finite numbers; the data hold NaN or infinite ones.")

    def canonical(self, targets):
        return targets[:, None] if len(targets.shape) == 1 else targets

    # -- training ----------------------------------------------------------------------------------------------------------

    def check_settings(self, msda, co_training):
        if msda is not None and msda.method != "mixup":
            raise ValueError(
                "CutMix can't be combined with a regression: of an image that is cut from two, no number follows from the "
                "shares of their areas. Use msda='mixup', which interpolates targets, or none."
            )
        if co_training is not None:
            raise ValueError(
                "`co_training` is written for classes and labels so far: a regression can't be combined with it."
            )

    def check_fit(self, options):
        if options.get("class_weight") is not None:
            raise ValueError("`class_weight` weighs classes, which a regression has none of: use `sample_weight`.")

    def check_prepared(self, model):
        if not model.heads.standardizes:
            raise ValueError(
                "The mean and deviation of the targets are not known yet: call `fit`, which takes them from its data, or "
                "pass `mean` and `deviation` to tasks.Regression."
            )

    def prepare(self, model, x, y, steps):
        """Standardises by the training targets, unless their mean and deviation are known, as after an earlier `fit`."""
        if model.heads.standardizes:
            return
        if y is None:
            y = _targets_of_dataset(model, x, steps)
        targets = self.to_evaluate(ops.convert_to_numpy(y), len(y))
        deviation = targets.std(0)
        constant = np.flatnonzero(deviation <= 1e-12 * np.abs(targets).max(0))
        if len(constant):
            raise ValueError(
                f"Target {self.names(None)[constant[0]]!r} is constant ({targets[0, constant[0]]:g}) in the training data: "
                "there is nothing to learn."
            )
        model.heads.standardize(targets.mean(0), deviation)

    def loss(self, teaching=None):
        return GaussianNegativeLogLikelihood(self.beta)

    def checked_loss(self, loss, model):
        loss = keras.losses.get(loss)
        if isinstance(loss, _OfOutputs):
            loss = type(loss).from_config(loss.get_config())  # another model may use it too
            loss.deviation = model.heads.deviation
        elif type(loss).__module__.startswith("keras.") or getattr(loss, "__module__", "").startswith("keras."):
            raise ValueError(
                f"{losses.name_of(loss)} compares a target with a number, where the model gives a mean and a variance: use "
                "tasks.SquaredError(), or leave `loss` out for the Gaussian likelihood."
            )
        return losses.checked_reduction(loss)

    def metrics(self):
        return [absolute_error]

    # -- after training ----------------------------------------------------------------------------------------------------

    def calibrate(self, average, member_outputs, targets, applies_to, label_noise):
        self._check_applies_to(applies_to)
        if label_noise is not None:
            raise ValueError("`label_noise` is about one class an image: a regression has none.")
        return float(np.float32(gaussians.fit_scale(member_outputs, targets)))  # as it is kept

    def nll(self, average, member_outputs, targets):
        mixture = gaussians.scaled(member_outputs, average.temperature)
        return float(gaussians.negative_log_likelihood(mixture, targets).mean())

    def fit_answers(self, average, member_outputs, targets):
        mixture = gaussians.scaled(member_outputs, average.temperature)
        width = gaussians.conformal_width(mixture, targets, self.coverage)
        # rounded up, so that the target that the width comes from stays within
        average.width = np.nextafter(width.astype("float32"), np.float32(np.inf)) * np.float32(1 + 1e-6)

    def figures(self, average, member_outputs, targets) -> dict[str, Any]:
        """Of the ensemble with its factor of deviations, and of each member as it is."""
        scaled = gaussians.scaled(member_outputs, average.temperature)
        members = [
            gaussians.mixture_figures(member_outputs[:, m : m + 1], targets, average.width)
            for m in range(member_outputs.shape[1])
        ]
        ensemble = gaussians.mixture_figures(scaled, targets, average.width)
        guessing = {"mae": np.abs(targets - np.median(targets, axis=0)).mean(0).tolist()}
        return {
            "ensemble": ensemble,
            "members": members,
            "names": self.names(None),
            "coverage_asked": self.coverage,
            "guessing": guessing,
        }

    def charts(self, average, member_outputs, targets):
        return gaussians.charts(gaussians.scaled(member_outputs, average.temperature), targets, self.names(None))

    def headline(self, figures):
        ensemble, guessing = figures["ensemble"], figures["guessing"]
        by_target = zip(figures["names"], ensemble["targets"]["mae"], guessing["mae"], strict=True)
        said = [
            f"{name}: off by {error:.4g} on average on {figures['images']['test']:,} test images; always answering their "
            f"median would be off by {without:.4g}."
            for name, error, without in by_target
        ]
        asked, found = figures["coverage_asked"], ensemble["coverage"]
        return [*said, f"{found:.1%} of the targets lie within their interval of {asked:.0%}."]

    def doubt(self, average, member_outputs):
        deviations = np.sqrt(ops.convert_to_numpy(average(member_outputs))[..., 1:].sum(-1))
        return (deviations / deviations.mean(0)).sum(-1)

    def in_words(self, member_outputs, average, target):
        mean, *variances = np.moveaxis(ops.convert_to_numpy(average(member_outputs[None]))[0], -1, 0)
        parts = zip(target[:4], mean, np.sqrt(sum(variances)), strict=False)
        return [f"{true:.4g}: {value:.4g} ± {deviation:.2g}" for true, value, deviation in parts]

    # -- serving ---------------------------------------------------------------------------------------------------------

    def served(self, member_outputs, average):
        pooled = average(member_outputs)
        lower, upper = average.interval(pooled)
        return {
            "mean": pooled[..., 0],
            "aleatoric_deviation": ops.sqrt(pooled[..., 1]),
            "epistemic_deviation": ops.sqrt(pooled[..., 2]),
            "lower": lower,
            "upper": upper,
            "member_mean": member_outputs[..., 0],
            "member_deviation": ops.sqrt(member_outputs[..., 1]),
        }

    def summary(self, images, names):
        return f"Predicts of {images} {len(names)} number{'s' if len(names) > 1 else ''}: {', '.join(names)}."

    def limits(self):
        return [
            f"An interval holds its target in {self.coverage:.0%} of images like those that it was calibrated on; not in as "
            "many of every kind of image."
        ]


def _targets_of_dataset(model, data, steps: int | None) -> np.ndarray:
    """All targets of a dataset, or those of its first batches, (n, D)."""
    advice = "pass the `mean` and `deviation` of the targets to tasks.Regression"
    if distribution.num_workers(distribution.of_model(model)) > 1:
        raise ValueError(f"Several workers each see a part of the targets: {advice}.")
    if isinstance(data, keras.utils.PyDataset):
        batches: Iterable = (data[number] for number in range(steps or data.num_batches))
    elif hasattr(data, "as_numpy_iterator"):
        batches = data_checks.batches_of(data, steps)
    else:
        raise ValueError(f"The targets of a {type(data).__name__} can't be looked at before training: {advice}.")
    targets = [np.asarray(unpack(batch).labels) for batch in batches]
    if not targets:
        raise ValueError("The training dataset is empty.")
    return np.concatenate(targets)
