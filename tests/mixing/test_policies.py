"""Operations on pixels against Pillow on photographs; what policies draw, and that each row keeps its own."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from keras import ops
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_sample_images

from mixmo_keras.mixing.augmentation import Compose, PadCropFlip, RandomResizedCrop
from mixmo_keras.mixing.image_operations import NUMBER, OPERATIONS, operated
from mixmo_keras.mixing.policies import POLICIES, AutoAugment, RandAugment, RandomErasing, TrivialAugment
from mixmo_keras.seeds import StepSeed

FILL = 77
# Pillow's own, on an image `i` with a magnitude `m`
PILLOW = {
    "Identity": lambda i, m: i,
    "ShearX": lambda i, m: i.transform(i.size, Image.Transform.AFFINE, (1, m, 0, 0, 1, 0), fillcolor=filled(i)),
    "ShearY": lambda i, m: i.transform(i.size, Image.Transform.AFFINE, (1, 0, 0, m, 1, 0), fillcolor=filled(i)),
    "TranslateX": lambda i, m: i.transform(
        i.size, Image.Transform.AFFINE, (1, 0, -int(m), 0, 1, 0), fillcolor=filled(i)
    ),
    "TranslateY": lambda i, m: i.transform(
        i.size, Image.Transform.AFFINE, (1, 0, 0, 0, 1, -int(m)), fillcolor=filled(i)
    ),
    "Rotate": lambda i, m: i.rotate(m, fillcolor=filled(i)),
    "Brightness": lambda i, m: ImageEnhance.Brightness(i).enhance(1 + m),
    "Color": lambda i, m: ImageEnhance.Color(i).enhance(1 + m),
    "Contrast": lambda i, m: ImageEnhance.Contrast(i).enhance(1 + m),
    "Sharpness": lambda i, m: ImageEnhance.Sharpness(i).enhance(1 + m),
    "Posterize": lambda i, m: ImageOps.posterize(i, int(m)),
    "Solarize": lambda i, m: ImageOps.solarize(i, m),
    "AutoContrast": lambda i, m: ImageOps.autocontrast(i),
    "Equalize": lambda i, m: ImageOps.equalize(i),
    "Invert": lambda i, m: ImageOps.invert(i),
}
MAGNITUDES = {
    **dict.fromkeys(("ShearX", "ShearY"), (-0.9, -0.31, 0.0, 0.47)),
    **dict.fromkeys(("TranslateX", "TranslateY"), (-31.9, -3.5, 0.0, 9.0)),
    "Rotate": (-135.0, -20.3, 0.0, 30.0, 90.0),
    **dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), (-0.99, -0.4, 0.0, 0.3, 0.9)),
    "Posterize": (2.0, 5.0, 8.0),
    "Solarize": (0.0, 100.0, 127.5, 255.0),
}
MOVED = ("ShearX", "ShearY", "Rotate")  # places on the edge between two pixels may go either way


def filled(image):
    return FILL if image.mode == "L" else (FILL,) * 3


def photographs(channels: int) -> np.ndarray:
    """Parts (8, 24, 32, C) of two photographs, light, dark, flat and rich."""
    parts = [
        photo[row : row + 24, column : column + 32]
        for photo in load_sample_images().images
        for row, column in ((0, 0), (150, 300), (300, 100), (200, 500))
    ]
    return np.stack(
        [np.asarray(Image.fromarray(part).convert("L"))[..., None] if channels == 1 else part for part in parts]
    )


def applied(images, name, magnitude):
    count = len(images)
    result = operated(images, np.full(count, NUMBER[name]), np.full(count, magnitude, "float32"), FILL)
    return ops.convert_to_numpy(result)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_pillows(name, channels):
    images, magnitudes = photographs(channels), MAGNITUDES.get(name, (0.0,))
    results = applied(np.concatenate([images] * len(magnitudes)), name, np.repeat(magnitudes, len(images)))
    assert results.dtype == "uint8"
    for magnitude, result in zip(magnitudes, np.split(results, len(magnitudes)), strict=True):
        pillows = [Image.fromarray(one[..., 0] if channels == 1 else one) for one in images]
        expected = np.stack([np.asarray(PILLOW[name](one, magnitude)).reshape(images.shape[1:]) for one in pillows])
        different = np.abs(result.astype(int) - expected)
        if name in MOVED:
            assert (different > 0).mean() < 0.025, magnitude
        else:
            assert different.max() <= 1, magnitude
            assert (different > 0).mean() < 0.05, magnitude


def test_flat_images_stay():
    flat = np.full((1, 6, 5, 3), 9, "uint8")
    for name in ("AutoContrast", "Equalize", "Contrast", "Sharpness"):
        np.testing.assert_array_equal(applied(flat, name, 0.5), flat)


def test_each_row_has_its_own_operation():
    images = np.repeat(photographs(3)[:1], len(OPERATIONS), axis=0)
    magnitudes = np.float32([MAGNITUDES.get(name, (0.0,))[0] for name in OPERATIONS])
    together = ops.convert_to_numpy(operated(images, np.arange(len(OPERATIONS)), magnitudes, FILL))
    for number, name in enumerate(OPERATIONS):
        np.testing.assert_array_equal(together[number], applied(images[:1], name, magnitudes[number])[0], err_msg=name)


def test_floats_are_taken_as_values_and_two_channels_refused():
    images = photographs(3)
    as_floats = operated(images.astype("float32"), np.full(8, NUMBER["Equalize"]), np.zeros(8, "float32"))
    np.testing.assert_array_equal(as_floats, applied(images, "Equalize", 0))
    assert as_floats.dtype == "float32"
    with pytest.raises(ValueError, match="one channel or three to be operated on, got 2"):
        operated(images[..., :2], np.zeros(8, int), np.zeros(8, "float32"))


# -- policies ------------------------------------------------------------------------------------------------------------

ROWS = 20_000


def drawn(layer, rows=ROWS):
    return [ops.convert_to_numpy(part) for part in layer.draw(StepSeed(3), rows)]


def assert_uniform(values, count):
    frequencies = np.bincount(np.ravel(values), minlength=count) / np.size(values)
    assert len(frequencies) == count
    np.testing.assert_allclose(frequencies, 1 / count, atol=5 * np.sqrt(1 / count / np.size(values)))


def test_trivial_augment_draws_all_alike():
    operations, bins, signs = drawn(TrivialAugment())
    assert operations.shape == bins.shape == signs.shape == (ROWS, 1)
    assert_uniform(operations, 14)
    assert_uniform(bins, 31)
    assert_uniform((signs > 0).astype(int), 2)
    table = TrivialAugment().magnitudes(32, 32)
    assert table[NUMBER["Rotate"], -1] == 135
    assert table[NUMBER["ShearX"], 10] == pytest.approx(0.33)
    assert (table[NUMBER["Posterize"], 0], table[NUMBER["Posterize"], -1]) == (8, 2)
    assert (table[NUMBER["Solarize"], 0], table[NUMBER["Solarize"], -1]) == (255, 0)


def test_rand_augment_draws_operations_alike_at_one_magnitude():
    operations, bins, _ = drawn(RandAugment(3, 12))
    assert operations.shape == (ROWS, 3)
    for number in range(3):
        assert_uniform(operations[:, number], 14)
    assert set(np.ravel(bins)) == {12}
    assert abs(np.corrcoef(operations[:, 0], operations[:, 1])[0, 1]) < 5 / np.sqrt(ROWS)
    table = RandAugment().magnitudes(32, 48)
    assert table[NUMBER["TranslateX"], -1] == pytest.approx(150 / 331 * 48)
    assert table[NUMBER["TranslateY"], -1] == pytest.approx(150 / 331 * 32)


@pytest.mark.parametrize("policy", POLICIES)
def test_auto_augment_draws_pairs_with_their_probabilities(policy):
    pairs = POLICIES[policy]
    assert len(pairs) == 25
    operations, bins, _ = drawn(AutoAugment(policy))
    found = {}
    for first, second, *of_both in zip(*operations.T, *bins.T, strict=True):
        found[(first, second, *of_both)] = found.get((first, second, *of_both), 0) + 1
    expected = {}
    for one, other in pairs:
        for first in (one[0], "Identity"):
            for second in (other[0], "Identity"):
                probability = (one[1] if first != "Identity" else 1 - one[1]) * (
                    other[1] if second != "Identity" else 1 - other[1]
                )
                key = (NUMBER[first], NUMBER[second], one[2] or 0, other[2] or 0)
                expected[key] = expected.get(key, 0) + probability / 25
    for key, probability in expected.items():
        assert found.get(key, 0) / ROWS == pytest.approx(probability, abs=5 * np.sqrt(probability / ROWS) + 1e-9)
    assert set(found) <= {key for key, probability in expected.items() if probability}


def test_signs_turn_what_has_two_directions_alone():
    images = photographs(3)
    for name in ("Posterize", "Solarize", "Rotate"):
        operations, bins = np.full((8, 1), NUMBER[name]), np.full((8, 1), 7)
        one, other = (
            TrivialAugment().apply(images, operations, bins, np.full((8, 1), sign, "float32")) for sign in (1.0, -1.0)
        )
        assert np.array_equal(one, other) == (name != "Rotate")


def test_erasing_by_hand():
    images = np.zeros((2, 4, 6, 1), "uint8")
    # a quarter of 24 pixels is 6: 3 high and 2 wide; of 2 and 5 free places the last
    area, ratio, place = np.float32([0.25, 0.25]), np.float32([1.5, 1.5]), np.float32([[0.99, 0.99], [0.0, 0.0]])
    result = ops.convert_to_numpy(RandomErasing(fill=9).apply(images, area, ratio, place, np.array([True, False])))
    expected = np.zeros((4, 6))
    expected[1:, 4:] = 9
    np.testing.assert_array_equal(result[0, :, :, 0], expected)
    assert not result[1].any()


@pytest.mark.parametrize(("dtype", "value"), [("uint8", 128), ("int32", 128), ("float32", 127.6), ("float16", 127.6)])
def test_what_erasing_fills_with_is_rounded_for_integers(dtype, value):
    half = np.float32([0.5])
    filled = RandomErasing(fill=127.6).apply(
        ops.zeros((1, 4, 4, 3), dtype), half, half, half[None].repeat(2, axis=1), half > 0
    )
    assert keras.backend.standardize_dtype(filled.dtype) == dtype
    assert np.max(np.array(filled)) == pytest.approx(value, abs=0.05)


def test_erasing_draws():
    area, ratio, place, erased = drawn(RandomErasing(0.3, (0.1, 0.3), (0.5, 2)))
    assert erased.mean() == pytest.approx(0.3, abs=5 * np.sqrt(0.21 / ROWS))
    assert area.mean() == pytest.approx(0.2, abs=5 * 0.2 / np.sqrt(12 * ROWS))
    assert (ratio.min() >= 0.5) & (ratio.max() <= 2)
    assert np.log(ratio).mean() == pytest.approx(0, abs=5 * np.log(4) / np.sqrt(12 * ROWS))
    assert place.mean() == pytest.approx(0.5, abs=0.01)


EVERY = [
    TrivialAugment(fill=3),
    RandAugment(1, 4),
    AutoAugment("imagenet"),
    RandomErasing(0.25, (0.1, 0.2)),
    Compose([PadCropFlip(2), RandomResizedCrop(), AutoAugment(), RandomErasing()]),
]


@pytest.mark.parametrize("layer", EVERY, ids=lambda layer: type(layer).__name__)
def test_a_seed_decides_and_a_configuration_restores(layer):
    images = photographs(3)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    compiled = tf.function(lambda step: layer(images, seed=StepSeed(1, step)))
    first, same, other = (ops.convert_to_numpy(compiled(tf.constant(step))) for step in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    np.testing.assert_array_equal(first, again(images, seed=StepSeed(1, 0)))
    assert not np.array_equal(first, other)
    assert first.shape == images.shape
    assert first.dtype == "uint8"


@pytest.mark.usefixtures("eagerly")
def test_a_model_trains_with_them_and_is_saved(tmp_path):
    x, y = tiny.data()
    model = tiny.model(augmentation=EVERY[-1])
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(x, y, batch_size=8, verbose=0)
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    one, other = (made.augment(x, seed=StepSeed(0)) for made in (model, copy))
    np.testing.assert_array_equal(one, other)


def test_padding_as_large_as_the_images_is_refused():
    with pytest.raises(ValueError, match="`padding` must be smaller than the images"):
        tiny.model(augmentation=Compose([PadCropFlip(8)]))
