"""Temperatures and conformal sets: known answers, bounds, degenerate cases."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp, softmax
from scipy.stats import betabinom

from mixmo_keras import calibration, metrics

RANDOM = np.random.default_rng(0)


def synthetic(n: int, temperature: float = 1.0, classes: int = 10, scale: float = 2.0):
    """Logits whose labels are drawn from softmax(logits / temperature)."""
    logits = RANDOM.normal(scale=scale, size=(n, classes))
    labels = (softmax(logits / temperature, axis=-1).cumsum(-1) > RANDOM.random((n, 1))).argmax(-1)
    return logits, labels


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_found(temperature):
    logits, labels = synthetic(40_000, temperature)
    assert calibration.fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.03)


@pytest.mark.parametrize("seed", range(20))
def test_never_worse_and_the_minimum(seed):
    random = np.random.default_rng(seed)
    logits = random.normal(scale=random.choice([0.1, 1, 20]), size=(50, 4))
    labels = random.integers(0, 4, 50)
    labels[:25] = logits[:25].argmax(-1)
    temperature = calibration.fit_temperature(logits, labels)

    def nll(log_temperature):
        return metrics.negative_log_likelihood(logits / np.exp(log_temperature), labels)

    assert nll(np.log(temperature)) <= nll(0.0) + 1e-12
    best = minimize_scalar(nll, bounds=np.log(calibration.TEMPERATURES), method="bounded")
    assert nll(np.log(temperature)) <= best.fun + 1e-9


def test_ends_of_the_range(caplog):
    logits = RANDOM.normal(size=(30, 3))
    assert calibration.fit_temperature(logits, logits.argmin(-1)) == calibration.TEMPERATURES[1]  # worse than chance
    assert "lies beyond" in caplog.text


def test_all_right_leaves_the_temperature_alone(caplog):
    """The NLL falls towards T = 0 for ever: an ensemble of that temperature would be sure of everything."""
    logits = RANDOM.normal(size=(30, 3))
    labels = logits.argmax(-1)
    assert calibration.fit_temperature(logits, labels) == 1
    assert calibration.fit_member_temperature(np.stack([logits, 2 * logits], axis=1), labels) == 1
    assert "All 30 answers are right" in caplog.text
    of_halves = calibration.calibrated_negative_log_likelihood(logits, labels)
    assert of_halves == pytest.approx(metrics.negative_log_likelihood(logits, labels))


def test_members_before_pooling():
    members = RANDOM.normal(scale=3, size=(4000, 3, 5))
    pooled = logsumexp(log_softmax(members / 2.0, axis=-1), axis=1)
    labels = (softmax(pooled, axis=-1).cumsum(-1) > RANDOM.random((4000, 1))).argmax(-1)
    assert calibration.fit_member_temperature(members, labels) == pytest.approx(2.0, rel=0.1)


def test_labels_of_every_form():
    logits, labels = synthetic(200)
    members = np.stack([logits, 2 * logits], axis=1)
    for form in (labels[:, None], np.eye(10)[labels]):
        assert calibration.fit_temperature(logits, form) == calibration.fit_temperature(logits, labels)
        assert calibration.fit_member_temperature(members, form) == calibration.fit_member_temperature(members, labels)
        assert calibration.ConformalSets.fit(logits, form) == calibration.ConformalSets.fit(logits, labels)


def test_calibrated_nll_does_not_depend_on_the_temperature():
    logits, labels = synthetic(501, 2.0)
    found = calibration.calibrated_negative_log_likelihood(logits, labels)
    assert calibration.calibrated_negative_log_likelihood(logits * 3, labels) == pytest.approx(found, rel=1e-6)
    assert found < metrics.negative_log_likelihood(logits, labels)
    halves = np.array_split(np.random.default_rng(0).permutation(501), 2)
    by_hand = 0.0
    for fitted, tested in (halves, halves[::-1]):
        t = calibration.fit_temperature(logits[fitted], labels[fitted])
        by_hand += metrics.negative_log_likelihood(logits[tested] / t, labels[tested]) * len(tested) / 501
    assert found == pytest.approx(by_hand)


@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("method", calibration.CONFORMAL_METHODS)
def test_conformal_coverage_is_within_its_bounds(method, coverage):
    logits, labels = synthetic(4000, 1.7)  # not calibrated: the sets must hold all the same
    fitted, tested = 1500, 2500
    sets = calibration.ConformalSets.fit(logits[:fitted], labels[:fitted], coverage, method)
    held = sets.sets(logits[fitted:])[np.arange(tested), labels[fitted:]].sum()
    rank = np.ceil((fitted + 1) * coverage)
    low, high = betabinom(tested, rank, fitted + 1 - rank).ppf([0.001, 0.999])
    assert low <= held <= high


def test_thr_sets_by_hand():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.6, 0.3, 0.1]])
    sets = calibration.ConformalSets.fit(np.log(probabilities), np.array([0, 1, 0]), 0.5, "thr")
    assert sets.threshold == pytest.approx(0.4)  # the second of 0.3, 0.4, 0.6
    found = sets.sets(np.log([[0.65, 0.35, 1e-9], [0.61, 0.6, 1e-9], [0.4, 0.35, 0.25]]))
    np.testing.assert_array_equal(found, [[True, False, False], [False, False, False], [False, False, False]])
    few = calibration.ConformalSets.fit(np.log(probabilities), np.array([0, 1, 0]), 0.9, "thr")
    assert few.sets(np.log(probabilities)).all()  # three images can't promise 90 %


def test_temperature_and_rate_of_wrong_labels_are_found_together():
    random = np.random.default_rng(0)
    logits = 2 * random.normal(size=(4000, 5))
    right = (softmax(logits, axis=-1).cumsum(-1) > random.random((4000, 1))).argmax(-1)
    wrong = np.where(random.random(4000) < 0.4, random.integers(0, 5, 4000), right)
    temperature, rate = calibration.fit_temperature_under_noise(3 * logits, wrong)
    # over draws they have standard deviations of .14 and .018
    assert temperature == pytest.approx(3, abs=0.6)
    assert rate == pytest.approx(0.4, abs=0.06)
    known, same = calibration.fit_temperature_under_noise(3 * logits, wrong, label_noise=0.4)
    assert (known, same) == (pytest.approx(3, abs=0.5), 0.4)
    without, none = calibration.fit_temperature_under_noise(3 * logits, right, label_noise=0.0)
    assert (without, none) == (pytest.approx(calibration.fit_temperature(3 * logits, right), rel=1e-3), 0.0)
    # believed to be right, they make it less sure than it should be
    assert calibration.fit_temperature(3 * logits, wrong) > 6
    with pytest.raises(ValueError, match="`label_noise` must be"):
        calibration.fit_temperature_under_noise(logits, wrong, label_noise=1.0)


def test_a_network_that_is_right_on_few_images_is_not_made_sure_without_end():
    logits = np.full((20, 4), 0.0)
    right = np.arange(20) % 4
    logits[np.arange(20), right] = 5.0
    wrong = np.where(np.arange(20) < 6, (right + 1) % 4, right)
    temperature, rate = calibration.fit_temperature_under_noise(logits, wrong, 0.4)
    # with the probability p of an answer, log(.6 p + .1) counts for the 14 labels that are the answer, log(.2 (1 - p) + .1)
    # for the 6 others, and log((1 - p) / 3) once for the error that is expected at least
    p = np.linspace(0.3, 0.9999, 20000)
    counted = 14 * np.log(0.6 * p + 0.1) + 6 * np.log(0.2 * (1 - p) + 0.1) + np.log((1 - p) / 3)
    best = p[counted.argmax()]
    assert np.exp(5 / temperature) / (np.exp(5 / temperature) + 3) == pytest.approx(best, abs=1e-3)
    assert rate == 0.4


def test_nll_c_needs_two_halves():
    with pytest.raises(ValueError, match="it needs at least two"):
        calibration.calibrated_negative_log_likelihood(np.zeros((1, 3)), [0])
