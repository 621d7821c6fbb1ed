"""One run, from settings to a report: load, build, fit, evaluate, save, export. It writes into `<output_dir>/<name>/`:

    config.json     the resolved settings and versions      log.csv        losses and accuracies by epoch
    metrics.json    the final figures                       tensorboard/   the same for TensorBoard
    last.keras      the model after the last epoch          best.keras     after the epoch best on validation data,
                                                                           unless these are trained on
    manifest.json   the data: classes in their order, files and their splits (`datasets/manifest.py`)
    checkpoints/    from which the same command goes on where the run was killed

and a SavedModel into `<export_dir>/<name>/1`.

The same command with more `--epochs` trains a finished run further; with `--keep best` it tests and exports the best epoch.
"""

import contextlib
import dataclasses
import functools
import sys
import tempfile
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from mixmo_keras import datasets
from mixmo_keras.common import files
from mixmo_keras.common.console import say, unbreakable
from mixmo_keras.datasets import manifest, resizing
from mixmo_keras.experiments import logs, results, splits
from mixmo_keras.experiments.building import build, schedule_of
from mixmo_keras.experiments.epochs import EarlyStopping, Expectation
from mixmo_keras.experiments.option_defaults import Default
from mixmo_keras.experiments.pixel_augmentation import PIXEL_AUGMENTATIONS
from mixmo_keras.experiments.recipe import Recipe
from mixmo_keras.experiments.task import task_of
from mixmo_keras.models.ensemble import EVALUATED_AT_ONCE
from mixmo_keras.models.mixmo import MixMo
from mixmo_keras.serving import export as export_of_models
from mixmo_keras.serving import versions
from mixmo_keras.training import distribution
from mixmo_keras.training.checkpoint_files import Position
from mixmo_keras.training.checkpoints import Checkpoints, warm_start
from mixmo_keras.training.precision import AUTO


@unbreakable()
def run(
    recipe: Recipe,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    saved_model: bool = True,
    exported_later: bool = False,
) -> dict:
    """Runs a recipe from data to SavedModel and returns its final figures, as in metrics.json.

    A run of the same name and settings that was killed goes on from its last checkpoint; one of fewer epochs is trained
    further.

    Args:
        recipe: Its settings.
        callbacks: Further callbacks of `fit`.
        saved_model: Whether to export the model. Defaults to True.
        exported_later: Whether the caller exports it after the run, so that it must be possible. Defaults to False.
    """
    logs.quiet()
    strategy = distribution.strategy(recipe.strategy, recipe.devices)  # before anything computes, such as a width
    asked, recipe = recipe, recipe.resolved()
    if asked.dtype == AUTO and distribution.is_chief(strategy):
        say(f"computes in {recipe.dtype}: {asked.precision().reason}")
    _check_images_a_step(recipe, strategy)
    epochs_before = results.check_folder(recipe, may_be_longer=True)
    if distribution.is_chief(strategy):
        files.check_can_be_written(recipe.folder, f"The run can't write {recipe.folder}")  # before the data are read

    data = load(recipe)
    if asked.averaging is not Default.METHOD:  # the method's own is that of classes, and other tasks have theirs
        task_of(asked, data.info).averaging_of(typing.cast(str, asked.averaging))
    _check_data(recipe, data.manifest, distribution.is_chief(strategy))
    _check_size(recipe, data)
    if saved_model or exported_later:
        versions.check(recipe.saved_model, overwrite=True)  # before the first epoch, not after the last
    with strategy.scope():
        model = build(recipe, data.info, asked)
    is_new = not (recipe.folder / "config.json").exists()
    if (saved_model or exported_later) and recipe.begins_trained and is_new and distribution.is_chief(strategy):
        export_of_models.check(model)  # layers of others may do what can't be exported

    train = functools.partial(_train, recipe, data, model, strategy, callbacks, saved_model, epochs_before)
    if not distribution.is_chief(strategy):  # of several workers one writes; the others do as it does, elsewhere
        return train(chief=False)
    with files.locked(recipe.folder) as is_ours:
        if not is_ours:
            raise ValueError(
                f"{recipe.folder} is being written by another run: wait for it, or pass another --output-dir."
            )
        return train(chief=True)


def _train(
    recipe: Recipe,
    data: "Splits",
    model: MixMo,
    strategy,
    callbacks,
    saved_model: bool,
    epochs_before: list,
    chief: bool,
) -> dict:
    """The rest of `run`, in a folder that no other run writes into."""
    if chief and recipe.fresh:
        results.empty_folder(recipe)
    distribution.across_workers(strategy, 0)  # waits for the chief
    checkpoints = Checkpoints(recipe.folder / "checkpoints", every_steps=recipe.checkpoint_steps)
    if not checkpoints.files():
        results.check_not_ended(recipe)
        if recipe.warm_start:
            warm_start(model, recipe.warm_start)
    position = checkpoints.restore(model)
    was_finished = chief and results.finished(recipe, may_be_longer=True) is not None
    if chief:
        data.manifest.write(recipe.folder)
        config = recipe.settings() | ({"epochs_before": epochs_before} if epochs_before else {})
        files.write_json(recipe.folder / "config.json", {**config, **results.origin(recipe)})
        _announce(recipe, data, model, position, strategy)
        if epochs_before and 0 < position.epoch <= epochs_before[-1]:
            say(_of_longer_schedule(recipe, epochs_before[-1], position))

    with contextlib.nullcontext(recipe.folder) if chief else tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        with naming_changed_files(recipe):
            fit(recipe, model, data, checkpoints, folder, callbacks, chief)
        if not (
            was_finished and (folder / "last.keras").is_file()
        ):  # a run that begins as this file knows it by its bytes
            with files.replacing(folder / "last.keras") as part:
                model.save(part)
    log = logs.read(recipe.folder / "log.csv")
    if recipe.keep == "best":
        model = keras.models.load_model(recipe.folder / "best.keras")
    with naming_changed_files(recipe):
        of_test = results.test_figures(model, data.test, 1)  # nothing was chosen by them
        of_views = results.test_figures(model, data.test, recipe.views) if recipe.views > 1 else None
    figures = {
        "name": recipe.name,
        "epochs": len(log) if recipe.early_stopping else recipe.epochs,
        "keep": recipe.keep,
        "training_seconds": round(checkpoints.seconds, 1),
        "train_split": recipe.train_split,
        "validation": results.validation_figures(log, model.task) if recipe.holds_out else None,
        "test": of_test,
        **({} if of_views is None else {"test_views": of_views}),
        "saved_model": str(recipe.saved_model) if saved_model else None,
    }
    if chief:
        if saved_model:
            export(recipe, data, figures)
        files.write_json(recipe.folder / "metrics.json", figures)
        results.print_table(figures)
    distribution.across_workers(strategy, 0)
    return figures


def run_missing(experiments: Mapping[str, Sequence[Recipe]], run: Callable[[Recipe], Any] = run) -> None:
    """Runs what is not finished of several experiments, each of as many recipes that differ in their seed.

    Seed by seed, so that a comparison that is stopped has whole tables.
    """
    for of_one_seed in zip(*experiments.values(), strict=True):
        for recipe in of_one_seed:
            if results.finished(recipe) is None:
                run(recipe)


@dataclasses.dataclass(frozen=True)
class Splits:
    """The splits of a recipe's dataset."""

    info: datasets.Info
    manifest: manifest.Manifest
    train: tf.data.Dataset  #              image by image
    validation: tf.data.Dataset | None  #  in batches; None where they are trained on
    test: tf.data.Dataset  #               in batches


def load(recipe: Recipe) -> Splits:
    """The data of a recipe."""
    info = datasets.info(recipe.dataset, recipe.data_dir)
    task = task_of(recipe, info)  # raises what is wrong
    at_once = task.at_once(info.image_shape, EVALUATED_AT_ONCE)
    train = splits.load(recipe, recipe.train_split, recipe.data_dir, whole=recipe.crop == "whole")

    def to_evaluate(split: str) -> tf.data.Dataset:
        return datasets.batches(splits.load(recipe, split, recipe.data_dir), at_once)

    described = manifest.of(recipe.dataset, recipe.data_dir)
    return Splits(info, described, train, to_evaluate("validation") if recipe.holds_out else None, to_evaluate("test"))


def training_batches(recipe: Recipe, data: Splits, first_epoch: int = 0) -> tf.data.Dataset:
    """The batches of all epochs from one on; of each image as many copies as the CPU augments, else one."""
    options: dict = {}
    resolved: Any = recipe  # mypy can't know that its options have their values
    if recipe.crop == "whole":
        size = data.info.image_shape[:2]
        options["random_part"] = resizing.random_crop(size, resolved.smallest_area, resolved.interpolation)
    if recipe.msda and why_partners_of_the_step(recipe, data) is None:
        num_members = 1 if recipe.num_members is Default.METHOD else resolved.num_members
        options["partners"] = resolved.batch_repetitions * num_members
    if recipe.pixel_augmentation:
        transform = PIXEL_AUGMENTATIONS[recipe.pixel_augmentation]()
        options |= dict(repetitions=recipe.batch_repetitions, transform=transform)
    return datasets.batches(
        data.train, recipe.images_a_step, training=True, seed=recipe.seed, first_epoch=first_epoch, **options
    )


def why_partners_of_the_step(recipe: Recipe, data: Splits) -> str | None:
    """Why MSDA's partners are drawn from the images of a step; `None` where they come from all, as the papers' do."""
    if recipe.pixel_augmentation:
        return "the CPU augments the images alone"
    if recipe.crop == "whole" or not datasets.in_memory(data.train):
        return "the images are not kept in memory"
    return None


def fit(
    recipe: Recipe,
    model: MixMo,
    data: Splits,
    checkpoints: Checkpoints,
    folder: Path,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    chief: bool = True,
) -> None:
    """Trains from the checkpoints' position to the last epoch, and logs into a folder."""
    first_epoch = checkpoints.position.epoch
    log = logs.trimmed(folder / "log.csv", first_epoch)
    if chief and len(log) != first_epoch:
        raise ValueError(
            f"{folder / 'log.csv'} has {len(log)} epochs, but the newest checkpoint is after {first_epoch}. Pass --fresh to "
            "start over."
        )
    writers = logs.callbacks(
        folder, log, recipe.averages_weights, recipe.holds_out, validation=data.validation, task=model.task
    )
    epochs = recipe.epochs
    if recipe.early_stopping is not None:
        stopping = EarlyStopping(recipe.early_stopping, *model.task.monitor, log)
        writers.append(stopping)
        epochs = first_epoch if stopping.is_over() else epochs
    with checkpoints.on_sigterm() as preemption:
        try:
            model.fit(
                training_batches(recipe, data, first_epoch),
                steps_per_epoch=datasets.steps_per_epoch(data.train, recipe.images_a_step),
                validation_data=data.validation,
                initial_epoch=first_epoch,
                epochs=epochs,
                verbose=0 if not chief else 1 if sys.stdout.isatty() else 2,
                class_weight=splits.class_weights(recipe, data.train),
                callbacks=[preemption, *writers, *([Expectation()] if chief else []), *callbacks, checkpoints],
            )
        except FloatingPointError as error:
            paths = list(checkpoints.files().values())
            advice = f" Last good checkpoint: {paths[-1]}; --warm-start takes it into a new run." if paths else ""
            raise FloatingPointError(f"{error}{advice}") from error
        finally:
            for writer in writers:
                if isinstance(writer, keras.callbacks.CSVLogger):
                    writer.on_train_end()  # closes log.csv, which `fit` leaves open where it fails


@contextlib.contextmanager
def naming_changed_files(recipe: Recipe) -> Iterator[None]:
    """Names the files that were changed since the run began, where TensorFlow can't read one of them any more."""
    try:
        yield
    except tf.errors.OpError:
        manifest.check_resumed(recipe.folder, manifest.of(recipe.dataset, recipe.data_dir))
        raise  # for another reason


def export(recipe: Recipe, data: Splits, figures: dict) -> None:
    """Writes the SavedModel of the epoch that a run keeps."""
    # loaded without the strategy, which several workers would have to leave together
    keras.models.load_model(results.kept_file(recipe.folder)).export(
        figures["saved_model"],
        class_names=data.info.class_names,
        card=results.card(recipe, figures, datasets.steps_per_epoch(data.train, 1)),
        overwrite=True,
    )


def _check_images_a_step(recipe: Recipe, strategy: tf.distribute.Strategy) -> None:
    if recipe.images_a_step % strategy.num_replicas_in_sync:
        raise ValueError(
            f"{recipe.images_a_step} images a step (`batch_size` / `batch_repetitions`) can't be shared out evenly to "
            f"{strategy.num_replicas_in_sync} devices."
        )


def _check_data(recipe: Recipe, now: manifest.Manifest, chief: bool) -> None:
    """Says what was understood of the data; raises where they are others than those that a run or a network began on."""
    if chief:
        say(datasets.describe(recipe.dataset, recipe.data_dir))
    if (recipe.folder / "config.json").exists() and not recipe.fresh:
        manifest.check_resumed(recipe.folder, now)
    began_as = recipe.backbone if recipe.begins_as_classifier else None
    for file in filter(None, (recipe.warm_start, began_as)):
        note = manifest.check_met_again(Path(file).absolute().parent, now, trained_further=True)
        if note and chief:
            say(note)


def _check_size(recipe: Recipe, data: Splits) -> None:
    num_images = datasets.steps_per_epoch(data.train, 1)
    if num_images < recipe.images_a_step:
        raise ValueError(
            f"`batch_size` (={recipe.batch_size} rows) takes {recipe.images_a_step} images a step "
            f"(`batch_repetitions` is {recipe.batch_repetitions}); {recipe.dataset} has {num_images} to train on "
            f"(split {recipe.train_split}). Pass a smaller one."
        )


def _announce(recipe: Recipe, data: Splits, model: MixMo, position: Position, strategy: tf.distribute.Strategy) -> None:
    """Says on the terminal what is about to run."""
    replicas = strategy.num_replicas_in_sync
    say(f"{recipe.name}: {model.count_params():,} parameters; {recipe.folder}/")
    say(f"{recipe.images_a_step} images a step, learning rate {recipe.learning_rate:g}")
    if replicas > 1:
        say(f"{replicas} replicas of {recipe.images_a_step // replicas} images")
    if not recipe.holds_out:
        say("trains on the validation images too: no epoch is chosen, nothing can be calibrated on them")
    if recipe.msda and (reason := why_partners_of_the_step(recipe, data)):
        say(f"partners of {recipe.msda} are drawn from the images of each step: {reason}")
    say(model.figure())
    if model.num_members > 1 or recipe.msda:
        whose, together = ("each member's, ", "the ensemble's, ") if model.num_members > 1 else ("", "")
        watched = model.task.watched
        low = f"{watched} in training is {'low' if watched == 'accuracy' else 'worse'}"
        say(f"{low}: it is {whose}on mixed images; val_{watched} is {together}on whole ones, and what counts")
    if position != Position():
        say(f"goes on after epoch {position.epoch}, step {position.step}")


def _of_longer_schedule(recipe: Recipe, epochs_before: int, position: Position) -> str:
    """What more epochs do to the learning rate of a run that was planned for fewer."""
    schedules = {
        epochs: schedule_of(dataclasses.replace(recipe, epochs=epochs)) for epochs in (epochs_before, recipe.epochs)
    }
    before, now = (float(schedule.at(position.epoch / epochs)) for epochs, schedule in schedules.items())
    return (
        f"{recipe.epochs} epochs in place of {epochs_before}: the schedule {recipe.schedule!r} is stretched over all of "
        f"them, so that the learning rate goes on at {now:.3g}, where it was {before:.3g}. That is not what "
        f"{recipe.epochs} epochs from the start would have been."
    )
