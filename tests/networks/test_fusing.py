"""The fused network says what the ensemble says, with the single network's weights."""

import functools
import itertools

import keras
import numpy as np
import pytest
import tiny
from keras import ops

import mixmo_keras
from mixmo_keras.networks.backbones import Backbone
from mixmo_keras.networks.backbones.parts import Parts
from mixmo_keras.networks.layers import is_linear

X, _ = tiny.data(6)


def randomised(model):
    random = np.random.default_rng(0)
    model.set_weights([w + random.uniform(0.1, 0.4, w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


def count(model) -> int:
    return sum(int(np.prod(w.shape)) for w in model.trainable_weights)


def padded() -> Backbone:
    """The encoder of the pre-activation ResNet, which pads by a layer of its own, before a small core."""
    images = keras.Input(tiny.SHAPE)
    encoder = keras.Model(images, Parts(0).convolution(images, 4, 3, 2, symmetric=True, name="conv"))
    features = keras.Input(encoder.output_shape[1:])
    x = keras.layers.Conv2D(6, 3, activation="relu")(features)
    return Backbone(encoder, keras.Model(features, keras.layers.GlobalAveragePooling2D()(x)))


def build(backbone: str, **options) -> mixmo_keras.MixMo:
    if backbone == "padded":
        return tiny.model(backbone=padded(), **options)
    return (
        tiny.model(**options)
        if backbone == "tiny"
        else tiny.model(backbone=backbone, input_shape=tiny.SHAPE, **options)
    )


@functools.cache
def count_of_single(backbone: str) -> tuple[int, int]:
    """Trainable parameters of the single network, and of its head."""
    single = build(backbone, num_members=1)
    return count(single), count(single.heads)


def networks():
    """The tiny network in every form; of the others two members by their logits and three by their probabilities."""
    cases = itertools.product(("tiny", "wrn10_1", "padded"), (1, 2, 3), ("logits", "probabilities"))
    for backbone, num_members, averaging in (*cases, ("preact_resnet18_1", 2, "logits")):
        shown = backbone == "tiny" or (num_members, averaging) == (2, "logits")
        marks = [pytest.mark.slow] * (backbone == "preact_resnet18_1" or not shown)  # whose encoder is the padded one
        yield pytest.param(backbone, num_members, averaging, id=f"{backbone}-{num_members}-{averaging}", marks=marks)


@pytest.mark.parametrize(("backbone", "num_members", "averaging"), [*networks()])
def test_same_logits_with_the_single_networks_weights(backbone, num_members, averaging):
    model = randomised(build(backbone, num_members=num_members, averaging=averaging))
    network = model.fused()
    expected = ops.convert_to_numpy(model(X))
    np.testing.assert_allclose(network(X), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    apart = model.fused(members=True)(X)
    of_members = model.predict_members(X, verbose=0)
    np.testing.assert_allclose(apart, of_members, rtol=1e-4, atol=1e-5 * np.abs(of_members).max())
    of_single, of_head = count_of_single(backbone)
    if averaging == "logits":
        assert count(network) == of_single
    else:  # heads whose probabilities are averaged stay apart
        assert count(network) == of_single + (num_members - 1) * of_head


@pytest.mark.parametrize("applies_to", ["ensemble", "members"])
@pytest.mark.parametrize("averaging", ["logits", "probabilities"])
def test_the_temperature_comes_along(averaging, applies_to):
    model = randomised(tiny.model(averaging=averaging, temperature_applies_to=applies_to))
    before = model.fused().predict(X, verbose=0)
    model.temperature = 2.5
    after = model.fused().predict(X, verbose=0)
    np.testing.assert_allclose(after, model.predict(X, verbose=0), rtol=1e-4, atol=1e-4)
    assert np.abs(after - before).max() > 1e-2


def test_by_hand():
    """Two encoders with kernels of one number, two heads: 3·(2 + 5)x, then the mean of heads 1 and 3."""
    images, features = keras.Input((1, 1, 1)), keras.Input((1, 1, 1))
    encoder = keras.Model(images, keras.layers.Conv2D(1, 1)(images))
    core = keras.Model(features, keras.layers.Flatten()(keras.layers.Conv2D(1, 1, use_bias=False)(features)))
    backbone = Backbone(encoder, core)
    model = tiny.model(backbone=backbone, num_classes=2, normalization=None, augmentation=None)
    for network, (kernel, bias) in zip(model.encoders.encoders, ((2.0, 0.5), (5.0, 0.25)), strict=True):
        network.set_weights([np.full((1, 1, 1, 1), kernel), np.array([bias])])
    model.core.set_weights([np.full((1, 1, 1, 1), 3.0)])
    model.heads.set_weights([np.array([[1.0, 0.0, 3.0, 4.0]]), np.array([0.0, 1.0, 2.0, 3.0])])
    network = model.fused()
    features = 3 * (7 * 10 + 0.75)
    np.testing.assert_allclose(
        network.predict(np.full((1, 1, 1, 1), 10.0), verbose=0), [[2 * features + 1, 2 * features + 2]]
    )
    assert count(network) == 2 + 1 + 4


def test_shared_encoders():
    model = randomised(tiny.model(num_members=3, share_encoders=True))
    np.testing.assert_allclose(model.fused().predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-4, atol=1e-4)


def test_shared_heads():
    with pytest.warns(UserWarning, match="all members give the same prediction"):
        model = randomised(tiny.model(share_heads=True))
    np.testing.assert_allclose(model.fused().predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", ["relu", None])
def test_encoders_that_are_not_linear_stay(activation, caplog):
    images = keras.Input(tiny.SHAPE)
    x = keras.layers.Conv2D(4, 3, padding="same", activation=activation)(images)
    encoder = keras.Model(images, x if activation else keras.layers.BatchNormalization()(x))
    backbone = Backbone(encoder, tiny.backbone().core)
    model = randomised(tiny.model(backbone=backbone))
    assert not is_linear(encoder)
    with caplog.at_level("INFO", logger="mixmo_keras"):
        network = model.fused()
    assert "are not linear: they stay 2" in caplog.text
    np.testing.assert_allclose(network.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("eagerly")
def test_the_copy_is_independent_and_saves(tmp_path):
    model = tiny.model()
    network = model.fused()
    before = network.predict(X, verbose=0)
    model.fit(*tiny.data(), verbose=0)
    assert np.array_equal(network.predict(X, verbose=0), before)
    network.save(tmp_path / "fused.keras")
    assert np.array_equal(keras.models.load_model(tmp_path / "fused.keras").predict(X, verbose=0), before)


def test_mixed_precision_keeps_its_policy():
    model = tiny.model(backbone="wrn10_1", input_shape=tiny.SHAPE, dtype="mixed_bfloat16")
    network = model.fused(members=True)
    assert keras.config.dtype_policy().name == "float32"
    np.testing.assert_allclose(
        np.asarray(network.predict(X, verbose=0), "float32"), model.predict_members(X, verbose=0), atol=0.1
    )
