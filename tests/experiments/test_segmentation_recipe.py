"""The recipe of a segmentation: a run on a folder of masks, from a name and from a classifier."""

import json

import keras
import numpy as np
import pytest
import segmentation
import tiny
from PIL import Image


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
    settings = ["--size", "8", "--epochs", "1", "--batch-size", "4", "--decoder-width", "4"]
    arguments = [str(folder / "photos"), *settings, "--output-dir", str(folder / "runs"), *options]
    return segmentation.main(arguments)


def test_a_run_on_a_folder_of_masks(folder):
    figures = run(folder, "--backbone", "tiny_4", "--cutmix")
    runs = folder / "runs" / "segmentation-photos-cut_mixmo-seed0"
    assert json.loads((runs / "metrics.json").read_text())["ensemble"]["miou"] == figures["ensemble"]["miou"]
    assert figures["names"] == ["0", "1"]
    assert (runs / "served" / "1" / "saved_model.pb").exists()
    with pytest.raises(SystemExit, match="digits has no masks"):
        segmentation.main(["digits"])


@pytest.mark.slow
def test_a_run_begins_with_a_classifier(folder):
    tiny.model(num_members=1, num_classes=3).save(folder / "classifier.keras")
    run(folder, "--begin-with", str(folder / "classifier.keras"), "--method", "single", "--decoder", "upernet")
    model = keras.models.load_model(folder / "runs" / "segmentation-photos-single-seed0" / "best.keras")
    assert model.task.decoder == "upernet"
    assert model.fine_tuning.core_rate == 0.1
