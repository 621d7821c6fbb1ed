"""Draws are a function of (seed, step, replica), in every process."""

import keras
import numpy as np
import pytest
from keras import ops

from mixmo_keras import seeds
from mixmo_keras.seeds import StepSeed


def draws(seed: StepSeed, count: int = 1000) -> np.ndarray:
    return ops.convert_to_numpy(keras.random.uniform((count,), seed=seed))


def test_derived_seeds_are_the_same_in_every_process():
    # written down once: a change would move every run's draws
    derived = [seeds.derive(0), seeds.derive(0, "encoder", 1, 0), seeds.derive(7, "pair")]
    assert derived == [153387405, 1010815035, 139349354]
    assert all(0 <= seeds.derive(seed, "a") < 2**30 for seed in (-1, 0, 2**80))


def test_no_seed_is_a_random_one():
    drawn = {seeds.resolve(None) for _ in range(10)}
    assert len(drawn) == 10
    keras.utils.set_random_seed(1)
    first = seeds.resolve(None)
    keras.utils.set_random_seed(1)
    assert seeds.resolve(None) == first
    assert seeds.resolve(np.int64(3)) == 3
    with pytest.raises(ValueError, match="`seed` must be an integer, got '3'"):
        seeds.resolve("3")


def test_derived_seeds_depend_on_every_part_of_the_path():
    paths = [(0,), (1,), (0, "a"), (0, "b"), (0, "a", 0), (0, "a", 1), (0, 0, "a"), (0, "a", "0", "b")]
    assert len({seeds.derive(*path) for path in paths}) == len(paths)


def test_same_seed_step_and_replica_give_the_same_draws():
    np.testing.assert_array_equal(draws(StepSeed(1, 2, 3).fork("a")), draws(StepSeed(1, 2, 3).fork("a")))


@pytest.mark.parametrize(
    "other",
    [StepSeed(2, 2, 3), StepSeed(1, 3, 3), StepSeed(1, 2, 4), StepSeed(1, 2, 3).fork("a"), StepSeed(1, 3, 2)],
    ids=["seed", "step", "replica", "fork", "step and replica swapped"],
)
def test_draws_differ_with_any_of_them(other):
    first, second = draws(StepSeed(1, 2, 3)), draws(other)
    # equal streams correlate fully; independent ones stay within 5 standard errors of 0
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(1000)


def test_a_stream_moves_on_and_a_fork_does_not_move_it():
    seed = StepSeed(1)
    first, second = draws(seed), draws(seed)
    assert not np.array_equal(first, second)
    forked = StepSeed(1)
    draws(forked.fork("elsewhere"))
    np.testing.assert_array_equal(draws(forked), first)
    np.testing.assert_array_equal(draws(forked), second)


def test_step_and_replica_may_be_tensors():
    tensors = StepSeed(1, ops.convert_to_tensor(2, "int64"), ops.convert_to_tensor(3, "int32"))
    np.testing.assert_array_equal(draws(tensors), draws(StepSeed(1, 2, 3)))


def test_permutations_are_permutations_and_uniform():
    rows = ops.convert_to_numpy(seeds.permutations(StepSeed(0), 3000, 4))
    np.testing.assert_array_equal(np.sort(rows, axis=1), np.tile(np.arange(4), (3000, 1)))
    for place in range(4):  # each value in each place a quarter of the time, within 5 standard errors
        share = np.bincount(rows[:, place], minlength=4) / 3000
        np.testing.assert_allclose(share, 0.25, atol=5 * np.sqrt(0.25 * 0.75 / 3000))
