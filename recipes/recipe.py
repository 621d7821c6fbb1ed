"""What every recipe shares: its settings (`Recipe`), its command line (`main`) and its run (`run`).

A run loads, builds, fits, evaluates, saves and exports. It writes into `<output-dir>/<name>/`:

    config.json     the resolved settings and versions      log.csv        losses and accuracies by epoch
    metrics.json    the final figures                       tensorboard/   the same for TensorBoard
    last.keras      the model after the last epoch          best.keras     after the epoch best on validation data

and a SavedModel into `<export-dir>/<name>/1`.
"""

import argparse
import dataclasses
import json
import os
import platform
import shutil
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import mixmo_keras
from mixmo_keras import augmentation, datasets, losses, masks, metrics, msda, schedules
from mixmo_keras.models import LEARNING_RATE

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
        ),
    ),
    "linear_mixmo": (
        mixmo_keras.LinearMixMo,
        dict(num_members=2, batch_repetitions=4, alpha=2.0, weight_root=3.0, unmixing=False, input_repetition=0.0),
    ),
    "mimo": (mixmo_keras.MIMO, dict(num_members=3, batch_repetitions=4, input_repetition=0.0)),
    "single": (mixmo_keras.SingleNetwork, dict(batch_repetitions=1)),
}
# schedule: a function of the learning rate
SCHEDULES = {
    "mixmo": schedules.StepDecay,
    "mimo": lambda rate: schedules.StepDecay(rate, warmup=1 / 250, milestones=(100 / 250, 200 / 250, 225 / 250)),
    "cosine": schedules.Cosine,
}


def _keras_cv(layer: str, **options):
    """A function that augments each image of a batch on its own by a keras-cv layer, whose import takes seconds."""

    def build():
        import keras_cv

        augment = getattr(keras_cv.layers, layer)(value_range=(0, 255), **options)
        return lambda images: augment({"images": tf.cast(images, tf.float32)}, training=True)["images"]

    return build


# Keras' own RandAugment draws its operations once for a batch; keras-cv's draws them for each image
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

    dataset: str = option("cifar100", "dataset: " + ", ".join(datasets.DATASETS))
    method: str = option("cut_mixmo", "method: " + ", ".join(METHODS))
    backbone: str = option("wrn28_10", "network, such as wrn28_10 or wrn16_2")
    num_members: int | None = option(None, "M, members of the ensemble (default: the method's)")
    weight_root: float | None = option(None, "r, root of the ratios in the loss weights (default: the method's)")
    alpha: float | None = option(None, "α, concentration of the mixing ratios (default: the method's)")
    mask: str | None = option(None, "binary mask: " + ", ".join(name for name in masks.MASKS if name != "linear"))
    probability: float | None = option(None, "p, probability of the binary mask (default: the method's)")
    unmixing: bool | None = option(None, "move the masks towards showing all members, for small networks")
    input_repetition: float | None = option(None, "ρ, share of rows with the same image for all members")
    msda: str | None = option(None, "mixing inside each member's image: " + ", ".join(msda.METHODS))
    msda_probability: float | None = option(None, "probability of MSDA for each image (default with --msda: 0.5)")
    msda_alpha: float | None = option(None, "α of MSDA's Beta distribution (default with --msda: 1)")
    label_smoothing: float = option(0.0, "share of each label that is spread over all classes")
    batch_repetitions: int | None = option(None, "b, times that a step uses each image (default: the method's)")
    epochs: int = option(300, "epochs; warm-up and decay scale with them")
    batch_size: int = option(64, "rows a step, a multiple of b: batch_size / b images")
    learning_rate: float | None = option(None, f"after warm-up (default: {LEARNING_RATE} for 64 images a step)")
    schedule: str | None = option(None, "learning rate: " + ", ".join(SCHEDULES) + " (default: the method's paper)")
    l2: float = option(3e-4, "λ of L2 regularisation")
    padding: int = option(4, "augmentation: pixels of zero padding before the random crop")
    flip: bool = option(True, "augmentation: random left-right flips")
    pixel_augmentation: str | None = option(None, "on the CPU, of each copy: " + ", ".join(PIXEL_AUGMENTATIONS))
    dtype: str = option("float32", "float32, mixed_bfloat16 or mixed_float16")
    seed: int = option(0, "seed of the initial weights, shuffling, augmentation and mixing")
    data_dir: str | None = option(None, "folder of TensorFlow Datasets (default: MIXMO_DATA_DIR, else TFDS' own)")
    output_dir: str = option("runs", "folder of the runs")
    export_dir: str = option("saved_models", "folder of the SavedModels")
    fresh: bool = option(False, "replace a run of the same name that had other settings")

    @property
    def name(self) -> str:
        """Of the run and its folder."""
        mask = None if self.mask == "cutmix" else self.mask
        msda = self.msda and f"msda_{self.msda}"
        unmixing = "unmixing" if self.unmixing else None
        parts = (
            self.dataset,
            self.method,
            mask,
            unmixing,
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
            ("dataset", self.dataset, datasets.DATASETS),
            ("pixel augmentation", self.pixel_augmentation or "augmix", PIXEL_AUGMENTATIONS),
        ):
            if value not in known:
                raise ValueError(f"Unknown {kind}: {value!r}. Known: {', '.join(known)}.")
        values: dict = {"schedule": self.schedule or ("mimo" if self.method == "mimo" else "mixmo")}
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
        if self.epochs < 1:
            raise ValueError(f"`epochs` must be at least 1, got {self.epochs}.")
        if self.learning_rate is None:  # the same for each image: the papers' 0.1/(2b) at 64 rows
            values["learning_rate"] = LEARNING_RATE * self.batch_size / repetitions / 64
        return dataclasses.replace(self, **values)


def build(recipe: Recipe, info: datasets.Info) -> mixmo_keras.MixMo:
    """The compiled model of a resolved recipe."""
    model_class, own = METHODS[recipe.method]
    augment = augmentation.PadCropFlip(recipe.padding, recipe.flip) if recipe.padding or recipe.flip else None
    model = model_class(
        recipe.backbone,
        num_classes=info.num_classes,
        input_shape=info.image_shape,
        augmentation=augment,
        msda=recipe.msda and msda.MSDA(recipe.msda, recipe.msda_probability, recipe.msda_alpha),
        repeated_data=recipe.pixel_augmentation is not None and recipe.batch_repetitions > 1,
        l2=recipe.l2,
        seed=recipe.seed,
        dtype=recipe.dtype,
        name=recipe.method,
        **{name: getattr(recipe, name) for name in own},
    )
    schedule = SCHEDULES[recipe.schedule](recipe.learning_rate)
    model.compile(
        optimizer=keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True),
        loss=losses.CrossEntropy(recipe.label_smoothing),
    )
    return model


def run(recipe: Recipe) -> dict:
    """Runs a recipe from data to SavedModel and returns its final figures, as in `metrics.json`."""
    recipe = recipe.resolved()
    folder = Path(recipe.output_dir) / recipe.name
    check_folder(folder, recipe)
    info = datasets.info(recipe.dataset, recipe.data_dir)
    images_a_step = recipe.batch_size // recipe.batch_repetitions

    def split(name: str, batch_size: int, **options) -> tf.data.Dataset:
        dataset = datasets.load(recipe.dataset, name, recipe.data_dir)
        return datasets.batches(dataset, batch_size, **options)

    augmented = {}
    if recipe.pixel_augmentation:
        transform = PIXEL_AUGMENTATIONS[recipe.pixel_augmentation]()
        augmented = dict(repetitions=recipe.batch_repetitions, transform=transform)
    train = split("train", images_a_step, training=True, seed=recipe.seed, **augmented)
    validation, test = split("validation", 256), split("test", 256)
    model = build(recipe, info)

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_json(folder / "config.json", {**settings(recipe), "versions": versions()})
    print(
        f"{recipe.name}: {model.count_params():,} parameters, {images_a_step} images a step; {folder}/\n{model.figure()}"
    )

    start = time.perf_counter()
    history = model.fit(
        train,
        validation_data=validation,
        epochs=recipe.epochs,
        verbose=1 if sys.stdout.isatty() else 2,
        callbacks=[
            keras.callbacks.CSVLogger(str(folder / "log.csv")),
            keras.callbacks.TensorBoard(str(folder / "tensorboard"), write_graph=False),
            keras.callbacks.ModelCheckpoint(str(folder / "best.keras"), monitor="val_accuracy", save_best_only=True),
            keras.callbacks.ModelCheckpoint(str(folder / "last.keras")),
        ],
    ).history
    seconds = time.perf_counter() - start

    accuracies = history["val_accuracy"]
    figures = {
        "name": recipe.name,
        "epochs": recipe.epochs,
        "training_seconds": round(seconds, 1),
        "validation": {
            "last": {"epoch": recipe.epochs, "accuracy": accuracies[-1], "nll": history["val_loss"][-1]},
            "best": {"epoch": int(np.argmax(accuracies)) + 1, "accuracy": max(accuracies)},
        },
        "test": test_figures(model, test),  # of the last epoch; nothing was chosen by them
        "saved_model": str(Path(recipe.export_dir) / recipe.name / "1"),
    }
    model.export(figures["saved_model"], overwrite=True)
    write_json(folder / "metrics.json", figures)
    print_table(figures)
    return figures


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
    elsewhere = ("data_dir", "output_dir", "export_dir", "fresh")
    return {name: value for name, value in dataclasses.asdict(recipe).items() if name not in elsewhere}


def check_folder(folder: Path, recipe: Recipe) -> None:
    """Raises where the folder holds a run with other settings, which this one would silently replace."""
    if recipe.fresh or not (folder / "config.json").exists():
        return
    before = json.loads((folder / "config.json").read_text())
    changed = [
        f"{name} {before.get(name)!r} → {now!r}" for name, now in settings(recipe).items() if before.get(name) != now
    ]
    if changed:
        raise ValueError(
            f"{folder} holds a run with other settings ({', '.join(changed)}). Pass another --output-dir, or --fresh to "
            "replace it."
        )


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
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    os.replace(part, path)


def main(defaults: Recipe, description: str, arguments: list[str] | None = None) -> dict:
    """Runs `defaults` as changed by the command line. Errors of the user's end in one line."""
    try:
        return run(parse(defaults, description, arguments))
    except (ValueError, OSError, FloatingPointError) as error:
        raise SystemExit(f"error: {error}") from error


def parse(defaults: Recipe, description: str, arguments: list[str] | None = None) -> Recipe:
    """`defaults` with the command line's options in place."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field in dataclasses.fields(Recipe):
        default = getattr(defaults, field.name)
        flag, text = "--" + field.name.replace("_", "-"), field.metadata["help"]
        if field.type in (bool, bool | None):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=text)
        else:
            text += "" if default is None else " (default: %(default)s)"
            kind = {int: int, float: float, int | None: int, float | None: float}.get(field.type, str)  # type: ignore[arg-type]
            parser.add_argument(flag, type=kind, default=default, metavar=field.name.split("_")[-1].upper(), help=text)
    return Recipe(**vars(parser.parse_args(arguments)))
