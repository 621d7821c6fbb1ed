"""Runs that begin as a classifier, and the comparison of what further training is best spent on."""

import dataclasses
import hashlib
import json
from pathlib import Path

import images
import keras
import numpy as np
import pytest
import search
import tiny
from keras import layers

import mixmo_keras
from mixmo_keras import FineTuning, datasets, pilot
from mixmo_keras.common import files
from mixmo_keras.experiments import Recipe, evaluating, results, running
from mixmo_keras.experiments.building import build
from mixmo_keras.experiments.option_defaults import Default

OF_DIGITS = dict(dataset="digits", method="cut_mixmo", batch_size=64, batch_repetitions=2)


def classifier(path, num_classes: int = 10, shape=(8, 8, 1), deeper: bool = False) -> str:
    """The file of a small classifier, whose core has weights if it is deeper."""
    keras.utils.set_random_seed(0)
    images = keras.Input(shape)
    x = layers.Conv2D(6, 3, activation="relu")(layers.Rescaling(1 / 16)(images))
    x = layers.GlobalMaxPooling2D()(layers.Conv2D(6, 3)(x) if deeper else x)
    keras.Model(images, layers.Dense(num_classes, activation="softmax")(x)).save(path / "mine.keras")
    return str(path / "mine.keras")


def test_a_recipes_model_begins_as_the_classifier(tmp_path, capsys):
    recipe = Recipe(**OF_DIGITS, backbone=classifier(tmp_path), encoder_noise=0.3, seed=2).resolved()
    assert recipe.name == "digits-cut_mixmo-from_mine-seed2"
    model = build(recipe, datasets.info("digits"))
    assert "6 → 10, copied for 2 members" in capsys.readouterr().out
    images = np.random.default_rng(0).uniform(0, 255, (3, 8, 8, 1)).astype("float32")
    expected = keras.models.load_model(recipe.backbone)(images)
    np.testing.assert_allclose(np.exp(tiny.log_softmax(model(images))), expected, atol=1e-5)
    kernels = [encoder.get_weights()[0] for encoder in model.encoders.encoders]
    assert np.std(kernels[0] - kernels[1]) == pytest.approx(2**0.5 * 0.3 * np.std(kernels[0] + kernels[1]) / 2, rel=0.5)
    assert (recipe.optimizer, recipe.learning_rate, recipe.l2) == ("adamw", 0.001, 0)  # as was measured
    assert recipe.input_repetition == model.batching.input_repetition == 0.5


def test_a_recipe_goes_on_from_a_network_of_this_library_as_from_classifier_does(tmp_path):
    mixmo_keras.SingleNetwork("tiny_4", num_classes=10, input_shape=(8, 8, 1)).save(tmp_path / "single.keras")
    further = Recipe(**OF_DIGITS, backbone=str(tmp_path / "single.keras"))
    assert further.resolved().learning_rate == pytest.approx(0.05 * 32 / 64)
    for changes, expected in (
        ({}, 0.5),
        (dict(input_repetition=0.2), 0.2),
        (dict(method="single"), Default.METHOD),
        (dict(backbone="wrn10_1"), 0.0),
    ):
        assert dataclasses.replace(further, **changes).resolved().input_repetition == expected


def test_what_a_recipe_refuses_of_a_classifier(tmp_path):
    for changes, message in (
        (dict(backbone="missing.keras"), "`backbone`: there is no file missing.keras"),
        (dict(encoder_noise=0.1), r"`encoder_noise` \(=0.1\) is for a trained backbone.*not for 'wrn28_10'"),
        (dict(encoder_noise=-1.0), "`encoder_noise` must be a number of at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            Recipe(**OF_DIGITS, **changes).resolved()


def test_a_classifier_of_other_classes_size_and_channels_is_adapted_and_that_is_said(tmp_path, capsys):
    mine = classifier(tmp_path, num_classes=7, shape=(9, 9, 3))
    model = build(Recipe(**OF_DIGITS, backbone=mine).resolved(), datasets.info("digits"))
    assert (model.num_classes, model.image_shape) == (10, (8, 8, 1))
    said = capsys.readouterr().out
    assert f"{mine} knows 7 classes; the images have 10: its heads begin anew" in said
    assert "images         built for 9×9 pixels, now for 8×8; grey, repeated for RGB" in said


def test_names_of_runs_that_begin_trained(tmp_path):
    mine = classifier(tmp_path)
    for changes, name in (
        (dict(backbone=mine), "from_mine"),
        (dict(backbone="keras:MobileNetV3Small"), "keras_MobileNetV3Small"),
        (dict(backbone="keras:MobileNetV3Small", pretrained=False), "keras_MobileNetV3Small_anew"),
        (dict(backbone="hub:hf://somebody/resnet"), "hub_resnet"),
    ):
        recipe = Recipe(**OF_DIGITS, **changes)
        assert recipe.name == f"digits-cut_mixmo-{name}-seed0"
        rate = 0.005 if changes.get("pretrained", True) else 0.05  # of SGD
        assert recipe.settings()["pretrained"] == changes.get("pretrained", True if ":" in recipe.backbone else None)
        by_sgd = dataclasses.replace(recipe, optimizer="sgd").resolved()
        assert by_sgd.learning_rate == pytest.approx(rate * 32 / 64)


def test_rates_by_group_reach_the_model(tmp_path):
    trained = Recipe(**OF_DIGITS, backbone=classifier(tmp_path, deeper=True), epochs=5)
    for changes, expected in (
        (dict(optimizer="sgd"), None),
        (dict(optimizer="sgd", core_rate=0.2), FineTuning(0.2, 0)),
        (dict(optimizer="sgd", freeze_epochs=2), FineTuning(1.0, 2)),
        (dict(optimizer="sgd", freeze_batch_norm=True), FineTuning(1.0, 0, True)),
        ({}, FineTuning(0.3, 1, True)),
        (dict(epochs=8), FineTuning(0.3, 2, True)),
        (dict(epochs=3), FineTuning(0.3, 0, True)),
        (dict(optimizer="sgd", layer_decay=0.9), FineTuning(1.0, layer_decay=0.9)),
        (dict(core_rate=0.2, freeze_epochs=2, freeze_batch_norm=False), FineTuning(0.2, 2)),
    ):
        recipe = dataclasses.replace(trained, **changes).resolved()
        names = ("core_rate", "freeze_epochs", "freeze_batch_norm", "layer_decay")
        assert FineTuning.of(*(getattr(recipe, name) for name in names)) == expected
    assert build(recipe, datasets.info("digits")).fine_tuning == expected
    for changes, message in (
        (dict(freeze_epochs=5), r"`freeze_epochs` \(=5\) of 5 epochs leaves none in which the core is trained"),
        (dict(freeze_epochs=2, scale=0.4), r"`freeze_epochs` \(=2\) of 2 epochs"),
        (dict(freeze_epochs=0), "`freeze_epochs` must be an integer of at least 1"),
        (dict(core_rate=0), "`core_rate` must be a positive number"),
        (dict(layer_decay=1.1), r"`layer_decay` must be a number .*1"),
        (dict(backbone="wrn10_1", layer_decay=0.9), r"`layer_decay` \(=0.9\) is for a trained backbone"),
        (dict(backbone="wrn10_1", core_rate=0.1), r"`core_rate` \(=0.1\) is for a trained backbone.*not for 'wrn10_1'"),
        (dict(backbone="wrn10_1", freeze_epochs=1), r"`freeze_epochs` \(=1\) is for a trained backbone"),
        (dict(backbone="wrn10_1", freeze_batch_norm=True), r"`freeze_batch_norm` \(=1\) is for a trained backbone"),
        (dict(backbone="keras:MobileNet", pretrained=False, core_rate=0.1), r"`core_rate` \(=0.1\) is for a trained"),
        (dict(pretrained=False), "`pretrained` is for a backbone with trained weights, .* not for .*mine.keras"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(trained, **changes).resolved()
    weights = tmp_path / "before.keras"
    weights.touch()
    Recipe(**OF_DIGITS, backbone="wrn10_1", core_rate=0.1, warm_start=str(weights)).resolved()  # it will be trained


def test_options_of_a_core_without_weights_are_refused(tmp_path):
    recipe = Recipe(**OF_DIGITS, backbone=classifier(tmp_path), output_dir=str(tmp_path))
    assert build(recipe.resolved(), datasets.info("digits"), recipe).fine_tuning is None  # the defaults are left out
    for changes, value in (
        (dict(core_rate=0.3), "0.3"),
        (dict(freeze_epochs=2), "2"),
        (dict(freeze_batch_norm=True), "1"),
    ):
        (name,) = changes
        with pytest.raises(ValueError, match=rf"`{name}` \(={value}\) is about the core of .*mine.keras, no weight"):
            running.run(dataclasses.replace(recipe, **changes), saved_model=False)


def test_what_can_not_be_exported_is_found_before_the_first_epoch(tmp_path, monkeypatch):
    def refuse(model):
        raise ValueError("mine can't be exported")

    (tmp_path / "mine.keras").touch()
    folders = dict(output_dir=str(tmp_path / "runs"), export_dir=str(tmp_path / "saved_models"))
    recipe = Recipe(**OF_DIGITS, **folders, backbone=str(tmp_path / "mine.keras"))
    monkeypatch.setattr(running, "build", lambda *_: None)
    monkeypatch.setattr(running, "_train", lambda *_, **__: pytest.fail("it trains"))
    monkeypatch.setattr(running.export_of_models, "check", refuse)
    for options in ({}, {"saved_model": False, "exported_later": True}):
        with pytest.raises(ValueError, match="mine can't be exported"):
            running.run(recipe, **options)


def test_a_run_goes_on_only_as_the_file_that_it_began_as(tmp_path):
    mine = classifier(tmp_path)
    recipe = Recipe(**OF_DIGITS, backbone=mine, output_dir=str(tmp_path)).resolved()
    files.write_json(recipe.folder / "config.json", {**recipe.settings(), **results.origin(recipe)})
    config = json.loads((recipe.folder / "config.json").read_text())
    assert config["backbone_sha256"] == hashlib.sha256(Path(mine).read_bytes()).hexdigest()
    assert results.check_folder(recipe) == []
    with open(mine, "ab") as file:
        file.write(b"other")
    with pytest.raises(ValueError, match=r"began as another file than .*mine.keras is now \(SHA-256 \w{12}…"):
        results.check_folder(recipe)
    results.check_folder(dataclasses.replace(recipe, fresh=True))
    del config["backbone_sha256"]  # of a run before digests were kept
    files.write_json(recipe.folder / "config.json", config)
    assert results.check_folder(recipe) == []


@pytest.mark.slow
def test_a_report_says_whether_the_classifier_was_improved(tmp_path):
    """By the file that the run began as, while that is the same."""
    mine = classifier(tmp_path)
    recipe = Recipe(**OF_DIGITS, backbone=mine, output_dir=str(tmp_path)).resolved()
    files.write_json(recipe.folder / "config.json", {**recipe.settings(), **results.origin(recipe)})
    build(recipe, datasets.info("digits")).save(recipe.folder / "last.keras")  # as it begins: it answers alike
    evaluating.evaluate_runs([recipe.folder])
    page = (recipe.folder / "evaluation/report.html").read_text()
    assert "It can&#x27;t be told from the classifier that it began as (" in page
    assert "before: mine.keras" in page
    classifier(tmp_path, deeper=True)
    evaluating.evaluate_runs([recipe.folder])
    assert "the classifier that it began as" not in (recipe.folder / "evaluation/report.html").read_text()


@pytest.mark.slow
def test_a_killed_run_goes_on_frozen_or_free_bit_for_bit(tmp_path):
    options = dict(freeze_epochs=1, core_rate=0.5, sam=0.05, accumulation=2, ema=0.9, epochs=2, checkpoint_steps=3)
    recipe = Recipe(**OF_DIGITS, **options, backbone=classifier(tmp_path, deeper=True), train_images=320)

    def go(name, *callbacks):
        return running.run(dataclasses.replace(recipe, output_dir=str(tmp_path / name)), callbacks, saved_model=False)

    whole = go("whole")
    for steps in (5, 14):  # of 10 an epoch: in the frozen one, and in the one behind it
        with pytest.raises(KeyboardInterrupt):
            go(f"killed{steps}", tiny.Die(steps))
        assert go(f"killed{steps}")["test"] == whole["test"]
        files_of = [tmp_path / name / recipe.name / "last.keras" for name in ("whole", f"killed{steps}")]
        assert tiny.equal_weights(*map(keras.models.load_model, files_of))


@pytest.mark.slow
def test_a_run_on_the_architecture_of_a_library(tmp_path, monkeypatch):
    """And what its report says of it."""
    photos = tmp_path / "photos"
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (photos / name).mkdir(parents=True)
        for number in range(40):
            keras.utils.save_img(photos / name / f"{number}.png", random.integers(0, 256, (32, 32, 3)), scale=False)
    monkeypatch.chdir(tmp_path)
    command = [f"{photos}@32", "--backbone", "keras:MobileNet", "--no-pretrained", "--epochs", "1", "--batch-size", "8"]
    figures = images.main(command)
    assert figures["name"] == "photos_32-cut_mixmo-keras_MobileNet_anew-seed0"
    assert Path(figures["saved_model"], "saved_model.pb").exists()
    page = Path("runs", figures["name"], "evaluation/report.html").read_text()
    assert "keras:MobileNet" in page


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_a_pilot_from_a_classifier(tmp_path, capsys):
    mine = classifier(tmp_path)
    command = ["--dataset", "digits", "--pilot", "--backbone", mine, "--seeds", "0", "--rows", "32", "--epochs", "1"]
    command += ["--images", "16", "--output-dir", str(tmp_path)]
    found = search.main(command)
    printed = capsys.readouterr().out
    assert [(one["variant"], one["width"]) for one in found["runs"]] == [(name, 1) for name in pilot.VARIANTS]
    assert "shared out" not in printed  # what was found in the file is not said for every run
    assert f"--backbone {mine}" in printed.partition("next")[2]
    assert "--widths" not in printed
    kept = sorted(path.name for path in (tmp_path / "digits-pilot").glob("*mine*.json"))
    assert len(kept) == 3
    label = pilot.runs._label(mine)
    assert all(label in name for name in kept)
    classifier(tmp_path, deeper=True)  # another file of the same name: its runs are others
    assert pilot.runs._label(mine) != label
    with pytest.raises(SystemExit, match="2"):
        search.main([*command, "--widths", "1", "2"])
    assert "--widths has no meaning with --backbone" in capsys.readouterr().err


@pytest.mark.slow
def test_a_search_from_a_classifier(tmp_path, capsys):
    mine = classifier(tmp_path)
    command = ["--dataset", "digits", "--backbone", mine, "--rows", "32", "--epochs", "1", "--max-trials", "2"]
    command += ["--images", "32", "--output-dir", str(tmp_path)]
    rows = search.main(command)
    assert {row["width"] for row in rows} == {1}
    assert f"--backbone {mine}" in capsys.readouterr().out
    classifier(tmp_path, deeper=True)
    with pytest.raises(SystemExit, match=r"holds a search with other settings .*backbone_sha256"):
        search.main(command)


def test_a_file_of_another_task_is_refused(tmp_path):
    images = keras.Input((8, 8, 1))
    model = keras.Model(images, layers.Dense(10)(layers.GlobalMaxPooling2D()(layers.Conv2D(6, 3)(images))))
    model.compile("sgd", "mse")
    model.save(tmp_path / "regression.keras")
    recipe = Recipe(**OF_DIGITS, backbone=str(tmp_path / "regression.keras")).resolved()
    with pytest.raises(ValueError, match="was compiled with mean_squared_error, a loss of another task"):
        build(recipe, datasets.info("digits"))
