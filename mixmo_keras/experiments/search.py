"""Searching the number of members, the width and the loss weights' root with KerasTuner: each depends on the others.

The hypermodel counts rows, not images: whatever M and b a trial has, a step has as many rows, so that trials of one width
cost the same. Every trial is judged on validation data.
"""

import contextlib
import dataclasses
import io
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from mixmo_keras import datasets
from mixmo_keras.models import mixmo as models
from mixmo_keras.networks import backbones
from mixmo_keras.training import schedules

OBJECTIVES = {"nll": ("val_loss", "min"), "accuracy": ("val_accuracy", "max")}


@dataclasses.dataclass(frozen=True)
class Space:
    """What is searched. Empty tuples leave a setting at its default.

    Attributes:
        num_members: M. With M = 1 the settings of mixing (root, α, p, mask) do not exist.
        widths: what the backbone function takes.
        weight_roots: r.
        alphas: α of the mixing ratios.
        probabilities: p of the binary mask.
        masks: names of binary masks.
        batch_repetitions: b.
        learning_rates: the least and the greatest, searched on a logarithmic scale.
        l2: the least and the greatest, likewise.
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
        for name in ("num_members", "widths"):
            if not getattr(self, name):
                raise ValueError(f"`{name}` is empty: there is nothing to choose from.")
        if any(members < 1 for members in self.num_members):
            raise ValueError(f"`num_members` must be at least 1, got {self.num_members}.")
        for name in ("learning_rates", "l2"):
            bounds = getattr(self, name)
            if bounds and not (len(bounds) == 2 and 0 < bounds[0] < bounds[1]):
                raise ValueError(f"`{name}` must be the least and the greatest value, both positive, got {bounds}.")


def cost(model) -> dict[str, int]:
    """What an ensemble costs at inference, fused: parameters, and FLOPs an image, two for a multiplication with addition."""
    network = model.fused()
    signature = tf.TensorSpec((1, *model.image_shape), tf.float32)
    graph = tf.function(lambda images: network(images, training=False)).get_concrete_function(signature).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")  # the profiler calls what TensorFlow has deprecated
    try:
        counted = tf.compat.v1.profiler.profile(
            graph, options=options(options.float_operation()).with_empty_output().build()
        )
    finally:
        logger.setLevel(level)
    return {"parameters": network.count_params(), "flops": int(counted.total_float_ops)}


class MixMoHyperModel(keras_tuner.HyperModel):
    """Cut-MixMo for every M and width of a space; the plain network where M = 1.

    `build` makes a model of a trial's settings; `fit` trains it on data as `datasets.load` gives them, `tuner.search(train,
    validation, epochs=...)`. Widths that cost more than a limit are left out before the search, for all M alike.

    Args:
        backbone: a function of the width: to a name, such as `lambda width: f"wrn16_{width}"`, or to a `backbones.Backbone`
            or functional Keras model of one's own.
        num_classes: K.
        input_shape: (H, W, C).
        space: what is searched.
        rows: of a step; a multiple of every b.
        batch_repetitions: b, where the space has none.
        max_parameters: limit of `cost`'s parameters; `None` for none.
        max_flops: limit of `cost`'s FLOPs; `None` for none.
        schedule: the learning rate's schedule as a function of its base.
        seed: of initial weights, shuffling and draws; all trials have the same.
        **options: of `MixMo`, such as `augmentation` and `normalization`.
    """

    def __init__(
        self,
        backbone: Callable[[int], str | backbones.Backbone | keras.Model],
        num_classes: int,
        input_shape: tuple[int, int, int],
        space: Space = Space(),
        rows: int = 64,
        batch_repetitions: int = 2,
        max_parameters: float | None = None,
        max_flops: float | None = None,
        schedule: Callable[[float], schedules.ProgressSchedule] = schedules.Cosine,
        seed: int = 0,
        **options,
    ):
        super().__init__(name="mixmo", tunable=True)
        for repetitions in space.batch_repetitions or (batch_repetitions,):
            if rows < repetitions or rows % repetitions:
                raise ValueError(f"`rows` (={rows}) must be divisible by every `batch_repetitions` (={repetitions}).")
        self.backbone, self.num_classes, self.input_shape = backbone, num_classes, tuple(input_shape)
        self.space, self.rows, self.batch_repetitions = space, rows, batch_repetitions
        self.schedule, self.seed, self.options = schedule, seed, options
        self.costs = {width: cost(self._model(width, max(space.num_members))) for width in space.widths}
        limits = {"parameters": max_parameters, "flops": max_flops}
        self.widths = tuple(
            width
            for width in space.widths
            if all(limit is None or self.costs[width][kind] <= limit for kind, limit in limits.items())
        )
        if not self.widths:
            found = "; ".join(f"width {width}: {value}" for width, value in self.costs.items())
            raise ValueError(f"No width is within the limits ({limits}): {found}.")

    def build(self, hp: keras_tuner.HyperParameters) -> models.MixMo:
        space = self.space
        num_members = hp.Choice("num_members", list(space.num_members))
        width = hp.Choice("width", list(self.widths))
        choices: dict[str, Any] = {}
        several = [members for members in space.num_members if members > 1]
        if several:
            with hp.conditional_scope("num_members", several):
                for name, values in (
                    ("weight_root", space.weight_roots),
                    ("alpha", space.alphas),
                    ("probability", space.probabilities),
                    ("mask", space.masks),
                ):
                    if values:
                        chosen = hp.Choice(name, list(values))
                        if num_members > 1:
                            choices[name] = chosen
        if space.batch_repetitions:
            choices["batch_repetitions"] = hp.Choice("batch_repetitions", list(space.batch_repetitions))
        if space.l2:
            choices["l2"] = hp.Float("l2", *space.l2, sampling="log")
        rate = hp.Float("learning_rate", *space.learning_rates, sampling="log") if space.learning_rates else None
        return self._model(width, num_members, rate, **choices)

    def _model(self, width: int, num_members: int, learning_rate: float | None = None, **choices) -> models.MixMo:
        repetitions = choices.pop("batch_repetitions", self.batch_repetitions)
        if learning_rate is None:  # the same for each image
            learning_rate = models.LEARNING_RATE * self.rows / repetitions / 64
        common = dict(
            num_classes=self.num_classes,
            input_shape=self.input_shape,
            batch_repetitions=repetitions,
            schedule=self.schedule(learning_rate),
            seed=self.seed,
            name=f"members{num_members}_width{width}",
        )
        options = {**common, **self.options, **choices}
        if num_members == 1:
            return models.SingleNetwork(self.backbone(width), **options)
        return models.CutMixMo(self.backbone(width), num_members=num_members, **options)

    def fit(self, hp, model, train, validation, epochs: int = 1, initial_epoch: int = 0, callbacks=(), verbose=0):
        images_a_step = self.rows // model.batch_repetitions
        return model.fit(
            datasets.batches(train, images_a_step, training=True, seed=self.seed, first_epoch=initial_epoch),
            steps_per_epoch=datasets.steps_per_epoch(train, images_a_step),
            validation_data=datasets.batches(validation, 256),
            initial_epoch=initial_epoch,
            epochs=epochs,
            callbacks=list(callbacks),
            verbose=verbose,
        )


TUNERS: dict[str, type[keras_tuner.Tuner]] = {
    "random": keras_tuner.RandomSearch,
    "bayesian": keras_tuner.BayesianOptimization,
    "hyperband": keras_tuner.Hyperband,
}


def tuner(
    hypermodel: MixMoHyperModel,
    kind: str,
    folder: str | os.PathLike,
    max_trials: int | None = None,
    objective: str = "nll",
    max_epochs: int | None = None,
    seed: int = 0,
    fresh: bool = False,
) -> keras_tuner.Tuner:
    """A KerasTuner that prints a line for each trial, goes on after a kill, and records trials that fail.

    Args:
        hypermodel: what is tuned.
        kind: `"random"`, `"bayesian"` or `"hyperband"`.
        folder: what it writes into. What is there of an earlier search is gone on with: finished trials are not run again.
        max_trials: at most so many; `None` for 20. Hyperband's own rule decides how many it runs.
        objective: `"nll"` or `"accuracy"`, on validation data, of the best epoch.
        max_epochs: the most that Hyperband gives a trial; `None` for 10. The others give what `search` is told.
        seed: of the choice of trials.
        fresh: whether to start over.
    """
    if kind not in TUNERS:
        raise ValueError(f"Unknown tuner: {kind!r}. Known tuners: {', '.join(TUNERS)}.")
    if objective not in OBJECTIVES:
        raise ValueError(f"Unknown objective: {objective!r}. Known objectives: {', '.join(OBJECTIVES)}.")
    if max_trials is not None and (kind == "hyperband" or max_trials < 1):
        raise ValueError(
            f"`max_trials` must be at least 1, and Hyperband has its own rule; got {max_trials} for {kind!r}."
        )
    if max_epochs is not None and kind != "hyperband":
        raise ValueError(f"`max_epochs` is Hyperband's; got {max_epochs} for {kind!r}: tell `search` how many epochs.")
    folder = Path(folder)
    own = {"max_epochs": max_epochs or 10} if kind == "hyperband" else {"max_trials": max_trials or 20}
    with contextlib.redirect_stdout(io.StringIO()):  # "Reloading Tuner from"
        made = _reporting(TUNERS[kind])(
            hypermodel,
            objective=keras_tuner.Objective(*OBJECTIVES[objective]),
            directory=str(folder.parent),
            project_name=folder.name,
            overwrite=fresh,
            seed=seed,
            max_consecutive_failed_trials=10**6,  # they are recorded, and the search goes on
            **own,
        )
    made.oracle.verbose = 0
    return made


def _reporting(base: type[keras_tuner.Tuner]) -> type[keras_tuner.Tuner]:
    class Reporting(base):
        def on_trial_end(self, trial):
            super().on_trial_end(trial)
            trial = self.oracle.get_trial(trial.trial_id)
            print(f"trial {trial.trial_id}: {_said(trial)}, {_settings(trial)}", flush=True)

    return Reporting


def _said(trial) -> str:
    if trial.score is not None and np.isfinite(trial.score):
        return f"{trial.score:.4f} (epoch {trial.best_step + 1})"
    return f"failed: {_reason(trial)}"


def _reason(trial) -> str:
    lines = (trial.message or "the objective is NaN").strip().splitlines()
    return lines[-1][:200]


def _values(trial) -> dict[str, Any]:
    """What was chosen, without what only Hyperband's own bookkeeping needs and what doesn't exist for M = 1."""
    hp = trial.hyperparameters
    return {name: value for name, value in hp.values.items() if not name.startswith("tuner/") and hp.is_active(name)}


def _settings(trial) -> str:
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in _values(trial).items()
    )


# -- results -----------------------------------------------------------------------------------------------------------


def results(tuned: keras_tuner.Tuner, objective: str = "nll") -> list[dict[str, Any]]:
    """Every finished trial, the best first and the failed last: settings, `score`, `epochs`, costs, `failure`."""
    rows = []
    for trial in tuned.oracle.trials.values():
        if trial.status not in ("COMPLETED", "FAILED", "INVALID"):
            continue
        score = trial.score if trial.score is not None and np.isfinite(trial.score) else None
        rows.append(
            {
                "trial": trial.trial_id,
                **_values(trial),
                "score": score,
                "epochs": trial.hyperparameters.values.get("tuner/epochs"),
                **tuned.hypermodel.costs[trial.hyperparameters.get("width")],
                "failure": None if score is not None else _reason(trial),
            }
        )
    sign = 1 if OBJECTIVES[objective][1] == "min" else -1
    return sorted(rows, key=lambda row: (row["score"] is None, sign * (row["score"] or 0)))


def table(rows: Sequence[Mapping[str, Any]], objective: str = "nll") -> str:
    """Results in Markdown."""
    hidden = {"score", "failure", "epochs"} if all(row.get("epochs") is None for row in rows) else {"score", "failure"}
    names = list(dict.fromkeys(name for row in rows for name in row if name not in hidden))
    title = f"validation {'NLL' if objective == 'nll' else 'accuracy'}"
    lines = [f"| {' | '.join(name.replace('_', ' ') for name in names)} | {title} |", "|---:" * (len(names) + 1) + "|"]
    for row in rows:
        cells = [_cell(row.get(name)) for name in names]
        score = f"failed: {row['failure']}" if row["score"] is None else f"{row['score']:.4f}"
        lines.append(f"| {' | '.join(cells)} | {score} |")
    return "\n".join(lines)


def _cell(value) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def pareto(rows: Sequence[Mapping[str, Any]], objective: str = "nll", by: str = "flops") -> list[Mapping[str, Any]]:
    """The results that none is better than at the same cost or less, by rising cost."""
    sign = 1 if OBJECTIVES[objective][1] == "min" else -1
    front: list[Mapping[str, Any]] = []
    for row in sorted(
        (row for row in rows if row["score"] is not None), key=lambda row: (row[by], sign * row["score"])
    ):
        if not front or sign * row["score"] < sign * front[-1]["score"]:
            front.append(row)
    return front


def plot(rows: Sequence[Mapping[str, Any]], objective: str = "nll") -> Figure:
    """The objective against M, width and r, and against cost with the Pareto front."""
    scored = [row for row in rows if row["score"] is not None]
    label = f"validation {'NLL' if objective == 'nll' else 'accuracy'}"
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    axes = figure.subplots(2, 2)
    widths, members, roots = (
        sorted({row[name] for row in scored if row.get(name) is not None})
        for name in ("width", "num_members", "weight_root")
    )
    colors = {width: f"C{number}" for number, width in enumerate(widths)}
    markers = {count: "osD^v*Px"[number % 8] for number, count in enumerate(members)}
    panels = (
        ("num_members", "members M", members),
        ("width", "width", widths),
        ("weight_root", "root r", roots),
        ("flops", "FLOPs an image", None),
    )
    for axis, (name, title, ticks) in zip(axes.flat, panels, strict=True):
        for row in scored:
            if row.get(name) is not None:
                axis.plot(row[name], row["score"], markers[row["num_members"]], color=colors[row["width"]], alpha=0.8)
        axis.set(xlabel=title, ylabel=label)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
        if ticks is None:
            axis.set_xscale("log")
        else:
            axis.set_xticks(ticks)
    front = pareto(rows, objective)
    axes[1, 1].step(
        [row["flops"] for row in front], [row["score"] for row in front], where="post", color="grey", zorder=0
    )
    handles = [axes[0, 0].plot([], [], "o", color=colors[width], label=f"width {width}")[0] for width in widths]
    handles += [axes[0, 0].plot([], [], markers[count], color="grey", label=f"M = {count}")[0] for count in members]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    return figure


def command(recipe: str, row: Mapping[str, Any], backbone: str, **options) -> str:
    """The command that trains with a trial's settings: those that the recipes have options for."""
    given: dict[str, Any] = {"method": "single" if row["num_members"] == 1 else "cut_mixmo", "backbone": backbone}
    names = ("num_members", "weight_root", "alpha", "probability", "mask", "batch_repetitions", "learning_rate", "l2")
    given |= {
        name: row[name] for name in names if row.get(name) is not None and (name, row[name]) != ("num_members", 1)
    }
    given |= {name: value for name, value in options.items() if value is not None}
    words = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", f"{value}")]
    return shlex.join(["python", *recipe.split(), *words])
