"""CutMix and MixUp inside a member's image: partners, shares, and labels by visible area."""

import keras
import numpy as np
import pytest
import tiny
from keras import ops
from scipy.stats import kstest

from mixmo_keras.mixing import msda
from mixmo_keras.seeds import StepSeed

NUM_IMAGES, REPETITIONS = 4, 3
ROWS = NUM_IMAGES * REPETITIONS
PLACES = np.stack([np.random.default_rng(seed).permutation(ROWS) for seed in range(2)], axis=1)


def pixel_masks(choice, step=0, rows=ROWS, size=(8, 8, 3), num_members=2):
    return np.asarray(msda.draw_pixel_masks(choice, StepSeed(0, step), rows, num_members, size))


def own_shares_of_steps(choice, count):
    """(count, ROWS, 2): the mean of each pixel mask, step by step."""
    masks = tiny.of_steps(lambda step: msda.draw_pixel_masks(choice, StepSeed(0, step), ROWS, 2, (8, 8, 3)), count)
    return masks.mean((3, 4, 5))


def partners(step=0, rows=PLACES, num_images=NUM_IMAGES):
    return np.asarray(msda.draw_partners(StepSeed(0, step), ops.convert_to_tensor(rows), num_images))


def test_the_partner_is_another_image_and_every_copy_of_every_image_serves():
    seen = set()
    for step in range(30):
        drawn = partners(step)
        assert drawn.shape == (ROWS, 2)
        assert np.all(drawn % NUM_IMAGES != PLACES % NUM_IMAGES)
        seen |= set(drawn.ravel().tolist())
    assert seen == set(range(ROWS))


def test_a_batch_of_one_image_has_no_other_partner():
    drawn = partners(rows=np.zeros((3, 2), "int32") + np.arange(3)[:, None], num_images=1)
    assert set(drawn.ravel()) <= {0, 1, 2}


def test_probability_counts_rows_and_members_on_their_own():
    mixed = own_shares_of_steps(msda.MSDA("mixup", 0.25), 200) < 1
    count = mixed.size
    # binomial: five standard errors
    assert abs(mixed.mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / count)
    both = (mixed[..., 0] & mixed[..., 1]).mean()
    assert abs(both - 0.0625) < 5 * np.sqrt(0.0625 * (1 - 0.0625) / (count / 2))


def test_shares_of_mixup_are_uniform():
    shares = own_shares_of_steps(msda.MSDA("mixup", 1.0), 100)
    assert kstest(shares.ravel(), "uniform").pvalue > 1e-3  # Beta(1, 1)


def test_cutmix_keeps_a_box():
    masks = pixel_masks(msda.MSDA("cutmix", 1.0))
    assert set(np.unique(masks)) <= {0.0, 1.0}
    for mask in masks.reshape(-1, 8, 8):
        rows, columns = np.any(mask == 1, axis=1), np.any(mask == 1, axis=0)
        assert (mask == 1).sum() == rows.sum() * columns.sum()  # a full rectangle


# -- against a simulation of the reference's rule ------------------------------------------------------------------------


def simulated_boxes(random, areas, side=32):
    """CutMix boxes of some areas around uniform centres, clipped: (n, side, side)."""
    centres = random.integers(0, side, (2, len(areas)))
    reach = np.floor(np.floor(side * np.sqrt(areas)) / 2)[:, None]
    position = np.arange(side)[None]
    inside = [(position >= c[:, None] - reach) & (position < c[:, None] + reach) for c in centres]
    return (inside[0][:, :, None] & inside[1][:, None, :]).astype(float)


def simulated(random, num_rows, mixing_masks=None):
    """Own shares of the visible area, and whether the own image lies inside the box, by the reference's rule in NumPy."""
    own = simulated_boxes(random, random.random(num_rows))
    visible = np.ones_like(own) if mixing_masks is None else mixing_masks
    seen = visible.mean((1, 2))
    shares = np.where(seen > 0, (own * visible).mean((1, 2)) / np.maximum(seen, 1e-9), own.mean((1, 2)))
    return np.where(shares < 0.5, 1 - shares, shares), shares >= 0.5


@pytest.mark.parametrize("mixed", [False, True], ids=["summed members", "under a MixMo mask"])
def test_cutmix_inside_members_is_the_references(mixed):
    """Mean of the smaller share, how often it is above .3, and how often the own image lies inside the box."""
    rows, random = 6000, np.random.default_rng(0)
    mixing_masks = None
    if mixed:
        boxes = simulated_boxes(random, random.beta(2, 2, rows))
        mixing_masks = np.where(random.random(rows)[:, None, None] < 0.5, boxes, 1 - boxes)
    kept = pixel_masks(msda.MSDA("cutmix", 1.0), rows=rows, size=(32, 32, 3), num_members=1)
    tensors = None if mixing_masks is None else ops.convert_to_tensor(mixing_masks[:, None, :, :, None], "float32")
    own = np.asarray(msda.larger_part_to_own(ops.convert_to_tensor(kept), tensors))
    shares = np.asarray(msda.visible_shares(ops.convert_to_tensor(own), tensors))[:, 0]
    expected, inside = simulated(np.random.default_rng(1), rows, mixing_masks)
    assert shares.min() >= 0.5 - 1e-6  # never the smaller part
    if not mixed:  # as measured on the reference: .732, 45 %, 15 %
        assert expected.mean() == pytest.approx(0.732, abs=0.01)
        assert np.mean(1 - expected > 0.3) == pytest.approx(0.45, abs=0.02)
        assert inside.mean() == pytest.approx(0.15, abs=0.02)
    error = 5 * np.sqrt(2 * expected.var() / rows)
    assert abs(shares.mean() - expected.mean()) < error
    for ours, theirs in (
        (1 - shares > 0.3, 1 - expected > 0.3),
        (np.all(own == kept, axis=(1, 2, 3, 4)), inside),  # the own image stayed inside its box
    ):
        rate = theirs.mean()
        assert abs(ours.mean() - rate) < 5 * np.sqrt(2 * rate * (1 - rate) / rows)


def test_swapping_follows_what_is_visible_by_hand():
    """The own image keeps the left half; MixMo's mask shows the right quarter alone: there the partner would show."""
    kept = np.zeros((1, 1, 4, 4, 1), "float32")
    kept[..., :2, :] = 1
    shown = np.zeros((1, 1, 4, 4, 1), "float32")
    shown[..., 3:, :] = 1
    own = np.asarray(msda.larger_part_to_own(ops.convert_to_tensor(kept), ops.convert_to_tensor(shown)))
    np.testing.assert_array_equal(own, 1 - kept)
    np.testing.assert_array_equal(msda.larger_part_to_own(ops.convert_to_tensor(kept)), kept)  # half is enough


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


def test_get():
    assert msda.get("mixup") == msda.MSDA("mixup", 0.5, 1.0)
    assert msda.get(None) is None


# -- MixUp or CutMix in each step, as DeiT has it ------------------------------------------------------------------------


def masks_of_steps(steps: int, size=(16, 16, 3), alpha=1.0):
    choice = msda.MSDA("mixup_or_cutmix", 1.0, alpha)
    return tiny.of_steps(lambda step: msda.draw_pixel_masks(choice, StepSeed(3, step), 4, 1, size), steps)


def test_a_step_has_one_mask_of_either_kind():
    steps = masks_of_steps(200)
    assert all(np.array_equal(kept, np.broadcast_to(kept[:1], kept.shape)) for kept in steps)
    mixup = [kept for kept in steps if len(np.unique(kept)) == 1 and 0 < kept.min() < 1]
    assert len(mixup) / 200 == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(200))
    # Beta(0.8, 0.8): mean 1/2, variance 1/(4·2.6)
    shares = np.array([kept.mean() for kept in mixup])
    assert shares.mean() == pytest.approx(0.5, abs=5 * np.sqrt(1 / 10.4 / len(mixup)))
    assert shares.var() == pytest.approx(1 / 10.4, rel=0.3)


def test_the_partner_has_the_box():
    """The mean share of a clipped box of area λ' ~ U(0, 1), as the reference simulates them, is the partner's."""
    size = (16, 16, 3)
    boxes = [kept[0, 0, ..., 0] for kept in masks_of_steps(200, size) if set(np.unique(kept)) <= {0.0, 1.0}]
    of_partner = np.array([1 - box.mean() for box in boxes])
    random = np.random.default_rng(0)
    expected = simulated_boxes(random, random.random(4000), 16).mean(axis=(1, 2))
    assert of_partner.mean() == pytest.approx(expected.mean(), abs=5 * expected.std() / np.sqrt(len(boxes)))


def test_rows_can_be_left_out_of_a_step():
    choice = msda.MSDA("mixup_or_cutmix", 0.5)
    kept = np.asarray(msda.draw_pixel_masks(choice, StepSeed(1, 5), 2000, 1, (4, 4, 3)))
    whole = (kept == 1).all(axis=(1, 2, 3, 4))
    assert whole.mean() == pytest.approx(0.5, abs=0.06)
