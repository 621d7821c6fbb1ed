"""Measures of uncertainty by hand and against NumPy."""

import numpy as np
import pytest
from keras import ops
from scipy.special import logsumexp, softmax
from scipy.stats import entropy

from mixmo_keras import metrics, uncertainty
from mixmo_keras.networks.member_average import MemberAverage

MEMBERS = np.random.default_rng(0).normal(scale=2, size=(50, 3, 4)).astype("float32")
PROBABILITIES = softmax(MEMBERS, axis=-1)


def test_against_scipy():
    found = uncertainty.scores(MEMBERS, MemberAverage("probabilities"))
    mean = PROBABILITIES.mean(1)
    np.testing.assert_allclose(found["max_probability"], 1 - mean.max(-1), atol=1e-6)
    np.testing.assert_allclose(found["entropy"], entropy(mean, axis=-1), rtol=1e-4)
    np.testing.assert_allclose(found["energy"], -logsumexp(MEMBERS.mean(1), axis=-1), rtol=1e-5)
    expected = entropy(mean, axis=-1) - entropy(PROBABILITIES, axis=-1).mean(1)
    np.testing.assert_allclose(found["mutual_information"], expected, atol=1e-5)
    assert metrics.mutual_information(MEMBERS) == pytest.approx(expected.mean(), rel=1e-5)


def test_arrays_and_tensors_alike():
    for function in (uncertainty.predictive_entropy, uncertainty.one_minus_confidence, uncertainty.energy):
        of_array, of_tensor = function(MEMBERS[:, 0]), function(ops.convert_to_tensor(MEMBERS[:, 0]))
        assert isinstance(of_array, np.ndarray)
        np.testing.assert_allclose(of_array, ops.convert_to_numpy(of_tensor), rtol=1e-5, atol=1e-6)
    of_tensor = uncertainty.mutual_information(ops.convert_to_tensor(MEMBERS))
    np.testing.assert_allclose(uncertainty.mutual_information(MEMBERS), ops.convert_to_numpy(of_tensor), atol=1e-6)


def test_by_hand():
    even = np.zeros((1, 4), "float32")
    assert float(uncertainty.predictive_entropy(even)[0]) == pytest.approx(np.log(4))
    assert float(uncertainty.one_minus_confidence(even)[0]) == pytest.approx(0.75)
    assert float(uncertainty.energy(even)[0]) == pytest.approx(-np.log(4))
    sure = np.array([[[60, 0], [0, 60]]], "float32")  # each is sure of another class: all of log 2 is disagreement
    assert float(uncertainty.mutual_information(sure)[0]) == pytest.approx(np.log(2))
    assert float(uncertainty.mutual_information(sure[:, :1])[0]) == pytest.approx(0, abs=1e-12)
