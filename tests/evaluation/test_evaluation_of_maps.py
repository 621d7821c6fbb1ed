"""The evaluation of a segmentation: figures that keep no maps, a temperature of pixels, a report with maps beside images."""

import base64
import io
import re

import numpy as np
import pytest
import tiny
from PIL import Image

import mixmo_keras
from mixmo_keras import tasks
from mixmo_keras.evaluation import report
from mixmo_keras.metrics import pixels
from mixmo_keras.training import predicting

RANDOM = np.random.default_rng(0)
TASK = tasks.Segmentation(["ground", "digit <&>"], width=4)
IMAGES = RANDOM.integers(0, 256, (24, 8, 8, 3), dtype="uint8")
MAPS = np.where(RANDOM.random((24, 8, 8)) < 0.2, 255, IMAGES[..., 0] // 128)


@pytest.fixture(scope="module")
def model():
    made = tiny.model(num_classes=None, task=TASK, augmentation=None, batch_repetitions=1, learning_rate=0.05)
    made.fit(IMAGES, MAPS, batch_size=8, epochs=2, verbose=0)
    return made


def batches(size: int = 5):
    return [(IMAGES[first : first + size], MAPS[first : first + size]) for first in range(0, 24, size)]


@pytest.fixture(scope="module")
def evaluated(model):
    names = [f"{number}.png" for number in range(24)]
    return mixmo_keras.evaluation.evaluate(
        model, batches(), ["ground", "digit <&>"], batches(7), temperature=True, num_disagreements=3, test_names=names
    )


def test_figures_are_those_of_all_pixels(model, evaluated):
    expected = model.figures(IMAGES, MAPS)
    for name in ("miou", "accuracy", "nll", "ece"):
        assert evaluated.figures["ensemble"][name] == pytest.approx(expected["ensemble"][name], rel=1e-4)
        assert evaluated.figures["members"][1][name] == pytest.approx(expected["members"][1][name], rel=1e-4)
    assert evaluated.figures["images"] == {"test": 24, "validation": 24}
    assert evaluated.answers == {}  # no maps of all images
    share = evaluated.figures["ensemble"]["classes"]["share"][0]
    assert evaluated.figures["headline"][0].endswith(
        f"always answering {'ground' if share >= 0.5 else 'digit <&>'} would be right on {max(share, 1 - share):.1%}."
    )


def test_maps_are_drawn_beside_the_images_of_most_doubt(model, evaluated):
    doubt = TASK.doubt(model.average, predicting.sampled(model, [model.predict_with_labels(IMAGES, MAPS)])[0])
    np.testing.assert_array_equal(evaluated.doubtful, np.argsort(-doubt, kind="stable")[:3])
    panels, answers = evaluated.pictures.panels, model.answers(IMAGES[evaluated.doubtful])
    assert list(panels) == ["label", "prediction", "confidence", "disagreement"]
    np.testing.assert_array_equal((panels["label"] == 255).all(-1), MAPS[evaluated.doubtful] == 255)
    np.testing.assert_array_equal((panels["prediction"] != 0).any(-1), answers["label_map"] == 1)
    np.testing.assert_allclose(panels["confidence"][..., 0], 255 * answers["confidence"], atol=1.01)
    assert panels["disagreement"].max() == 255


def test_the_page_has_a_strip_for_each_and_a_legend(evaluated, tmp_path):
    page = report.write(evaluated, tmp_path).read_text(encoding="utf-8")
    files = re.findall(r'<img alt="(\d+\.png)" src="data:image/png;base64,([^"]+)"', page)
    assert [name for name, _ in files] == [f"{index}.png" for index in evaluated.doubtful]
    strip = np.asarray(Image.open(io.BytesIO(base64.b64decode(files[0][1]))))
    assert strip.shape == (8, 5 * 8 + 4, 3)  # five panels with a gap of a pixel between two
    np.testing.assert_array_equal(strip[:, :8], IMAGES[evaluated.doubtful[0]])
    np.testing.assert_array_equal(strip[:, 9:17], evaluated.pictures.panels["label"][0])
    assert "background:rgb(128,0,0)" in page
    assert "digit &lt;&amp;&gt;" in page
    assert "digit <&>" not in page
    assert ">IoU&nbsp;↑</th>" in page  # of the table by class
    assert not (tmp_path / "answers.csv").exists()


def test_a_single_network_has_no_disagreement():
    served = {"label_map": np.zeros((1, 2, 2), int), "confidence": np.full((1, 2, 2), 0.5)}
    shown = pixels.pictures(np.zeros((1, 2, 2), int), served, None, ["a", "b"], several=False)
    assert list(shown.panels) == ["label", "prediction", "confidence"]
    assert "count" not in shown.caption
    np.testing.assert_array_equal(shown.panels["confidence"], 127)


def test_colours_are_those_of_pascal_voc():
    np.testing.assert_array_equal(
        pixels.colors(256)[[0, 1, 2, 3, 7, 8, 15, 255]],
        [
            (0, 0, 0),
            (128, 0, 0),
            (0, 128, 0),
            (128, 128, 0),
            (128, 128, 128),
            (64, 0, 0),
            (192, 128, 128),
            (224, 224, 192),
        ],
    )


def test_test_images_without_a_pixel_that_counts(model):
    nothing = [(IMAGES[:2], np.full((2, 8, 8), 255))]
    evaluated = mixmo_keras.evaluation.evaluate(model, nothing, ["ground", "digit <&>"])
    assert evaluated.figures["headline"] == ["No pixel of the 2 test images counts: all have the ignored label."]
    assert evaluated.charts == []
    assert evaluated.in_words[0][0] == "no pixel counts"


def test_fewer_images_at_once_where_maps_are_large():
    assert tasks.Segmentation(150).at_once((512, 512, 3), 256) == 1
    assert tasks.Segmentation(21).at_once((128, 128, 3), 256) == 195
    assert tasks.Segmentation(2).at_once((32, 32, 3), 256) == 256
    assert tasks.MultiLabel(2).at_once((512, 512, 3), 256) == 256
