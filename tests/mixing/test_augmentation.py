"""PadCropFlip against a loop over pixels, and how it draws."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from mixmo_keras import augmentation
from mixmo_keras.mixing.augmentation import PadCropFlip, RandomResizedCrop
from mixmo_keras.seeds import StepSeed

IMAGES = np.random.default_rng(0).integers(1, 256, (6, 5, 7, 3), dtype="uint8")


def oracle(images, shifts, flips, padding):
    """Pad with zeros, crop at padding + shift, flip."""
    moved = np.zeros_like(images)
    for row, (image, (down, right), flip) in enumerate(zip(images, shifts, flips, strict=True)):
        padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
        crop = padded[padding + down :, padding + right :][: image.shape[0], : image.shape[1]]
        moved[row] = crop[:, ::-1] if flip else crop
    return moved


def test_apply_by_hand():
    image = np.arange(1, 7, dtype="uint8").reshape(1, 2, 3, 1)  # rows 1 2 3 and 4 5 6
    layer = PadCropFlip(padding=1)

    def apply(shift, flip):
        moved = layer.apply(image, np.array([shift]), np.array([flip]))
        return ops.convert_to_numpy(moved)[0, :, :, 0].tolist()

    assert apply((0, 0), False) == [[1, 2, 3], [4, 5, 6]]
    assert apply((0, 0), True) == [[3, 2, 1], [6, 5, 4]]
    assert apply((1, 0), False) == [[4, 5, 6], [0, 0, 0]]
    assert apply((0, 1), False) == [[2, 3, 0], [5, 6, 0]]
    assert apply((0, 1), True) == [[0, 3, 2], [0, 6, 5]]
    assert apply((-1, -1), False) == [[0, 0, 0], [0, 1, 2]]


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("padding", [0, 1, 4, 9])
def test_apply_against_a_loop(padding, dtype):
    images, random = IMAGES.astype(dtype), np.random.default_rng(1)
    for _ in range(5):
        shifts, flips = random.integers(-padding, padding + 1, (6, 2)), random.random(6) < 0.5
        moved = ops.convert_to_numpy(PadCropFlip(padding).apply(images, shifts, flips))
        np.testing.assert_array_equal(moved, oracle(images, shifts, flips, padding))
        assert moved.dtype == dtype


def test_reflected_padding_against_numpy():
    shifts = np.array([(down, right) for down in range(-3, 4) for right in range(-3, 4)])
    images = np.repeat(IMAGES[:1], len(shifts), axis=0)
    moved = PadCropFlip(3, padding_mode="reflect").apply(images, shifts, np.zeros(len(shifts), bool))
    padded = np.pad(IMAGES[0], ((3, 3), (3, 3), (0, 0)), "reflect")
    expected = [padded[3 + down :, 3 + right :][:5, :7] for down, right in shifts]
    np.testing.assert_array_equal(ops.convert_to_numpy(moved), expected)


def test_alternating_flips_turn_every_image_from_epoch_to_epoch():
    images = np.random.default_rng(2).integers(0, 256, (4000, 5, 7, 3), dtype="uint8")
    layer = PadCropFlip(0, alternating=True)

    def flipped(epoch, seed=0, step=0):
        moved = ops.convert_to_numpy(layer(images, seed=StepSeed(seed, step, epoch=epoch)))
        flips = (moved == images[:, :, ::-1]).all((1, 2, 3))
        np.testing.assert_array_equal(~flips, (moved == images).all((1, 2, 3)))
        return flips

    first = flipped(0)
    np.testing.assert_array_equal(flipped(1, step=9), ~first)
    np.testing.assert_array_equal(flipped(2, step=17), first)
    bound = 5 * np.sqrt(0.25 / len(images))
    assert abs(first.mean() - 0.5) < bound
    assert abs((flipped(0, seed=1) == first).mean() - 0.5) < bound  # which begin flipped follows from the seed


def test_draws_are_uniform():
    shifts, flips = map(ops.convert_to_numpy, PadCropFlip(2).draw(StepSeed(0), 10_000))
    for axis in (0, 1):
        values, counts = np.unique(shifts[:, axis], return_counts=True)
        np.testing.assert_array_equal(values, [-2, -1, 0, 1, 2])
        np.testing.assert_allclose(counts / 10_000, 0.2, atol=5 * np.sqrt(0.2 * 0.8 / 10_000))
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.05
    assert abs(flips.mean() - 0.5) < 5 * np.sqrt(0.25 / 10_000)


def test_every_row_has_its_own_draw_which_follows_from_the_seed():
    rows = np.repeat(IMAGES[:1], 32, axis=0)
    layer = PadCropFlip(2)
    first, again, other = (ops.convert_to_numpy(layer(rows, seed=StepSeed(0, step))) for step in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len({row.tobytes() for row in first}) > 16  # of 50 possible ones
    assert first.dtype == "uint8"


def test_parts_can_be_turned_off():
    rows = np.repeat(IMAGES[:1], 64, axis=0)
    flipped = ops.convert_to_numpy(PadCropFlip(padding=0)(rows, seed=StepSeed(0)))
    assert {row.tobytes() for row in flipped} == {IMAGES[0].tobytes(), IMAGES[0, :, ::-1].tobytes()}
    assert not ops.convert_to_numpy(PadCropFlip(flip=False).draw(StepSeed(0), 1000)[1]).any()


def test_by_name():
    assert augmentation.get("pad_crop_flip").get_config()["padding"] == 4
    assert augmentation.get(None) is None
    layer = PadCropFlip(1)
    assert augmentation.get(layer) is layer


def test_an_augmentation_that_does_nothing_is_refused():
    with pytest.raises(ValueError, match="padding=0 and flip=False augment nothing"):
        PadCropFlip(0, flip=False)


def test_round_trip():
    layer = PadCropFlip(3, flip=False, name="mine")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert copy.get_config() == layer.get_config()
    np.testing.assert_array_equal(copy(IMAGES, seed=StepSeed(5)), layer(IMAGES, seed=StepSeed(5)))


def test_resized_crop_against_tensorflow():
    layer, random = RandomResizedCrop(), np.random.default_rng(0)
    images = random.integers(0, 256, (20, 12, 9, 3)).astype("float32")
    boxes, flips = layer.draw(StepSeed(0), 20)
    top, left, height, width = np.asarray(boxes).T
    # tf.image counts from the first pixel's centre to the last one's, we from edge to edge
    edges = [
        (top + height * (0.5 / 12)) * 12 / 11 - 0.5 / 11,
        (left + width * (0.5 / 9)) * 9 / 8 - 0.5 / 8,
        (top + height * (1 - 0.5 / 12)) * 12 / 11 - 0.5 / 11,
        (left + width * (1 - 0.5 / 9)) * 9 / 8 - 0.5 / 8,
    ]
    edges = np.clip(np.stack(edges, axis=1), 0, 1)
    expected = tf.image.crop_and_resize(images, edges, tf.range(20), (12, 9)).numpy()
    expected = np.where(np.asarray(flips)[:, None, None, None], expected[:, :, ::-1], expected)
    inside = (
        (top > 0.05) & (top + height < 0.95) & (left > 0.06) & (left + width < 0.94)
    )  # of the border tf clips otherwise
    assert inside.sum() > 3
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer.apply(images, boxes, flips))[inside], expected[inside], atol=0.1
    )


def test_resized_crop_draws_within_its_bounds_and_keeps_whole_images():
    boxes, flips = map(ops.convert_to_numpy, RandomResizedCrop().draw(StepSeed(1), 4000))
    top, left, height, width = boxes.T
    assert boxes.min() >= 0
    assert (top + height).max() <= 1 + 1e-6
    assert (left + width).max() <= 1 + 1e-6
    uncut = (height < 1) & (width < 1)
    assert 0.08 <= (height * width)[uncut].min() < 0.1
    assert 3 / 4 <= (width / height)[uncut].min() < 0.77
    assert abs(flips.mean() - 0.5) < 0.05
    whole = RandomResizedCrop((1, 1), (1, 1), flip=False)
    np.testing.assert_array_equal(whole(IMAGES, seed=StepSeed(0)), IMAGES)
    again = RandomResizedCrop.from_config(RandomResizedCrop((0.5, 0.9), flip=False).get_config())
    assert (again.scale, again.flip) == ((0.5, 0.9), False)
    with pytest.raises(ValueError, match="`scale` must be the least and the greatest share"):
        RandomResizedCrop((0, 1))
    with pytest.raises(ValueError, match="`ratio` must be the least and the greatest"):
        RandomResizedCrop(ratio=(2, 1))
