"""How far an ensemble's answers may be from the classifier's: what is held, and that the rest is float32's rounding."""

import keras
import numpy as np
import pytest
import tiny
from keras import layers

from mixmo_keras import from_classifier, keras_internals
from mixmo_keras.networks import classifier

IMAGES = np.zeros((2, 8, 8, 3))
ANSWERS = np.array([[4.0, -2.0], [1.0, 0.0]])


@pytest.fixture
def float64():
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(before[0])
    keras.config.set_dtype_policy(before[1])


@pytest.mark.parametrize(("dtype", "devices", "bound"), [
    ("float32", ["cpu:0"], 4.01e-3),  # a thousandth of the largest answer, and 1e-5
    ("float64", ["cpu:0"], 4.01e-3),
    ("float32", ["gpu:0", "gpu:1"], 8.001e-2),
    ("bfloat16", ["cpu:0"], 0.20001),
])  # fmt: skip
def test_how_far_answers_may_be_from_each_other(dtype, devices, bound, monkeypatch):
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: devices)
    other = ANSWERS.copy()
    other[1, 1] += 0.999 * bound
    classifier.check_same_answers("net", IMAGES, other, ANSWERS, dtype)
    other[1, 1] = 1.001 * bound
    message = (
        rf"net could not be taken apart: .* to 2 images differ from its own by {bound:.2g}, where the largest is 4\."
    )
    with pytest.raises(ValueError, match=message):
        classifier.check_same_answers("net", IMAGES, other, ANSWERS, dtype)


def test_answers_that_are_none():
    with pytest.raises(ValueError, match="net gives NaN or infinite answers"):
        classifier.check_same_answers("net", IMAGES, ANSWERS, ANSWERS * np.nan, "float32")


def deep(size: int) -> keras.Model:
    """Ten convolutions of random weights."""
    images = keras.Input((size, size, 3))
    x = layers.Rescaling(1 / 255)(images)
    for _ in range(10):
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(x)))
    return keras.Model(images, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))


def error(model: keras.Model, size: int) -> float:
    """The largest difference of the ensemble's logits from the classifier's, beside the largest of these."""
    images = np.random.default_rng(0).uniform(0, 255, (8, size, size, 3))
    norms = [one for one in keras_internals.flatten_layers(model) if isinstance(one, layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    model(images, training=True)  # without the statistics of images its answers would vanish
    theirs = keras.ops.convert_to_numpy(model(images))
    ensemble = from_classifier(model, seed=0, verbose=False)
    ours = keras.ops.convert_to_numpy(ensemble(images))
    assert np.ptp(theirs, axis=0).max() > 0.1 * np.abs(theirs).max()
    return np.abs(tiny.log_softmax(ours) - tiny.log_softmax(theirs)).max() / np.abs(tiny.log_softmax(theirs)).max()


@pytest.mark.usefixtures("float64")
def test_in_float64_the_answers_of_a_deep_network_are_the_same():
    assert error(deep(8), 8) < 1e-5


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["ResNet50", "MobileNet"])
def test_in_float64_an_architectures_answers_are_the_same(name):
    """In float32 ResNet50's differ by 1e-4 of the largest: its random weights amplify rounding, see docs/classifiers.md."""
    options = dict(weights=None, classes=4, input_shape=(32, 32, 3), classifier_activation=None)
    assert error(getattr(keras.applications, name)(**options), 32) < 1e-5
