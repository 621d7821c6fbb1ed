"""3-Augment and colour jitter against Pillow and SciPy on photographs, and what they draw."""

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage
from sklearn.datasets import load_sample_images

from mixmo_keras.mixing.augmentation import Compose
from mixmo_keras.mixing.three_augment import ColorJitter, ThreeAugment
from mixmo_keras.seeds import StepSeed

PHOTO = load_sample_images().images[0][100:124, 200:232]


def changed(layer, image, *drawn):
    """One image after a draw of its own."""
    images = ops.convert_to_tensor(image[None])
    return ops.convert_to_numpy(layer.apply(images, *(ops.convert_to_tensor(part) for part in drawn)))[0]


def test_grey_and_solarised_are_pillows():
    nothing = np.ones(1, "float32")
    grey = np.repeat(np.asarray(ImageOps.grayscale(Image.fromarray(PHOTO)))[..., None], 3, axis=-1)
    difference = changed(ThreeAugment(), PHOTO, np.array([0]), nothing).astype(int) - grey
    assert np.abs(difference).max() <= 1  # Pillow rounds a sum of integers
    solarised = np.asarray(ImageOps.solarize(Image.fromarray(PHOTO), 128))
    np.testing.assert_array_equal(changed(ThreeAugment(), PHOTO, np.array([1]), nothing), solarised)


@pytest.mark.parametrize("deviation", [0.1, 0.7, 2.0])
def test_blur_is_scipys_gaussian(deviation):
    blurred = changed(ThreeAugment(), PHOTO.astype("float32"), np.array([2]), np.array([deviation], "float32"))
    of_axes = (deviation, deviation, 0)
    expected = ndimage.gaussian_filter(PHOTO.astype("float64"), of_axes, mode="nearest", radius=6)
    np.testing.assert_allclose(blurred, expected, atol=1e-3)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_colour_jitter_is_pillows_in_its_order(order):
    factors = (0.8, 1.25, 0.7)
    image = Image.fromarray(PHOTO)
    for change, factor in zip(order, factors, strict=True):
        enhancer = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[change]
        image = enhancer(image).enhance(factor)
    result = changed(ColorJitter(), PHOTO, np.array([order], "int32"), np.array([factors], "float32"))
    assert np.abs(result.astype(int) - np.asarray(image)).max() <= 2  # 1 of a factor, and 1 of the mean grey


def test_draws_are_uniform():
    rows = 6000
    choices, deviations = (np.asarray(part) for part in ThreeAugment().draw(StepSeed(1), rows))
    np.testing.assert_allclose(np.bincount(choices) / rows, 1 / 3, atol=5 * np.sqrt(2 / 9 / rows))
    assert deviations.min() >= 0.1
    assert deviations.max() <= 2
    assert deviations.mean() == pytest.approx(1.05, abs=0.05)
    order, factors = (np.asarray(part) for part in ColorJitter(0.3).draw(StepSeed(1), rows))
    orders, counts = np.unique(order, axis=0, return_counts=True)
    assert len(orders) == 6
    np.testing.assert_allclose(counts / rows, 1 / 6, atol=5 * np.sqrt(5 / 36 / rows))
    assert factors.min() >= 0.7
    assert factors.max() <= 1.3
    assert factors.mean() == pytest.approx(1, abs=0.02)


def test_grey_images_and_configurations():
    grey = PHOTO[..., :1]
    assert np.array_equal(changed(ThreeAugment(), grey, np.array([0]), np.ones(1, "float32")), grey)
    both = Compose([ThreeAugment(100.0, (0.5, 1.0)), ColorJitter(0.2)])
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(both))
    images = ops.convert_to_tensor(np.stack([PHOTO] * 4))
    np.testing.assert_array_equal(again(images, seed=StepSeed(2)), both(images, seed=StepSeed(2)))
    with pytest.raises(ValueError, match="standard deviation in pixels"):
        ThreeAugment(blur=(1, 3))
    with pytest.raises(ValueError, match="`strength` must be a number"):
        ColorJitter(0)
    with pytest.raises(ValueError, match="`threshold` must be a number"):
        ThreeAugment(300)
