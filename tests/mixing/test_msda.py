"""CutMix and MixUp inside a member's image: partners, shares, and labels by visible area."""

import keras
import numpy as np
import pytest
from keras import ops

from mixmo_keras.mixing import msda
from mixmo_keras.seeds import StepSeed

NUM_IMAGES, REPETITIONS = 4, 3
ROWS = NUM_IMAGES * REPETITIONS
PLACES = np.stack([np.random.default_rng(seed).permutation(ROWS) for seed in range(2)], axis=1)


def draw(choice, step=0, places=PLACES, num_images=NUM_IMAGES, size=(8, 8, 3)):
    drawn = msda.draw(choice, StepSeed(0, step), ops.convert_to_tensor(places), num_images, size)
    return [np.asarray(part) for part in drawn]


@pytest.mark.parametrize("method", list(msda.METHODS))
def test_the_partner_is_another_image_and_the_own_one_the_larger_part(method):
    seen = set()
    for step in range(30):
        partners, masks = draw(msda.MSDA(method, probability=1.0), step)
        assert partners.shape == (ROWS, 2)
        assert masks.shape == (ROWS, 2, 8, 8, 1)
        assert np.all(partners % NUM_IMAGES != PLACES % NUM_IMAGES)
        assert masks.mean((2, 3, 4)).min() >= 0.5 - 1e-6
        seen |= set(partners.ravel().tolist())
    assert seen == set(range(ROWS))  # every copy of every image serves


def test_a_batch_of_one_image_has_no_other_partner():
    partners, _ = draw(msda.MSDA(), places=np.zeros((3, 2), "int32") + np.arange(3)[:, None], num_images=1)
    assert set(partners.ravel()) <= {0, 1, 2}


def test_probability_counts_rows_and_members_on_their_own():
    mixed = np.stack([draw(msda.MSDA("mixup", 0.25), step)[1].mean((2, 3, 4)) < 1 for step in range(200)])
    count = mixed.size
    # binomial: five standard errors
    assert abs(mixed.mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / count)
    both = (mixed[..., 0] & mixed[..., 1]).mean()
    assert abs(both - 0.0625) < 5 * np.sqrt(0.0625 * (1 - 0.0625) / (count / 2))


def test_shares_of_mixup_are_the_larger_of_a_uniform_pair():
    shares = np.concatenate([draw(msda.MSDA("mixup", 1.0), step)[1].mean((2, 3, 4)).ravel() for step in range(100)])
    # Beta(1, 1) is uniform; the larger of λ and 1 − λ is uniform on [0.5, 1]: mean 3/4, variance 1/48
    assert abs(shares.mean() - 0.75) < 5 * np.sqrt(1 / 48 / len(shares))


def test_cutmix_masks_are_binary_with_the_partner_in_a_box():
    _, masks = draw(msda.MSDA("cutmix", 1.0))
    assert set(np.unique(masks)) <= {0.0, 1.0}
    for mask in masks.reshape(-1, 8, 8):
        rows, columns = np.any(mask == 0, axis=1), np.any(mask == 0, axis=0)
        assert (mask == 0).sum() == rows.sum() * columns.sum()  # a full rectangle


def test_blend_by_hand_keeps_the_dtype():
    own, partner = np.full((1, 1, 1, 2, 1), 200, "uint8"), np.full((1, 1, 1, 2, 1), 100, "uint8")
    mask = ops.convert_to_tensor(np.array([1.0, 0.25], "float32").reshape(1, 1, 1, 2, 1))
    blended = msda.blend(ops.convert_to_tensor(own), ops.convert_to_tensor(partner), mask)
    assert keras.backend.standardize_dtype(blended.dtype) == "uint8"
    assert np.asarray(blended).ravel().tolist() == [200, 125]


def test_visible_shares_by_hand():
    # the own image is the left half; the member shows in the top row only, and there in three of four columns
    pixel = np.zeros((1, 1, 2, 4, 1), "float32")
    pixel[..., :2, :] = 1
    mixing = np.zeros((1, 1, 2, 4, 1), "float32")
    mixing[0, 0, 0, :3] = 1
    shares = msda.visible_shares(ops.convert_to_tensor(pixel), ops.convert_to_tensor(mixing))
    assert float(shares[0, 0]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("size", [(8, 8), (4, 4), (4, 2)])
def test_visible_shares_against_numpy(size, channels):
    rng = np.random.default_rng(0)
    pixel = (rng.random((6, 3, 8, 8, 1)) < 0.5).astype("float32")
    mixing = rng.random((6, 3, *size, channels)).astype("float32")
    expected = np.zeros((6, 3))
    for row in range(6):
        for member in range(3):
            rows, columns = 8 // size[0], 8 // size[1]
            pooled = np.zeros(size)
            for i in range(size[0]):
                for j in range(size[1]):
                    pooled[i, j] = pixel[
                        row, member, i * rows : (i + 1) * rows, j * columns : (j + 1) * columns, 0
                    ].mean()
            mask = mixing[row, member]
            expected[row, member] = (pooled[..., None] * mask).mean() / mask.mean()
    shares = msda.visible_shares(ops.convert_to_tensor(pixel), ops.convert_to_tensor(mixing))
    np.testing.assert_allclose(shares, expected, rtol=1e-5)


def test_an_invisible_member_keeps_its_whole_images_share():
    pixel = np.ones((1, 1, 2, 2, 1), "float32")
    pixel[0, 0, 0] = 0
    shares = msda.visible_shares(ops.convert_to_tensor(pixel), ops.zeros((1, 1, 2, 2, 1)))
    assert float(shares[0, 0]) == 0.5


def test_sizes_that_do_not_divide():
    with pytest.raises(ValueError, match=r"output \(3, 3\) must divide the images' size \(8, 8\)"):
        msda.visible_shares(ops.ones((1, 1, 8, 8, 1)), ops.ones((1, 1, 3, 3, 1)))


@pytest.mark.parametrize("form", ["integer", "one-hot"])
def test_soft_targets(form):
    labels, partners = np.array([[0, 2]]), np.array([[1, 2]])
    if form == "one-hot":
        labels, partners = np.eye(3)[labels], np.eye(3)[partners]
    targets = msda.soft_targets(
        ops.convert_to_tensor(labels), ops.convert_to_tensor(partners), ops.convert_to_tensor([[0.75, 0.6]]), 3
    )
    np.testing.assert_allclose(targets, [[[0.75, 0.25, 0], [0, 0, 1]]], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(method="cutout"), "`method` must be one of cutmix, mixup, got 'cutout'"),
        (dict(probability=0.0), r"`probability` must be a number within \(0, 1\]; `msda=None` turns MSDA off, got 0.0"),
        (dict(alpha=0.0), "`alpha` must be a positive number, got 0.0"),
    ],
)
def test_bad_choices(arguments, message):
    with pytest.raises(ValueError, match=message):
        msda.MSDA(**arguments)


def test_get():
    assert msda.get("mixup") == msda.MSDA("mixup", 0.5, 1.0)
    assert msda.get(None) is None
    with pytest.raises(ValueError, match=r"`msda` must be one of cutmix, mixup, a mixmo_keras\.MSDA or None, got 3"):
        msda.get(3)
