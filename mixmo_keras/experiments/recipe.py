"""What decides a run: `Recipe`, frozen settings in four groups, as flat as the options of the command line.

To add an option, add a line to a group: its type, default, help and check stand there. `run.build` hands an option whose
default is the method's to the method by its name.
"""

import dataclasses
import enum
import functools
import inspect
import os
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mixmo_keras import datasets
from mixmo_keras.arguments import boolean, choice, instance, integer, number
from mixmo_keras.datasets.label_noise import KINDS as NOISE_KINDS
from mixmo_keras.datasets.label_noise import LabelNoise
from mixmo_keras.experiments.pixel_augmentation import PIXEL_AUGMENTATIONS
from mixmo_keras.mixing import masks
from mixmo_keras.mixing.augmentation import PadCropFlip
from mixmo_keras.mixing.msda import METHODS as MSDA_METHODS
from mixmo_keras.mixing.msda import MSDA
from mixmo_keras.models.methods import METHODS
from mixmo_keras.models.methods import defaults as method_defaults
from mixmo_keras.models.mixmo import MixMo
from mixmo_keras.training import distribution, losses
from mixmo_keras.training.schedules import PUBLISHED

CROPS = ("pad", "resize", "whole")
BINARY_MASKS = tuple(name for name in masks.MASKS if name != "linear")


class Default(enum.Enum):
    """The default of an option that is left to the method, of which `None` may be another value: `weight_root=None`.

    In a resolved recipe an option still has it where the method has no such option.
    """

    METHOD = "the method's"

    def __str__(self) -> str:
        return self.value

    __repr__ = __str__


def option(default: Any, text: str, check: Callable[..., Any] | None = None, **bounds) -> Any:
    """A field of `Recipe` that is an option of the command line: default, help, and its check in `arguments`."""
    check = None if check is None else functools.partial(check, **bounds)
    return dataclasses.field(default=default, metadata={"help": text, "check": check})


def default_of(owner: Callable, name: str) -> Any:
    """The default of an argument where it is defined."""
    return inspect.signature(owner).parameters[name].default


def _path(name: str, value: Any) -> str:
    return os.fspath(instance(name, value, (str, os.PathLike), "a path"))


def _text(name: str, value: Any) -> str:
    return instance(name, value, str, "a text")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """What a run learns from, and how each image is augmented."""

    dataset: str = option("cifar100", "dataset: " + ", ".join(datasets.DATASETS) + ", or DIR@SIZE", _text)
    crop: str = option(
        "pad",
        "augmentation: pad (random crop after padding), resize (random part of each copy, enlarged), or whole (random part "
        "of the image as it is in its file, resized: the same for its copies)",
        choice,
        known=CROPS,
    )
    padding: int = option(
        default_of(PadCropFlip, "padding"),
        "augmentation: pixels of zero padding before the random crop",
        integer,
        least=0,
    )
    flip: bool = option(default_of(PadCropFlip, "flip"), "augmentation: random left-right flips", boolean)
    pixel_augmentation: str | None = option(
        None, "on the CPU, of each copy: " + ", ".join(PIXEL_AUGMENTATIONS), choice, known=PIXEL_AUGMENTATIONS
    )
    train_images: int | None = option(
        None, "learn from so many images alone, chosen at random, and validate on as large a part", integer, least=1
    )
    label_noise: float = option(
        0.0, "rate of wrong labels among those that are learned and validated by", number, least=0, most=1
    )
    noise_kind: str = option(
        default_of(LabelNoise, "kind"),
        "wrong labels: symmetric (drawn among all classes) or asymmetric (the class that it is confused with)",
        choice,
        known=NOISE_KINDS,
    )
    clean_validation: bool = option(False, "validate by right labels, which who has wrong ones lacks", boolean)
    data_seed: int = option(0, "seed of the choice of images and of wrong labels", integer, least=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """What is trained. Ranges of the options that are the method's are checked by the method."""

    method: str = option("cut_mixmo", "method: " + ", ".join(METHODS), choice, known=METHODS)
    backbone: str = option(default_of(MixMo, "backbone"), "network, such as wrn28_10 or wrn16_2", _text)
    num_members: int | Default = option(Default.METHOD, "M, members of the ensemble", integer)
    weight_root: float | Default | None = option(
        Default.METHOD, "r, root of the ratios in the loss weights; none for equal weights", number
    )
    alpha: float | Default | None = option(
        Default.METHOD, "α, concentration of the mixing ratios; none for equal ratios", number
    )
    mask: str | Default = option(Default.METHOD, "binary mask: " + ", ".join(BINARY_MASKS), choice, known=BINARY_MASKS)
    probability: float | Default = option(Default.METHOD, "p, probability of the binary mask", number)
    unmixing: bool | Default = option(
        Default.METHOD, "move the masks towards showing all members, for small networks", boolean
    )
    input_repetition: float | Default = option(
        Default.METHOD, "ρ, share of rows with the same image for all members", number
    )
    drop_path: float | Default = option(Default.METHOD, "rate of stochastic depth in every block", number)
    efficient_drop_path: bool | Default = option(
        Default.METHOD, "compute a block for the rows alone that keep it", boolean
    )
    co_training: float | Default | None = option(
        Default.METHOD, "λ, the labels' share where submodels teach each other; none for one pass", number
    )
    teaching: str | Default = option(Default.METHOD, "how submodels teach: softmax or sigmoid", _text)
    batch_repetitions: int | Default = option(Default.METHOD, "b, times that a step uses each image", integer, least=1)
    msda: str | None = option(
        None, "mixing inside each member's image: " + ", ".join(MSDA_METHODS), choice, known=MSDA_METHODS
    )
    msda_probability: float | None = option(
        None, f"probability of MSDA for each image (default with --msda: {MSDA.probability:g})", number
    )
    msda_alpha: float | None = option(
        None, f"α of MSDA's Beta distribution (default with --msda: {MSDA.alpha:g})", number
    )
    l2: float | Default = option(Default.METHOD, "λ of L2 regularisation", number)
    l2_normalization: bool | Default = option(
        Default.METHOD, "L2 of the scales and shifts of normalisation layers too", boolean
    )
    dtype: str = option("float32", "float32, mixed_bfloat16 or mixed_float16", _text)
    synchronized_batch_norm: bool = option(
        default_of(MixMo, "synchronized_batch_norm"), "batch norm over the rows of all devices", boolean
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """How the model is trained, and on what devices."""

    epochs: int = option(300, "epochs; warm-up and decay scale with them", integer, least=1)
    scale: float = option(1.0, "train for this share of the epochs, such as 0.05 for a trial", number, above=0, most=1)
    batch_size: int = option(64, "rows a step, a multiple of b: batch_size / b images", integer, least=1)
    learning_rate: float | None = option(
        None,
        "after warm-up (default: the schedule's for 64 images a step, times the images a step by 64: "
        + ", ".join(f"{name} {published.rate:g}" for name, published in PUBLISHED.items())
        + ")",
        number,
        above=0,
    )
    schedule: str | None = option(
        None,
        "learning rate: " + ", ".join(PUBLISHED) + " (default: the method's paper)",
        choice,
        known=PUBLISHED,
    )
    label_smoothing: float = option(
        default_of(losses.CrossEntropy, "label_smoothing"),
        "share of each label that is spread over all classes",
        number,
        least=0,
        below=1,
    )
    clip_norm: float | None = option(None, "scale gradients down to this norm of all together", number, above=0)
    ema: float | None = option(
        None,
        "momentum, such as 0.999, of a moving average of the weights to evaluate and keep",
        number,
        above=0,
        below=1,
    )
    accumulation: int | None = option(None, "steps whose gradients make one update", integer, least=2)
    jit_compile: bool | None = option(None, "compile the step with XLA (default: where there is a GPU)", boolean)
    strategy: str = option(
        default_of(distribution.strategy, "name"),
        "of tf.distribute: " + ", ".join(distribution.STRATEGIES),
        choice,
        known=distribution.STRATEGIES,
    )
    devices: int | None = option(
        None,
        "GPUs of this machine to train on, or without GPUs parts of its CPU (default: all GPUs)",
        integer,
        least=1,
    )
    warm_start: str | None = option(None, "begin with the weights of this checkpoint or .keras file", _path)
    seed: int = option(0, "seed of the initial weights, shuffling, augmentation and mixing", integer, least=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Folders:
    """Where a run finds and leaves things, which decides none of its figures and is not in its config.json."""

    data_dir: str | None = option(
        None, "folder of TensorFlow Datasets (default: MIXMO_DATA_DIR, else TFDS' own)", _path
    )
    output_dir: str = option("runs", "folder of the runs", _path)
    export_dir: str = option("saved_models", "folder of the SavedModels", _path)
    checkpoint_steps: int = option(
        1000, "steps between checkpoints; one more is written after every epoch", integer, least=1
    )
    fresh: bool = option(False, "start over, in place of a run of the same name", boolean)


GROUPS = (Data, Model, Training, Folders)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe(Folders, Training, Model, Data):  # fields come from the last to the first
    """The settings of one run. `dataclasses.replace(recipe, epochs=2)` is another.

    `Default.METHOD` stands for the method's own value; `resolved` puts the values in its place.
    """

    @property
    def name(self) -> str:
        """The name of the run and its folder: what is left out is the method's own."""
        chosen = {name: None if value is Default.METHOD else value for name, value in vars(self).items()}
        submodels = "co_training" if chosen["co_training"] else "drop_path" if chosen["drop_path"] else None
        parts = (
            dataset_label(self.dataset),
            self.train_images and f"{self.train_images}images",
            self._wrong_labels,
            self.data_seed and f"data{self.data_seed}",
            self.method,
            None if chosen["mask"] == "cutmix" else chosen["mask"],
            "unmixing" if chosen["unmixing"] else None,
            None if self.method == "cosub" else submodels,
            self.pixel_augmentation,
            self.msda and f"msda_{self.msda}",
            self.backbone,
            f"seed{self.seed}",
        )
        return "-".join(str(part) for part in parts if part)

    @property
    def _wrong_labels(self) -> str | None:
        """The wrong labels' part of the name."""
        if not self.label_noise:
            return None
        kind = "" if self.noise_kind == Recipe.noise_kind else f"_{self.noise_kind}"
        return f"noise{self.label_noise:g}{kind}" + ("-clean_validation" if self.clean_validation else "")

    @property
    def folder(self) -> Path:
        """The folder that the run writes into."""
        return Path(self.output_dir) / self.name

    @property
    def saved_model(self) -> Path:
        """The folder of the SavedModel that the run exports."""
        return Path(self.export_dir) / self.name / "1"

    @property
    def images_a_step(self) -> int:
        """Images of a step of a resolved recipe, each of which is shown `batch_repetitions` times."""
        return self.batch_size // typing.cast(int, self.batch_repetitions)

    def resolved(self) -> "Recipe":
        """The recipe as it runs: checked, with the method's values and the schedule's learning rate in it.

        Raises:
            ValueError: for unknown names, options that the method doesn't have, or a batch that b doesn't divide.
        """
        recipe = dataclasses.replace(self, **_checked(self))
        recipe = dataclasses.replace(recipe, **_of_method(recipe), **_of_msda(recipe))
        datasets.check(recipe.dataset)
        if recipe.crop != "pad" and recipe.padding != Recipe.padding:
            raise ValueError(f"`padding` (={recipe.padding}) has no meaning with crop={recipe.crop!r}.")
        if not recipe.label_noise and (recipe.clean_validation or recipe.noise_kind != Recipe.noise_kind):
            raise ValueError("`clean_validation` and `noise_kind` have no meaning without `label_noise`.")
        if recipe.data_seed and not (recipe.label_noise or recipe.train_images):
            raise ValueError(
                f"`data_seed` (={recipe.data_seed}) has no meaning without `label_noise` or `train_images`."
            )
        if recipe.warm_start and not Path(recipe.warm_start).is_file():
            raise ValueError(f"`warm_start`: there is no file {recipe.warm_start}.")
        repetitions = typing.cast(int, recipe.batch_repetitions)
        if recipe.batch_size % repetitions:
            raise ValueError(
                f"`batch_size` (={recipe.batch_size}) must be divisible by `batch_repetitions` (={repetitions})."
            )
        # MIMO came with a schedule of its own; what was compared with it since then trains by MixMo's
        schedule = recipe.schedule or (recipe.method if recipe.method in PUBLISHED else "mixmo")
        rate = recipe.learning_rate
        return dataclasses.replace(
            recipe,
            epochs=max(round(recipe.epochs * recipe.scale), 1),
            scale=1.0,
            schedule=schedule,
            learning_rate=PUBLISHED[schedule].learning_rate(recipe.images_a_step) if rate is None else rate,
        )

    def with_method(self, method: str) -> "Recipe":
        """The recipe with another method, less the values of options that this method doesn't have."""
        if method not in METHODS:
            return dataclasses.replace(self, method=method)  # `resolved` says that there is no such method
        others = method_options() - set(method_defaults(method))
        changes: dict[str, Any] = dict.fromkeys(others, Default.METHOD)
        return dataclasses.replace(self, method=method, **changes)

    def settings(self) -> dict[str, Any]:
        """What decides a resolved recipe's figures, as saved in config.json. Options that the method lacks are `None`."""
        names = [field.name for group in GROUPS if group is not Folders for field in dataclasses.fields(group)]
        values = {name: getattr(self, name) for name in names}
        return {name: None if value is Default.METHOD else value for name, value in values.items()}


def method_options() -> set[str]:
    """The options whose default is the method's."""
    return {field.name for field in dataclasses.fields(Recipe) if field.default is Default.METHOD}


def kinds(field: dataclasses.Field) -> tuple[type, bool]:
    """The type of an option's values, and whether `None` is one of them."""
    union = typing.get_args(field.type) or (field.type,)
    (kind,) = (one for one in union if one not in (types.NoneType, Default))
    return kind, types.NoneType in union


def dataset_label(dataset: str) -> str:
    """A dataset's part in the names of folders: of a folder of images, its last part and the size."""
    return Path(dataset).name.replace("@", "_")


def _checked(recipe: Recipe) -> dict[str, Any]:
    """The values after the checks of their own lines."""
    checked = {}
    for field in dataclasses.fields(Recipe):
        value, check = getattr(recipe, field.name), field.metadata["check"]
        left_out = value is Default.METHOD or (value is None and kinds(field)[1])
        checked[field.name] = value if check is None or left_out else check(field.name, value)
    return checked


def _of_method(recipe: Recipe) -> dict[str, Any]:
    """The values of the options that the method has."""
    defaults, values = method_defaults(recipe.method), {}
    for name in sorted(method_options()):
        value = getattr(recipe, name)
        if name in defaults:
            values[name] = defaults[name] if value is Default.METHOD else value
        elif value is not Default.METHOD:
            raise ValueError(f"`{name}` (={value}) has no meaning for method {recipe.method!r}.")
    return values


def _of_msda(recipe: Recipe) -> dict[str, Any]:
    """The values of MSDA's options; none without MSDA."""
    values = {}
    for name, default in (("msda_probability", MSDA.probability), ("msda_alpha", MSDA.alpha)):
        value = getattr(recipe, name)
        if recipe.msda is None and value is not None:
            raise ValueError(f"`{name}` (={value}) has no meaning without `msda`.")
        values[name] = default if value is None and recipe.msda else value
    return values
