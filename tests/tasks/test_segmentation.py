"""What a segmentation computes: its loss against NumPy, label maps that move and mix with their images, methods."""

import families
import keras
import numpy as np
import pytest
import tiny
from every_task import X, model
from keras import ops
from scipy.special import log_softmax

import mixmo_keras
from mixmo_keras import tasks
from mixmo_keras.mixing.augmentation import Compose, PadCropFlip, RandomResizedCrop
from mixmo_keras.mixing.policies import RandomErasing
from mixmo_keras.networks.copying import dtype_policy
from mixmo_keras.seeds import StepSeed

RANDOM = np.random.default_rng(0)
TASK = tasks.Segmentation(3, width=8)
MAPS = RANDOM.choice([0, 1, 2, 255], (len(X), 8, 8))


def test_the_loss_is_the_mean_over_pixels_that_count():
    logits = RANDOM.normal(0, 2, (3, 8, 8, 3)).astype("float32")
    labels, weights = MAPS[:3].copy(), RANDOM.random((3, 8, 8)).astype("float32")
    labels[2] = 255
    logs = log_softmax(logits.astype("float64"), -1)
    values = -np.take_along_axis(logs, np.minimum(labels, 2)[..., None], -1)[..., 0]
    loss = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(TASK.loss()))
    counts = labels != 255
    expected = [values[row][counts[row]].mean() if counts[row].any() else 0 for row in range(3)]
    np.testing.assert_allclose(loss.call(labels, ops.convert_to_tensor(logits)), expected, rtol=1e-5)
    weights *= counts
    expected = (values * weights).sum((1, 2)) / np.maximum(weights.sum((1, 2)), 1e-6)
    pairs = np.stack([labels, weights], -1).astype("float32")
    np.testing.assert_allclose(loss.call(pairs, ops.convert_to_tensor(logits)), expected, rtol=1e-5)


def test_pixels_weigh_as_much_as_they_show_of_a_member():
    labels = np.array([[[[0, 1], [2, 255]]] * 2])  # (1, 2, 2, 2)
    masks = np.array([[[[[1.0], [0.25]]], [[[0.0], [0.75]]]]], "float32")  # (1, 2, 1, 2, 1): left all of the first
    seen = ops.convert_to_numpy(TASK.seen(ops.convert_to_tensor(labels), None, None, ops.convert_to_tensor(masks)))
    np.testing.assert_array_equal(seen[..., 0], labels)
    np.testing.assert_allclose(seen[0, 0, ..., 1], [[1, 0.25], [1, 0]])
    np.testing.assert_allclose(seen[0, 1, ..., 1], [[0, 0.75], [0, 0]])
    hidden = ops.convert_to_tensor(masks[:, :, :, :1])  # nothing of the second: as if all of it were seen
    np.testing.assert_allclose(
        TASK.seen(ops.convert_to_tensor(labels), None, None, hidden)[0, 1, ..., 1], [[1, 1], [1, 0]]
    )


@pytest.mark.parametrize(
    "augmentation",
    [
        PadCropFlip(2),
        PadCropFlip(2, padding_mode="reflect", alternating=True),
        Compose([PadCropFlip(1), RandomErasing(1e-9), PadCropFlip(1)]),
    ],
)
@pytest.mark.parametrize("options", [{}, {"input_repetition": 0.5}, {"shared_augmentation": True}])
def test_label_maps_move_and_mix_with_their_images(augmentation, options):
    """Pixels say their label: whatever is cropped, flipped, repeated and cut, they still do."""
    labels = RANDOM.integers(1, 3, (6, 8, 8, 1)).astype("uint8")
    images = np.repeat(100 * labels, 3, axis=-1)
    made = model(
        TASK, augmentation=augmentation, msda=mixmo_keras.MSDA(probability=1.0), batch_repetitions=2, **options
    )
    batch = made.make_batch((images, labels), StepSeed(1, 5))
    shown = ops.convert_to_numpy(batch.images)[..., 0]
    seen = ops.convert_to_numpy(batch.targets)
    assert shown.shape == (12, 2, 8, 8)
    outside = seen[..., 0] == 255
    np.testing.assert_array_equal(shown[outside], 0)
    np.testing.assert_array_equal(shown[~outside], 100 * seen[~outside][:, 0])
    assert (seen[outside][:, 1] == 0).all()
    assert outside.any() != (isinstance(augmentation, PadCropFlip) and augmentation.padding_mode == "reflect")
    assert (ops.convert_to_numpy(batch.labels) != seen[..., 0]).any()  # CutMix shows others' labels


def test_parts_of_label_maps_by_their_nearest_pixels():
    labels = RANDOM.integers(0, 9, (2, 4, 6))
    crop, images = RandomResizedCrop(), np.zeros((2, 4, 6, 3), "float32")
    boxes = ops.convert_to_tensor([[0.0, 0.0, 1.0, 1.0], [0.25, 0.5, 0.5, 0.5]])
    moved = ops.convert_to_numpy(crop.move(ops.convert_to_tensor(labels), images, 255, boxes, np.array([False, True])))
    np.testing.assert_array_equal(moved[0], labels[0])  # the whole image
    part = labels[1][1:3, 3:]
    np.testing.assert_array_equal(moved[1], part.repeat(2, 0).repeat(2, 1)[:, ::-1])  # twice as large, flipped


def test_figures_are_counted_batch_by_batch():
    made = model(TASK)
    outputs, labels = made.predict_with_labels(X, MAPS)
    assert outputs.shape == (24, 2, 8, 8, 3)
    figures = made.figures(X, MAPS, batch_size=5)
    whole = TASK.figures(made.average, outputs, labels)
    for name in ("miou", "accuracy", "nll", "ece"):
        assert figures["ensemble"][name] == pytest.approx(whole["ensemble"][name], rel=1e-4)
    logged = dict(zip(made.metrics_names, made.evaluate(X, MAPS, verbose=0), strict=False))
    assert logged["loss"] == pytest.approx(made.test_on_batch(X, MAPS)[0], rel=1e-3)
    answers = made.answers(X)
    np.testing.assert_array_equal(answers["label_map"], made.predict(X, verbose=0).argmax(-1))
    assert answers["confidence"].shape == (24, 8, 8)
    assert (answers["mutual_information"] >= 0).all()


def test_a_temperature_is_fitted_on_some_pixels_of_each_image():
    made = model(TASK)
    outputs, labels = made.predict_with_labels(X, MAPS)
    kept, of_pixels = TASK.sample(outputs, labels)
    assert kept.shape == (24, 2, 64, 1, 3)  # all, of small images
    assert (of_pixels != 255).sum() == (MAPS != 255).sum()
    assert made.calibrate_on(kept, of_pixels) == pytest.approx(made.calibrate_on(outputs, labels), rel=1e-4)
    large, label_map = RANDOM.normal(size=(1, 2, 40, 40, 3)), np.full((1, 40, 40), 255)
    label_map[0, :3] = np.arange(40) % 3  # 120 pixels count
    kept, of_pixels = TASK.sample(large, label_map)
    assert kept.shape == (1, 2, 256, 1, 3)
    np.testing.assert_array_equal(of_pixels[0, :120, 0], label_map[0, :3].ravel())
    np.testing.assert_array_equal(kept[0, :, :120, 0], large[0, :, :3].reshape(2, 120, 3))
    assert (of_pixels[0, 120:] == 255).all()
    again = TASK.sample(kept, of_pixels)
    np.testing.assert_array_equal(again[0], kept)
    np.testing.assert_array_equal(again[1], of_pixels)
    many = TASK.sample(large, np.zeros((1, 40, 40), int))[0][0, :, :, 0]
    np.testing.assert_array_equal(many[:, [0, -1]], large[0].reshape(2, -1, 3)[:, [0, -1]])


def test_members_learn_which_pixels_are_bright():
    images = RANDOM.integers(0, 256, (48, 8, 8, 1)).repeat(3, -1).astype("uint8")
    made = model(tasks.Segmentation(2, width=8), learning_rate=0.1, mixing=None, input_repetition=0.5)
    made.fit(images, images[..., 0] // 128, batch_size=16, epochs=20, verbose=0)
    assert made.figures(images, images[..., 0] // 128)["ensemble"]["miou"] > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["light", "upernet"])
@pytest.mark.parametrize("method", ["single", "mimo", "linear_mixmo", "cut_mixmo", "cosub"])
@pytest.mark.parametrize("name", families.FAMILIES)
def test_every_method_on_every_family(name, method, decoder):
    images, _ = families.data(8)
    labels = RANDOM.choice([0, 1, 255], (8, 16, 16))
    options = dict(task=tasks.Segmentation(2, decoder=decoder, width=4), batch_repetitions=1, seed=0, l2=0.0)
    options |= {"drop_path": 0.0} if method == "cosub" else {}
    made = mixmo_keras.models.methods.METHODS[method](families.build(name), **options)
    made.compile(keras.optimizers.AdamW(0.001))
    assert np.isfinite(made.fit(images, labels, verbose=0).history["loss"][0])
    np.testing.assert_allclose(made.fused().predict(images, verbose=0), made.predict(images, verbose=0), atol=1e-3)


@pytest.mark.slow
def test_cosub_in_half_precision():
    images, _ = families.data(4)
    labels = RANDOM.choice([0, 1, 255], (4, 16, 16))
    with dtype_policy("mixed_bfloat16"):
        made = mixmo_keras.CoSub(
            families.build("convnext"), task=tasks.Segmentation(2, width=4), drop_path=0.0, seed=0, l2=0.0
        )
    made.compile(keras.optimizers.AdamW(0.001))
    assert np.isfinite(made.fit(images, labels, batch_size=4, verbose=0).history["loss"][0])
    assert made.predict(images, verbose=0).dtype == "float32"


def test_a_classifiers_core_begins_a_segmentation():
    source = tiny.model(num_members=1)
    made = mixmo_keras.from_classifier(source, task=TASK, verbose=False)
    kernel = source.core.layers[-3].get_weights()[0]
    assert any(weight.shape == kernel.shape and np.array_equal(weight, kernel) for weight in made.core.get_weights())
    assert made.output_shape == (None, 8, 8, 3)
