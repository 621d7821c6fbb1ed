"""The recipe of a segmentation: a run on a folder of masks, from a name and from a classifier."""

import json

import families
import keras
import numpy as np
import pytest
import segmentation
import tiny
from PIL import Image

import mixmo_keras
from mixmo_keras import datasets
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
@pytest.mark.parametrize("method", ["cosub", "cut_mixmo"])
def test_scenes_begin_with_a_classifier_of_cosub_at_another_size(tmp_path, method):
    options = dict(drop_path=0.2, l2=0.0, seed=0, input_shape=(16, 16, 3))
    classifier = mixmo_keras.CoSub("shallow_vit4", task=datasets.info(CLASSES).task, teaching="sigmoid", **options)
    images, labels = next(iter(datasets.batches(datasets.load(CLASSES, "train"), 64)))
    classifier.fit(images, labels, batch_size=32, verbose=0)
    classifier.save(tmp_path / "classifier.keras")

    begin = [
        "--size",
        "24",
        "--begin-with",
        str(tmp_path / "classifier.keras"),
        "--method",
        method,
        "--decoder-width",
        "8",
    ]
    rates = ["--core-rate", "1", "--layer-decay", "0.5", "--epochs", "1", "--output-dir", str(tmp_path)]
    chosen = segmentation.options([*begin, *rates])
    info = datasets.info("digit_scenes_segmentation@24")
    model = segmentation.build(chosen, info, info.task)
    before, after = (np.array(one.core.get_layer("position").positions) for one in (classifier, model))
    np.testing.assert_allclose(after, resized(before, (4, 4), (6, 6)), atol=1e-6)
    kernels = [one.core.get_layer("block1_dense1").kernel for one in (classifier, model)]
    np.testing.assert_array_equal(*map(np.array, kernels))
    assert model.fine_tuning == mixmo_keras.FineTuning(1.0, layer_decay=0.5)
    assert (model.co_training is not None) == (method == "cosub")

    figures = segmentation.main([*begin, *rates])
    assert figures["ensemble"]["accuracy"] > 0.7  # most pixels are ground
    loaded = keras.models.load_model(tmp_path / f"segmentation-{info.name}-{method}-seed0" / "best.keras")
    assert loaded.decay_kernels_only
    assert not np.array_equal(np.array(loaded.core.get_layer("position").positions), after)


@pytest.mark.slow
def test_a_run_begins_with_a_classifier(folder):
    tiny.model(num_members=1, num_classes=3).save(folder / "classifier.keras")
    run(folder, "--begin-with", str(folder / "classifier.keras"), "--method", "single", "--decoder", "upernet")
    model = keras.models.load_model(folder / "runs" / "segmentation-photos-single-seed0" / "best.keras")
    assert model.task.decoder == "upernet"
    assert model.fine_tuning.core_rate == 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer-decay", "0.9"], "--layer-decay: no use for it without --begin-with"),
        (["--core-rate", "1"], "--core-rate: no use for it without --begin-with"),
        (["--begin-with", "a.keras", "--backbone", "wrn10_1"], "--backbone: no use for it with --begin-with"),
    ],
)
def test_options_that_nothing_would_use_are_errors(arguments, message, capsys):
    with pytest.raises(SystemExit):
        segmentation.options(arguments)
    assert message in capsys.readouterr().err
