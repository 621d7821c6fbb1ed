"""Learning rates as functions of training progress.

The papers' schedules are stated in shares of training (warm-up, decay after epochs 100, 200 and 225 of 300), so these take
their progress from what `fit` knows, `epochs` and steps, and need no step counts of their own. A `MixMo` model attaches
its progress when it is compiled with such a schedule.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from mixmo_keras.common import arguments


class ProgressSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate with linear warm-up and a shape over progress ∈ [0, 1], given by `factor`.

    Args:
        base: The learning rate after warm-up; also the rate outside `fit`, as in `train_on_batch`, before any `fit`.
        warmup: Share of training over which the rate rises linearly from near 0 to `base`.
    """

    def __init__(self, base: float, warmup: float = 0.0):
        self.base = arguments.number("base", base, above=0)
        self.warmup = arguments.number("warmup", warmup, least=0, below=1)
        self._progress: Callable | None = None

    def attached(self, progress: Callable) -> "ProgressSchedule":
        """A copy that follows a function from the training step to progress in [0, 1], negative before any `fit`."""
        copy = type(self).from_config(self.get_config())
        copy._progress = progress
        return copy

    def __call__(self, step):
        if self._progress is None:
            raise ValueError(
                f"{type(self).__name__} follows the progress of `fit`: compile a mixmo_keras model with it. "
                "For other models use keras.optimizers.schedules."
            )
        # in the middle of the step: a warm-up's first step would have no learning rate at its start
        return self.at(self._progress(ops.cast(step, "float32") + 0.5))

    def at(self, progress):
        """The learning rate at a progress in [0, 1]; a negative one has no warm-up."""
        progress = ops.convert_to_tensor(progress, "float32")
        warm = ops.where(progress < 0, 1.0, ops.minimum(progress / self.warmup, 1.0)) if self.warmup else 1.0
        return self.base * warm * self.factor(progress)

    def factor(self, progress):
        """What `base` is multiplied by at `progress`, warm-up aside."""
        raise NotImplementedError(f"{type(self).__name__} must define `factor`.")

    def get_config(self):
        return {"base": self.base, "warmup": self.warmup}


@keras.saving.register_keras_serializable("mixmo_keras")
class StepDecay(ProgressSchedule):
    """Piecewise constant: multiplied by `rate` at each milestone.

    The defaults are MixMo's on CIFAR: ×0.1 after epochs 100, 200 and 225 of 300, and a warm-up of 782·b steps, which is one
    epoch (50,000·b/64 steps). The other papers' are in `PUBLISHED`.
    """

    def __init__(
        self,
        base: float,
        warmup: float = 1 / 300,
        milestones: Sequence[float] = (100 / 300, 200 / 300, 225 / 300),
        rate: float = 0.1,
    ):
        super().__init__(base, warmup)
        self.milestones = _milestones(milestones)
        self.rate = arguments.number("rate", rate, above=0, most=1)

    def factor(self, progress):
        reached = progress >= np.asarray(self.milestones, "float32")
        return ops.power(float(self.rate), ops.sum(ops.cast(reached, "float32")))

    def get_config(self):
        return {**super().get_config(), "milestones": list(self.milestones), "rate": self.rate}


def _milestones(milestones) -> tuple[float, ...]:
    try:
        values = tuple(arguments.number("milestones", milestone, above=0, most=1) for milestone in milestones)
        if list(values) != sorted(values):
            raise ValueError
    except (TypeError, ValueError):
        got = tuple(milestones) if isinstance(milestones, (list, np.ndarray)) else milestones
        raise ValueError(f"`milestones` must be rising shares of training within (0, 1], got {got!r}.") from None
    return values


@keras.saving.register_keras_serializable("mixmo_keras")
class Cosine(ProgressSchedule):
    """Half a cosine from `base` to 0, after warm-up."""

    def __init__(self, base: float, warmup: float = 1 / 30):
        super().__init__(base, warmup)

    def factor(self, progress):
        done = ops.clip((progress - self.warmup) / (1 - self.warmup), 0.0, 1.0)
        return 0.5 * (1 + ops.cos(np.pi * done))


@keras.saving.register_keras_serializable("mixmo_keras")
class Triangle(ProgressSchedule):
    """Linear from `start`·`base` up to `base` at the share `peak` of training, then linear down to `end`·`base`.

    The defaults are airbench94's (Jordan, 2024).
    """

    def __init__(self, base: float, start: float = 0.2, peak: float = 0.23, end: float = 0.07):
        super().__init__(base)
        self.start = arguments.number("start", start, least=0, most=1)
        self.peak = arguments.number("peak", peak, above=0, below=1)
        self.end = arguments.number("end", end, least=0, most=1)

    def factor(self, progress):
        progress = ops.where(progress < 0, self.peak, progress)  # before any `fit`: `base`
        rising = self.start + (1 - self.start) * progress / self.peak
        falling = 1 + (self.end - 1) * (progress - self.peak) / (1 - self.peak)
        return ops.minimum(rising, falling)

    def get_config(self):
        return {"base": self.base, "start": self.start, "peak": self.peak, "end": self.end}


def with_warmup(schedule: ProgressSchedule, warmup: float) -> ProgressSchedule:
    """The same schedule with another share of training for its warm-up.

    Raises:
        ValueError: a schedule without warm-up, such as `Triangle`.
    """
    config = schedule.get_config()
    if "warmup" not in config:
        raise ValueError(f"{type(schedule).__name__} has no warm-up of its own length: leave the warm-up out.")
    return type(schedule).from_config({**config, "warmup": warmup})


@dataclasses.dataclass(frozen=True)
class Published:
    """A paper's schedule, whose learning rate is proportional to the images of a step.

    Args:
        schedule: A function of the learning rate after warm-up that returns the schedule.
        rate: The learning rate for 64 images a step.
    """

    schedule: Callable[[float], ProgressSchedule]
    rate: float

    def __post_init__(self):
        arguments.function("schedule", self.schedule, "the learning rate")
        object.__setattr__(self, "rate", arguments.number("rate", self.rate, above=0))

    def learning_rate(self, images_a_step: float) -> float:
        """After warm-up, for so many different images a step: rows by batch repetitions."""
        return self.rate * arguments.number("images_a_step", images_a_step, above=0) / 64

    def of(self, images_a_step: float = 64) -> ProgressSchedule:
        """The schedule for so many different images a step."""
        return self.schedule(self.learning_rate(images_a_step))


def _mimo(rate: float, decay: float) -> StepDecay:
    """MIMO's schedule on CIFAR."""
    return StepDecay(rate, warmup=1 / 250, milestones=(100 / 250, 200 / 250, 225 / 250), rate=decay)


PUBLISHED = {
    # MixMo's 0.1/(2b) at 64 rows, which are 64/b images
    "mixmo": Published(StepDecay, 0.05),
    # 0.2/b at 100 rows
    "tiny_imagenet": Published(
        lambda rate: StepDecay(rate, warmup=1 / 1200, milestones=(599 / 1200, 899 / 1200)), 0.2 * 64 / 100
    ),
    # 0.1 for 128 images; MIMO's code decays by 0.2, and its published figures are the code's
    "mimo": Published(functools.partial(_mimo, decay=0.2), 0.05),
    # where the paper's text says 0.1
    "mimo_paper_text": Published(functools.partial(_mimo, decay=0.1), 0.05),
    # 0.8 for 2,048 images
    "mimo_imagenet": Published(
        lambda rate: StepDecay(rate, warmup=5 / 150, milestones=(50 / 150, 100 / 150, 133 / 150)), 0.8 * 64 / 2048
    ),
    # the single network of MIMO's ImageNet table: 1.6 for 4,096 images
    "imagenet": Published(
        lambda rate: StepDecay(rate, warmup=5 / 90, milestones=(30 / 90, 60 / 90, 80 / 90)), 1.6 * 64 / 4096
    ),
    # 1.5 for 1,024 images, with momentum 0.85
    "airbench": Published(Triangle, 1.5 * 64 / 1024),
    # no paper's: for trainings too short for steps
    "cosine": Published(Cosine, 0.05),
}
