"""Recipes: the command line, the resolved settings, and a whole run on the digits and on (mock) CIFAR."""

import csv
import dataclasses
import json
import shlex
import subprocess
import sys
from pathlib import Path

import cifar10
import cifar100
import digits
import imagenet
import keras
import numpy as np
import pytest
import recipe
import tensorflow as tf
import tensorflow_datasets as tfds

from mixmo_keras import datasets
from mixmo_keras.datasets import registry

RECIPES = Path(recipe.__file__).parent
TINY = dict(backbone="wrn10_1", epochs=2)


@pytest.mark.parametrize("module", [digits, cifar10, cifar100])
def test_help_names_every_option(module, capsys):
    with pytest.raises(SystemExit, match="0"):
        recipe.parse(module.RECIPE, module.__doc__, ["--help"])
    text = capsys.readouterr().out
    for field in dataclasses.fields(recipe.Recipe):
        assert "--" + field.name.replace("_", "-") in text
    assert module.__doc__.splitlines()[0] in text


def test_the_papers_settings_are_the_defaults():
    resolved = cifar100.RECIPE.resolved()
    assert (resolved.backbone, resolved.epochs, resolved.batch_size) == ("wrn28_10", 300, 64)
    assert (resolved.num_members, resolved.batch_repetitions, resolved.l2) == (2, 4, 3e-4)
    assert (resolved.alpha, resolved.weight_root, resolved.probability) == (2.0, 3.0, 0.5)
    assert resolved.learning_rate == pytest.approx(0.0125)  # 0.1/(2b)
    single = dataclasses.replace(cifar100.RECIPE, method="single").resolved()
    assert (single.batch_repetitions, single.num_members) == (1, None)
    assert single.learning_rate == pytest.approx(0.05)


def test_the_command_line_changes_the_recipe():
    changed = recipe.parse(
        digits.RECIPE,
        "",
        shlex.split("--method linear_mixmo --num-members 3 --alpha 1.5 --no-flip --epochs 7 --data-dir d"),
    )
    assert changed == dataclasses.replace(
        digits.RECIPE, method="linear_mixmo", num_members=3, alpha=1.5, flip=False, epochs=7, data_dir="d"
    )


def test_another_method_drops_a_recipes_values_of_options_that_it_lacks():
    single = recipe.parse(imagenet.RECIPE, "", shlex.split("--method single"))
    assert (single.num_members, single.input_repetition, single.batch_repetitions) == (None, None, 2)
    assert single.resolved().epochs == 150
    given = recipe.parse(imagenet.RECIPE, "", shlex.split("--method single --num-members 2"))
    with pytest.raises(ValueError, match=r"`num_members` \(=2\) has no meaning for method 'single'"):
        given.resolved()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(method="mixno"), "Unknown method: 'mixno'. Known: cut_mixmo, linear_mixmo, mimo, single, cosub"),
        (dict(schedule="line"), "Unknown schedule: 'line'. Known: mixmo, mimo_imagenet, mimo, tiny_imagenet, cosine"),
        (dict(dataset="mnust"), "`dataset` must be one of digits, .*, got 'mnust'"),
        (
            dict(batch_size=64, batch_repetitions=3),
            r"`batch_size` \(=64\) must be divisible by `batch_repetitions` \(=3\)",
        ),
        (dict(method="single", num_members=2), r"`num_members` \(=2\) has no meaning for method 'single'"),
        (dict(method="linear_mixmo", probability=0.5), "`probability` .* has no meaning for method 'linear_mixmo'"),
        (dict(msda_alpha=0.5), r"`msda_alpha` \(=0.5\) has no meaning without `msda`"),
        (dict(method="mimo", mask="cow"), r"`mask` \(=cow\) has no meaning for method 'mimo'"),
        (dict(epochs=0), "`epochs` must be at least 1, got 0"),
        (dict(strategy="fast"), "Unknown strategy: 'fast'. Known: auto, none, mirrored, multi_worker"),
        (dict(warm_start="nowhere.npz"), "`warm_start`: there is no file nowhere.npz"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(digits.RECIPE, **changes).resolved()


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


@pytest.mark.parametrize("method", list(recipe.METHODS))
def test_a_whole_run(tmp_path, capsys, method):
    small = dataclasses.replace(
        digits.RECIPE, method=method, output_dir=str(tmp_path / "runs"), export_dir=str(tmp_path / "served"), **TINY
    )
    figures = recipe.run(small)
    folder = tmp_path / "runs" / small.name
    files = {"config.json", "metrics.json", "log.csv", "tensorboard", "last.keras", "best.keras", "checkpoints"}
    assert files == {path.name for path in folder.iterdir()}
    config = json.loads((folder / "config.json").read_text())
    assert config["method"] == method
    assert config["learning_rate"] == pytest.approx(0.05)
    assert config["versions"]["keras"] == keras.__version__
    assert json.loads((folder / "metrics.json").read_text()) == figures

    with open(folder / "log.csv") as file:
        log = list(csv.DictReader(file))
    assert [row["epoch"] for row in log] == ["0", "1"]
    assert float(log[1]["loss"]) < float(log[0]["loss"])

    # the figures, from the saved model with NumPy
    images, labels = (np.stack(part) for part in zip(*datasets.load("digits", "test").as_numpy_iterator(), strict=True))
    loaded = keras.models.load_model(folder / "last.keras")
    probabilities = softmax(loaded.predict(images, verbose=0))
    assert figures["test"]["ensemble"]["accuracy"] == pytest.approx(np.mean(probabilities.argmax(-1) == labels))
    nll = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    assert figures["test"]["ensemble"]["nll"] == pytest.approx(nll, abs=1e-5)
    members = softmax(loaded.predict_members(images, verbose=0)).argmax(-1)
    for member, score in enumerate(figures["test"]["members"]):
        assert score["accuracy"] == pytest.approx(np.mean(members[:, member] == labels))
    served = tf.saved_model.load(figures["saved_model"]).signatures["serving_default"]
    answer = served(images=tf.constant(images, "float32"))
    np.testing.assert_allclose(answer["probabilities"], probabilities, atol=1e-5)

    table = capsys.readouterr().out
    assert f"{figures['test']['ensemble']['accuracy']:.2%}" in table
    assert ("member 1" in table) == (method not in ("single", "cosub"))


def in_folder(folder, **changes):
    folders = dict(output_dir=str(folder / "runs"), export_dir=str(folder / "served"))
    return dataclasses.replace(digits.RECIPE, **folders, **TINY, **changes)


def killed(one: recipe.Recipe, step: int) -> None:
    """Runs the recipe, and dies after so many steps."""

    class Die(keras.callbacks.Callback):
        steps = 0

        def on_train_batch_end(self, batch, logs=None):
            self.steps += 1
            if self.steps == step:
                raise KeyboardInterrupt

    write = recipe.run_callbacks
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "run_callbacks", lambda *arguments: [*write(*arguments), Die()])
        with pytest.raises(KeyboardInterrupt):
            recipe.run(one)


def test_a_killed_run_goes_on_with_every_option(tmp_path, capsys):
    options = dict(ema=0.9, clip_norm=1.0, accumulation=2, checkpoint_steps=30, epochs=3)
    whole, broken = (in_folder(tmp_path / name) for name in ("whole", "broken"))
    whole, broken = (dataclasses.replace(one, **options) for one in (whole, broken))
    figures = recipe.run(whole)
    killed(broken, 100)
    assert "epoch-0001-step-000000" in str(list((tmp_path / "broken").glob("runs/*/checkpoints/*")))
    log = next((tmp_path / "broken").glob("runs/*/log.csv"))
    log.write_text(log.read_text() + "1,0.5,half a ro")  # as if it had died a little later
    capsys.readouterr()
    again = recipe.run(broken)
    assert "goes on after epoch 1, step 0" in capsys.readouterr().out
    assert again["test"] == figures["test"]
    assert again["validation"] == figures["validation"]
    assert again["training_seconds"] > 0
    for name in ("last.keras", "best.keras"):
        models = [keras.models.load_model(Path(one.output_dir) / one.name / name) for one in (whole, broken)]
        assert all(np.array_equal(a, b) for a, b in zip(*(model.get_weights() for model in models), strict=True))
    assert log.read_text() == (Path(whole.output_dir) / whole.name / "log.csv").read_text()

    # ended: nothing to train; without its log: refused; --fresh: from the start
    assert recipe.run(broken)["test"] == figures["test"]
    log.unlink()
    with pytest.raises(ValueError, match=r"log.csv has 0 epochs, but the newest checkpoint is after 3. Pass --fresh"):
        recipe.run(broken)
    capsys.readouterr()
    fresh = recipe.run(dataclasses.replace(broken, fresh=True))
    assert "goes on" not in capsys.readouterr().out
    assert fresh["validation"] == figures["validation"]


def test_options_reach_the_optimizer_and_the_model():
    one = dataclasses.replace(digits.RECIPE, ema=0.9, clip_norm=1.5, accumulation=2, jit_compile=True, **TINY)
    one = dataclasses.replace(one, synchronized_batch_norm=True)
    model = recipe.build(one.resolved(), datasets.info("digits"))
    optimizer = model.optimizer
    assert (optimizer.use_ema, optimizer.ema_momentum) == (True, 0.9)
    assert (optimizer.global_clipnorm, optimizer.gradient_accumulation_steps) == (1.5, 2)
    assert model.jit_compile
    assert model.synchronized_batch_norm
    plain = recipe.build(dataclasses.replace(digits.RECIPE, **TINY).resolved(), datasets.info("digits"))
    assert not plain.optimizer.use_ema
    assert not plain.jit_compile  # no GPU here


def test_a_run_that_diverges_names_its_last_good_checkpoint(tmp_path):
    diverging = dataclasses.replace(in_folder(tmp_path), learning_rate=1e9, checkpoint_steps=1)
    with pytest.raises(FloatingPointError, match=r"at step \d+ .*Last good checkpoint: .*npz; --warm-start takes it"):
        recipe.run(diverging)


def test_a_warm_start_begins_with_the_weights_of_another_run(tmp_path):
    first = recipe.run(in_folder(tmp_path / "first"))
    (checkpoint,) = (tmp_path / "first").glob("runs/*/checkpoints/epoch-0002-*.npz")
    warm = dataclasses.replace(in_folder(tmp_path / "warm", warm_start=str(checkpoint)), learning_rate=1e-9)
    assert recipe.run(warm)["test"]["ensemble"]["accuracy"] == pytest.approx(
        first["test"]["ensemble"]["accuracy"], abs=0.03
    )
    log = recipe.read_log(next((tmp_path / "warm").glob("runs/*/log.csv")))
    assert [row["epoch"] for row in log] == [0, 1]  # from the start, not after the other's epochs


def test_a_run_with_other_settings_is_not_replaced_in_silence(tmp_path):
    small = dataclasses.replace(digits.RECIPE, output_dir=str(tmp_path), epochs=7)
    folder = tmp_path / small.name
    folder.mkdir()
    recipe.write_json(folder / "config.json", recipe.settings(dataclasses.replace(small, epochs=3).resolved()))
    with pytest.raises(ValueError, match=r"holds a run with other settings \(epochs 3 → 7\)"):
        recipe.run(small)
    recipe.check_folder(folder, dataclasses.replace(small, fresh=True).resolved())
    recipe.check_folder(folder, dataclasses.replace(small, epochs=3).resolved())
    # a run from before an option was there had its default
    known = json.loads((folder / "config.json").read_text())
    del known["drop_path"], known["teaching"]
    recipe.write_json(folder / "config.json", known)
    recipe.check_folder(folder, dataclasses.replace(small, epochs=3).resolved())
    with pytest.raises(ValueError, match=r"drop_path 0.0 → 0.1"):
        recipe.check_folder(folder, dataclasses.replace(small, epochs=3, drop_path=0.1).resolved())


def test_names_tell_methods_apart():
    changes = (
        {},
        dict(mask="cow"),
        dict(msda="mixup"),
        dict(unmixing=True),
        dict(co_training=0.5, drop_path=0.1),
        dict(drop_path=0.1),
        dict(seed=1),
        dict(method="mimo"),
        dict(pixel_augmentation="augmix"),
    )
    changed = [dataclasses.replace(digits.RECIPE, **change) for change in changes]
    assert len({recipe.name for recipe in changed}) == len(changes)
    assert [recipe.resolved().name for recipe in changed] == [recipe.name for recipe in changed]


@pytest.mark.parametrize("augmentation", list(recipe.PIXEL_AUGMENTATIONS))
def test_pixel_augmentation_gives_each_copy_its_own_draw(augmentation):
    transform = recipe.PIXEL_AUGMENTATIONS[augmentation]()
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype("uint8")
    augmented = transform(tf.constant(np.repeat(image, 16, axis=0))).numpy()
    assert len({copy.tobytes() for copy in augmented}) > 8  # not one draw for the batch
    assert augmented.min() >= 0
    assert augmented.max() <= 255


def test_a_run_with_pixel_augmentation(tmp_path):
    arguments = "--pixel-augmentation randaugment --msda cutmix --backbone wrn10_1 --epochs 1 --no-flip"
    with tfds.testing.mock_data(num_examples=32), pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_reachable", lambda url: True)
        patch.chdir(tmp_path)
        figures = recipe.main(cifar10.RECIPE, "", arguments.split())
    assert figures["name"] == "cifar10-cut_mixmo-randaugment-msda_cutmix-wrn10_1-seed0"


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    weights = []
    for seed, folder in ((3, "a"), (3, "b"), (4, "c")):
        small = dataclasses.replace(
            digits.RECIPE, seed=seed, output_dir=str(tmp_path / folder), export_dir=str(tmp_path / folder), **TINY
        )
        recipe.run(small)
        weights.append(keras.models.load_model(tmp_path / folder / small.name / "last.keras").get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(weights[0], weights[1], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(weights[0], weights[2], strict=True))


def test_cifar100_through_mock_data(tmp_path):
    with tfds.testing.mock_data(num_examples=48), pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_reachable", lambda url: True)
        arguments = ["--backbone", "wrn10_1", "--epochs", "1", "--output-dir", "runs", "--export-dir", "served"]
        patch.chdir(tmp_path)
        figures = recipe.main(cifar100.RECIPE, cifar100.__doc__, arguments)
        assert len(figures["test"]["members"]) == 2
        served = tf.saved_model.load(figures["saved_model"]).signatures["serving_default"]
        assert served(images=tf.zeros((2, 32, 32, 3)))["probabilities"].shape == (2, 100)


def test_cifar100_without_data_ends_in_one_line(tmp_path):
    command = [sys.executable, str(RECIPES / "cifar100.py"), "--data-dir", str(tmp_path)]
    ended = subprocess.run(
        command, capture_output=True, text=True, env={"PATH": "", "TF_CPP_MIN_LOG_LEVEL": "3", "HOME": str(tmp_path)}
    )
    if ended.returncode == 0:
        pytest.skip("CIFAR-100 could be downloaded here")
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("error: Dataset 'cifar100' is not prepared in")
    assert "--data-dir" in last
    assert "Traceback" not in ended.stderr
