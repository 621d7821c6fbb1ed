"""The graph from images to the members' logits, and where its weights begin."""

import contextlib

import keras
import numpy as np
import pytest
import tiny
from keras import layers

import mixmo_keras
from mixmo_keras import backbones, seeds
from mixmo_keras.networks import network
from mixmo_keras.networks.copying import copy_network, dtype_policy
from mixmo_keras.tasks import Classification

X, _ = tiny.data(2)


def build(parts=None, num_members=2, **options) -> network.Network:
    parts = tiny.backbone() if parts is None else parts
    heads = Classification(tiny.NUM_CLASSES).heads
    return network.build(parts, num_members, heads, **{"seed": 3, "copy_core": True, **options})


def answers(built: network.Network, images=X) -> np.ndarray:
    return keras.Model(built.images, built.member_outputs).predict(images, verbose=0)


@pytest.mark.parametrize("num_members", [1, 3])
def test_the_graph_is_its_layers_one_after_the_other(num_members):
    built = build(num_members=num_members)
    assert built.images.shape == (None, *tiny.SHAPE)
    assert built.member_outputs.shape == (None, num_members, tiny.NUM_CLASSES)
    features = built.mixing_block(built.encoders(built.normalize(X)))
    np.testing.assert_allclose(answers(built), built.heads(built.core(features)), rtol=1e-5, atol=1e-6)


def test_initial_weights_follow_from_the_seed():
    first, again, other = (build(seed=seed) for seed in (1, 1, 2))
    for one, two in ((first.encoders, again.encoders), (first.heads, again.heads)):
        assert tiny.equal_weights(one.get_weights(), two.get_weights())
    assert not tiny.equal_weights(first.encoders.get_weights(), other.encoders.get_weights())
    assert not tiny.equal_weights(first.heads.get_weights(), other.heads.get_weights())
    # the labels of the streams, written down once: another would change every run
    kernel = keras.initializers.HeNormal(seeds.derive(1, "heads"))((6, 2 * tiny.NUM_CLASSES))
    np.testing.assert_array_equal(first.heads.get_weights()[0], kernel)


def test_heads_may_start_small():
    parts = tiny.backbone()
    small = build(backbones.Backbone(parts.encoder, parts.core, head_stddev=0.01), num_members=50)
    assert np.std(small.heads.get_weights()[0]) == pytest.approx(0.01, rel=0.1)


def test_a_core_is_copied_where_the_caller_keeps_it():
    parts = tiny.backbone()
    copied, taken = build(parts), build(parts, copy_core=False)
    assert taken.core is parts.core
    assert tiny.equal_weights(copied.core, parts.core)
    copied.core.set_weights([weight + 1 for weight in copied.core.get_weights()])
    assert not tiny.equal_weights(copied.core, parts.core)


@pytest.mark.parametrize("what", ["encoders", "heads"])
def test_members_may_share(what):
    warned = pytest.warns(UserWarning, match="same prediction") if what == "heads" else contextlib.nullcontext()
    with warned:
        built = build(num_members=3, share=what)
    assert built.encoders.shared == (what == "encoders")
    assert built.heads.shared == (what == "heads")
    logits = answers(built)
    assert (np.ptp(logits, axis=1).max() < 1e-6) == (what == "heads")


# -- pretrained encoders ---------------------------------------------------------------------------------------------------


def pretrained(filters: int = 4, activation: str | None = None) -> keras.Model:
    """Convolution, batch norm, ReLU, convolution, pooling, with weights that are not those of the start."""
    images = keras.Input(tiny.SHAPE)
    x = layers.Conv2D(filters, 3, padding="same", activation=activation, name="stem")(images)
    x = layers.ReLU(name="stem_relu")(layers.BatchNormalization()(x))
    x = layers.GlobalMaxPooling2D()(layers.Conv2D(6, 3, 2)(x))
    model = keras.Model(images, x)
    random = np.random.default_rng(0)
    model.set_weights([w + random.uniform(0.1, 0.5, w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("num_members", [2, 3])
def test_pretrained_encoders_give_the_core_what_it_knows(num_members):
    whole = pretrained()
    options = dict(num_members=num_members, normalization=None)
    built = build(backbones.split(whole, "stem"), encoder_noise=0, **options)
    images = X.astype("float32")
    features = built.core(built.mixing_block(built.encoders(images)))
    np.testing.assert_allclose(features, whole(images), rtol=1e-4)
    # noise lets members part, and its size is that of the weights
    built = build(backbones.split(whole, "stem"), encoder_noise=0.1, **options)
    kernel = np.asarray(whole.get_layer("stem").kernel) / num_members
    noises = [np.asarray(encoder.get_layer("stem").kernel) - kernel for encoder in built.encoders.encoders]
    assert not np.allclose(noises[0], noises[1])
    np.testing.assert_allclose(sum(noises), 0, atol=1e-6)  # so that the core still sees what it knows
    for noise in noises:  # 108 numbers: their standard deviation within four of its own standard errors
        assert noise.std() == pytest.approx(0.1 * kernel.std(), rel=4 / np.sqrt(2 * 107))


@pytest.mark.parametrize("activation", [None, "relu"])
def test_with_noise_the_cut_is_right_behind_the_convolution(activation):
    whole = pretrained(activation=activation)
    model = mixmo_keras.CutMixMo(whole, num_classes=5, encoder_noise=0.1, normalization=None, seed=0)
    assert [layer.name for layer in model.encoders.encoders[0].layers][1:] == ["stem"]
    images = X.astype("float32")
    features = model.core(model.mixing_block(model.encoders(images)))
    np.testing.assert_allclose(features, whole(images), rtol=1e-4)


def test_a_model_keeps_its_encoder_noise():
    model = mixmo_keras.CutMixMo(pretrained(), num_classes=5, split_at="stem", encoder_noise=0.1, normalization=None)
    assert mixmo_keras.MixMo.from_config(model.get_config()).get_config()["encoder_noise"] == 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(backbone="wrn10_1"), r"`encoder_noise` \(=0.1\) is for a backbone that brings its weights"),
        (dict(split_at="stem_relu"), "needs an encoder that is one convolution without activation"),
    ],
)
def test_encoders_that_can_not_be_pretrained(options, message):
    arguments = {"backbone": pretrained(), "encoder_noise": 0.1, "num_classes": 5, **options}
    with pytest.raises(ValueError, match=message):
        mixmo_keras.CutMixMo(**arguments)


# -- what can't be built, helpers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(share="core"), "`share` must be one of encoders, heads, both, fan_in, or None, got 'core'"),
        (dict(share=True), "`share` must be one of encoders, heads, both, fan_in, or None, got True"),
        (dict(share="heads", num_members=1), r"`share` \(='heads'\) says what several members have in common"),
        (dict(num_members=0), "`num_members` must be an integer of at least 1, got 0"),
        (dict(synchronized_batch_norm=1), "`synchronized_batch_norm` must be True or False, got 1"),
        (dict(normalization=(127.5, 127.5)), "divide what was measured on pixels from 0 to 255 by 255"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_a_dtype_policy_for_a_while():
    with dtype_policy("mixed_bfloat16"):
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        with dtype_policy(None):
            assert keras.config.dtype_policy().name == "mixed_bfloat16"
    with pytest.raises(RuntimeError), dtype_policy("float64"):
        raise RuntimeError
    assert keras.config.dtype_policy().name == "float32"


def test_a_copy_shares_nothing():
    core = tiny.backbone().core
    copied = copy_network(core)
    assert tiny.equal_weights(copied, core)
    copied.set_weights([weight + 1 for weight in copied.get_weights()])
    assert not tiny.equal_weights(copied, core)
