"""recipes/images.py: what is checked before the first epoch, and what comes before what after the last."""

import sys

import images
import keras
import numpy as np
import pytest
from PIL import Image

from mixmo_keras import from_classifier
from mixmo_keras.common import files

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
    figures = images.main([*command, "--keep", "best"])
    assert figures["keep"] == "best"
    assert figures["validation"] == trained["validation"]
    best = keras.models.load_model(folder / "best.keras")
    assert best.image_shape == (12, 12, 1)
    assert from_classifier(best, verbose=False).num_classes == 2
