"""Trained networks for images of another size, or grey images for RGB: the same answers as after the change by hand."""

import keras
import numpy as np
import pytest

from mixmo_keras import from_classifier
from mixmo_keras.networks import adapting
from mixmo_keras.networks.copying import copy_network

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 10, 12, 3)).astype("float32")
LUMA = np.array([[0.299], [0.587], [0.114]], "float32")


def network(shape, rescaled=True, flattened=False):
    images = keras.Input(shape)
    x = keras.layers.Rescaling(1 / 255)(images) if rescaled else images
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu")(x)
    x = (keras.layers.Flatten() if flattened else keras.layers.GlobalAveragePooling2D())(x)
    return keras.Model(images, keras.layers.Dense(5)(x), name="mine")


def single(classifier, input_shape):
    return from_classifier(classifier, method="single", input_shape=input_shape, verbose=False)


@pytest.mark.parametrize("rescaled", [True, False])
def test_a_grey_channel_is_repeated_and_rgb_is_made_grey(rescaled, tmp_path):
    rgb, grey = network((10, 12, 3), rescaled), network((10, 12, 1), rescaled)
    of_grey, of_rgb = single(rgb, (10, 12, 1)), single(grey, (10, 12, 3))
    expected = rgb(np.repeat(IMAGES[..., :1], 3, axis=-1))
    np.testing.assert_allclose(of_grey(IMAGES[..., :1]), expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(of_rgb(IMAGES), grey(IMAGES @ LUMA), rtol=1e-3, atol=1e-4)
    of_rgb.save(tmp_path / "model.keras")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "model.keras")(IMAGES), of_rgb(IMAGES), rtol=1e-5)


def test_a_network_is_built_for_another_size_where_its_layers_allow():
    classifier = network((20, 20, 3))
    model = single(classifier, (10, 12, 3))
    anew = network((10, 12, 3))
    anew.set_weights(classifier.get_weights())
    np.testing.assert_allclose(model(IMAGES), anew(IMAGES), rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match=r"mine takes images of 20×20 pixels alone; these are of 10×12.* photos@20\."):
        single(network((20, 20, 3), flattened=True), (10, 12, 3))
    with pytest.raises(ValueError, match=r"`input_shape` \(=\(20, 20, 2\)\) differs"):
        single(classifier, (20, 20, 2))


def test_what_is_said():
    rgb, grey = network((20, 20, 3)), network((None, None, 1))
    assert adapting.difference(rgb, (20, 20, 3)) == adapting.difference(grey, (8, 8, 1)) == ""
    assert adapting.difference(rgb, (8, 9, 1)) == "built for 20×20 pixels, now for 8×9; grey, repeated for RGB"
    assert adapting.difference(grey, (8, 9, 3)) == "RGB, made grey"


def test_layers_whose_names_tensorflow_refuses_have_others_in_the_copy():
    images = keras.Input((8, 8, 3), name="my images")
    x = keras.layers.Conv2D(4, 3, name="my conv")(images)
    x = keras.layers.BatchNormalization(name="_bn")(x)
    x = keras.layers.GlobalAveragePooling2D(name="my_conv")(x)
    classifier = keras.Model(images, keras.layers.Dense(3, name="größe")(x), name="mine")
    copied = copy_network(classifier)
    assert [layer.name for layer in copied.layers[1:]] == ["my_conv_", "layer_bn", "my_conv", "gr__e"]
    assert all(weight.path.split("/")[0] in {layer.name for layer in copied.layers} for weight in copied.weights)
    np.testing.assert_array_equal(copied(IMAGES[:, :8, :8]), classifier(IMAGES[:, :8, :8]))
    model = from_classifier(classifier, method="single", verbose=False)
    model.fit(IMAGES[:, :8, :8], np.arange(3), verbose=0)  # TensorFlow refused it
