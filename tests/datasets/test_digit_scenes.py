"""Scenes of digits: fixed by their seeds, and every target says what the image shows."""

import digit_scenes as study
import numpy as np
import pytest
from keras import ops

from mixmo_keras import datasets
from mixmo_keras.datasets import digit_scenes, digits


@pytest.fixture(scope="module")
def scenes():
    return digit_scenes.scenes("validation")


def test_scenes_are_the_same_each_time(scenes):
    digit_scenes.scenes.cache_clear()
    for first, again in zip(scenes, digit_scenes.scenes("validation"), strict=True):
        np.testing.assert_array_equal(first, again)


def test_targets_agree_with_the_label_maps(scenes):
    assert scenes.images.shape == (500, 32, 32, 3)
    assert set(np.unique(scenes.maps)) == {*range(11), digit_scenes.EDGE}
    seen = np.array([[(one == 1 + digit).any() for digit in range(10)] for one in scenes.maps])
    np.testing.assert_array_equal(seen, scenes.present == 1)  # no digit is hidden by another
    assert set(np.unique(scenes.counts)) == {1, 2, 3, 4}
    assert (scenes.present.sum(1) <= scenes.counts[:, 0]).all()  # a digit may be there twice
    assert (np.abs(scenes.angles) <= 45).all()
    assert np.corrcoef(scenes.counts[:, 0], (scenes.maps > 0).mean((1, 2)))[0, 1] > 0.8


def test_a_digit_is_tilted_counter_clockwise_about_its_middle():
    stroke = np.zeros((1, 8, 8), "float32")
    stroke[0, :4, 3:5] = 1  # a line from the middle up
    shown = digit_scenes._stamped(stroke, np.array([[20.0, 20.0]]), np.array([32.0]), np.array([np.pi / 4]), (40, 40))
    rows, columns = np.nonzero(shown[0] > 0.5)
    assert rows.mean() < 18  # up, and to the left
    assert columns.mean() == pytest.approx(rows.mean(), abs=0.5)
    upright = digit_scenes._stamped(stroke, np.array([[20.0, 20.0]]), np.array([8.0]), np.array([0.0]), (40, 40))
    np.testing.assert_allclose(upright[0, 16:24, 16:24], stroke[0], atol=1e-5)  # at its own size it is itself


def test_names_of_tasks():
    for question, (task, names, targets_of) in digit_scenes.QUESTIONS.items():
        name = f"digit_scenes_{question}"
        about = datasets.info(name)
        assert (about.name, about.task, about.class_names) == (name, task, names)
        images, targets = next(iter(datasets.load(name, "validation").batch(500)))
        task.check_shape(targets)
        task.check(ops.convert_to_numpy(targets))
        np.testing.assert_array_equal(targets, targets_of(digit_scenes.scenes("validation")))
        assert tuple(images.shape[1:]) == about.image_shape


def test_another_size_is_drawn_anew():
    assert datasets.info("digit_scenes_count@12x16").image_shape == (12, 16, 3)
    image, target = next(iter(datasets.load("digit_scenes_count@12x16", "validation")))
    assert image.shape == (12, 16, 3)
    assert target == digit_scenes.scenes("validation").counts[0]


def test_handwriting_of_the_test_split_is_its_own():
    kinds = {split: {one.tobytes() for one in digits.arrays(split)[0]} for split in ("train", "test")}
    assert not kinds["train"] & kinds["test"]


def test_the_picture(scenes, tmp_path):
    figure = study.picture(scenes, number=2)
    assert len(figure.axes) == 4
    np.testing.assert_array_equal(study.coloured(np.array([[0, 255]])), [[[0, 0, 0], [1, 1, 1]]])
    assert study.main(["--output-dir", str(tmp_path)]).read_bytes().startswith(b"\x89PNG")
