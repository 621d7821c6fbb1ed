"""Figures of labels against scikit-learn, and numbers worked by hand."""

import numpy as np
import pytest
from keras import ops
from scipy.special import expit, logit
from sklearn import metrics as sklearn_metrics

from mixmo_keras.metrics import several_labels
from mixmo_keras.metrics.pooling import average_sigmoids

RANDOM = np.random.default_rng(3)
LOGITS = RANDOM.normal(0, 2, (200, 3)).round(1)  # with ties
TARGETS = (RANDOM.random((200, 3)) < expit(LOGITS * 0.5)).astype(int)
HALVES = np.full(3, 0.5)


def test_figures_are_scikit_learns():
    figures = several_labels.label_figures(LOGITS, TARGETS, [0.3, 0.5, 0.7])
    probabilities = expit(LOGITS)
    predicted = probabilities >= [0.3, 0.5, 0.7]
    expected = {
        "auroc": sklearn_metrics.roc_auc_score(TARGETS, LOGITS),
        "average_precision": sklearn_metrics.average_precision_score(TARGETS, LOGITS),
        "f1": sklearn_metrics.f1_score(TARGETS, predicted, average="macro"),
        "accuracy": (predicted == TARGETS).mean(),
        "nll": np.mean([sklearn_metrics.log_loss(TARGETS[:, k], probabilities[:, k]) for k in range(3)]),
    }
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, rel=1e-6), name
    by_label = figures["labels"]["average_precision"]
    assert by_label[1] == pytest.approx(sklearn_metrics.average_precision_score(TARGETS[:, 1], LOGITS[:, 1]))


def test_a_label_that_never_holds_has_no_ranking_figures_and_is_left_out_of_their_means():
    targets = TARGETS * [1, 0, 1]
    figures = several_labels.label_figures(LOGITS, targets, HALVES)
    assert np.isnan(figures["labels"]["auroc"][1])
    assert figures["auroc"] == pytest.approx(np.mean([figures["labels"]["auroc"][k] for k in (0, 2)]))
    assert np.isfinite(figures["nll"])
    assert several_labels.best_thresholds(expit(LOGITS), targets)[1] == 0.5


def test_cross_entropy_of_probabilities_as_targets():
    values = several_labels.cross_entropy([[0.0, np.log(3)]], [[0.3, 1 / 3]])
    np.testing.assert_allclose(values, [[np.log(2), -(np.log(0.75) / 3 + 2 * np.log(0.25) / 3)]])


def test_calibration_error_by_hand():
    # probabilities .25 and .75 in bins of their own: gaps |.25 − 1/2|·½ + |.75 − 1|·½
    logits = logit(np.array([[0.25], [0.25], [0.75], [0.75]]))
    np.testing.assert_allclose(several_labels.calibration_errors(logits, [[0], [1], [1], [1]]), [0.25])


def test_thresholds_have_the_best_f1():
    probabilities = expit(LOGITS)
    thresholds = several_labels.best_thresholds(probabilities, TARGETS)
    ours = several_labels.f1_scores(probabilities >= thresholds, TARGETS)
    tried = [several_labels.f1_scores(probabilities >= t, TARGETS) for t in np.append(np.unique(probabilities), 1.0)]
    np.testing.assert_allclose(ours, np.max(tried, axis=0))
    by_hand = several_labels.best_thresholds([[0.9], [0.6], [0.4], [0.1]], [[1], [1], [0], [0]])
    np.testing.assert_allclose(by_hand, [0.5])


def test_a_temperature_undoes_what_logits_were_multiplied_by():
    random = np.random.default_rng(0)
    right = random.normal(0, 2, (20_000, 2))
    targets = random.random(right.shape) < expit(right)
    assert several_labels.fit_temperature(lambda t: 3 * right / t, targets) == pytest.approx(3, rel=0.05)
    assert several_labels.fit_temperature(lambda t: right / t, right >= 0) == 1  # all right


def test_pooled_probabilities_are_the_mean_of_sigmoids():
    members = np.random.default_rng(1).normal(0, 3, (5, 4, 3)).astype("float32")
    pooled = ops.convert_to_numpy(average_sigmoids(ops.convert_to_tensor(members), "probabilities"))
    np.testing.assert_allclose(expit(pooled), expit(members).mean(1), rtol=1e-5)
    np.testing.assert_allclose(average_sigmoids(ops.convert_to_tensor(members), "logits"), members.mean(1), atol=1e-6)
    far = ops.convert_to_numpy(average_sigmoids(ops.convert_to_tensor([[[200.0], [-200.0]]]), "probabilities"))
    assert abs(far[0, 0]) < 1e-3  # (1 + 0)/2


def test_curves_are_scikit_learns():
    precision, recall = several_labels.precision_and_recall(LOGITS[:, 0] + 1e-6 * np.arange(200), TARGETS[:, 0])
    theirs = sklearn_metrics.precision_recall_curve(TARGETS[:, 0], LOGITS[:, 0] + 1e-6 * np.arange(200))
    np.testing.assert_allclose(precision, theirs[0][:-1][::-1])
    np.testing.assert_allclose(recall, theirs[1][:-1][::-1])
    probability, share = several_labels.reliability(logit([[0.25], [0.25], [0.75], [0.75]]), [[0], [1], [1], [1]])
    np.testing.assert_allclose([probability, share], [[0.25, 0.75], [0.5, 1]])
    assert [len(chart.series) for chart in several_labels.charts(LOGITS, TARGETS, "abc")] == [1, 3]


def test_conformal_sets_cover_what_they_should():
    """Within the binomial bounds of many draws, however wrong the probabilities are."""
    coverage, count, covered, tested = 0.8, 60, 0, 0
    for draw in range(200):
        random = np.random.default_rng(draw)
        logits = random.normal(0, 2, (count + 50, 2))
        targets = random.random(logits.shape) < expit(0.3 * logits + 1)
        highest = several_labels.fit_conformal(logits[:count], targets[:count], coverage)
        sets = several_labels.conformal_sets(logits[count:], highest)
        covered += np.where(targets[count:], sets[..., 1], sets[..., 0]).sum()
        tested += 100
    expected = 49 / 61  # ⌈61·0.8⌉/61; over draws of 60 images it is Beta(49, 12)
    error = np.sqrt(49 * 12 / (61**2 * 62) / 400 + expected * (1 - expected) / tested)
    assert abs(covered / tested - expected) < 4 * error
    assert several_labels.conformal_sets(LOGITS, several_labels.fit_conformal(LOGITS[:3], TARGETS[:3], 0.9)).all()
