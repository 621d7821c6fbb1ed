"""The recipes' resolved settings against the papers' tables, and two steps of every method of every recipe."""

import dataclasses
import itertools
import os

import cifar10
import cifar100
import cosub
import digits
import imagenet
import mimo
import numpy as np
import pytest
import reproduce
import tensorflow as tf
import tensorflow_datasets as tfds
import tiny_imagenet

from mixmo_keras import datasets
from mixmo_keras.datasets import registry
from mixmo_keras.experiments import Recipe, build, building
from mixmo_keras.experiments.option_defaults import Default
from mixmo_keras.experiments.running import Splits, training_batches
from mixmo_keras.models.methods import METHODS, MIMO_SETTINGS
from mixmo_keras.training.schedules import PUBLISHED

# as published: Ramé et al. 2021 (CIFAR: section 4.1; Tiny ImageNet: appendix), Havasi et al. 2021 (appendix), per epoch
CIFAR = dict(backbone="wrn28_10", epochs=300, batch_size=64, l2=3e-4, padding=4, flip=True, crop="pad")
MIMO = dict(method="mimo", num_members=3, input_repetition=0.0, batch_repetitions=4, averaging="probabilities")
MIMO |= dict(backbone="wrn28_10_stride_first", batch_size=512, devices=8, epochs=250, l2=3e-4, l2_normalization=True)
MIMO |= dict(crop="pad", padding=2, flip=True, shared_augmentation=True)
IMAGENET = dict(backbone="resnet50", batch_size=4096, l2=1e-4, l2_normalization=False)
IMAGENET |= dict(crop="whole", smallest_area=0.1, interpolation="bicubic", flip=True)
PAPERS = {
    "MixMo, CIFAR-100": (
        cifar100.RECIPE,
        CIFAR
        | dict(method="cut_mixmo", num_members=2, batch_repetitions=4, alpha=2.0, weight_root=3.0, probability=0.5)
        | dict(averaging="logits", shared_augmentation=False),
        dict(rate=0.1 / (2 * 4), decay=(100, 200, 225), factor=0.1, warmup=1),
    ),
    "MixMo, CIFAR-10": (
        cifar10.RECIPE,
        CIFAR | dict(method="cut_mixmo", num_members=2, batch_repetitions=4),
        dict(rate=0.1 / (2 * 4), decay=(100, 200, 225), factor=0.1, warmup=1),
    ),
    "vanilla, CIFAR-100": (
        dataclasses.replace(cifar100.RECIPE, method="single"),
        CIFAR | dict(batch_repetitions=1),
        dict(rate=0.1 / 2, decay=(100, 200, 225), factor=0.1, warmup=1),
    ),
    "MixMo, Tiny ImageNet": (
        tiny_imagenet.RECIPE,
        dict(backbone="preact_resnet18_1", epochs=1200, batch_size=100, batch_repetitions=4, padding=4, flip=True)
        | dict(l2=1e-4 / 2),  # weight decay in the gradient is twice L2's factor
        dict(rate=0.2 / 4, decay=(599, 899), factor=0.1, warmup=1),
    ),
    "MIMO, CIFAR": (mimo.RECIPE, MIMO, dict(rate=0.1, decay=(100, 200, 225), factor=0.2, warmup=1)),
    "MIMO, CIFAR, the paper's text": (
        dataclasses.replace(mimo.RECIPE, schedule="mimo_paper_text"),
        MIMO,
        dict(rate=0.1, decay=(100, 200, 225), factor=0.1, warmup=1),
    ),
    "MIMO, CIFAR-100, in MixMo's table": (
        reproduce.TABLES["cifar100"]["MIMO"].recipe,
        CIFAR | dict(method="mimo", num_members=2, batch_repetitions=4, averaging="logits", shared_augmentation=False),
        dict(rate=0.1 / (2 * 4), decay=(100, 200, 225), factor=0.1, warmup=1),
    ),
    "MIMO, ImageNet": (
        imagenet.RECIPE,
        IMAGENET
        | dict(method="mimo", num_members=2, input_repetition=0.6, batch_repetitions=2, epochs=150)
        | dict(averaging="probabilities", shared_augmentation=True),
        dict(rate=0.8, decay=(50, 100, 133), factor=0.1, warmup=5),
    ),
    "single network, ImageNet": (
        reproduce.TABLES["imagenet"]["deterministic"].recipe,
        IMAGENET | dict(method="single", batch_repetitions=1, epochs=90),
        dict(rate=1.6, decay=(30, 60, 80), factor=0.1, warmup=5),
    ),
}


@pytest.mark.parametrize("name", list(PAPERS))
def test_resolved_settings_are_the_published_ones(name):
    given, expected, schedule = PAPERS[name]
    resolved = given.resolved()
    assert {key: getattr(resolved, key) for key in expected} == expected
    assert resolved.learning_rate == pytest.approx(schedule["rate"])
    rates = PUBLISHED[resolved.schedule].schedule(resolved.learning_rate)

    def rate(epoch):
        return float(rates.at(epoch / resolved.epochs))

    assert rate(schedule["warmup"] / 2) == pytest.approx(schedule["rate"] / 2, rel=1e-3)
    for number, epoch in enumerate(schedule["decay"]):
        assert rate(epoch - 0.01) == pytest.approx(schedule["rate"] * schedule["factor"] ** number, rel=1e-3)
        assert rate(epoch + 0.01) == pytest.approx(schedule["rate"] * schedule["factor"] ** (number + 1), rel=1e-3)


# Touvron et al. 2023, on ImageNet-1k: learning rate, drop-path and pixels by size; the second stage at 224 pixels
COSUB = {
    "vit_small": ("deit3_small16", "imagenet2012@224", 4e-3, 0.05),
    "vit_base": ("deit3_base16", "imagenet2012@192", 3e-3, 0.2),
    "vit_large": ("deit3_large16", "imagenet2012@192", 3e-3, 0.45),
    "vit_huge": ("deit3_huge14", "imagenet2012@160", 3e-3, 0.6),
}


LARGE = ("vit_large", "vit_huge")  # which are built


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LARGE)) for name in COSUB])
def test_settings_of_cosub_are_the_papers(name):
    resolved = cosub.SETTINGS[name].resolved()
    assert (resolved.backbone, resolved.dataset, resolved.learning_rate, resolved.drop_path) == COSUB[name]
    assert (resolved.optimizer, resolved.weight_decay, resolved.l2) == ("lamb", 0.05, 0.0)
    assert (resolved.epochs, resolved.batch_size, resolved.batch_repetitions) == (800, 2048, 1)
    assert (resolved.co_training, resolved.teaching, resolved.loss, resolved.ema) == (
        0.5,
        "sigmoid",
        "multi_hot",
        0.99996,
    )
    assert (resolved.msda, resolved.msda_probability) == ("mixup_or_cutmix", 1.0)
    rates = building.schedule_of(resolved)
    assert float(rates.at(2.5 / 800)) == pytest.approx(resolved.learning_rate / 2, rel=1e-3)
    assert float(rates.at((800 + 5) / 2 / 800)) == pytest.approx(resolved.learning_rate / 2, rel=1e-3)
    if name != "vit_small":
        second = cosub.SETTINGS[f"{name}_224"].resolved()
        assert (second.dataset, second.drop_path) == ("imagenet2012@224", resolved.drop_path)
        assert (second.epochs, second.optimizer, second.learning_rate, second.weight_decay) == (20, "adamw", 1e-5, 0.1)


def test_pixels_of_mimos_code():
    """From 0 to 1, in bfloat16."""
    small = dict(backbone="wrn10_1", dataset="digits", crop="pad", interpolation=None, smallest_area=None, batch_size=4)
    recipe = dataclasses.replace(imagenet.RECIPE, normalization="unit", dtype="mixed_bfloat16", **small)
    model = build(recipe.resolved(), datasets.info("digits"))
    pixels = np.array([0, 51, 255], "float32").reshape(1, 1, 3, 1)
    np.testing.assert_allclose(np.array(model.normalize(pixels), "float32").ravel(), [0, 0.2, 1], atol=5e-3)
    assert model.dtype_policy.name == "mixed_bfloat16"


@pytest.mark.usefixtures("eagerly")
def test_two_steps_by_cosubs_recipe():
    info, train = data_of("digits")
    changes = dict(dataset="digits", backbone="wrn10_1", padding=1)
    two_steps(dataclasses.replace(cosub.SETTINGS["cifar10_vit"], **changes), info, train)


@pytest.mark.parametrize(
    ("given", "changes", "rate"),
    [
        (cifar100.RECIPE, dict(batch_repetitions=1), 0.1 / 2),
        (cifar100.RECIPE, dict(batch_size=256), 4 * 0.1 / (2 * 4)),
        (tiny_imagenet.RECIPE, dict(batch_repetitions=1), 0.2),
        (tiny_imagenet.RECIPE, dict(batch_repetitions=2), 0.2 / 2),
        (tiny_imagenet.RECIPE, dict(schedule="cosine"), 0.05 * 25 / 64),
        (imagenet.RECIPE, dict(batch_size=1024), 0.8 / 4),
        (imagenet.RECIPE, dict(batch_size=1024, learning_rate=0.3), 0.3),
    ],
)
def test_the_learning_rate_follows_the_images_of_a_step(given, changes, rate):
    assert dataclasses.replace(given, **changes).resolved().learning_rate == pytest.approx(rate)


def test_mimos_own_schedule_is_the_recipes():
    for settings, schedule in (("cifar", "mimo"), ("imagenet", "mimo_imagenet")):
        own = MIMO_SETTINGS[settings]["schedule"]
        assert PUBLISHED[schedule].schedule(own.base).get_config() == own.get_config()


def test_mimos_groups_of_rows_are_64_on_each_of_8_devices():
    resolved = mimo.RECIPE.resolved()
    assert resolved.batch_size // resolved.devices == 64
    assert resolved.images_a_step // resolved.devices == 16
    on_one = dataclasses.replace(mimo.RECIPE, devices=1, batch_size=64).resolved()
    assert on_one.learning_rate == pytest.approx(0.1 / 8)


def test_the_papers_tables_are_of_runs_on_all_images():
    for name, rows in reproduce.TABLES.items():
        on_several = dict.fromkeys(("imagenet", "mimo_repetition", "cosub")) | dict.fromkeys(
            ("mimo_cifar10", "mimo_cifar100", "mimo_members"), 8
        )
        devices = on_several.get(name, 1)
        for row in rows.values():
            assert (row.recipe.train_split, row.recipe.devices) == ("train+validation", devices)
    recipes = [module.RECIPE for module in MODULES.values()]
    assert all(recipe.holds_out for recipe in recipes)  # unless it is asked for


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(crop="resize", interpolation=None, padding=2), r"`padding` \(=2\) has no meaning with crop='resize'"),
        (dict(padding=2), r"`padding` \(=2\) has no meaning with crop='whole'"),
        (dict(crop="pad", interpolation=None), r"`smallest_area` \(=0.1\) has no meaning with crop='pad'"),
        (dict(crop="resize"), r"`interpolation` \(=bicubic\) has no meaning with crop='resize'"),
        (dict(smallest_area=0), r"`smallest_area` must be a number within \(0, 1.*\], got 0"),
        (dict(interpolation="cubic"), "`interpolation` must be one of bilinear, bicubic, got 'cubic'"),
    ],
)
def test_options_of_one_crop_have_no_meaning_with_another(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(imagenet.RECIPE, **changes).resolved()


def test_bounds_of_random_parts_have_one_default():
    whole, enlarged, padded = (Recipe(crop=crop).resolved() for crop in ("whole", "resize", "pad"))
    assert (whole.smallest_area, whole.interpolation) == (0.08, "bilinear")
    assert (enlarged.smallest_area, enlarged.interpolation) == (0.08, None)
    assert (padded.smallest_area, padded.interpolation) == (None, None)
    small = dataclasses.replace(enlarged, smallest_area=0.3, backbone="wrn10_1", dataset="digits")
    assert build(small, datasets.info("digits")).augment.scale == (0.3, 1.0)


def test_a_scaled_run_is_the_run_in_short():
    whole, short = (dataclasses.replace(cifar100.RECIPE, scale=scale).resolved() for scale in (1.0, 0.05))
    assert (short.epochs, short.scale) == (15, 1.0)
    assert dataclasses.replace(whole, epochs=15) == short  # decay and warm-up are shares of the epochs
    assert short.resolved() == short
    with pytest.raises(ValueError, match=r"`scale` must be a number within \(0, 1\], got 1.5"):
        dataclasses.replace(cifar100.RECIPE, scale=1.5).resolved()


# -- two steps of every method -----------------------------------------------------------------------------------------

MODULES = dict(
    cifar10=cifar10,
    cifar100=cifar100,
    tiny_imagenet=tiny_imagenet,
    imagenet=imagenet,
    mimo=mimo,
    cosub=cosub,
    digits=digits,
)
SMALL = {"imagenet": "resnet50", "tiny_imagenet": "preact_resnet18_1"}


def two_steps(given: Recipe, info: datasets.Info, train) -> None:
    """Builds a recipe's model and trains it for two steps of two images on real or mock data."""
    given = given.resolved()
    given = dataclasses.replace(given, batch_size=2 * given.batch_repetitions)
    model = build(given, info)
    data = training_batches(given, Splits(info, None, train.take(4), None, None))
    losses = model.fit(data, steps_per_epoch=2, epochs=1, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert int(model.step_counter.numpy()) == 2


def data_of(dataset: str):
    """What is here of a dataset: the real one, or a mock."""
    folder = os.environ.get("MIXMO_DATA_DIR")
    real = dataset == "digits" or (folder and os.path.isdir(os.path.join(folder, dataset)))
    if real:
        return datasets.info(dataset, folder), datasets.load(dataset, "train", folder).take(4)
    if dataset == "tiny_imagenet":  # its builder is ours, and knows its classes from the archive alone
        info = datasets.Info(dataset, (64, 64, 3), tuple(map(str, range(200))), (0.5, 0.5))
        source = "cifar100"
    else:
        info, source = None, dataset
    with tfds.testing.mock_data(num_examples=500), pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_reachable", lambda url: True)
        patch.delenv("MIXMO_DATA_DIR", raising=False)
        train = datasets.load(source, "train", whole=dataset == "imagenet2012").take(4)
        if info is None:
            return datasets.info(source), train
        return info, train.map(lambda image, label: (tf.tile(image, (2, 2, 1)), label))


# a recipe adds data and settings: every method on one of them, one method on each
QUICK_CASES = {("digits", method) for method in METHODS} | {("tiny_imagenet", "cut_mixmo")}
EVERY_CASE = itertools.product(("digits", "cifar10", "cifar100", "tiny_imagenet"), METHODS)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    ("name", "method"),
    [case if case in QUICK_CASES else pytest.param(*case, marks=pytest.mark.slow) for case in EVERY_CASE],
)
def test_two_steps_of_every_method(name, method):
    given = MODULES[name].RECIPE
    info, train = data_of(given.dataset)
    backbone = "wrn10_1" if method == "cosub" else "tiny_4"  # cosub needs stochastic depth
    changes = dict(method=method, backbone=backbone, batch_repetitions=Default.METHOD, learning_rate=0.01)
    two_steps(dataclasses.replace(given, **changes), info, train)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(MODULES))
def test_two_steps_with_the_recipes_own_network(name):
    given = MODULES[name].RECIPE
    info, train = data_of(given.dataset)
    two_steps(given, info, train)
