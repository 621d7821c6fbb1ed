"""The mixing formula, encoders and heads against NumPy and numbers worked by hand."""

import keras
import numpy as np
import pytest
import tiny
from keras import layers, ops

from mixmo_keras.networks.layers import MixingBlock, MultiEncoder, MultiHead
from mixmo_keras.networks.member_average import MemberAverage

RANDOM = np.random.default_rng(0)
MEMBERS = [1, 2, 3, 5]


def normal(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def encoder(**options) -> keras.Model:
    images = keras.Input((4, 6, 3))
    return keras.Model(images, layers.Conv2D(2, 3, padding="same", **options)(images))


def convolution(images, kernel, bias):
    """3×3, zeros at the border: a sum over the nine shifts."""
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifts = [(padded[:, i : i + height, j : j + width], kernel[i, j]) for i in range(3) for j in range(3)]
    return sum(image @ weights for image, weights in shifts) + bias


# -- encoders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_members", MEMBERS)
def test_each_encoder_sees_its_own_image(num_members):
    layer = MultiEncoder(encoder(bias_initializer="he_normal"), num_members, seed=0)
    images = normal(2, num_members, 4, 6, 3)
    expected = [convolution(images[:, m], *layer.encoders[m].get_weights()) for m in range(num_members)]
    np.testing.assert_allclose(layer(images), np.stack(expected, 1), rtol=1e-5, atol=1e-5)
    # and at inference all see the same one
    same = np.repeat(images[:, :1], num_members, axis=1)
    np.testing.assert_allclose(layer(images[:, 0]), layer(same), rtol=1e-6)
    assert layer.compute_output_shape((None, num_members, 4, 6, 3)) == (None, num_members, 4, 6, 2)


def test_encoders_start_apart_and_follow_from_the_seed():
    def weights(seed):
        return [member.get_weights()[0] for member in MultiEncoder(encoder(), 5, seed=seed).encoders]

    first, again, other, random, random_again = map(weights, (1, 1, 2, None, None))
    np.testing.assert_array_equal(first, again)
    different = [w.tobytes() for some in (first, other, random, random_again) for w in some]
    assert len(set(different)) == 20
    # as the description says: glorot uniform, whose limit is √(6/(fan-in + fan-out))
    limit = np.sqrt(6 / (9 * 3 + 9 * 2))
    assert 0.9 * limit < np.abs(first).max() <= limit


@keras.saving.register_keras_serializable("test")
class Own(keras.initializers.Initializer):
    def __init__(self, seed=None):
        self.seed = seed

    def __call__(self, shape, dtype=None):
        return keras.random.normal(shape, dtype=dtype, seed=self.seed)

    def get_config(self):
        return {"seed": self.seed}


def test_encoders_start_apart_with_fixed_seeds_too():
    for initializer in (keras.initializers.HeNormal(seed=0), Own(seed=0)):
        first, second = MultiEncoder(encoder(kernel_initializer=initializer), 2, seed=0).encoders
        assert not np.array_equal(first.get_weights()[0], second.get_weights()[0])


def test_dropout_differs_between_encoders():
    images = keras.Input((4, 6, 3))
    layer = MultiEncoder(keras.Model(images, layers.Dropout(0.5, seed=0)(images)), 2, seed=0)
    first, second = np.moveaxis(ops.convert_to_numpy(layer(np.ones((3, 4, 6, 3), "float32"), training=True)), 1, 0)
    assert 0 < first.mean() < 2
    assert not np.array_equal(first, second)


def test_the_description_is_not_part_of_the_layer():
    description = encoder()
    before = description.get_weights()
    layer = MultiEncoder(description, 2, seed=0)
    assert len(layer.trainable_weights) == 2 * len(before)
    layer.set_weights([weight + 1 for weight in layer.get_weights()])
    assert tiny.equal_weights(before, description)


@pytest.mark.parametrize("num_members", [2, 3])
def test_a_shared_encoder_is_one(num_members):
    layer = MultiEncoder(encoder(), num_members, shared=True, seed=0)
    assert len(layer.trainable_weights) == 2
    images = normal(2, num_members, 4, 6, 3)
    expected = np.stack([layer.encoders[0](images[:, m]) for m in range(num_members)], 1)
    np.testing.assert_allclose(layer(images), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer(images[:, 0]), np.repeat(expected[:, :1], num_members, 1), rtol=1e-5, atol=1e-6)


def test_wrong_number_of_images():
    with pytest.raises(ValueError, match=r"with M=2 members.*got \(1, 3, 4, 6, 3\)"):
        MultiEncoder(encoder(), 2)(np.zeros((1, 3, 4, 6, 3)))


# -- mixing block --------------------------------------------------------------------------------------------------------


def test_mixing_by_hand():
    features = np.array([1.0, 3.0]).reshape(1, 2, 1, 1, 1)
    masks = np.array([0.25, 0.75]).reshape(1, 2, 1, 1, 1)
    assert float(ops.squeeze(MixingBlock()(features, masks))) == 2 * (0.25 * 1 + 0.75 * 3)
    assert float(ops.squeeze(MixingBlock()(features))) == 1 + 3


@pytest.mark.parametrize("num_members", MEMBERS)
@pytest.mark.parametrize("channels", [1, 7], ids=["one mask", "a mask for each channel"])
def test_mixed_is_m_times_the_masked_sum(num_members, channels):
    features = normal(3, num_members, 4, 6, 7)
    masks = RANDOM.dirichlet(np.ones(num_members), (3, 4, 6, channels)).astype("float32").transpose(0, 4, 1, 2, 3)
    expected = np.zeros((3, 4, 6, 7))
    for row, member, i, j, c in np.ndindex(features.shape):
        mask = masks[row, member, i, j, c if channels > 1 else 0]
        expected[row, i, j, c] += num_members * mask * features[row, member, i, j, c]
    mixed = MixingBlock()(features, masks)
    np.testing.assert_allclose(mixed, expected, rtol=1e-4, atol=1e-5)
    assert MixingBlock().compute_output_shape(features.shape) == tuple(mixed.shape)


@pytest.mark.parametrize("num_members", MEMBERS)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("rank", [4, 5], ids=["one image", "an image for each member"])
def test_a_list_of_features_is_mixed_as_a_stack_is(num_members, shared, rank):
    encoders = MultiEncoder(encoder(), num_members, shared, seed=0)
    images = normal(4, num_members, *encoder().input_shape[1:])[:, 0 if rank == 4 else slice(None)]
    stack, each = encoders(images), encoders(images, stacked=False)
    np.testing.assert_array_equal(stack, np.stack(each, axis=1))
    masks = np.abs(normal(4, num_members, *stack.shape[2:4], 1))
    for given in (None, masks):
        np.testing.assert_allclose(MixingBlock()(each, given), MixingBlock()(stack, given), rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match="got masks"):
        MixingBlock()(each, masks[:, :, 1:])


@pytest.mark.parametrize("num_members", MEMBERS)
def test_no_masks_are_equal_masks(num_members):
    features = normal(2, num_members, 3, 3, 2)
    equal = np.full((2, num_members, 3, 3, 1), 1 / num_members, "float32")
    np.testing.assert_allclose(MixingBlock()(features), MixingBlock()(features, equal), rtol=1e-5, atol=1e-6)


def test_swapping_members_with_their_masks_changes_nothing():
    features, masks = normal(2, 3, 4, 4, 5), np.abs(normal(2, 3, 4, 4, 1))
    swapped = MixingBlock()(features[:, [2, 1, 0]], masks[:, [2, 1, 0]])
    np.testing.assert_allclose(MixingBlock()(features, masks), swapped, rtol=1e-5, atol=1e-5)


# -- heads and average ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_members", MEMBERS)
def test_each_head_is_a_dense_layer(num_members):
    layer = MultiHead(num_members, 4, kernel_initializer="glorot_normal")
    features = normal(3, 6)
    assert layer(features).shape == layer.compute_output_shape(features.shape) == (3, num_members, 4)
    layer.set_weights([normal(6, num_members * 4), normal(num_members * 4)])
    kernel, bias = layer.get_weights()
    for member in range(num_members):
        columns = slice(4 * member, 4 * member + 4)
        expected = features @ kernel[:, columns] + bias[columns]
        np.testing.assert_allclose(layer(features)[:, member], expected, rtol=1e-4, atol=1e-5)


def test_heads_start_apart_at_their_own_fan_in():
    layer = MultiHead(5, 100)
    layer.build((None, 400))
    heads = layer.get_weights()[0].reshape(400, 5, 100)
    np.testing.assert_allclose(heads.std((0, 2)), np.sqrt(2 / 400), rtol=0.03)  # he_normal, 40,000 weights each
    assert len({heads[:, member].tobytes() for member in range(5)}) == 5


def test_a_shared_head_is_one():
    layer = MultiHead(3, 4, shared=True)
    features = normal(2, 6)
    logits = ops.convert_to_numpy(layer(features))
    assert layer.count_params() == 6 * 4 + 4
    kernel, bias = layer.get_weights()
    np.testing.assert_allclose(logits, np.repeat((features @ kernel + bias)[:, None], 3, 1), rtol=1e-5, atol=1e-6)


def test_averages_by_hand():
    # members' probabilities (¾, ¼) and (½, ½): mean (⅝, ⅜); geometric mean (√3, 1)/(√3 + 1)
    logits = np.log([[[3.0, 1.0], [1.0, 1.0]]]).astype("float32")
    np.testing.assert_allclose(ops.softmax(MemberAverage("probabilities")(logits)), [[5 / 8, 3 / 8]], rtol=1e-6)
    geometric = np.array([[np.sqrt(3), 1]]) / (np.sqrt(3) + 1)
    np.testing.assert_allclose(ops.softmax(MemberAverage("logits")(logits)), geometric, rtol=1e-6)


@pytest.mark.parametrize("num_members", MEMBERS)
def test_averages(num_members):
    logits = normal(4, num_members, 6)
    np.testing.assert_allclose(MemberAverage()(logits), logits.mean(1), rtol=1e-5, atol=1e-6)
    expected = np.log(np.exp(tiny.log_softmax(logits)).mean(1))
    np.testing.assert_allclose(MemberAverage("probabilities")(logits), expected, rtol=1e-5)
    assert MemberAverage().compute_output_shape(logits.shape) == (4, 6)


def test_averaging_probabilities_of_sure_members_stays_finite():
    average = MemberAverage("probabilities")(np.array([[[500.0, 0.0], [0.0, 500.0]]], "float32"))
    np.testing.assert_allclose(ops.softmax(average), [[0.5, 0.5]], rtol=1e-6)
