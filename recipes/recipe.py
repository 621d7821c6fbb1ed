"""What every recipe shares: its settings (`Recipe`), its command line (`main`) and its run (`run`).

A run loads, builds, fits, evaluates, saves and exports. It writes into `<output-dir>/<name>/`:

    config.json     the resolved settings and versions      log.csv        losses and accuracies by epoch
    metrics.json    the final figures                       tensorboard/   the same for TensorBoard
    last.keras      the model after the last epoch          best.keras     after the epoch best on validation data
    checkpoints/    from which the same command goes on where the run was killed

and a SavedModel into `<export-dir>/<name>/1`.
"""

import argparse
import csv
import dataclasses
import json
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import mixmo_keras
from mixmo_keras import augmentation, checkpoints, datasets, distribution, files, losses, masks, metrics, schedules
from mixmo_keras.mixing import msda
from mixmo_keras.models.mixmo import LEARNING_RATE

# for all methods: stochastic depth, and submodels that learn from each other
SUBMODELS = dict(drop_path=0.0, efficient_drop_path=False, co_training=None, teaching="softmax")
# method: its model, and the options that it has, with the papers' values on CIFAR
METHODS = {
    "cut_mixmo": (
        mixmo_keras.CutMixMo,
        dict(
            num_members=2,
            batch_repetitions=4,
            mask="cutmix",
            alpha=2.0,
            weight_root=3.0,
            probability=0.5,
            unmixing=False,
            input_repetition=0.0,
            **SUBMODELS,
        ),
    ),
    "linear_mixmo": (
        mixmo_keras.LinearMixMo,
        dict(
            num_members=2,
            batch_repetitions=4,
            alpha=2.0,
            weight_root=3.0,
            unmixing=False,
            input_repetition=0.0,
            **SUBMODELS,
        ),
    ),
    "mimo": (mixmo_keras.MIMO, dict(num_members=3, batch_repetitions=4, input_repetition=0.0, **SUBMODELS)),
    "single": (mixmo_keras.SingleNetwork, dict(batch_repetitions=1, **SUBMODELS)),
    "cosub": (mixmo_keras.CoSub, dict(batch_repetitions=1, **SUBMODELS | dict(drop_path=0.2, co_training=0.5))),
}
CROPS = ("pad", "resize", "whole")
# schedule: a function of the learning rate; and the rate for 64 images a step, to which it is proportional
SCHEDULES = {
    "mixmo": (schedules.StepDecay, LEARNING_RATE),
    "mimo_imagenet": (
        lambda rate: schedules.StepDecay(rate, 5 / 150, (50 / 150, 100 / 150, 133 / 150)),
        0.1 * 64 / 256,
    ),
    "mimo": (
        lambda rate: schedules.StepDecay(rate, warmup=1 / 250, milestones=(100 / 250, 200 / 250, 225 / 250)),
        LEARNING_RATE,
    ),
    "tiny_imagenet": (
        lambda rate: schedules.StepDecay(rate, warmup=1 / 1200, milestones=(600 / 1200, 900 / 1200)),
        0.2 * 64 / 100,
    ),
    "cosine": (schedules.Cosine, LEARNING_RATE),
}


def _keras_cv(layer: str, **options):
    """A function that augments each image of a batch on its own by a keras-cv layer, whose import takes seconds."""

    def build():
        import keras_cv

        augment = getattr(keras_cv.layers, layer)(value_range=(0, 255), **options)
        return lambda images: augment({"images": tf.cast(images, tf.float32)}, training=True)["images"]

    return build


# Keras' own RandAugment draws its operations once for a batch; keras-cv's draws them for each image, from generators that
# can't be set to a step: such runs go on after a kill, but neither they nor runs from the start repeat bit for bit
PIXEL_AUGMENTATIONS = {
    "randaugment": _keras_cv("RandAugment", augmentations_per_image=2, magnitude=0.3),
    "augmix": _keras_cv("AugMix"),
}


def option(default, text: str):
    """A field of `Recipe` that is an option of the command line."""
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The settings of one run. `None` stands for the method's own value (see `METHODS`)."""

    dataset: str = option("cifar100", "dataset: " + ", ".join(datasets.DATASETS) + ", or DIR@SIZE")
    method: str = option("cut_mixmo", "method: " + ", ".join(METHODS))
    backbone: str = option("wrn28_10", "network, such as wrn28_10 or wrn16_2")
    num_members: int | None = option(None, "M, members of the ensemble (default: the method's)")
    weight_root: float | None = option(None, "r, root of the ratios in the loss weights (default: the method's)")
    alpha: float | None = option(None, "α, concentration of the mixing ratios (default: the method's)")
    mask: str | None = option(None, "binary mask: " + ", ".join(name for name in masks.MASKS if name != "linear"))
    probability: float | None = option(None, "p, probability of the binary mask (default: the method's)")
    unmixing: bool | None = option(None, "move the masks towards showing all members, for small networks")
    input_repetition: float | None = option(None, "ρ, share of rows with the same image for all members")
    drop_path: float | None = option(None, "rate of stochastic depth in every block (default: the method's)")
    efficient_drop_path: bool | None = option(None, "compute a block for the rows alone that keep it")
    co_training: float | None = option(
        None, "λ, the labels' share where submodels teach each other (default: the method's)"
    )
    teaching: str | None = option(None, "how submodels teach: softmax or sigmoid (default: softmax)")
    msda: str | None = option(None, "mixing inside each member's image: " + ", ".join(msda.METHODS))
    msda_probability: float | None = option(None, "probability of MSDA for each image (default with --msda: 0.5)")
    msda_alpha: float | None = option(None, "α of MSDA's Beta distribution (default with --msda: 1)")
    label_smoothing: float = option(0.0, "share of each label that is spread over all classes")
    batch_repetitions: int | None = option(None, "b, times that a step uses each image (default: the method's)")
    epochs: int = option(300, "epochs; warm-up and decay scale with them")
    scale: float = option(1.0, "train for this share of the epochs, such as 0.05 for a trial")
    batch_size: int = option(64, "rows a step, a multiple of b: batch_size / b images")
    learning_rate: float | None = option(
        None,
        "after warm-up (default: the schedule's for 64 images a step, times the images a step by 64: "
        + ", ".join(f"{name} {rate:g}" for name, (_, rate) in SCHEDULES.items())
        + ")",
    )
    schedule: str | None = option(None, "learning rate: " + ", ".join(SCHEDULES) + " (default: the method's paper)")
    l2: float = option(3e-4, "λ of L2 regularisation")
    l2_normalization: bool = option(True, "L2 of the scales and shifts of normalisation layers too")
    crop: str = option(
        "pad",
        "augmentation: pad (random crop after padding), resize (random part of each copy, enlarged), or whole (random part "
        "of the image as it is in its file, resized: the same for its copies)",
    )
    padding: int = option(4, "augmentation: pixels of zero padding before the random crop")
    flip: bool = option(True, "augmentation: random left-right flips")
    pixel_augmentation: str | None = option(None, "on the CPU, of each copy: " + ", ".join(PIXEL_AUGMENTATIONS))
    clip_norm: float | None = option(None, "scale gradients down to this norm of all together")
    ema: float | None = option(None, "momentum, such as 0.999, of a moving average of the weights to evaluate and keep")
    accumulation: int | None = option(None, "steps whose gradients make one update")
    dtype: str = option("float32", "float32, mixed_bfloat16 or mixed_float16")
    jit_compile: bool | None = option(None, "compile the step with XLA (default: where there is a GPU)")
    strategy: str = option("auto", "of tf.distribute: " + ", ".join(distribution.STRATEGIES))
    devices: int | None = option(
        None, "GPUs of this machine to train on, or without GPUs parts of its CPU (default: all GPUs)"
    )
    synchronized_batch_norm: bool = option(False, "batch norm over the rows of all devices")
    warm_start: str | None = option(None, "begin with the weights of this checkpoint or .keras file")
    seed: int = option(0, "seed of the initial weights, shuffling, augmentation and mixing")
    data_dir: str | None = option(None, "folder of TensorFlow Datasets (default: MIXMO_DATA_DIR, else TFDS' own)")
    output_dir: str = option("runs", "folder of the runs")
    export_dir: str = option("saved_models", "folder of the SavedModels")
    checkpoint_steps: int = option(1000, "steps between checkpoints; one more is written after every epoch")
    fresh: bool = option(False, "start over, in place of a run of the same name")

    @property
    def name(self) -> str:
        """Of the run and its folder."""
        mask = None if self.mask == "cutmix" else self.mask
        msda = self.msda and f"msda_{self.msda}"
        unmixing = "unmixing" if self.unmixing else None
        submodels = "co_training" if self.co_training else "drop_path" if self.drop_path else None
        submodels = None if self.method == "cosub" else submodels
        parts = (
            Path(self.dataset).name.replace("@", "_"),
            self.method,
            mask,
            unmixing,
            submodels,
            self.pixel_augmentation,
            msda,
            self.backbone,
            f"seed{self.seed}",
        )
        return "-".join(part for part in parts if part)

    def resolved(self) -> "Recipe":
        """The recipe with the method's values in place of `None`, checked.

        Raises:
            ValueError: for unknown names, options that the method doesn't have, or a batch that b doesn't divide.
        """
        for kind, value, known in (
            ("method", self.method, METHODS),
            ("schedule", self.schedule or "mixmo", SCHEDULES),
            ("pixel augmentation", self.pixel_augmentation or "augmix", PIXEL_AUGMENTATIONS),
            ("strategy", self.strategy, distribution.STRATEGIES),
            ("crop", self.crop, CROPS),
        ):
            if value not in known:
                raise ValueError(f"Unknown {kind}: {value!r}. Known: {', '.join(known)}.")
        datasets.check(self.dataset)
        if not 0 < self.scale <= 1:
            raise ValueError(f"`scale` must be a share of the epochs within (0, 1], got {self.scale}.")
        values: dict = {
            "epochs": max(round(self.epochs * self.scale), 1),
            "scale": 1.0,
            "schedule": self.schedule or ("mimo" if self.method == "mimo" else "mixmo"),
        }
        own = METHODS[self.method][1]
        for name in sorted({name for _, options in METHODS.values() for name in options}):
            given = getattr(self, name)
            if name not in own and given is not None:
                raise ValueError(f"`{name}` (={given}) has no meaning for method {self.method!r}.")
            values[name] = own.get(name) if given is None else given
        for name, default in (("msda_probability", 0.5), ("msda_alpha", 1.0)):
            given = getattr(self, name)
            if self.msda is None and given is not None:
                raise ValueError(f"`{name}` (={given}) has no meaning without `msda`.")
            values[name] = default if given is None and self.msda else given
        repetitions = values["batch_repetitions"]
        if repetitions < 1 or self.batch_size < 1 or self.batch_size % repetitions:
            raise ValueError(
                f"`batch_size` (={self.batch_size}) must be divisible by `batch_repetitions` (={repetitions})."
            )
        if self.crop != "pad" and self.padding != Recipe.padding:
            raise ValueError(f"`padding` (={self.padding}) has no meaning with crop={self.crop!r}.")
        if self.warm_start and not Path(self.warm_start).is_file():
            raise ValueError(f"`warm_start`: there is no file {self.warm_start}.")
        if self.epochs < 1:
            raise ValueError(f"`epochs` must be at least 1, got {self.epochs}.")
        if self.learning_rate is None:  # the same for each image: the papers' 0.1/(2b) at 64 rows, or 0.2/b at 100
            values["learning_rate"] = SCHEDULES[values["schedule"]][1] * self.batch_size / repetitions / 64
        return dataclasses.replace(self, **values)


def build(recipe: Recipe, info: datasets.Info) -> mixmo_keras.MixMo:
    """The compiled model of a resolved recipe."""
    model_class, own = METHODS[recipe.method]
    augment: keras.layers.Layer | None = None
    padding = recipe.padding if recipe.crop == "pad" else 0
    if recipe.crop == "resize":
        augment = augmentation.RandomResizedCrop(flip=recipe.flip)
    elif padding or recipe.flip:
        augment = augmentation.PadCropFlip(padding, recipe.flip)
    model = model_class(
        recipe.backbone,
        num_classes=info.num_classes,
        input_shape=info.image_shape,
        augmentation=augment,
        normalization=info.normalization,
        msda=recipe.msda and msda.MSDA(recipe.msda, recipe.msda_probability, recipe.msda_alpha),
        repeated_data=recipe.pixel_augmentation is not None and recipe.batch_repetitions > 1,
        l2=recipe.l2,
        l2_normalization=recipe.l2_normalization,
        synchronized_batch_norm=recipe.synchronized_batch_norm,
        seed=recipe.seed,
        dtype=recipe.dtype,
        name=recipe.method,
        **{name: getattr(recipe, name) for name in own},
    )
    schedule = SCHEDULES[recipe.schedule][0](recipe.learning_rate)
    optimizer = keras.optimizers.SGD(
        schedule,
        momentum=0.9,
        nesterov=True,
        global_clipnorm=recipe.clip_norm,
        use_ema=recipe.ema is not None,
        ema_momentum=0.99 if recipe.ema is None else recipe.ema,
        gradient_accumulation_steps=recipe.accumulation,
    )
    loss = losses.CrossEntropy(recipe.label_smoothing)
    if recipe.teaching == "sigmoid":
        loss = losses.SigmoidCrossEntropy(recipe.label_smoothing)
    model.compile(optimizer, loss, jit_compile="auto" if recipe.jit_compile is None else recipe.jit_compile)
    return model


def run(recipe: Recipe) -> dict:
    """Runs a recipe from data to SavedModel and returns its final figures, as in `metrics.json`.

    A run of the same name and settings that was killed goes on from its last checkpoint.
    """
    recipe = recipe.resolved()
    strategy = distribution.strategy(recipe.strategy, recipe.devices)
    chief = distribution.is_chief(strategy)  # of several workers one writes; the others do as it does, elsewhere
    images_a_step = recipe.batch_size // recipe.batch_repetitions
    if images_a_step % strategy.num_replicas_in_sync:
        raise ValueError(
            f"{images_a_step} images a step (`batch_size` / `batch_repetitions`) can't be shared out evenly to "
            f"{strategy.num_replicas_in_sync} devices."
        )
    folder = Path(recipe.output_dir) / recipe.name
    check_folder(folder, recipe)
    info = datasets.info(recipe.dataset, recipe.data_dir)

    augmented: dict = {}
    if recipe.crop == "whole":
        augmented = dict(random_part=info.image_shape[:2])
    if recipe.pixel_augmentation:
        transform = PIXEL_AUGMENTATIONS[recipe.pixel_augmentation]()
        augmented |= dict(repetitions=recipe.batch_repetitions, transform=transform)
    train = datasets.load(recipe.dataset, "train", recipe.data_dir, whole=recipe.crop == "whole")
    validation, test = (
        datasets.batches(datasets.load(recipe.dataset, name, recipe.data_dir), 256) for name in ("validation", "test")
    )
    with strategy.scope():
        model = build(recipe, info)

    if chief and recipe.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    distribution.across_workers(strategy, 0)  # waits for the chief
    resuming = checkpoints.Checkpoints(folder / "checkpoints", every_steps=recipe.checkpoint_steps)
    if recipe.warm_start and not resuming.files():
        checkpoints.warm_start(model, recipe.warm_start)
    position = resuming.restore(model)
    if chief:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "config.json", {**settings(recipe), "versions": versions()})
        print(f"{recipe.name}: {model.count_params():,} parameters; {folder}/")
        print(f"{images_a_step} images a step, learning rate {recipe.learning_rate:g}")
        if strategy.num_replicas_in_sync > 1:
            print(
                f"{strategy.num_replicas_in_sync} replicas of {images_a_step // strategy.num_replicas_in_sync} images"
            )
        print(model.figure())
        if position != checkpoints.Position():
            print(f"goes on after epoch {position.epoch}, step {position.step}")

    with tempfile.TemporaryDirectory() as elsewhere:
        own_folder = folder if chief else Path(elsewhere)
        log = trimmed_log(own_folder / "log.csv", position.epoch)
        if chief and len(log) != position.epoch:
            raise ValueError(
                f"{folder / 'log.csv'} has {len(log)} epochs, but the newest checkpoint is after {position.epoch}. Pass "
                "--fresh to start over."
            )
        writers = run_callbacks(recipe, own_folder, log)
        with resuming.on_sigterm() as preemption:
            try:
                model.fit(
                    datasets.batches(
                        train, images_a_step, training=True, seed=recipe.seed, first_epoch=position.epoch, **augmented
                    ),
                    steps_per_epoch=datasets.steps_per_epoch(train, images_a_step),
                    validation_data=validation,
                    initial_epoch=position.epoch,
                    epochs=recipe.epochs,
                    verbose=0 if not chief else 1 if sys.stdout.isatty() else 2,
                    callbacks=[preemption, *writers, resuming],
                )
            except FloatingPointError as error:
                files = list(resuming.files().values())
                advice = f" Last good checkpoint: {files[-1]}; --warm-start takes it into a new run." if files else ""
                raise FloatingPointError(f"{error}{advice}") from error
            finally:
                writers[0].on_train_end()  # closes log.csv, which `fit` leaves open where it fails
        save(model, own_folder / "last.keras")
        figures = {
            "name": recipe.name,
            "epochs": recipe.epochs,
            "training_seconds": round(resuming.seconds, 1),
            "validation": validation_figures(read_log(folder / "log.csv")),
            "test": test_figures(model, test),  # of the last epoch; nothing was chosen by them
            "saved_model": str(Path(recipe.export_dir) / recipe.name / "1"),
        }
    if chief:
        # without the strategy, which several workers would have to leave together
        alone = keras.models.load_model(folder / "last.keras")
        alone.export(
            figures["saved_model"],
            class_names=info.class_names,
            card=card(recipe, figures, datasets.steps_per_epoch(train, 1)),
            overwrite=True,
        )
        write_json(folder / "metrics.json", figures)
        print_table(figures)
    distribution.across_workers(strategy, 0)
    return figures


def run_callbacks(recipe: Recipe, folder: Path, log: list[dict]) -> list[keras.callbacks.Callback]:
    """What writes into a run's folder during `fit`, for a run that has `log` behind it."""
    return [
        keras.callbacks.CSVLogger(str(folder / "log.csv"), append=bool(log)),
        keras.callbacks.TensorBoard(str(folder / "tensorboard"), write_graph=False),
        *([] if recipe.ema is None else [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)]),
        keras.callbacks.ModelCheckpoint(
            str(folder / "best.keras"),
            monitor="val_accuracy",
            mode="max",
            save_best_only=True,
            initial_value_threshold=max((row["val_accuracy"] for row in log), default=None),
        ),
    ]


def read_log(path: Path) -> list[dict]:
    """The rows of log.csv; none where there is no file."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def trimmed_log(path: Path, epochs: int) -> list[dict]:
    """Drops the rows after the first `epochs` epochs, which a run that goes on from there will write again."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)[: epochs + 1]
    if epochs:
        files.write_text(path, "".join(lines))
    else:
        path.unlink()
    return read_log(path)


def save(model, path: Path) -> None:
    """Saves a model beside the path and renames it, so that a kill leaves the old file or the new one."""
    part = path.with_name(f"part-{path.name}")
    model.save(part)
    os.replace(part, path)


def validation_figures(log: list[dict]) -> dict:
    """Of the last epoch and of the best one, out of a run's log."""
    best = max(log, key=lambda row: row["val_accuracy"])
    return {
        "last": {"epoch": len(log), "accuracy": log[-1]["val_accuracy"], "nll": log[-1]["val_loss"]},
        "best": {"epoch": int(best["epoch"]) + 1, "accuracy": best["val_accuracy"]},
    }


def test_figures(model: mixmo_keras.MixMo, test: tf.data.Dataset) -> dict:
    """Accuracy, NLL (nats) and calibration error of each member, their mean and the ensemble; the members' diversity."""
    member_logits = model.predict_members(test, verbose=0)
    logits = np.asarray(model.average(member_logits))
    labels = np.concatenate([label for _, label in test.as_numpy_iterator()])

    def score(logits) -> dict:
        return {
            "accuracy": metrics.accuracy(logits, labels),
            "nll": metrics.negative_log_likelihood(logits, labels),
            "ece": metrics.expected_calibration_error(logits, labels),
        }

    members = [score(member_logits[:, member]) for member in range(model.num_members)]
    mean = {key: float(np.mean([member[key] for member in members])) for key in members[0]}
    figures = {"images": len(labels), "members": members, "members_mean": mean, "ensemble": score(logits)}
    if len(members) > 1:
        ratio = metrics.ratio_of_errors(member_logits, labels)
        figures["ratio_of_errors"] = ratio if np.isfinite(ratio) else None  # no image is wrong for both
    return figures


test_figures.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever pytest makes of its name


def card(recipe: Recipe, figures: dict, num_images: int) -> dict:
    """What the model card says of a run."""
    score = figures["test"]["ensemble"]
    changed = {
        field.name: value
        for field in dataclasses.fields(Recipe)
        if (value := getattr(recipe, field.name)) not in (None, False) and field.name in settings(recipe)
    }
    return {
        "Data": f"{recipe.dataset}: trained on {num_images:,} images of its train split, a part of which was held out; "
        f"tested on {figures['test']['images']:,} images.",
        "Figures": {
            "test accuracy": f"{score['accuracy']:.2%}",
            "test NLL (nats)": score["nll"],
            "test expected calibration error (15 bins)": score["ece"],
        },
        "Training": changed,
    }


def print_table(figures: dict) -> None:
    """Each member, their mean and the ensemble, on the terminal."""
    test = figures["test"]
    rows = (
        [(f"member {member}", score) for member, score in enumerate(test["members"])]
        if len(test["members"]) > 1
        else []
    )
    rows += [("members' mean", test["members_mean"])] if rows else []
    rows += [("ensemble" if rows else "network", test["ensemble"])]
    print(f"\n{figures['name']}: {test['images']:,} test images, after epoch {figures['epochs']}")
    print(f"{'':<15}{'accuracy':>10}{'NLL':>9}{'ECE':>9}")
    for name, score in rows:
        print(f"{name:<15}{score['accuracy']:>10.2%}{score['nll']:>9.4f}{score['ece']:>9.4f}")
    if test.get("ratio_of_errors") is not None:
        print(f"diversity: {test['ratio_of_errors']:.2f} errors of one member alone to one of both (ratio of errors)")
    best = figures["validation"]["best"]
    print(f"validation: {figures['validation']['last']['accuracy']:.2%} at the end, ", end="")
    print(f"{best['accuracy']:.2%} at best (epoch {best['epoch']})")
    print(f"trained in {figures['training_seconds']:.0f} s; SavedModel: {figures['saved_model']}")


def settings(recipe: Recipe) -> dict:
    """What decides a run's figures, as saved in `config.json`: all but the folders and `fresh`."""
    elsewhere = ("data_dir", "output_dir", "export_dir", "checkpoint_steps", "fresh")
    return {name: value for name, value in dataclasses.asdict(recipe).items() if name not in elsewhere}


def check_folder(folder: Path, recipe: Recipe) -> None:
    """Raises where the folder holds a run with other settings, which this one would silently replace."""
    if recipe.fresh or not (folder / "config.json").exists():
        return
    defaults = dataclasses.replace(
        Recipe(), method=recipe.method
    ).resolved()  # of options that the earlier run didn't know
    before = settings(defaults) | json.loads((folder / "config.json").read_text())
    changed = [
        f"{name} {before.get(name)!r} → {now!r}" for name, now in settings(recipe).items() if before.get(name) != now
    ]
    if changed:
        raise ValueError(
            f"{folder} holds a run with other settings ({', '.join(changed)}). Pass another --output-dir, or --fresh to "
            "start over in its place."
        )


def finished(recipe: Recipe) -> dict | None:
    """The figures of a finished run with these settings, `None` where there is none."""
    folder = Path(recipe.output_dir) / recipe.name
    if not (folder / "metrics.json").exists():
        return None
    check_folder(folder, recipe.resolved())
    return json.loads((folder / "metrics.json").read_text())


def versions() -> dict[str, str]:
    """What the run ran on."""
    return {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "mixmo_keras": mixmo_keras.__version__,
    }


def write_json(path: Path, content: dict) -> None:
    """Writes beside and renames, so that a kill leaves the old file or the new one."""
    files.write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def main(defaults: Recipe, description: str, arguments: list[str] | None = None) -> dict:
    """Runs `defaults` as changed by the command line. Errors of the user's end in one line."""
    try:
        return run(parse(defaults, description, arguments))
    except (ValueError, OSError, FloatingPointError, RuntimeError) as error:
        raise SystemExit(f"error: {error}") from error
    except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
        raise SystemExit(
            "error: another worker was lost. Start this one again with the same command, as all others: the run goes on "
            f"from its last checkpoint. ({error.message.splitlines()[0]})"
        ) from error


def parse(defaults: Recipe, description: str, arguments: list[str] | None = None) -> Recipe:
    """`defaults` with the command line's options in place."""
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # what is not given stays the recipe's
    )
    for field in dataclasses.fields(Recipe):
        default = getattr(defaults, field.name)
        flag, text = "--" + field.name.replace("_", "-"), field.metadata["help"]
        if field.type in (bool, bool | None):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=text)
        else:
            text += "" if default is None else f" (default: {default})"
            kind = {int: int, float: float, int | None: int, float | None: float}.get(field.type, str)  # type: ignore[arg-type]
            parser.add_argument(flag, type=kind, metavar=field.name.split("_")[-1].upper(), help=text)
    given = vars(parser.parse_args(arguments))
    return dataclasses.replace(with_method(defaults, given.get("method", defaults.method)), **given)


def with_method(recipe: Recipe, method: str) -> Recipe:
    """The recipe with another method, less the values of options that this method doesn't have."""
    if method not in METHODS:
        return dataclasses.replace(recipe, method=method)  # `resolved` says that there is no such method
    others = {name for _, options in METHODS.values() for name in options} - set(METHODS[method][1])
    return dataclasses.replace(recipe, method=method, **dict.fromkeys(others))
