"""recipes/images.py: what is checked before the first epoch, what comes before what after the last, and two stages."""

import json
import sys

import images
import keras
import numpy as np
import pytest
import tiny
from PIL import Image

from mixmo_keras import CutMixMo, datasets, from_classifier, metrics
from mixmo_keras.common import files
from mixmo_keras.experiments import Recipe, stages
from mixmo_keras.experiments.option_defaults import Default

SMALL = ["--backbone", "wrn10_1", "--epochs", "4", "--batch-size", "8", "--num-members", "2"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes of 24 grey images, dark and bright."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    random = np.random.default_rng(0)
    for name, mean in (("dark", 60), ("bright", 190)):
        (folder / name).mkdir(parents=True)
        for number in range(24):
            pixels = np.clip(random.normal(mean, 30, (12, 12)), 0, 255).astype("uint8")
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def test_both_trainings_are_checked_before_the_first(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "run", None)  # nothing is trained
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").touch()
    with pytest.raises(SystemExit, match="error: The run can't write runs/photos"):
        images.main([f"{photos}@8", *SMALL, "--compare-single"])
    (tmp_path / "runs").unlink()
    (tmp_path / "saved_models").touch()
    with pytest.raises(SystemExit, match="error: Nothing can be exported to saved_models"):
        images.main([f"{photos}@8", *SMALL, "--compare-single"])


def test_the_comparison_comes_before_the_export(photos, tmp_path, monkeypatch):
    done = []

    def evaluate_runs(paths, before_export=None, export=None, **_):
        done.append(f"evaluates {'single' if 'single' in paths[0].name else 'members'}")
        if before_export is not None:
            before_export()
        if export is not None:
            done.append("exports")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(images, "run", lambda *_, **__: done.append("trains") or {})
    monkeypatch.setattr(images, "evaluate_runs", evaluate_runs)
    monkeypatch.setattr(images, "compare_with_single", lambda recipe: done.append("compares"))
    images.main([f"{photos}@8", *SMALL, "--compare-single"])
    assert done == ["trains", "evaluates single", "trains", "evaluates members", "compares", "exports"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--compare-single", "--then-members"], "both train the single network: choose one"),
        (["--then-members", "--method", "single"], "--then-members has no meaning with --method single"),
        (["--then-members", "--train-split", "train+validation"], "which --train-split train.validation trains on"),
        (["--threshold"], r"on 50 validation images or more, of both classes: there are 2 classes and \d such images"),
    ],
)
def test_flags_that_cannot_be_kept_are_refused_before_the_first_epoch(photos, words, message, monkeypatch):
    monkeypatch.setattr(images, "run", None)  # nothing is trained
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        images.main([f"{photos}@8", *SMALL, *words])


def test_members_go_on_gently_from_a_network_of_others(tmp_path):
    common = dict(
        dataset="digits", method="mimo", batch_size=64, batch_repetitions=2, epochs=8, output_dir=str(tmp_path)
    )
    members = stages.members_after(Recipe(**common, backbone="efficientnet_lite0", keep="best"))
    assert members.backbone == str(tmp_path / "digits-single-efficientnet_lite0-seed0" / "best.keras")
    assert members.folder.parent == tmp_path / "digits-single-efficientnet_lite0-seed0"
    assert (members.optimizer, members.learning_rate) == ("adamw", pytest.approx(0.001 * 0.3 / 2))
    assert (members.core_rate, members.freeze_epochs, members.freeze_batch_norm, members.l2) == (None, None, True, 0.0)
    own = stages.members_after(Recipe(**common, backbone="wrn10_1", core_rate=None))
    assert own.backbone == str(tmp_path / "digits-single-wrn10_1-seed0" / "last.keras")
    assert (own.optimizer, own.learning_rate, own.freeze_batch_norm, own.l2) == (None, None, None, Default.METHOD)


def test_what_has_the_lower_nll_on_validation_images_is_kept(tmp_path, monkeypatch):
    losses = {"single.keras": np.array([0.5, 0.7, 0.6]), "members.keras": np.array([0.4, 0.5, 0.6])}
    with monkeypatch.context() as patch:
        patch.setattr(stages.keras.models, "load_model", lambda path: path)
        patch.setattr(stages, "_losses", lambda path, validation: losses[path])
        kept = stages.choose("single.keras", "members.keras", None)
        other = stages.choose("members.keras", "single.keras", None)
    assert (kept.members, other.members) == (True, False)
    error = np.std([0.1, 0.2, 0.0], ddof=1) / 3**0.5
    expected = {"single_nll": 0.6, "members_nll": 0.5, "images": 3, "difference": 0.1, "error": error}
    assert kept.figures == pytest.approx(expected)
    assert kept.sentence(8).startswith(
        "kept: the members, NLL 0.5000 on 3 validation images against 0.6000 of the single network that members began as, "
        "0.1000 ± 0.0577 lower, which may be chance"
    )
    assert kept.sentence(8).endswith(
        "They were trained for 8 epochs more: a single network that goes on for as long may gain as much, which isn't known "
        "here."
    )
    assert "kept: the single network" in other.sentence(1)
    assert other.sentence(1).endswith("The members lost although they were trained for 1 epoch more.")
    model = CutMixMo("tiny_4", num_classes=10, input_shape=(8, 8, 1), augmentation=None, seed=0)
    validation = datasets.batches(datasets.load("digits", "validation").take(60), 60)
    found = stages._losses(model, validation)  # under the temperature that it was given there
    member_logits, labels = model.predict_with_labels(validation)
    assert found.mean() == pytest.approx(metrics.negative_log_likelihood(model.pooled(member_logits), labels), rel=1e-5)


@pytest.fixture
def with_validation(tmp_path):
    """The digits 0 and 1 in two class folders of each split, 50 images to validate on."""
    folder, counts = tmp_path / "photos", {}
    for image, label in datasets.load("digits", "train").as_numpy_iterator():
        number = counts[int(label)] = counts.get(int(label), -1) + 1
        if label < 2 and number < 50:
            split = "val" if number < 25 else "train" if number < 41 else "test"
            path = folder / split / ("zero", "one")[label] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(path)
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_members_after_the_single_network_in_one_command_that_goes_on_after_a_kill(
    with_validation, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    command = [f"{with_validation}@8", "--backbone", "tiny_4", "--epochs", "2", "--batch-size", "16", "--threshold"]
    command += ["--then-members"]
    run, begun, single_folder = images.run, [], tmp_path / "runs" / "photos_8-single-tiny_4-seed0"

    def run_until(recipe, **options):
        begun.append(recipe.method)
        return run(recipe, [tiny.Die(6)] if dies and recipe.method == "mimo" else [], **options)

    monkeypatch.setattr(images, "run", run_until)
    dies = True
    with pytest.raises(KeyboardInterrupt):
        images.main(command)
    dies = False
    figures = images.main(command)
    assert begun == ["single", "mimo", "mimo"]  # the single network isn't trained again
    said = capsys.readouterr().out
    assert "goes on after epoch" in said
    assert keras.models.load_model(single_folder / "photos_8-mimo-from_last-seed0" / "last.keras").num_members == 2
    kept = figures["then_members"]
    assert f"kept: the {'members' if kept['kept'] == 'mimo' else 'single network'}" in said
    assert (kept["kept"] == "mimo") == (kept["members_nll"] < kept["single_nll"])
    members_folder = single_folder / "photos_8-mimo-from_last-seed0"
    folder = single_folder if kept["kept"] == "single" else members_folder
    assert json.loads((folder / "metrics.json").read_text()) == figures
    exported = tmp_path / "saved_models" / "photos_8-mimo-tiny_4-seed0" / "1"
    assert (exported / "saved_model.pb").is_file()
    evaluated = json.loads((folder / "evaluation" / "metrics.json").read_text())
    assert evaluated["threshold"]["applied"] is True
    value = evaluated["threshold"]["value"]
    assert f"the second class from a probability of {value:.4g} on" in (exported / "model_card.md").read_text()
    assert "what is saved or exported answers by it" in said
    before = (single_folder / "last.keras").read_bytes()
    images.main([*command[:-1], "--method", "single"])
    assert (single_folder / "last.keras").read_bytes() == before  # by which members know what they began as
    begun.clear()
    images.main(command)
    assert not begun  # nothing is trained again
    longer = ["3" if word == "2" else word for word in command]
    images.main(longer)
    assert begun == ["single", "mimo"]
    assert "the members begin anew: the single network was trained further since" in capsys.readouterr().out
    images.main(longer)
    assert len(begun) == 2


@pytest.mark.slow
def test_a_network_of_a_thousand_rgb_classes_on_grey_photographs(photos, tmp_path, monkeypatch, capsys):
    """From the folder to the SavedModel in one command; the best epoch is kept, and its change trains nothing again."""
    inputs = keras.Input((20, 20, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    for number in range(2):
        x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name=f"my conv {number}")(x)
    outputs = keras.layers.Dense(1000, activation="softmax")(keras.layers.GlobalAveragePooling2D()(x))
    monkeypatch.chdir(tmp_path)
    keras.Model(inputs, outputs, name="mine").save("mine.keras")
    command = [f"{photos}@12", "--backbone", "mine.keras", "--epochs", "5", "--batch-size", "8", "--core-rate", "0.5"]
    images.main(command)
    said = capsys.readouterr().out
    assert said.index("mine.keras knows 1000 classes; the images have 2: its heads begin anew") < said.index(
        "Epoch 1/5"
    )
    assert "built for 20×20 pixels, now for 12×12; grey, repeated for RGB" in said
    (folder,) = (tmp_path / "runs").iterdir()
    assert (tmp_path / "saved_models" / folder.name / "1" / "saved_model.pb").is_file()
    running = sys.modules["mixmo_keras.experiments.running"]
    monkeypatch.setattr(running, "training_batches", lambda *_: pytest.fail("it trains again"))
    trained = files.read_json_object(folder / "metrics.json", "")
    monkeypatch.setattr(running, "fit", lambda *_: None)
    best = keras.models.load_model(folder / "best.keras")
    best.temperature = 7.0  # the last epoch has 1
    best.save(folder / "best.keras")
    figures = images.main([*command, "--keep", "best"])
    assert figures["keep"] == "best"
    assert figures["validation"] == trained["validation"]
    assert figures["test"]["ensemble"]["nll"] != trained["test"]["ensemble"]["nll"]
    assert best.image_shape == (12, 12, 1)
    assert from_classifier(best, verbose=False).num_classes == 2
