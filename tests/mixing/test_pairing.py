"""Groups of rows among which members are paired, as on MIMO's eight cores, against permutations drawn by NumPy.

Of 512 rows that hold 128 images four times, two members show one image in 4 rows by chance, if all are paired together, and
in 32 if each of eight groups of 64 rows is paired on its own.
"""

import functools
import itertools

import keras
import numpy as np
import pytest
import tiny

from mixmo_keras.mixing.pairing import row_of_each_member
from mixmo_keras.seeds import StepSeed

REPETITIONS, MEMBERS, STEPS = 4, 3, 40


@functools.cache
def paired(groups: int, num_images: int) -> np.ndarray:
    """(steps, groups, rows, members): the rows that members see, of as many replicas as there are groups."""
    num_rows = REPETITIONS * num_images

    def of_groups(step):
        seeds = [StepSeed(0, step, group).fork("pair") for group in range(groups)]
        return keras.ops.stack([row_of_each_member(seed, num_rows, MEMBERS) for seed in seeds])

    return tiny.of_steps(of_groups, STEPS)


def simulated(random, groups: int, num_images: int, steps: int) -> np.ndarray:
    """The same of independent uniform permutations."""
    rows = np.tile(np.arange(REPETITIONS * num_images), (steps, groups, MEMBERS, 1))
    return np.swapaxes(random.permuted(rows, axis=-1), 2, 3)


def meetings(rows: np.ndarray, num_images: int) -> np.ndarray:
    """Rows of a step in which two members show one image, of all groups: (steps · pairs of members,)."""
    images = rows % num_images  # row r is a copy of image r mod n; groups have images of their own
    pairs = itertools.combinations(range(MEMBERS), 2)
    return np.concatenate([(images[..., one] == images[..., other]).sum((1, 2)) for one, other in pairs])


@pytest.mark.parametrize(("groups", "num_images", "expected"), [(8, 16, 32), (1, 128, 4)])
def test_members_meet_within_groups_of_rows_as_by_chance(groups, num_images, expected):
    ours = meetings(paired(groups, num_images), num_images)
    chance = meetings(simulated(np.random.default_rng(0), groups, num_images, 1000), num_images)
    for counts in (ours, chance):  # b of a group's rows, whatever its size
        assert counts.mean() == pytest.approx(expected, abs=5 * np.sqrt(chance.var() / counts.size))
    # a sample's variance has a standard deviation of √((fourth moment − variance²)/n)
    moment = ((chance - chance.mean()) ** 4).mean()
    deviation = np.sqrt((moment - chance.var() ** 2) * (1 / ours.size + 1 / chance.size))
    assert ours.var() == pytest.approx(chance.var(), abs=5 * deviation)


def test_groups_and_steps_are_paired_independently():
    """Two independent permutations agree at one place on average, with variance 1."""
    rows = paired(8, 16)
    of_groups = [(rows[:, one] == rows[:, other]).sum(1) for one, other in itertools.combinations(range(8), 2)]
    of_steps = (rows[1:] == rows[:-1]).sum(2)
    for counts in (np.array(of_groups), of_steps):
        assert counts.mean() == pytest.approx(1, abs=5 / np.sqrt(counts.size))
