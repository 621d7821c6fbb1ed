"""Mixtures of Gaussians against quadrature, draws and numbers worked by hand."""

import numpy as np
import pytest
from scipy import integrate, stats

from mixmo_keras.metrics import gaussians

RANDOM = np.random.default_rng(5)
MIXTURE = np.stack([RANDOM.normal(0, 2, (4, 3, 2)), RANDOM.uniform(0.2, 3, (4, 3, 2))], axis=-1)  # (n, M, D, 2)
TARGETS = RANDOM.normal(0, 2, (4, 2))


def cdf(mixture, value):
    """The distribution function of one mixture (M, 2)."""
    return np.mean([stats.norm.cdf(value, mean, np.sqrt(variance)) for mean, variance in mixture])


def test_moments_are_those_of_draws():
    mean, aleatoric, epistemic = gaussians.moments(MIXTURE)
    random = np.random.default_rng(0)
    means, variances = MIXTURE[1, :, 0].T
    chosen = random.integers(0, 3, 400_000)
    drawn = random.normal(means[chosen], np.sqrt(variances[chosen]))
    assert mean[1, 0] == pytest.approx(drawn.mean(), abs=0.02)
    assert aleatoric[1, 0] + epistemic[1, 0] == pytest.approx(drawn.var(), rel=0.01)
    by_hand = gaussians.moments([[[[1.0, 4.0]], [[3.0, 2.0]]]])
    np.testing.assert_allclose(by_hand, [[[2.0]], [[3.0]], [[1.0]]])


@pytest.mark.parametrize("num_members", [1, 3])
def test_crps_by_quadrature(num_members):
    mixture = MIXTURE[:, :num_members]
    for image in range(2):
        target, of_image = TARGETS[image, 0], mixture[image, :, 0]
        below = integrate.quad(lambda v, m=of_image: cdf(m, v) ** 2, -30, target, limit=200)[0]
        above = integrate.quad(lambda v, m=of_image: (1 - cdf(m, v)) ** 2, target, 30, limit=200)[0]
        assert gaussians.crps(mixture, TARGETS)[image, 0] == pytest.approx(below + above, rel=1e-6)


def test_likelihood_and_shares_below_are_those_of_densities():
    nll, below = gaussians.negative_log_likelihood(MIXTURE, TARGETS), gaussians.shares_below(MIXTURE, TARGETS)
    for image, target in np.ndindex(4, 2):
        means, variances = MIXTURE[image, :, target].T
        density = stats.norm.pdf(TARGETS[image, target], means, np.sqrt(variances)).mean()
        assert nll[image, target] == pytest.approx(-np.log(density))
        assert below[image, target] == pytest.approx(cdf(MIXTURE[image, :, target], TARGETS[image, target]))


def test_a_scale_multiplies_the_deviation_and_keeps_the_mean():
    scaled = gaussians.scaled(MIXTURE, 1.7)
    for before, after, factor in zip(
        gaussians.moments(MIXTURE), gaussians.moments(scaled), (1, 1.7**2, 1.7**2), strict=True
    ):
        np.testing.assert_allclose(after, factor * before)


def predictions(count: int, seed: int, told: float = 1.0):
    """Mixtures whose deviation is told `told` times as large as it is, and targets."""
    random = np.random.default_rng(seed)
    means = random.normal(0, 5, (count, 1)) + np.array([-0.3, 0.3])[None]
    deviation = random.uniform(0.5, 3, (count, 1))
    targets = means.mean(1, keepdims=True) + deviation * random.standard_normal((count, 1))
    variances = np.repeat(deviation**2 - 0.09, 2, axis=1)
    mixture = np.stack([means, variances], axis=-1)[:, :, None]  # (n, 2, 1, 2), of this deviation
    return gaussians.scaled(mixture, told), targets


def test_the_scale_is_found_again():
    assert gaussians.fit_scale(*predictions(20_000, 0, told=2.5)) == pytest.approx(1 / 2.5, rel=0.02)
    mixture, targets = predictions(20_000, 1)
    assert gaussians.quantile_error(mixture, targets)[0] < 0.02
    assert gaussians.quantile_error(*predictions(20_000, 1, told=3))[0] > 0.1


@pytest.mark.parametrize("told", [0.5, 3.0])
def test_conformal_intervals_cover_what_they_should(told):
    """Within the binomial bounds of many draws, however wrong the deviation is."""
    coverage, count, covered, tested = 0.8, 60, 0, 0
    for draw in range(200):
        width = gaussians.conformal_width(*predictions(count, 10 + draw, told), coverage)
        mixture, targets = predictions(50, 10_000 + draw, told)
        mean, aleatoric, epistemic = gaussians.moments(mixture)
        covered += int((np.abs(targets - mean) <= width * np.sqrt(aleatoric + epistemic)).sum())
        tested += len(targets)
    # E = ⌈61·0.8⌉/61; over draws the coverage of one calibration set is Beta(49, 12), over images binomial
    expected = 49 / 61
    error = np.sqrt(49 * 12 / (61**2 * 62) / 200 + expected * (1 - expected) / tested)
    assert abs(covered / tested - expected) < 4 * error


def test_intervals_need_images():
    with pytest.raises(ValueError, match=r"Intervals of 0\.9 need at least 9 images, got 4"):
        gaussians.conformal_width(MIXTURE, TARGETS, 0.9)
    assert gaussians.conformal_width(*predictions(9, 0), 0.9).shape == (1,)


def test_figures_by_hand():
    figures = gaussians.mixture_figures([[[[1.0, 4.0]]], [[[3.0, 4.0]]]], [[2.0], [3.0]], [0.4])
    assert figures["rmse"] == pytest.approx(np.sqrt(0.5))
    assert figures["mae"] == 0.5
    assert (figures["coverage"], figures["width"]) == (0.5, pytest.approx(1.6))
    assert (figures["aleatoric"], figures["epistemic"]) == (2, 0)
