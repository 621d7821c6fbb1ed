"""The runs of a pilot: one member, and two at two rates of input repetition, at every width and seed."""

import contextlib
import functools
import hashlib
import itertools
import json
import operator
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from mixmo_keras import datasets, keras_internals
from mixmo_keras.common import arguments, files, trained
from mixmo_keras.common.console import say
from mixmo_keras.common.durations import duration
from mixmo_keras.datasets import manifest
from mixmo_keras.experiments import further_training
from mixmo_keras.metrics import calibration
from mixmo_keras.models import by_name
from mixmo_keras.models.ensemble import EVALUATED_AT_ONCE
from mixmo_keras.models.mixmo import MixMo
from mixmo_keras.networks import backbones
from mixmo_keras.training import schedules
from mixmo_keras.training.fine_tuning import FineTuning

VARIANTS: dict[str, dict[str, Any]] = {  # method and options
    "one member": dict(method="single"),
    "two members": dict(method="cut_mixmo", input_repetition=0.0),
    "two members, ρ = 0.5": dict(method="cut_mixmo", input_repetition=0.5),
}


def run_pilot(
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
    report: Callable[[str], None] = say,
    fine_tuning: FineTuning | None = None,
    **options,
) -> dict[str, Any]:
    """Trains every variant at every width with every seed, and gathers their learning curves.

    Args:
        backbone: A function of the width, as in `search.MixMoHyperModel`: your own network or a trained one too.
        train: Images one by one, as `datasets.load` gives them.
        validation: Likewise. Nothing else is looked at.
        widths: What `backbone` takes. Two or more show whether width helps.
        epochs: Epochs of each run. Only their length is common: the learning rate falls over each run, so that the curve
            before the end is lower than a run that ended there.
        seeds: Seeds of the runs. Two or more give the spread.
        rows: Rows of a step.
        batch_repetitions: b.
        folder: Where finished runs are kept, so that a pilot that was killed goes on: one folder for each set of images and
            labels. Runs of another network or with other arguments there are refused. Defaults to keeping none.
        fresh: Whether to run again what is there.
        report: A function that gets a line for each run.
        fine_tuning: The core's own learning rate and frozen epochs, of a network that was trained before. Defaults to what
            recipes have: those of `trained.FURTHER`, with its optimizer, for a network of others, and none for one of this
            library.
        **options: Arguments of the models, but for the method and `input_repetition`, in which the variants differ.

    Raises:
        ValueError: arguments out of range or of the variants, more rows than images, kept runs that are others.

    Returns:
        For JSON: `images` (to train on and to validate on), `most_frequent` (the share of the most frequent class among the
        latter), `epochs`, `trained` (whether the network was trained before, so that its width is what it is), and `runs`,
        each with `variant`, `width`, `seed`, `num_classes`, the `seconds` that it took, by epoch `accuracy` and `nll`, and
        at its end `label_noise`, the rate of labels drawn at random that explains its answers to the validation images best
        (`calibration.fit_temperature_under_noise`), `None` where they are no numbers.
    """
    arguments.function("backbone", backbone, "the width")
    arguments.instance("folder", folder, (str, os.PathLike, type(None)), "the path of a folder or None")
    for name, values in (("widths", widths), ("seeds", seeds)):
        arguments.instance(name, values, Sequence, "a list of integers")
    fresh = arguments.boolean("fresh", fresh)
    for name in ("method", "input_repetition"):
        if name in options:
            raise ValueError(f"`{name}` is what the variants of a pilot differ in: don't pass it.")
    arguments.instance("fine_tuning", fine_tuning, (FineTuning, type(None)), "a mixmo_keras.FineTuning or None")
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
    data = "" if folder is None else manifest.of_images(train, validation)
    runs: list[dict[str, Any]] = []
    planned = list(itertools.product(seeds, widths, VARIANTS))  # whole comparisons come first
    for seed, width, variant in planned:
        network = backbone(width)
        tuning: dict[str, Any] = {} if fine_tuning is None else {"fine_tuning": fine_tuning}
        if trained.is_of_others(network):
            options = {"l2": 0.0} | options
            tuning |= trained.further(epochs)
        settings = "" if folder is None else _digest(network, options | VARIANTS[variant] | tuning)
        key = f"{_label(network)}width{width}-seed{seed}-{epochs}epochs-{rows}rows-b{batch_repetitions}-{steps}steps"
        path = None if folder is None else Path(folder) / f"{_file_name(variant)}-{key}.json"
        if path is not None and path.exists() and not fresh:
            runs.append(_finished(path, epochs, settings, data, variant=variant, width=width, seed=seed))
            continue
        schedule = schedules.Cosine(further_training.learning_rate(network, images_a_step))
        common = dict(batch_repetitions=batch_repetitions, schedule=schedule, seed=seed)
        model = by_name.model_of(backbone=network, verbose=False, **VARIANTS[variant], **common, **options)
        further_training.compile_model(model, network, schedule, epochs, fine_tuning)
        start = time.monotonic()
        curve = _learning_curve(model, train, validation, images_a_step, epochs, seed)
        took = {"num_classes": model.num_classes, "seconds": round(time.monotonic() - start, 1)}
        runs.append({"variant": variant, "width": width, "seed": seed, **took, **curve})
        said = f"accuracy {curve['accuracy'][-1]:.2%}, NLL {curve['nll'][-1]:.3f}"
        left = len(planned) - len(runs)
        many = f"; {left} of {len(planned)} runs are left, this one took {duration(took['seconds'])}" if left else ""
        report(f"{variant}, width {width}, seed {seed}: {said}{many}")
        if path is not None:
            files.write_text(path, json.dumps({**runs[-1], "settings": settings, "data": data}))
    images = [steps * images_a_step, datasets.steps_per_epoch(validation, 1)]
    labels = [int(label) for _, label in validation.as_numpy_iterator()]
    most_frequent = max(map(labels.count, set(labels))) / len(labels)
    is_trained = by_name.is_trained(network)
    return {"images": images, "most_frequent": most_frequent, "epochs": epochs, "trained": is_trained, "runs": runs}


def _label(network: Any) -> str:
    """What tells the kept runs of a network from those of others: its name, and what a classifier's file holds."""
    if not isinstance(network, str):
        return ""
    name = re.sub(r"\W+", "_", network)
    return f"{name}-{files.digest(network)[:12]}-" if trained.is_file(network) else f"{name}-"


def _digest(network: Any, options: dict[str, Any]) -> str:
    """What tells the settings of kept runs from others: the layers of a network that is no name, and the models' arguments.

    Names of layers don't count, which differ each time that a layer is made, nor do weights, which may be drawn.
    """
    networks = [network] if isinstance(network, keras.Model) else []
    if isinstance(network, backbones.Backbone):
        networks = [network.encoder, network.core]
    parts: list[Any] = [_nameless(keras.saving.serialize_keras_object(options))]
    for one in networks:
        layers = keras_internals.flatten_layers(one, include_self=False)
        parts.append([(type(layer).__name__, layer.count_params()) for layer in layers])
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=repr).encode()).hexdigest()[:16]


def _nameless(value: Any) -> Any:
    """A serialized value without the names of layers."""
    if isinstance(value, dict):
        return {key: _nameless(one) for key, one in value.items() if key != "name"}
    return [_nameless(one) for one in value] if isinstance(value, (list, tuple)) else value


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


def _finished(path: Path, epochs: int, settings: str, data: str, **expected) -> dict[str, Any]:
    """A finished run as its file has it, which must be as expected, of these settings and of these data."""

    def is_curve(value: Any) -> bool:
        return isinstance(value, list) and len(value) == epochs and all(map(files.is_number, value))

    advice = "remove it, or start over with --fresh"
    needed: dict[str, Callable[[Any], bool]] = {
        name: functools.partial(operator.eq, value) for name, value in expected.items()
    }
    needed |= {"accuracy": is_curve, "nll": is_curve, "seconds": files.is_number_or_none}
    needed["label_noise"] = lambda rate: rate is None or files.is_share(rate)  # older versions did not estimate it
    found = files.read_json_object(path, advice, needed)
    if found.pop("settings", None) != settings:
        raise ValueError(
            f"{path} is of another network, other arguments of the models or an older version: {advice}, or pass "
            "another folder."
        )
    if found.pop("data", None) != data:
        raise ValueError(
            f"{path} is of other images or labels, or of an older version: {advice}, or pass another folder."
        )
    return found


def _file_name(variant: str) -> str:
    return variant.replace(", ρ = ", "-repetition").replace(" ", "_")


def _learning_curve(model: MixMo, train, validation, images_a_step: int, epochs: int, seed: int) -> dict[str, Any]:
    """Accuracy and NLL on validation data by epoch, and the rate of wrong labels that explains the last answers best."""
    validated = datasets.batches(validation, EVALUATED_AT_ONCE)
    history = model.fit(
        datasets.batches(train, images_a_step, training=True, seed=seed, first_epoch=0),
        steps_per_epoch=datasets.steps_per_epoch(train, images_a_step),
        validation_data=validated,
        epochs=epochs,
        verbose=0,
    ).history
    rate = None
    with contextlib.suppress(FloatingPointError):  # of a training that broke off
        member_logits, labels = model.predict_with_labels(validated)
        rate = calibration.fit_temperature_under_noise(model.pooled(member_logits, calibrated=False), labels)[1]
    return {"accuracy": history["val_accuracy"], "nll": history["val_loss"], "label_noise": rate}
