"""The maps of a network at several depths, found in its graph; and the decoders that take them."""

import families
import keras
import numpy as np
import pytest
import tiny
from keras import layers, ops

from mixmo_keras import backbones
from mixmo_keras.networks import decoders, maps

# of images of 16×16 pixels
SIZES = {
    "deit3": [(2, 2, 192)] * 4,  # one size, at several depths
    "convnext": [(8, 8, 4), (4, 4, 6), (2, 2, 8)],
    "swin": [(8, 8, 4), (4, 4, 8), (2, 2, 16)],
    "regnet": [(8, 8, 32), (4, 4, 8), (2, 2, 16)],
    "pit": [(7, 7, 4), (4, 4, 8), (2, 2, 16)],
    "xcit": [(8, 8, 4), (4, 4, 8)],
}


def sizes(core: keras.Model) -> list[tuple]:
    return [tuple(one.shape[1:]) for one in maps.with_maps(core).outputs]


@pytest.mark.parametrize("name", families.FAMILIES)
def test_every_family_has_maps(name):
    found = sizes(families.build(name, drop_path=0.5 if name == "convnext" else 0.0).core)
    assert [one[:2] for one in found] == [one[:2] for one in SIZES[name]]
    assert len(found) > 1


def test_residual_networks_end_each_group_in_a_map():
    core = backbones.wide_resnet(10, 1).core
    network = maps.with_maps(core)
    assert [one.shape[1:] for one in network.outputs] == [(32, 32, 16), (16, 16, 32), (8, 8, 64)]
    features = np.random.default_rng(0).normal(size=(2, 32, 32, 16)).astype("float32")
    first, _, last = network(features, training=False)
    expected = keras.Model(core.inputs[0], core.get_layer("group1_block1_add").output)(features, training=False)
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_allclose(ops.mean(last, axis=(1, 2)), core(features, training=False), rtol=1e-5)


def test_maps_of_a_model_of_ones_own():
    """A branch is no map of the network; a model within is written out; the class token is left out."""
    inner = keras.Sequential([keras.Input((8, 8, 4)), layers.Conv2D(4, 3, 2, padding="same"), layers.ReLU()])
    features = keras.Input((8, 8, 4))
    wide = layers.Conv2D(9, 3, padding="same")(features)
    x = layers.Add()([features, layers.Conv2D(4, 1)(wide)])
    x = inner(x)
    tokens = layers.Reshape((16, 4))(x)
    tokens = layers.Concatenate(axis=1)([layers.Lambda(lambda t: t[:, :1], output_shape=(1, 4))(tokens), tokens])
    tokens = layers.Dense(5)(tokens)
    core = keras.Model(features, layers.GlobalAveragePooling1D()(tokens))
    network = maps.with_maps(core)
    assert sizes(core) == [(8, 8, 4), (4, 4, 5)]
    with_class_token = keras.Model(network.inputs[0], network.outputs[1]._keras_history.operation.input)
    assert with_class_token.output_shape[1:] in ((16, 5), (17, 5))


def test_a_network_without_maps_says_so():
    features = keras.Input((8, 8, 4))
    core = keras.Model(features, layers.Dense(3)(layers.Flatten()(features)), name="dense")
    with pytest.raises(ValueError, match=r"dense has no map \(B, h, w, c\).*split_at"):
        maps.with_maps(core)


def test_maps_are_enlarged_as_tensorflow_does():
    import tensorflow as tf

    small = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype("float32")
    expected = tf.image.resize(small, (9, 13), "bilinear")
    np.testing.assert_allclose(decoders.Resampled((9, 13))(small), expected, rtol=1e-4, atol=1e-5)


def test_averages_of_parts_by_hand():
    line = np.arange(5, dtype="float32").reshape(1, 5, 1, 1)
    parts = decoders.Resampled((2, 1), "average")(line)
    np.testing.assert_allclose(np.ravel(parts), [1.0, 3.0])  # of 0, 1, 2 and of 2, 3, 4


@pytest.mark.parametrize("decoder", decoders.DECODERS)
def test_heads_share_a_decoder_and_begin_by_the_seed(decoder):
    inputs = [np.random.default_rng(0).normal(size=(2, side, side, 3)).astype("float32") for side in (8, 4)]

    def made(seed):
        return decoders.MapHead(3, 5, (16, 16), decoder, 6, kernel_initializer=keras.initializers.HeNormal(seed))

    head = made(1)
    logits = head(inputs)
    assert logits.shape == (2, 3, 16, 16, 5)
    again, other = made(1), made(2)
    np.testing.assert_array_equal(again(inputs), logits)
    assert not np.allclose(other(inputs), logits)
    changed = [inputs[0], inputs[1] + 1.0]
    assert not np.allclose(head(changed), logits)  # every map counts
    weights = [weight.reshape(*weight.shape[:-1], 3, 5).mean(-2) for weight in head.dense.get_weights()]
    features = [keras.Input(one.shape[1:]) for one in inputs]
    one = keras.Model(features, head.merged(features, weights))
    np.testing.assert_allclose(one(inputs), ops.mean(logits, axis=1), rtol=1e-3, atol=1e-4)


def test_tiny_networks_of_the_tests_have_maps():
    assert sizes(tiny.backbone().core) == [(8, 8, 4), (4, 4, 6)]
