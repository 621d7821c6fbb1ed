"""What decides a run: `Recipe`, frozen settings, as flat as the options of the command line (`options.py`).

`building.build` hands an option whose default is the method's to the method by its name.
"""

import dataclasses
import re
import typing
from pathlib import Path
from typing import Any

from mixmo_keras import datasets
from mixmo_keras.common import trained
from mixmo_keras.common.arguments import integer
from mixmo_keras.common.settings import checked as checked_value
from mixmo_keras.datasets import label_table
from mixmo_keras.datasets.resizing import INTERPOLATIONS
from mixmo_keras.experiments.option_defaults import Default
from mixmo_keras.experiments.options import GROUPS, Data, Folders, Model, Training
from mixmo_keras.mixing.augmentation import AREA
from mixmo_keras.mixing.msda import MSDA
from mixmo_keras.models import methods
from mixmo_keras.training import optimizers, precision
from mixmo_keras.training.precision import Precision
from mixmo_keras.training.schedules import PUBLISHED


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe(Folders, Training, Model, Data):  # fields come from the last to the first
    """The settings of one run. `dataclasses.replace(recipe, epochs=2)` is another.

    `Default.METHOD` stands for the method's own value; `resolved` puts the values in its place.
    """

    def __post_init__(self):
        if self.image_size is not None:  # one way to write a size: behind the dataset's name
            size = integer("image_size", self.image_size, least=1)
            path, channels = datasets.registry.path_and_size(self.dataset)[0], datasets.registry.channels(self.dataset)
            shape = f"{size}" if channels is None else f"{size}x{size}x{channels}"
            object.__setattr__(self, "dataset", f"{path}@{shape}")
            object.__setattr__(self, "image_size", None)
        if self.warm_start is not None and Path(self.warm_start).is_dir():
            object.__setattr__(self, "warm_start", str(Path(self.warm_start) / "last.keras"))

    @property
    def name(self) -> str:
        """The name of the run and its folder: what is left out is the method's own."""
        chosen = {name: None if value is Default.METHOD else value for name, value in vars(self).items()}
        submodels = "co_training" if chosen["co_training"] else "drop_path" if chosen["drop_path"] else None
        parts = (
            dataset_label(self.dataset),
            self.task,
            None if self.holds_out else "all_images",
            self.train_images and f"{self.train_images}images",
            self.wrong_labels,
            self.data_seed and f"data{self.data_seed}",
            self.method,
            None if chosen["mask"] == "cutmix" else chosen["mask"],
            "unmixing" if chosen["unmixing"] else None,
            "one_encoder" if chosen["share_encoders"] else None,
            "one_head" if chosen["share_heads"] else None,
            None if self.method == "cosub" else submodels,
            self.pixel_augmentation,
            self.policy,
            self.erasing and f"erasing{self.erasing:g}",
            self.msda and f"msda_{self.msda}",
            self.class_weights,
            self.decoder,
            self.sam and f"{'adaptive_' if self.adaptive_sam else ''}sam{self.sam:g}",
            self._backbone_label,
            f"seed{self.seed}",
        )
        return "-".join(str(part) for part in parts if part)

    @property
    def _backbone_label(self) -> str:
        """The backbone's part of the name."""
        if self.begins_as_classifier:
            return f"from_{Path(self.backbone).stem}"
        if not self.of_library:
            return self.backbone
        library, colon, name = self.backbone.partition(":")
        label = f"{library}_{Path(name).name}" if colon else library
        return label + ("" if self.pretrained else "_anew")

    @property
    def wrong_labels(self) -> str | None:
        """The wrong labels' part of the name, `None` where none were made."""
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
    def begins_as_classifier(self) -> bool:
        """Whether the backbone is a classifier's file, whose answers the model has to begin with."""
        return trained.is_file(self.backbone)

    @property
    def of_library(self) -> bool:
        """Whether the backbone is a network that comes with trained weights, such as those of keras.applications."""
        return trained.is_of_a_library(self.backbone)

    @property
    def begins_trained(self) -> bool:
        """Whether the backbone was trained before."""
        return self.begins_as_classifier or (self.of_library and self.pretrained)

    @property
    def images_a_step(self) -> int:
        """Images of a step of a resolved recipe, each of which is shown `batch_repetitions` times."""
        return self.batch_size // typing.cast(int, self.batch_repetitions)

    @property
    def holds_out(self) -> bool:
        """Whether validation images are kept from training."""
        return self.train_split == "train"

    @property
    def averages_weights(self) -> bool:
        """Whether what is evaluated and kept is an average of the weights."""
        return self.ema is not None or self.average_from is not None

    def precision(self) -> Precision:
        """The dtype policy, and why it is this."""
        return (
            precision.choose(self.backbone) if self.dtype == precision.AUTO else Precision(self.dtype, "as asked for")
        )

    def resolved(self) -> "Recipe":
        """The recipe as it runs: checked, with the method's values and the schedule's learning rate in it.

        Raises:
            ValueError: for unknown names, options that the method doesn't have, or a batch that b doesn't divide.
        """
        recipe = dataclasses.replace(self, **checked(self))
        recipe = dataclasses.replace(recipe, **_of_method(recipe), **_of_msda(recipe), **_of_crop(recipe))
        recipe = dataclasses.replace(recipe, **_of_optimizer(self, recipe))
        datasets.check(recipe.dataset)
        _check_wrong_labels(recipe)
        _check_training(recipe)
        _check_backbone(recipe)
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
        epochs = max(round(recipe.epochs * recipe.scale), 1)
        if recipe.freeze_epochs is not None and recipe.freeze_epochs >= epochs:
            raise ValueError(
                f"`freeze_epochs` (={recipe.freeze_epochs}) of {epochs} epochs leaves none in which the core is trained."
            )
        if recipe.warmup_epochs is not None and recipe.warmup_epochs * recipe.scale >= epochs:
            raise ValueError(
                f"`warmup_epochs` (={recipe.warmup_epochs:g}) must be fewer than the epochs, {recipe.epochs}."
            )
        return dataclasses.replace(
            recipe,
            epochs=epochs,
            warmup_epochs=None if recipe.warmup_epochs is None else recipe.warmup_epochs * recipe.scale,
            scale=1.0,
            dtype=recipe.precision().policy,
            schedule=schedule,
            learning_rate=recipe._learning_rate(schedule) if rate is None else rate,
        )

    def _learning_rate(self, schedule: str) -> float:
        """The schedule's for the images of a step; a gentler one where the backbone was trained, but not by this library."""
        published = PUBLISHED[schedule]
        if self.begins_trained and not trained.keeps_its_rate(self.backbone):
            published = dataclasses.replace(published, rate=trained.LEARNING_RATE)
        return published.learning_rate(self.images_a_step)

    def with_method(self, method: str) -> "Recipe":
        """The recipe with another method, less the values of options that this method doesn't have."""
        if method not in methods.METHODS:
            return dataclasses.replace(self, method=method)  # `resolved` says that there is no such method
        others = method_options() - set(methods.defaults(method))
        changes: dict[str, Any] = dict.fromkeys(others, Default.METHOD)
        return dataclasses.replace(self, method=method, **changes)

    def settings(self) -> dict[str, Any]:
        """What decides a resolved recipe's figures, as saved in config.json. What the method or backbone lacks is `None`."""
        names = [field.name for group in GROUPS if group is not Folders for field in dataclasses.fields(group)]
        values = {name: getattr(self, name) for name in names}
        if not self.of_library:
            values["pretrained"] = None  # of no other backbone it says anything
        return {name: None if value is Default.METHOD else value for name, value in values.items()}


def method_options() -> set[str]:
    """The options whose default is the method's."""
    return {field.name for field in dataclasses.fields(Recipe) if field.default is Default.METHOD}


def dataset_label(dataset: str) -> str:
    """A dataset's part in the names of folders: of a folder of images, its last part and the size.

    Characters that TensorFlow takes for a pattern become underscores. Of a CSV file, the name of its folder stands before.
    """
    path = Path(dataset)
    name = path.name
    if label_table.is_table(datasets.registry.path_and_size(dataset)[0]):
        name = "_".join(filter(None, (path.absolute().parent.name, re.sub(r"(?i)\.csv(?=@|$)", "", name))))
    return re.sub(r"[@*?\[\]\\]", "_", name)


def checked(settings: Data) -> dict[str, Any]:
    """The values of a recipe, or of its settings about data, after the checks of their own lines."""
    values = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        values[field.name] = value if value is Default.METHOD else checked_value(field, value)
    return values


def _check_backbone(recipe: Recipe) -> None:
    """Raises for what has no meaning for the backbone, or a file that is not there."""
    if recipe.begins_as_classifier and not Path(recipe.backbone).is_file():
        raise ValueError(f"`backbone`: there is no file {recipe.backbone}.")
    if not recipe.pretrained and not recipe.of_library:
        raise ValueError(
            f"`pretrained` is for a backbone with trained weights, such as efficientnet_lite0, "
            f"keras:NAME or hub:PRESET, not for {recipe.backbone!r}."
        )
    which = "a trained backbone, which is a classifier's .keras file, efficientnet_lite0, keras:NAME or hub:PRESET"
    for name in ("encoder_noise", *trained.OF_CORE):
        value = getattr(recipe, name)
        weights_come_later = name != "encoder_noise" and recipe.warm_start
        if value is not None and not recipe.begins_trained and not weights_come_later:
            raise ValueError(f"`{name}` (={value:g}) is for {which}, not for {recipe.backbone!r}.")


def _check_wrong_labels(recipe: Recipe) -> None:
    if not recipe.label_noise and (recipe.clean_validation or recipe.noise_kind != Recipe.noise_kind):
        raise ValueError("`clean_validation` and `noise_kind` have no meaning without `label_noise`.")
    if recipe.clean_validation and not recipe.holds_out:
        raise ValueError("`clean_validation` has no meaning where the validation images are trained on.")
    if recipe.data_seed and not (recipe.label_noise or recipe.train_images):
        raise ValueError(f"`data_seed` (={recipe.data_seed}) has no meaning without `label_noise` or `train_images`.")


def _check_training(recipe: Recipe) -> None:
    if recipe.adaptive_sam and recipe.sam is None:
        raise ValueError("`adaptive_sam` has no meaning without `sam`.")
    if recipe.ema is not None and recipe.average_from is not None:
        raise ValueError("`ema` and `average_from` are two averages of the weights: choose one.")
    for name, is_set in (("early_stopping", recipe.early_stopping is not None), ("keep='best'", recipe.keep == "best")):
        if is_set and not recipe.holds_out:
            raise ValueError(f"`{name}` needs validation images, which train_split={recipe.train_split!r} trains on.")
    if recipe.keep == "best" and recipe.strategy == "multi_worker":
        raise ValueError(
            "`keep='best'` is for one machine: of several workers only the chief has the best epoch's file."
        )


_OF_NAMED = ("drop_path", "efficient_drop_path")  # options of networks that are built by their name


def _of_method(recipe: Recipe) -> dict[str, Any]:
    """The values of the options that the method has."""
    defaults, values = methods.defaults(recipe.method), {}
    for name in sorted(method_options()):
        value = getattr(recipe, name)
        if name in defaults:
            values[name] = defaults[name] if value is Default.METHOD else value
            if name in _OF_NAMED and value is Default.METHOD and recipe.begins_trained:
                values[name] = Default.METHOD  # the trained network has its own
            if name == "input_repetition" and value is Default.METHOD and _begins_as_members(recipe):
                values[name] = trained.INPUT_REPETITION
        elif value is not Default.METHOD:
            raise ValueError(f"`{name}` (={value}) has no meaning for method {recipe.method!r}.")
    return values


def _of_optimizer(asked: Recipe, recipe: Recipe) -> dict[str, Any]:
    """The values of the options that follow from the optimizer.

    Args:
        asked: The recipe before the method's values were put in.
        recipe: The recipe with them.
    """
    values: dict[str, Any] = {}
    if recipe.optimizer is None:
        of_others = recipe.begins_trained and trained.is_of_others(recipe.backbone)
        values = _of_further_training(asked, recipe) if of_others else {"optimizer": "sgd"}
        recipe = dataclasses.replace(recipe, **values)
    if recipe.optimizer != "sgd" and recipe.learning_rate is None:
        raise ValueError(f"`optimizer` {recipe.optimizer!r} needs a `learning_rate`: the schedules' own are SGD's.")
    if recipe.optimizer != "sgd" and recipe.momentum != optimizers.MOMENTUM:
        raise ValueError(f"`momentum` (={recipe.momentum:g}) has no meaning for optimizer {recipe.optimizer!r}.")
    return values | ({"l2": 0.0} if recipe.weight_decay is not None and asked.l2 is Default.METHOD else {})


def _of_further_training(asked: Recipe, recipe: Recipe) -> dict[str, Any]:
    """How a network of others is trained further, in all that isn't said otherwise; arguments as of `_of_optimizer`."""
    defaults = trained.further(max(round(recipe.epochs * recipe.scale), 1))
    values = {name: value for name, value in defaults.items() if getattr(recipe, name) is None}
    return values | ({"l2": 0.0} if asked.l2 is Default.METHOD else {})


def _begins_as_members(recipe: Recipe) -> bool:
    """Whether several members begin as one classifier, heads and all."""
    defaults = methods.defaults(recipe.method)
    number = defaults.get("num_members") if recipe.num_members is Default.METHOD else recipe.num_members
    return recipe.begins_as_classifier and number != 1


def _of_msda(recipe: Recipe) -> dict[str, Any]:
    """The values of MSDA's options; none without MSDA."""
    values = {}
    for name, default in (("msda_probability", MSDA.probability), ("msda_alpha", MSDA.alpha)):
        value = getattr(recipe, name)
        if recipe.msda is None and value is not None:
            raise ValueError(f"`{name}` (={value}) has no meaning without `msda`.")
        values[name] = default if value is None and recipe.msda else value
    return values


def _of_crop(recipe: Recipe) -> dict[str, Any]:
    """The values of the options of random parts; none for other crops."""
    if recipe.crop != "pad" and recipe.padding != Recipe.padding:
        raise ValueError(f"`padding` (={recipe.padding}) has no meaning with crop={recipe.crop!r}.")
    for name in ("padding_mode", "alternating_flip"):
        value = getattr(recipe, name)
        if recipe.crop != "pad" and value != getattr(Recipe, name):
            raise ValueError(f"`{name}` (={value}) has no meaning with crop={recipe.crop!r}.")
    if recipe.views > 1 and not recipe.flip:
        raise ValueError(
            f"`views` (={recipe.views}) shows mirror images to a network that was trained without: set `flip`."
        )
    values = {}
    for name, crops, default in (
        ("smallest_area", ("resize", "whole"), AREA[0]),
        ("interpolation", ("whole",), INTERPOLATIONS[0]),
    ):
        value = getattr(recipe, name)
        if recipe.crop not in crops and value is not None:
            raise ValueError(f"`{name}` (={value}) has no meaning with crop={recipe.crop!r}.")
        values[name] = default if value is None and recipe.crop in crops else value
    return values
