"""The recipe of a segmentation: a run on a folder of masks, from a name and from a classifier."""

import json
import re
from pathlib import Path

import families
import keras
import numpy as np
import pytest
import segmentation
import tiny
from PIL import Image

import mixmo_keras
from mixmo_keras import datasets
from mixmo_keras.networks.stochastic_depth import StochasticDepth
from mixmo_keras.training.positions import resized

CLASSES = "digit_scenes_multi_label@16"  # of the core that segmentations begin with
assert "shallow_vit<patch>" in families.names.FAMILIES


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4), ("test", 4)):
        for number in range(count):
            mask = random.choice([0, 1, 255], (8, 8)).astype("uint8")
            image = np.repeat(mask[..., None] % 2 * 200, 3, -1).astype("uint8")
            for place, pixels in (("images", image), ("masks", mask)):
                path = tmp_path / "photos" / place / split / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return tmp_path


def run(folder, *options):
    places = ["--output-dir", str(folder / "runs"), "--export-dir", str(folder / "served")]
    settings = ["--epochs", "2", "--batch-size", "4", "--decoder-width", "4"]
    return segmentation.main([f"{folder / 'photos'}@8", *settings, *places, *options])


@pytest.mark.slow  # test_every_task.py trains, evaluates and serves a segmentation
def test_a_run_on_a_folder_of_masks(folder):
    figures = run(folder, "--backbone", "tiny_4", "--msda", "cutmix")
    (kept,) = (folder / "runs").iterdir()
    assert json.loads((kept / "metrics.json").read_text())["test"] == figures["test"]
    assert {"report.html", "metrics.json"} <= {path.name for path in (kept / "evaluation").iterdir()}
    assert Path(figures["saved_model"], "saved_model.pb").exists()
    config = json.loads((kept / "config.json").read_text())
    assert (config["optimizer"], config["keep"], config["decoder_width"]) == ("adamw", "best", 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits"], r"`task` \(=segmentation\) needs label maps, and digits has none"),
        (
            ["digits", "--task", "classification", "--decoder", "upernet"],
            "`decoder` and `decoder_width` are about segment",
        ),
        (
            ["digit_scenes_segmentation@8", "--decoder", "lighter"],
            "`decoder` must be one of light, upernet, got 'lighter'",
        ),
        (["digit_scenes_segmentation@8", "--layer-decay", "0.9"], "`layer_decay` .* is for a trained backbone"),
    ],
)
def test_what_is_refused(arguments, message, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        segmentation.main([*arguments, "--epochs", "1", "--output-dir", str(tmp_path)])
    assert re.search(message, str(stopped.value))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["cosub", "cut_mixmo"])
def test_scenes_begin_with_a_classifier_of_cosub_at_another_size(tmp_path, method, monkeypatch):
    options = dict(drop_path=0.2, l2=0.0, seed=0, input_shape=(16, 16, 3))
    classifier = mixmo_keras.CoSub("shallow_vit4", task=datasets.info(CLASSES).task, teaching="sigmoid", **options)
    images, labels = next(iter(datasets.batches(datasets.load(CLASSES, "train"), 64)))
    classifier.fit(images, labels, batch_size=32, verbose=0)
    classifier.save(tmp_path / "classifier.keras")

    begun = []
    fit = mixmo_keras.MixMo.fit

    def noted(model, *values, **options):
        begun.append((model, np.array(model.core.get_layer("position").positions)))
        begun.append(np.array(model.core.get_layer("block1_dense1").kernel))
        return fit(model, *values, **options)

    monkeypatch.setattr(mixmo_keras.MixMo, "fit", noted)
    begin = ["digit_scenes_segmentation@24", "--backbone", str(tmp_path / "classifier.keras"), "--method", method]
    rates = ["--core-rate", "1", "--layer-decay", "0.5", "--epochs", "1", "--no-flip"]
    places = ["--output-dir", str(tmp_path / "runs"), "--export-dir", str(tmp_path / "served")]
    figures = segmentation.main([*begin, *rates, *places, "--decoder-width", "8"])
    (model, positions), kernel = begun
    before = np.array(classifier.core.get_layer("position").positions)
    np.testing.assert_allclose(positions, resized(before, (4, 4), (6, 6)), atol=1e-6)
    np.testing.assert_array_equal(kernel, np.array(classifier.core.get_layer("block1_dense1").kernel))
    assert model.fine_tuning == mixmo_keras.FineTuning(1.0, layer_decay=0.5)
    assert (model.co_training is not None) == (method == "cosub")
    rates = {
        layer.rate for one in (classifier, model) for layer in one.core.layers if isinstance(layer, StochasticDepth)
    }
    assert rates == {0.2}
    assert figures["test"]["ensemble"]["accuracy"] > 0.7  # most pixels are ground
    (kept,) = (tmp_path / "runs").iterdir()
    loaded = keras.models.load_model(kept / "best.keras")
    assert loaded.decay_kernels_only
    assert not np.array_equal(np.array(loaded.core.get_layer("position").positions), positions)


@pytest.mark.slow
def test_a_run_begins_with_a_classifier(folder):
    tiny.model(num_members=1, num_classes=3).save(folder / "classifier.keras")
    options = ["--method", "single", "--decoder", "upernet"]
    run(folder, "--backbone", str(folder / "classifier.keras"), *options)
    (kept,) = (folder / "runs").iterdir()
    assert "upernet" in kept.name
    model = keras.models.load_model(kept / "best.keras")
    assert model.task.decoder == "upernet"
    assert model.fine_tuning.core_rate == 0.1
