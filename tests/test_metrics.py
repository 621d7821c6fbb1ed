"""Figures by hand and against loops."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss

from mixmo_keras import metrics

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 5, 300)
LOGITS = RNG.normal(size=(300, 3, 5)) + 1.5 * np.eye(5)[LABELS][:, None]


def probabilities(logits):
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(-1, keepdims=True)


def test_accuracy_and_nll_against_scikit_learn():
    logits = LOGITS[:, 0]
    assert metrics.accuracy(logits, LABELS) == pytest.approx(accuracy_score(LABELS, logits.argmax(1)))
    assert metrics.negative_log_likelihood(logits, LABELS) == pytest.approx(log_loss(LABELS, probabilities(logits)))


def test_ece_against_a_loop():
    confidence = probabilities(LOGITS[:, 0]).max(1)
    right = LOGITS[:, 0].argmax(1) == LABELS
    expected = 0.0
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert metrics.expected_calibration_error(LOGITS[:, 0], LABELS) == pytest.approx(expected)


def test_ece_by_hand():
    # confidence 0.75 (bin 12) twice, right once: |0.75 − 0.5|; confidence 1 (bin 15) once, right
    logits = np.log([[0.75, 0.25], [0.75, 0.25], [1e-300, 1.0]])
    assert metrics.expected_calibration_error(logits, np.array([0, 1, 1])) == pytest.approx(2 / 3 * 0.25)


def test_ratio_of_errors_by_hand():
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    member_logits = np.array([[right, wrong], [wrong, right], [wrong, right], [wrong, wrong], [right, right]])
    assert metrics.ratio_of_errors(member_logits, np.zeros(5, int)) == 3.0  # three alone, one together


def test_ratio_of_errors_is_the_mean_over_pairs_and_its_limits():
    pairs = [metrics.ratio_of_errors(LOGITS[:, list(pair)], LABELS) for pair in ((0, 1), (0, 2), (1, 2))]
    assert metrics.ratio_of_errors(LOGITS, LABELS) == pytest.approx(np.mean(pairs))
    assert metrics.ratio_of_errors(LOGITS[:, [0, 0]], LABELS) == 0.0
    assert np.isnan(metrics.ratio_of_errors(LOGITS[:, :1], LABELS))
    assert metrics.ratio_of_errors(np.eye(2)[[[0, 1]]], np.array([0])) == np.inf
