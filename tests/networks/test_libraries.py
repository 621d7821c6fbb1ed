"""Networks of keras.applications and keras_hub by name: what they are, with random weights, and what is said without any."""

import random

import conversions
import keras
import numpy as np
import pytest

import mixmo_keras
from mixmo_keras.common import trained
from mixmo_keras.models.by_name import model_of
from mixmo_keras.models.from_classifier import parts_of
from mixmo_keras.networks.backbones import libraries

SHAPE = (32, 32, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (2, *SHAPE)).astype("float32")
SMALL = dict(num_classes=3, input_shape=SHAPE)


@pytest.fixture
def random_weights(monkeypatch):
    """keras.applications whose weights are not downloaded: random ones stand for them."""
    build = keras.applications.MobileNet

    def unfetched(weights="imagenet", **options):
        assert weights == "imagenet"
        return build(weights=None, alpha=0.25, **options)

    unfetched.__module__ = build.__module__
    monkeypatch.setattr(keras.applications, "MobileNet", unfetched)


def test_names():
    assert trained.is_of_a_library("keras:MobileNet")
    assert trained.is_of_a_library("hub:resnet_18_imagenet")
    assert trained.is_of_a_library("efficientnet_lite2")
    assert not any(map(trained.is_of_a_library, ("wrn10_1", "classifier.keras", None)))


@pytest.mark.slow
def test_a_network_has_the_preprocessing_that_its_weights_expect_once():
    """Inside its graph, as MobileNetV3's x / 127.5 − 1; or outside it, as ResNet50's, blue first and less the means."""
    itself = parts_of(libraries.network("keras:MobileNetV3Small", **SMALL, pretrained=False)).backbone
    np.testing.assert_allclose(itself.preprocessing(IMAGES), IMAGES / 127.5 - 1, atol=1e-5)
    outside = parts_of(libraries.network("keras:ResNet50", **SMALL, pretrained=False)).backbone
    expected = IMAGES[..., ::-1] - np.array([103.939, 116.779, 123.68])
    np.testing.assert_allclose(outside.preprocessing(IMAGES), expected, atol=1e-3)


@pytest.mark.slow
def test_weights_that_are_new_follow_from_the_seed():
    state = random.getstate()
    first, same, other = (
        libraries.network("keras:MobileNet", **SMALL, pretrained=False, seed=seed).get_weights() for seed in (1, 1, 2)
    )
    assert random.getstate() == state
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.slow
def test_a_pretrained_network_becomes_members_with_heads_of_their_own(random_weights, capsys):
    options = dict(num_members=2, batch_repetitions=2, seed=0)
    model = mixmo_keras.from_classifier("keras:MobileNet", num_classes=3, input_shape=SHAPE, **options)
    said = capsys.readouterr().out
    assert said.startswith("mobilenet: images of 32×32×3\n  preprocessing")
    assert "head           256 → 3, new for 2 members\n" in said
    assert said.endswith("As cut_mixmo it has to learn its task first. Train it: model.fit(...)\n")
    first, second = np.split(model.heads.dense.get_weights()[0], 2, axis=1)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] < 0.2
    np.testing.assert_allclose(model.normalize(IMAGES), IMAGES / 127.5 - 1, atol=1e-5)
    # the stem is shared out: one image in all encoders is what the one stem made of it
    kernels = [encoder.get_weights()[0] for encoder in model.encoders.encoders]
    assert np.std(kernels[0] + kernels[1]) > 5 * np.std(kernels[0] - kernels[1])


@pytest.mark.slow
def test_a_network_that_begins_anew_has_encoders_of_their_own():
    options = dict(method="cut_mixmo", backbone="keras:MobileNet", pretrained=False, batch_repetitions=2, seed=0)
    model = model_of(**SMALL, normalization=(0.4, 0.2), **options)
    kernels = [encoder.get_weights()[0] for encoder in model.encoders.encoders]
    assert np.std(kernels[0] + kernels[1]) == pytest.approx(np.std(kernels[0] - kernels[1]), rel=0.2)
    with pytest.raises(ValueError, match="`encoder_noise` has no meaning for a network that begins anew"):
        model_of(**SMALL, **options, encoder_noise=0.1)


@pytest.mark.slow
def test_a_preset_of_keras_hub(tmp_path, capsys):
    """A folder as `save_to_preset` writes it, of a classifier of seven other classes."""
    keras_hub = pytest.importorskip("keras_hub")
    network = keras_hub.models.ResNetBackbone(image_shape=(None, None, 3), **conversions.RESNET)
    converter = keras_hub.layers.ResNetImageConverter(image_size=(48, 48), scale=1 / 255)
    preprocessor = keras_hub.models.ResNetImageClassifierPreprocessor(image_converter=converter)
    classifier = keras_hub.models.ResNetImageClassifier(network, num_classes=7, preprocessor=preprocessor)
    classifier.save_to_preset(str(tmp_path / "preset"))
    model = mixmo_keras.from_classifier(f"hub:{tmp_path / 'preset'}", num_classes=3, input_shape=SHAPE)
    assert "new for 2 members" in capsys.readouterr().out
    features = model.core(model.mixing_block(model.encoders(model.normalize(IMAGES))))
    theirs = keras.ops.mean(network(IMAGES / 255), axis=(1, 2))
    np.testing.assert_allclose(features, theirs, rtol=1e-3, atol=1e-4)
    assert mixmo_keras.from_classifier(f"hub:{tmp_path / 'preset'}", num_classes=3).image_shape == (48, 48, 3)


def test_what_is_refused():
    for name, options, message in (
        ("keras:MobileNetV3", {}, "keras.applications has no 'MobileNetV3'. It has MobileNet"),
        ("keras:mobilenet", {}, "keras.applications has no 'mobilenet'. It has MobileNet"),
        ("keras:MobileNet", dict(input_shape=None), "`input_shape` must be given for keras:MobileNet"),
        ("keras:MobileNet", dict(num_classes=1), "`num_classes` must be an integer of at least 2"),
        ("keras:MobileNet", dict(pretrained="no"), "`pretrained` must be True or False"),
        ("keras:InceptionV3", {}, "Input size must be at least 75x75"),
    ):
        with pytest.raises(ValueError, match=message):
            libraries.network(name, **dict(pretrained=False) | SMALL | options)
    with pytest.raises(
        ValueError, match="`num_classes`, or `task`, must be given for keras:MobileNet: its heads begin anew"
    ):
        mixmo_keras.from_classifier("keras:MobileNet", input_shape=SHAPE)


def test_weights_that_can_not_be_had_are_one_sentence(monkeypatch):
    def offline(*_, **__):
        raise Exception("URL fetch failure on somewhere: None -- [Errno -2] Name or service not known")

    offline.__module__ = keras.applications.MobileNet.__module__
    monkeypatch.setattr(keras.applications, "MobileNet", offline)
    with pytest.raises(ValueError, match=r"\(='keras:MobileNet'\): its weights can't be had here \(URL fetch failure"):
        libraries.network("keras:MobileNet", **SMALL)


@pytest.mark.slow  # keras_hub takes seconds to import
def test_presets_that_can_not_be_had_are_one_sentence(monkeypatch):
    keras_hub = pytest.importorskip("keras_hub")
    with pytest.raises(ValueError, match="keras_hub can't make a classifier of the preset 'nonsense': Unknown preset"):
        libraries.network("hub:nonsense", **SMALL)

    def offline(*_, **__):
        raise ConnectionError("Failed to resolve")

    monkeypatch.setattr(keras_hub.models.ImageClassifier, "from_preset", offline)
    with pytest.raises(ValueError, match=r"its weights can't be had here \(Failed to resolve\)"):
        libraries.network("hub:resnet_18_imagenet", **SMALL)
