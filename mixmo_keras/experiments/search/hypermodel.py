"""What is searched (`Space`), and the models of its settings (`MixMoHyperModel`)."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import keras_tuner

from mixmo_keras import datasets
from mixmo_keras.common import arguments, trained
from mixmo_keras.experiments import further_training
from mixmo_keras.experiments.cost import cost
from mixmo_keras.mixing.masks import BINARY_MASKS
from mixmo_keras.models import by_name
from mixmo_keras.models.ensemble import EVALUATED_AT_ONCE
from mixmo_keras.models.mixmo import MixMo
from mixmo_keras.networks import backbones
from mixmo_keras.tasks import Task, resolve
from mixmo_keras.training import schedules

# of which models there are none with one member
_OF_MIXING = {"weight_root": "weight_roots", "alpha": "alphas", "probability": "probabilities", "mask": "masks"}


@dataclasses.dataclass(frozen=True)
class Space:
    """What is searched. Empty tuples leave a setting at its default.

    Attributes:
        num_members: Values of M. With M = 1 the settings of mixing (root, α, p, mask) do not exist.
        widths: What the backbone function takes.
        weight_roots: Values of r.
        alphas: Values of α of the mixing ratios.
        probabilities: Values of p of the binary mask.
        masks: Names of binary masks.
        batch_repetitions: Values of b.
        learning_rates: The least and the greatest learning rate, searched on a logarithmic scale.
        l2: The least and the greatest λ of L2, likewise.
    """

    num_members: tuple[int, ...] = (1, 2, 3)
    widths: tuple[int, ...] = (1, 2, 4)
    weight_roots: tuple[float, ...] = (1.0, 2.0, 3.0, 5.0)
    alphas: tuple[float, ...] = ()
    probabilities: tuple[float, ...] = ()
    masks: tuple[str, ...] = ()
    batch_repetitions: tuple[int, ...] = ()
    learning_rates: tuple[float, ...] = ()
    l2: tuple[float, ...] = ()

    def __post_init__(self):
        for field in dataclasses.fields(self):
            arguments.instance(field.name, getattr(self, field.name), (tuple, list), "a tuple of values to choose from")
        for name in ("num_members", "widths"):
            if not getattr(self, name):
                raise ValueError(f"`{name}` is empty: there is nothing to choose from.")
        for name in ("num_members", "widths", "batch_repetitions"):
            self._set(name, [arguments.integer(name, value, least=1) for value in getattr(self, name)])
        for name in ("weight_roots", "alphas", "learning_rates", "l2"):
            self._set(name, [arguments.number(name, value, above=0) for value in getattr(self, name)])
        self._set("masks", [arguments.choice("masks", mask, BINARY_MASKS) for mask in self.masks])
        self._set("probabilities", [arguments.number("probabilities", p, least=0, most=1) for p in self.probabilities])
        for name in ("learning_rates", "l2"):
            bounds = getattr(self, name)
            if bounds and not (len(bounds) == 2 and bounds[0] < bounds[1]):
                raise ValueError(f"`{name}` must be the least and the greatest value, got {bounds}.")
        for name in ("num_members", "widths", "weight_roots", "alphas", "probabilities", "masks", "batch_repetitions"):
            arguments.different(name, getattr(self, name))

    def _set(self, name: str, values: Sequence) -> None:
        object.__setattr__(self, name, tuple(values))


class MixMoHyperModel(keras_tuner.HyperModel):
    """Cut-MixMo for every M and width of a space; the plain network where M = 1.

    `build` makes a model of a trial's settings; `fit` trains it on data as `datasets.load` gives them, `tuner.search(train,
    validation, epochs=...)`. Widths that cost more than a limit are left out before the search, for all M alike.

    Args:
        backbone: A function of the width: to a name, such as `lambda width: f"wrn16_{width}"`, or to a `backbones.Backbone`
            or your own functional Keras model; or to a network that was trained already, which has one width: the path of a
            classifier's `.keras` file, `"efficientnet_lite0"`, `"keras:NAME"` or `"hub:PRESET"`. Networks of others are
            trained as recipes do it: by the optimizer of `trained.FURTHER`, with a slower core.
        num_classes: K, or `None` where `task` is given.
        input_shape: (H, W, C).
        space: What is searched.
        rows: Rows of a step, a multiple of every b.
        batch_repetitions: b, where the space has none.
        max_parameters: Limit of `cost`'s parameters. Defaults to no limit.
        max_flops: Limit of `cost`'s FLOPs. Defaults to no limit.
        schedule: The learning rate's schedule as a function of its base.
        task: What is predicted. Defaults to `num_classes` classes.
        seed: Seed of initial weights, shuffling and draws. All trials have the same.
        **options: Arguments of the models, such as `augmentation` and `normalization`.
    """

    def __init__(
        self,
        backbone: Callable[[int], str | backbones.Backbone | keras.Model],
        num_classes: int | None,
        input_shape: tuple[int, int, int],
        space: Space = Space(),
        rows: int = 64,
        batch_repetitions: int = 2,
        max_parameters: float | None = None,
        max_flops: float | None = None,
        schedule: Callable[[float], schedules.ProgressSchedule] = schedules.Cosine,
        task: Task | None = None,
        seed: int = 0,
        **options,
    ):
        super().__init__(name="mixmo", tunable=True)
        arguments.function("backbone", backbone, "the width")
        arguments.function("schedule", schedule, "the learning rate")
        arguments.instance("space", space, Space, "a search.Space")
        rows = arguments.integer("rows", rows, least=1)
        batch_repetitions = arguments.integer("batch_repetitions", batch_repetitions, least=1)
        for repetitions in space.batch_repetitions or (batch_repetitions,):
            if rows % repetitions:
                raise ValueError(f"`rows` (={rows}) must be divisible by every `batch_repetitions` (={repetitions}).")
        limits = {"max_parameters": max_parameters, "max_flops": max_flops}
        for name, limit in limits.items():
            if limit is not None:
                arguments.number(name, limit, above=0)
        self.backbone = backbone
        self.task = resolve(task, num_classes)
        self.input_shape = arguments.image_shape("input_shape", input_shape)
        self.space, self.rows, self.batch_repetitions = space, rows, batch_repetitions
        self.schedule, self.seed, self.options = schedule, arguments.integer("seed", seed, least=0), options
        self.costs = {width: cost(self._model(width, max(space.num_members))) for width in space.widths}
        self.widths = tuple(width for width in space.widths if self._within(limits, width))
        if not self.widths:
            costs = "; ".join(f"width {width}: {value}" for width, value in self.costs.items())
            raise ValueError(f"No width is within the limits ({limits}): {costs}.")

    def _within(self, limits: dict[str, float | None], width: int) -> bool:
        costs = self.costs[width]
        return all(limit is None or costs[name.removeprefix("max_")] <= limit for name, limit in limits.items())

    def build(self, hp: keras_tuner.HyperParameters) -> MixMo:
        space = self.space
        num_members = hp.Choice("num_members", list(space.num_members))
        width = hp.Choice("width", list(self.widths))
        choices: dict[str, Any] = {}
        if several := [members for members in space.num_members if members > 1]:
            with hp.conditional_scope("num_members", several):
                for name, values_name in _OF_MIXING.items():
                    if values := getattr(space, values_name):
                        value = hp.Choice(name, list(values))
                        if num_members > 1:
                            choices[name] = value
        if space.batch_repetitions:
            choices["batch_repetitions"] = hp.Choice("batch_repetitions", list(space.batch_repetitions))
        if space.l2:
            choices["l2"] = hp.Float("l2", *space.l2, sampling="log")
        rate = hp.Float("learning_rate", *space.learning_rates, sampling="log") if space.learning_rates else None
        return self._model(width, num_members, rate, **choices)

    def _model(self, width: int, num_members: int, learning_rate: float | None = None, **choices) -> MixMo:
        repetitions = choices.pop("batch_repetitions", self.batch_repetitions)
        backbone = self.backbone(width)
        if learning_rate is None:
            learning_rate = further_training.learning_rate(backbone, self.rows / repetitions)
        schedule = self.schedule(learning_rate)
        common = dict(
            task=self.task,
            input_shape=self.input_shape,
            batch_repetitions=repetitions,
            schedule=schedule,
            seed=self.seed,
            name=f"members{num_members}_width{width}",
        )
        if trained.is_of_others(backbone):
            common["l2"] = 0.0
        options = {**common, **self.options, **choices}
        if num_members == 1:
            model = by_name.model_of("single", backbone, verbose=False, **options)
        else:
            model = by_name.model_of("cut_mixmo", backbone, num_members=num_members, verbose=False, **options)
        further_training.compile_model(model, backbone, schedule, epochs=1)  # `fit` knows how many
        return model

    def fit(self, hp, model, train, validation, epochs: int = 1, initial_epoch: int = 0, callbacks=(), verbose=0):
        images_a_step = self.rows // model.batching.repetitions
        further_training.freeze_at_first(model, epochs)
        return model.fit(
            datasets.batches(train, images_a_step, training=True, seed=self.seed, first_epoch=initial_epoch),
            steps_per_epoch=datasets.steps_per_epoch(train, images_a_step),
            validation_data=datasets.batches(validation, EVALUATED_AT_ONCE),
            initial_epoch=initial_epoch,
            epochs=epochs,
            callbacks=list(callbacks),
            verbose=verbose,
        )
