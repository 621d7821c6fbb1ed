"""Figures by hand, against loops and scikit-learn; that their statistics add up; and what they refuse."""

import numpy as np
import pytest
from metric_cases import ALL, OF_NETWORKS
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    log_loss,
    roc_auc_score,
    roc_curve,
    top_k_accuracy_score,
)

from mixmo_keras import metrics
from mixmo_keras.metrics.ranking import RankedDefinition

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


def test_top_k_and_brier_against_scikit_learn():
    logits = LOGITS[:, 0]
    for k in (1, 2, 4):
        expected = top_k_accuracy_score(LABELS, logits, k=k, labels=range(5))
        assert metrics.top_k_accuracy(logits, LABELS, k) == pytest.approx(expected)
    assert metrics.top_k_accuracy(logits, LABELS, 7) == 1.0
    classes = np.eye(5, dtype=int)[LABELS].T
    of_classes = [brier_score_loss(right, p) for right, p in zip(classes, probabilities(logits).T, strict=True)]
    assert metrics.brier_score(logits, LABELS) == pytest.approx(np.sum(of_classes))


def test_adaptive_and_classwise_ece_against_loops():
    p = probabilities(LOGITS[:, 0])
    order = np.argsort(p.max(1))
    groups = [[i for rank, i in enumerate(order) if rank * 7 // 300 == group] for group in range(7)]
    right = p.argmax(1) == LABELS
    expected = sum(len(g) / 300 * abs(p.max(1)[g].mean() - right[g].mean()) for g in groups)
    assert metrics.adaptive_calibration_error(LOGITS[:, 0], LABELS, 7) == pytest.approx(expected)

    total = 0.0
    for k in range(5):
        for low in range(15):
            inside = (p[:, k] > low / 15) & (p[:, k] <= (low + 1) / 15)
            if inside.any():
                total += inside.mean() * abs(p[inside, k].mean() - (LABELS[inside] == k).mean()) / 5
    assert metrics.classwise_calibration_error(LOGITS[:, 0], LABELS) == pytest.approx(total)


def test_the_order_of_ties_does_not_matter():
    logits = np.round(LOGITS[:, 0] * 2) / 2  # many equal confidences
    order = RNG.permutation(300)
    for figure in (metrics.adaptive_calibration_error, metrics.area_under_risk_coverage):
        assert figure(logits[order], LABELS[order]) == pytest.approx(figure(logits, LABELS))


def test_reliability_holds_the_bins_of_ece():
    bins = metrics.reliability(LOGITS[:, 0], LABELS)
    full = bins[bins[:, 0] > 0]
    assert bins[:, 0].sum() == 300
    assert np.isnan(bins[bins[:, 0] == 0, 1:]).all()
    ece = (full[:, 0] / 300 * np.abs(full[:, 1] - full[:, 2])).sum()
    assert metrics.expected_calibration_error(LOGITS[:, 0], LABELS) == pytest.approx(ece)


def test_detection_against_scikit_learn():
    scores, strange = np.round(RNG.normal(size=400), 1), RNG.random(400) < 0.3
    scores[strange] += 1
    found = metrics.detection(scores, strange)
    assert found["auroc"] == pytest.approx(roc_auc_score(strange, scores))
    assert found["aupr"] == pytest.approx(average_precision_score(strange, scores))
    # accepting 95 % of the rest: the ROC curve of the rest, by the score turned round
    accepted_strange, accepted_rest, _ = roc_curve(~strange, -scores, drop_intermediate=False)
    assert found["fpr95"] == pytest.approx(accepted_strange[accepted_rest >= 0.95].min())
    wrong = LOGITS[:, 0].argmax(1) != LABELS
    expected = roc_auc_score(wrong, -probabilities(LOGITS[:, 0]).max(1))
    assert metrics.misclassification_detection(LOGITS[:, 0], LABELS)["auroc"] == pytest.approx(expected)


def test_aurc_by_hand():
    # by confidence: right, wrong, right: risks 0, 1/2, 1/3
    logits = np.log([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    assert metrics.area_under_risk_coverage(logits, np.array([0, 1, 0])) == pytest.approx((0 + 1 / 2 + 1 / 3) / 3)
    coverage, risk = metrics.risk_coverage(logits, np.array([0, 1, 0]))
    np.testing.assert_allclose(coverage, [1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(risk, [0, 1 / 2, 1 / 3])
    alike = np.log([[0.9, 0.1]] * 4)  # equal confidences: any order, half of them wrong
    assert metrics.area_under_risk_coverage(alike, np.array([0, 0, 1, 1])) == pytest.approx(0.5)


def test_diversity_by_hand():
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    members = np.array([[right, wrong], [wrong, right], [wrong, right], [wrong, wrong], [right, right]])
    zeros = np.zeros(5, int)
    assert metrics.disagreement(members) == pytest.approx(3 / 5)
    assert metrics.q_statistic(members, zeros) == pytest.approx((1 * 1 - 1 * 2) / (1 * 1 + 1 * 2))
    two = np.log([[[0.5, 0.5], [0.75, 0.25]]])
    kl = 0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)
    back = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)
    assert metrics.pairwise_kl(two) == pytest.approx((kl + back) / 2)

    def entropy(*p):
        return -np.sum(np.array(p) * np.log(p))

    expected = entropy(0.625, 0.375) - (entropy(0.5, 0.5) + entropy(0.75, 0.25)) / 2
    assert metrics.mutual_information(two) == pytest.approx(expected)


@pytest.mark.parametrize("case", ["all right", "all wrong", "one class", "one image", "single member"])
def test_degenerate_cases(case):
    members, labels = LOGITS.copy(), LABELS
    if case == "all right":
        labels = members[:, 0].argmax(-1)
    elif case == "all wrong":
        labels = (members[:, 0].argmax(-1) + 1) % 5
    elif case == "one class":
        members, labels = members[:, :, :1], np.zeros(300, int)
    elif case == "one image":
        members, labels = members[:1], labels[:1]
    else:
        members = members[:, :1]
    figures = metrics.network_figures(members[:, 0], labels)
    detected = [value for name, value in figures.items() if name.startswith("errors_")]
    assert np.isnan(detected).all() == (case in ("all right", "all wrong", "one class", "one image"))
    assert np.isfinite([value for name, value in figures.items() if not name.startswith("errors_")]).all()
    if case == "one class":
        assert (figures["accuracy"], figures["nll"], figures["ece"], figures["aurc"]) == (1, 0, 0, 0)
    if case in ("all right", "all wrong"):
        assert figures["accuracy"] == (case == "all right")
        assert figures["aurc"] == (case == "all wrong")
    diversity = metrics.diversity_figures(members, labels)
    if case == "single member":
        assert diversity.pop("mutual_information") == pytest.approx(0)
        assert np.isnan(list(diversity.values())).all()
    else:
        assert all(np.isfinite(diversity[name]) for name in ("disagreement", "pairwise_kl", "mutual_information"))


# -- as statistics -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(ALL))
def test_statistics_of_parts_add_up_to_those_of_all(name):
    build, options, function = ALL[name]
    figure = build(**options).definition
    logits = LOGITS[:, 0] if name in OF_NETWORKS else LOGITS
    parts = [figure.statistics_of(logits[part], LABELS[part]) for part in np.split(np.arange(300), [7, 130])]
    put_together = np.concatenate if isinstance(figure, RankedDefinition) else sum
    statistics = {key: put_together([part[key] for part in parts]) for key in parts[0]}
    assert float(figure.result(statistics)) == pytest.approx(function(logits, LABELS), rel=1e-12)


@pytest.mark.parametrize("name", list(ALL))
def test_weights_count_images_more_than_once_or_not_at_all(name):
    build, options, function = ALL[name]
    figure = build(**options).definition
    logits = LOGITS[:, 0] if name in OF_NETWORKS else LOGITS
    weights = np.arange(300) % (2.0 if isinstance(figure, RankedDefinition) else 3.0)
    repeated = np.repeat(np.arange(300), weights.astype(int))
    value = figure.result(figure.update(logits, LABELS, weights))
    assert float(value) == pytest.approx(function(logits[repeated], LABELS[repeated]), rel=1e-12)


# -- labels and logits -----------------------------------------------------------------------------------------------------

FUNCTIONS = [
    metrics.accuracy,
    metrics.reliability,
    metrics.confidence_and_right,
    metrics.risk_coverage,
    metrics.network_figures,
]


@pytest.mark.parametrize("function", [*FUNCTIONS, metrics.diversity_figures], ids=lambda function: function.__name__)
def test_labels_of_every_form(function):
    logits = LOGITS if function is metrics.diversity_figures else LOGITS[:, 0]
    expected = function(logits, LABELS)
    for labels in (
        LABELS[:, None],
        np.eye(5)[LABELS],
        LABELS.astype("float32"),
        LABELS.astype("uint8"),
        LABELS.tolist(),
    ):
        np.testing.assert_equal(function(logits, labels), expected)
