"""Suspicious labels: hand-worked ranks, an oracle, what a model finds, the table and the report."""

import csv

import numpy as np
import pytest
import tiny
from sklearn.metrics import average_precision_score, roc_auc_score

from mixmo_keras import calibration, evaluation
from mixmo_keras.evaluation import label_issues, report


def logits_of(probabilities):
    return np.log(np.asarray(probabilities, "float64"))


# three images of three classes, two members
MEMBERS = logits_of(
    [
        [[0.7, 0.2, 0.1], [0.5, 0.4, 0.1]],  # both say 0
        [[0.1, 0.8, 0.1], [0.6, 0.2, 0.2]],  # 1 and 0
        [[0.2, 0.2, 0.6], [0.1, 0.1, 0.8]],  # both say 2
    ]
)
TOGETHER = logits_of([[0.6, 0.3, 0.1], [0.35, 0.5, 0.15], [0.15, 0.15, 0.7]])


def test_measures_by_hand():
    issues = label_issues.rank(MEMBERS, TOGETHER, [0, 0, 1])
    np.testing.assert_array_equal(issues.predicted, [0, 1, 2])
    np.testing.assert_allclose(issues.suspicion["self_confidence"], [0.4, 0.65, 0.85])
    np.testing.assert_allclose(issues.suspicion["margin"], [-0.3, 0.15, 0.55])
    np.testing.assert_allclose(issues.suspicion["agreement"], [0.0, 0.5, 1.0])
    for measure in label_issues.MEASURES:
        assert issues.order(measure).tolist() == [2, 1, 0]


def test_equal_agreement_is_ordered_by_margin():
    issues = label_issues.rank(MEMBERS[[0, 2]], TOGETHER[[0, 2]], [2, 1])
    np.testing.assert_allclose(issues.suspicion["agreement"], [1, 1])
    np.testing.assert_allclose(issues.suspicion["margin"], [0.5, 0.55])
    assert issues.order("agreement").tolist() == [1, 0]


def test_figures_against_scikit_learn():
    random = np.random.default_rng(0)
    members, labels = random.normal(size=(200, 3, 4)), random.integers(0, 4, 200)
    issues = label_issues.rank(members, members.mean(1), labels)
    right = np.where(random.random(200) < 0.3, (labels + 1) % 4, labels)
    figures, wrong = label_issues.detection_figures(issues, right), right != labels
    assert figures["wrong"] == wrong.sum()
    for measure in label_issues.MEASURES:
        suspicion = issues.suspicion[measure]
        assert figures[measure]["auroc"] == pytest.approx(roc_auc_score(wrong, suspicion))
        assert figures[measure]["aupr"] == pytest.approx(average_precision_score(wrong, suspicion))
    first = np.argsort(-issues.suspicion["self_confidence"])[: wrong.sum()]
    assert figures["self_confidence"]["found"] == pytest.approx(wrong[first].mean())


def test_logits_of_other_images_are_refused():
    with pytest.raises(ValueError, match=r"must be \(n, M, K\)"):
        label_issues.rank(MEMBERS, TOGETHER[:2], [0, 0, 1])


@pytest.mark.slow
def test_a_report_with_labels_to_correct(tmp_path):
    model, (x, y) = tiny.model(), tiny.data(12)
    names, labelled = tuple("abcde"), [(x[:8], y[:8]), (x[8:], y[8:])]
    right = np.where(np.arange(12) < 4, (y + 1) % 5, y)
    evaluated = evaluation.evaluate(model, labelled, names, labelled=labelled, right_labels=right, num_disagreements=5)
    issues = label_issues.find(model, x, y)
    np.testing.assert_allclose(
        evaluated.label_issues.suspicion["margin"], issues.suspicion["margin"], rtol=1e-4, atol=1e-6
    )
    indices, images = evaluated.suspicious_images
    np.testing.assert_array_equal(indices, issues.order()[:5])
    np.testing.assert_array_equal(images, x[indices])
    assert evaluated.figures["label_issues"]["wrong"] == 4
    report.write(evaluated, tmp_path)
    with open(tmp_path / "label_issues.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == issues.order().tolist()
    first = int(rows[0]["index"])
    assert (rows[0]["labelled"], rows[0]["right"]) == (names[y[first]], names[right[first]])
    assert float(rows[0]["margin"]) == pytest.approx(issues.suspicion["margin"].max(), abs=1e-5)
    page = (tmp_path / "report.html").read_text()
    assert "Most suspicious labels" in page
    assert "finding the 4 that are wrong" in page
    with pytest.raises(ValueError, match="`right_labels` are those of `labelled` images"):
        evaluation.evaluate(model, labelled, names, right_labels=right)


def test_a_temperature_for_labels_of_which_some_are_wrong():
    model, (x, y) = tiny.model(), tiny.data(60)
    options = dict(validation=[(x, y)], temperature=True)
    figures = evaluation.evaluate(model, [(x, y)], tuple("abcde"), label_noise="estimate", **options).figures
    logits = model.pooled(model.predict_members(x, verbose=0), calibrated=False)
    temperature, rate = calibration.fit_temperature_under_noise(logits, y)
    assert figures["temperature"]["value"] == pytest.approx(temperature, rel=1e-3)
    assert figures["temperature"]["label_noise"] == {"rate": pytest.approx(rate, abs=1e-3), "estimated": True}
    assert "(estimated with it) are drawn anew" in report.table(figures)
    with pytest.raises(ValueError, match="`label_noise` is about the labels that a temperature is fitted on"):
        evaluation.evaluate(model, [(x, y)], tuple("abcde"), label_noise=0.2)


def test_what_belongs_to_other_images_is_refused(tmp_path):
    issues = label_issues.rank(MEMBERS, TOGETHER, [0, 0, 1])
    for right in ([0, 0], [[0, 1, 2]]):
        with pytest.raises(ValueError, match="`right_labels` must be"):
            label_issues.detection_figures(issues, right)
    with pytest.raises(ValueError, match="`right_labels` must be"):
        label_issues.write_csv(issues, tmp_path / "issues.csv", tuple("abc"), right_labels=[0, 1])
    with pytest.raises(ValueError, match="`names` must be one for each image, got 1 for 3 images"):
        label_issues.write_csv(issues, tmp_path / "issues.csv", tuple("abc"), names=["a.png"])
