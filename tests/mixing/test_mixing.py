"""Loss weights, sharing out, p's decay, and what `Mixing` accepts. `test_masks.py` has the masks and the ratios."""

import json
import warnings

import keras
import numpy as np
import pytest
import tiny
from keras import ops

from mixmo_keras import masks
from mixmo_keras.mixing import mixing
from mixmo_keras.mixing.mixing import Mixing
from mixmo_keras.mixing.ratios import loss_weights
from mixmo_keras.seeds import StepSeed

RANDOM = np.random.default_rng(0)


# -- loss weights --------------------------------------------------------------------------------------------------------


def test_weights_by_hand():
    ratios = np.array([[0.8, 0.2], [0.5, 0.5]], "float32")
    # w = M·κ^(1/r)/Σκ^(1/r): for r = 1 twice the ratios; for r = 2, √0.8 : √0.2 is 2 : 1
    np.testing.assert_allclose(loss_weights(ratios, 1.0), [[1.6, 0.4], [1, 1]], rtol=1e-6)
    np.testing.assert_allclose(loss_weights(ratios, 2.0), [[4 / 3, 2 / 3], [1, 1]], rtol=1e-6)
    np.testing.assert_allclose(loss_weights(ratios, None), np.ones((2, 2)))
    # three members, r = 3: cube roots of 8 : 1 : 1 are 2 : 1 : 1
    np.testing.assert_allclose(loss_weights(np.array([[0.8, 0.1, 0.1]]), 3.0), [[1.5, 0.75, 0.75]], rtol=1e-6)


def test_the_smallest_roots_leave_the_larger_ratio_alone():
    ratios = np.array([[0.3, 0.25, 0.2, 0.15, 0.1]], "float32")
    np.testing.assert_allclose(loss_weights(ratios, 0.001), [[5, 0, 0, 0, 0]], atol=1e-6)


@pytest.mark.parametrize("num_members", [1, 2, 3, 5])
@pytest.mark.parametrize("root", [0.5, 1.0, 3.0, 10.0, 1e6])
def test_weights(num_members, root):
    ratios = RANDOM.dirichlet(np.full(num_members, 2.0), 20)
    roots = ratios ** (1 / root)
    expected = num_members * roots / roots.sum(1, keepdims=True)
    weights = ops.convert_to_numpy(loss_weights(ratios.astype("float32"), root))
    np.testing.assert_allclose(weights, expected, rtol=1e-4)
    np.testing.assert_allclose(weights.sum(1), num_members, rtol=1e-5)
    # members keep their order, swap with their ratios, and a larger root flattens
    np.testing.assert_array_equal(np.argsort(ratios, 1), np.argsort(expected, 1))
    swapped = loss_weights(ratios[:, ::-1].astype("float32"), root)
    np.testing.assert_allclose(swapped, weights[:, ::-1], rtol=1e-5)
    if root == 1e6:
        np.testing.assert_allclose(weights, 1, atol=1e-4)


def test_a_member_that_shows_nowhere_weighs_nothing():
    np.testing.assert_allclose(loss_weights(np.array([[1.0, 0.0]], "float32"), 3.0), [[2, 0]])


# -- sharing out ---------------------------------------------------------------------------------------------------------


def test_sharing_out_by_hand():
    first = np.array([1.0, 0.0, 0.5]).reshape(1, 1, 3, 1).astype("float32")
    shares = np.array([[0.4, 0.45, 0.15]], "float32")  # the others share the rest as 3 : 1
    shared = ops.convert_to_numpy(mixing.share_out(first, shares))[0, :, 0, :, 0]
    np.testing.assert_allclose(shared, [[1, 0, 0.5], [0, 0.75, 0.375], [0, 0.25, 0.125]], rtol=1e-6)


@pytest.mark.parametrize("num_members", [2, 3, 5])
def test_masks_sum_to_one_even_where_shares_underflow(num_members):
    first = RANDOM.random((4, 3, 5, 2)).astype("float32")
    shares = RANDOM.dirichlet(np.ones(num_members), 4).astype("float32")
    shares[0] = [1] + [0] * (num_members - 1)
    shared = ops.convert_to_numpy(mixing.share_out(first, shares))
    assert shared.shape == (4, num_members, 3, 5, 2)
    np.testing.assert_allclose(shared.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(shared[:, 0], first)


def test_one_member_has_everything():
    drawn = mixing.draw_masks(Mixing(), StepSeed(0), 3, 1, (4, 5, 6))
    np.testing.assert_array_equal(drawn, np.ones((3, 1, 4, 5, 1)))
    np.testing.assert_array_equal(loss_weights(mixing.visible_ratios(drawn), 3.0), np.ones((3, 1)))


# -- p's decay -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(0, 0.5), (150, 0.5), (275, 0.5), (276, 0.48), (287.5, 0.25), (299, 0.02), (300, 0.0)],
)
def test_probability_falls_over_the_last_twelfth(epoch, expected):
    # p·(1 − e/E)/(1 − 11/12): with E = 300 the fall starts at epoch 275 and takes 25
    assert float(Mixing().mask_probability(epoch / 300)) == pytest.approx(expected, abs=1e-6)


def test_other_decays():
    assert float(Mixing(probability=0.8, decay_start=None).mask_probability(0.999)) == 0.8
    assert float(Mixing(probability=1.0, decay_start=0).mask_probability(0.25)) == 0.75
    assert float(Mixing().mask_probability(-1.0)) == 0.5  # before any `fit`


def test_probability_decides_between_mask_and_linear():
    def share_of_binary(**options):
        choice = Mixing(**options)
        draws = tiny.of_steps(lambda step: mixing.draw_masks(choice, StepSeed(0, step), 2, 2, (4, 4, 1)), 60)
        return np.mean([np.isin(drawn, (0, 1)).all() for drawn in draws])

    assert share_of_binary(probability=1.0) == 1
    assert share_of_binary(probability=0.0) == 0
    assert share_of_binary(mask="linear") == 0
    assert 0.2 < share_of_binary(probability=0.5) < 0.8


# -- Mixing ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(mask="linear", probability=1.0), "`probability` .=1.0. chooses .* no meaning for mask='linear'"),
        (dict(mask="linear", decay_start=None), "`decay_start` .=None. .* no meaning for mask='linear'"),
        (dict(mask=masks.linear, probability=0.2), "no meaning for mask='linear'"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        Mixing(**options)


def test_a_root_without_ratios_warns():
    with pytest.warns(UserWarning, match="`weight_root` changes nothing. Pass weight_root=None"):
        Mixing("linear", alpha=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Mixing("linear", alpha=None, weight_root=None)
        Mixing("cutmix", alpha=None)  # a clipped box gives unequal ratios


@keras.saving.register_keras_serializable("test")
def left_half(seed, share, size):
    columns = ops.cast(ops.arange(size[1]) < size[1] // 2, "float32")
    return ops.broadcast_to(columns[None, None, :, None], (ops.shape(share)[0], size[0], size[1], 1))


@pytest.mark.parametrize("choice", [Mixing(), Mixing("linear", alpha=0.3), Mixing(left_half, 0.7, None, None, None)])
def test_round_trip_through_json(choice):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(choice)))
    assert keras.saving.deserialize_keras_object(config) == choice


def test_a_mask_of_ones_own():
    drawn = mixing.draw_masks(Mixing(left_half, 1.0, None), StepSeed(0), 5, 2, (2, 4, 1))
    shown = ops.convert_to_numpy(drawn)[0, :, 0, :, 0].tolist()
    assert sorted(shown) == [[0, 0, 1, 1], [1, 1, 0, 0]]
    np.testing.assert_allclose(mixing.visible_ratios(drawn), 0.5)


def test_a_choice_can_not_change():
    with pytest.raises(AttributeError):
        Mixing().alpha = 1.0
    assert {Mixing(), Mixing("cutmix")} == {Mixing()}
