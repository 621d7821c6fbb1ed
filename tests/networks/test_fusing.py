"""The fused network says what the ensemble says, with the single network's weights."""

import keras
import numpy as np
import pytest
import tiny

from mixmo_keras.networks.layers import is_linear

X, _ = tiny.data(6)


def randomised(model):
    random = np.random.default_rng(0)
    model.set_weights([w + random.uniform(0.1, 0.4, w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


def count(model) -> int:
    return sum(int(np.prod(w.shape)) for w in model.trainable_weights)


@pytest.mark.parametrize("averaging", ["logits", "probabilities"])
@pytest.mark.parametrize("num_members", [1, 2, 3])
@pytest.mark.parametrize("backbone", ["tiny", "wrn10_1", "preact_resnet18_1"])
def test_same_logits_with_the_single_networks_weights(backbone, num_members, averaging):
    named = {} if backbone == "tiny" else dict(backbone=backbone, input_shape=tiny.SHAPE)
    model = randomised(tiny.model(num_members=num_members, averaging=averaging, **named))
    single = tiny.model(num_members=1, **named)
    network = model.fused()
    expected = model.predict(X, verbose=0)
    np.testing.assert_allclose(network.predict(X, verbose=0), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    apart = model.fused(members=True).predict(X, verbose=0)
    of_members = model.predict_members(X, verbose=0)
    np.testing.assert_allclose(apart, of_members, rtol=1e-4, atol=1e-5 * np.abs(of_members).max())
    if averaging == "logits":
        assert count(network) == count(single)
    else:  # heads whose probabilities are averaged stay apart
        assert count(network) == count(single) + (num_members - 1) * count(single.heads)


def test_by_hand():
    """Two encoders with kernels of one number, two heads: 3·(2 + 5)x, then the mean of heads 1 and 3."""
    images, features = keras.Input((1, 1, 1)), keras.Input((1, 1, 1))
    encoder = keras.Model(images, keras.layers.Conv2D(1, 1)(images))
    core = keras.Model(features, keras.layers.Flatten()(keras.layers.Conv2D(1, 1, use_bias=False)(features)))
    backbone = tiny.mixmo_keras.backbones.Backbone(encoder, core)
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
    backbone = tiny.mixmo_keras.backbones.Backbone(encoder, tiny.backbone().core)
    model = randomised(tiny.model(backbone=backbone))
    assert not is_linear(encoder)
    with caplog.at_level("INFO", logger="mixmo_keras"):
        network = model.fused()
    assert "are not linear: they stay 2" in caplog.text
    np.testing.assert_allclose(network.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-4, atol=1e-4)


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
