"""The study of members on the fast network: rows of equal cost that differ in what they are named for."""

import fast_members
import pytest
import rows


@pytest.mark.parametrize("name", fast_members.ROWS)
def test_rows_cost_what_the_single_network_does_or_its_half_after_it(name):
    row, base = fast_members.ROWS[name], fast_members.SETTINGS["cifar10"]
    passes = {"single + SAM": 2, "wider single": 2.25}.get(
        name, 1
    )  # a step's cost, as a multiple of the single network's
    epochs = sum(one.epochs for one in rows.recipes(fast_members.ROWS, name, base, 0)) * passes
    expected = base.epochs / 2 if row.after or name == "single, half the epochs" else base.epochs
    assert epochs == pytest.approx(expected, rel=0.1)


def test_images_are_held_out_and_all_rows_compute_at_one_precision():
    for name in fast_members.ROWS:
        for recipe in rows.recipes(fast_members.ROWS, name, fast_members.SETTINGS["cifar10"], 0):
            assert (recipe.train_split, recipe.dtype, recipe.views) == ("train", "mixed_bfloat16", 1)


def test_a_deep_ensemble_shares_the_network_of_half_the_epochs():
    assert rows.shared(fast_members.ROWS, "two networks, half the epochs each") == "single, half the epochs"
