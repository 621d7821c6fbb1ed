"""Centers and random parts of images of several sizes, and that training and serving bring files to size alike."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mixmo_keras import CutMixMo, datasets
from mixmo_keras.datasets import resizing


def gradient(height, width):
    """An image whose channels are each pixel's row, its column and the number 7."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.full_like(rows, 7)], axis=-1).astype("uint8")


@pytest.mark.parametrize("shape", [(20, 30), (30, 20), (10, 10), (11, 40)])
def test_the_center_is_centred_and_keeps_the_aspect_ratio(shape):
    image = gradient(*shape)
    assert resizing.center_crop(shape)(image).numpy().tolist() == image.tolist()
    side = min(shape)
    square = resizing.center_crop((side, side))(image).numpy()
    top, left = ((length - side) // 2 for length in shape)
    assert square.tolist() == image[top : top + side, left : left + side].tolist()
    half = resizing.center_crop((side // 2, side // 2))(image).numpy().astype(int)
    assert half[..., 0].mean() == pytest.approx((shape[0] - 1) / 2, abs=1)
    assert (half[1:-1, :, 1] == half[1, :, 1]).all()


def test_a_border_is_cut_off_after_resizing():
    image = gradient(40, 60)  # as 256 to 224: 20×20 less 2 on each side
    whole = resizing.center_crop((20, 20))(image).numpy()
    assert resizing.center_crop((16, 16), border=2)(image).numpy().tolist() == whole[2:-2, 2:-2].tolist()


@pytest.mark.parametrize(
    ("shape", "target"), [((20, 30, 3), (8, 6, 1)), ((9, 8, 1), (8, 6, 3)), ((8, 6, 3), (8, 6, 1))]
)
def test_images_of_another_dataset_become_what_a_model_takes(shape, target):
    images = np.random.default_rng(0).integers(0, 256, (4, *shape), dtype="uint8")
    fitted = resizing.to_shape(target)(images).numpy()
    assert fitted.shape == (4, *target)
    assert fitted.dtype == np.float32
    assert (fitted == fitted[..., :1]).all()  # grey, whatever they were
    crop = resizing.center_crop(target[:2])
    for image, same in zip(images, fitted, strict=True):
        np.testing.assert_allclose(crop(image).numpy().mean(-1), same[..., 0], atol=0.51)  # pixels are rounded
    colour = np.broadcast_to(np.uint8([10, 20, 60]), (1, *shape[:2], 3))
    np.testing.assert_allclose(resizing.to_shape((5, 5, 1))(colour), 30, atol=1e-4)  # their mean


def test_random_parts_keep_to_their_bounds_and_follow_from_the_seed():
    crop = resizing.random_crop((16, 16))
    image = gradient(200, 120)
    parts = np.stack([crop(image, (3, number)).numpy() for number in range(300)]).astype(float)
    again = np.stack([crop(image, (3, number)).numpy() for number in range(5)])
    assert (again == parts[:5]).all()
    assert (crop(image, (4, 0)).numpy() != again[0]).any()
    assert (parts[..., 2] == 7).all()  # nothing from outside the image
    extents = [(parts[:, -1, -1, axis] - parts[:, 0, 0, axis]) * 16 / 15 for axis in (0, 1)]
    area, ratio = extents[0] * extents[1] / (200 * 120), extents[1] / extents[0]
    assert area.min() > 0.08 * 0.9
    assert area.min() < 0.15
    assert 0.75 * 0.9 < ratio.min() < 0.85
    assert 1.2 < ratio.max() < 4 / 3 * 1.1
    tops = parts[:, 0, 0, 0] / (199 - extents[0])
    assert np.histogram(tops[extents[0] < 150], 4, (0, 1))[0].min() > 20  # everywhere


def test_the_least_area_and_the_interpolation_of_random_parts_are_chosen():
    image, seeds = gradient(120, 120), [(5, number) for number in range(60)]

    def areas(crop):
        parts = np.stack([crop(image, seed).numpy() for seed in seeds]).astype(float)
        heights, widths = (parts[:, -1, -1, axis] - parts[:, 0, 0, axis] for axis in (0, 1))
        return heights * widths * (16 / 15) ** 2 / 120**2

    assert areas(resizing.random_crop((16, 16), 0.1)).min() > 0.1 * 0.9
    assert areas(resizing.random_crop((16, 16), 0.5)).min() > 0.5 * 0.9
    whole = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype="uint8")
    for interpolation in ("bilinear", "bicubic"):
        resized = resizing.random_crop((13, 11), 1.0, interpolation)(
            whole, (1, 2)
        ).numpy()  # no other part has this area
        expected = tf.image.resize(whole, (13, 11), interpolation, antialias=True).numpy()
        np.testing.assert_allclose(resized, np.clip(expected.round(), 0, 255), atol=1)


def test_batches_take_parts_within_bounds_of_ones_own():
    dataset = tf.data.Dataset.from_tensor_slices((np.stack([gradient(20, 20)] * 4), np.arange(4)))
    crop = resizing.random_crop((10, 10), 1.0)
    images, _ = next(iter(datasets.batches(dataset, 4, True, first_epoch=0, random_part=crop)))
    whole = crop(gradient(20, 20), (0, 0)).numpy()
    assert all((image == whole).all() for image in images.numpy())


def test_training_batches_of_parts_follow_from_seed_and_epoch_alone():
    images = [gradient(10 + number, 20) for number in range(8)]
    spec = (tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((), tf.int64))
    dataset = tf.data.Dataset.from_generator(lambda: zip(images, range(8), strict=True), output_signature=spec)

    def epochs(first_epoch, count, seed=1):
        batches = datasets.batches(dataset, 4, True, seed, first_epoch=first_epoch, random_part=(6, 5))
        return [(i.tolist(), y.tolist()) for i, y in batches.take(2 * count).as_numpy_iterator()]

    batches = epochs(0, 3)
    assert np.shape(batches[0][0]) == (4, 6, 5, 3)
    assert [sorted(batches[n][1] + batches[n + 1][1]) for n in (0, 2, 4)] == [list(range(8))] * 3
    parts = {(label, str(image)) for batch in batches for image, label in zip(*batch, strict=True)}
    assert len(parts) > 20  # another part in each epoch
    assert epochs(1, 2) == batches[2:]
    assert epochs(0, 1, seed=2) != batches[:2]
    one = datasets.batches(dataset, 4, True, random_part=(6, 5))
    assert int(one.cardinality()) == 2
    for options, message in (
        (dict(random_part=(6, 5)), "`random_part` is about training"),
        (dict(), "Images of several sizes"),
        (dict(training=True), "Images of several sizes"),
    ):
        with pytest.raises(ValueError, match=message):
            datasets.batches(dataset, 4, **options)


@pytest.mark.slow
def test_files_are_served_as_they_are_trained_on(tmp_path):
    """Of a folder's images, of whatever size, `serving_bytes` gives what the model says of `datasets.load`."""
    for name, value in (("dark", 60), ("light", 200)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(5):
            noise = np.random.default_rng(number).integers(-50, 50, (20 + 3 * number, 30 - 4 * number, 3))
            Image.fromarray((value + noise).astype("uint8")).save(tmp_path / "photos" / name / f"{number}.png")
    model = CutMixMo("tiny_4", num_classes=2, input_shape=(8, 6, 3), seed=0)
    served = tf.saved_model.load(model.export(str(tmp_path / "saved"))).signatures["serving_bytes"]
    folder = datasets.load(f"{tmp_path}/photos@8x6", "train")
    images = np.stack([image for image, _ in folder.as_numpy_iterator()])
    whole = [image for image, _ in datasets.load(f"{tmp_path}/photos@8x6", "train", whole=True)]
    assert len({tuple(image.shape) for image in whole}) > 1
    answer = served(image_bytes=tf.stack([tf.io.encode_png(image) for image in whole]))["probabilities"]
    logits = model.predict(images, verbose=0)
    np.testing.assert_allclose(answer, tf.nn.softmax(logits), atol=1e-6)
