"""Means and differences with their standard errors: by hand, and against SciPy."""

import numpy as np
import pytest
import scipy.stats

from mixmo_keras.metrics import differences
from mixmo_keras.metrics.differences import Difference


def test_a_difference_is_sure_beyond_two_standard_errors():
    assert Difference(0.031, 0.015).is_sure
    assert Difference(-0.031, 0.015).is_sure
    assert not Difference(0.03, 0.015).is_sure
    assert Difference(0.03, 0.01).in_points() == "+3.0 ± 1.0"
    assert Difference(-0.03, 0.01).in_points() == "-3.0 ± 1.0"
    assert Difference(-0.03, 0.01).size_in_points() == "3.0 ± 1.0"


def test_means_by_hand_and_against_scipy():
    assert differences.mean_and_deviation([1, 2, 6]) == (3.0, pytest.approx(7**0.5))  # (4 + 1 + 9) / 2
    assert differences.mean_and_deviation([4]) == (4.0, None)
    assert differences.mean_and_deviation([]) == (None, None)
    values = np.random.default_rng(0).normal(size=9)
    assert differences.standard_error(values) == pytest.approx(scipy.stats.sem(values))
    assert differences.standard_error([4.0]) == 0


@pytest.mark.parametrize(("share", "variance"), [(0.8, 0.16), (0.5, 0.25), (1.0, 0.01), (0.0, 0.01)])
def test_the_standard_error_of_a_share(share, variance):
    """Where all of 100 images are right or none is, it is that of one exception."""
    assert differences.standard_error_of_share(share, 100) == pytest.approx((variance / 100) ** 0.5)


def test_intervals_by_hand_and_against_scipy():
    # Wilson, 8 of 10: (0.8 + 0.1921) / 1.3842 ± 1.96 / 1.3842 · √(0.016 + 0.0096)
    assert differences.share_interval(0.8, 10) == (pytest.approx(0.490, abs=1e-3), pytest.approx(0.943, abs=1e-3))
    assert differences.share_interval(1.0, 10)[1] == 1.0
    theirs = scipy.stats.binomtest(30, 40).proportion_ci(method="wilson")
    assert differences.share_interval(0.75, 40) == pytest.approx((theirs.low, theirs.high), rel=1e-4)
    assert differences.accuracy_interval([0.75], 40) == differences.share_interval(0.75, 40)
    # two seeds: √(0.75 · 0.25 / 40 + (0.1² / 2) / 2) = 0.0847
    half = 1.96 * (0.0046875 + 0.0025) ** 0.5
    assert differences.accuracy_interval([0.7, 0.8], 40) == pytest.approx((0.75 - half, 0.75 + half))


def test_guessing():
    # of 100 images, guesses of one of two classes are right on 50 ± 5
    assert differences.is_above_guessing(0.61, 0.5, 100)
    assert not differences.is_above_guessing(0.6, 0.5, 100)
    assert not differences.is_above_guessing(0.2, 0.5, 100)  # far from guessing, but below


def test_paired_differences_by_hand():
    by_seed = differences.paired([1.0, 2.0, 3.0], [0.0, 2.0, 1.0])  # 1, 0, 2
    assert by_seed == (1.0, pytest.approx(1 / 3**0.5))
    by_image = differences.paired(np.array([True, True, False]), np.array([True, False, False]))  # 0, 1, 0
    assert by_image == (pytest.approx(1 / 3), pytest.approx(1 / 3))


def test_differences_of_models():
    """The errors over images and over seeds add up in squares; pairing by image leaves out what both answer alike."""
    right = np.random.default_rng(0).random((4, 500)) < 0.8
    ours, theirs = right[:2], right[2:]
    accuracies = [list(group.mean(1)) for group in (ours, theirs)]
    apart = differences.of_accuracies(*accuracies, (500, 500))
    variances = [np.mean(group) * (1 - np.mean(group)) / 500 + np.var(group, ddof=1) / 2 for group in accuracies]
    assert apart == (pytest.approx(ours.mean() - theirs.mean()), pytest.approx(sum(variances) ** 0.5))
    together = differences.of_answers(ours, theirs)
    over_images = np.var(ours.mean(0) - theirs.mean(0), ddof=1) / 500
    over_seeds = sum(np.var(group, ddof=1) / 2 for group in accuracies)
    assert together == (pytest.approx(apart.mean), pytest.approx((over_images + over_seeds) ** 0.5))
    alike = differences.of_answers(ours[:1], ours[:1] & (np.arange(500) != np.argmax(ours[0])))
    assert alike.error < differences.of_accuracies(accuracies[0][:1], accuracies[0][:1], (500, 500)).error / 5
