"""Figures by class against hand-worked numbers, scikit-learn and permutations."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as reference

from mixmo_keras.metrics import by_class


@pytest.fixture
def case():
    random = np.random.default_rng(0)
    labels = random.choice(4, 300, p=[0.7, 0.2, 0.08, 0.02])
    return random.normal(size=(300, 4)) + 1.2 * np.eye(4)[labels] + [1, 0, 0, 0], labels


def test_rates_and_auroc_are_those_of_scikit_learn(case):
    logits, labels = case
    found, answers = by_class.class_figures(logits, labels), logits.argmax(-1)
    precision, recall, f1, _ = reference.precision_recall_fscore_support(labels, answers, zero_division=np.nan)
    for name, expected in (("precision", precision), ("recall", recall), ("f1", f1)):
        np.testing.assert_allclose(found[name], expected)
    probabilities = softmax(logits, axis=-1)
    auroc = [reference.roc_auc_score(labels == k, probabilities[:, k]) for k in range(4)]
    np.testing.assert_allclose(found["auroc"], auroc)
    means = by_class.means(found)
    assert means["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(labels, answers))
    assert means["f1"] == pytest.approx(f1.mean())
    assert means["auroc"] == pytest.approx(np.mean(auroc))


def test_classes_without_images_or_answers():
    logits = np.array([[2, 0, 1], [0, 2, 1], [2, 1, 0]])
    found = by_class.class_figures(logits, [0, 0, 0])  # answers 0, 1, 0
    np.testing.assert_allclose(found["precision"], [1, 0, np.nan])
    np.testing.assert_allclose(found["recall"], [2 / 3, np.nan, np.nan])
    np.testing.assert_allclose(found["f1"], [0.8, 0, np.nan])
    assert np.isnan(found["auroc"]).all()
    assert np.isnan(by_class.means(found)["auroc"])


def test_a_threshold_worked_by_hand():
    """Six of the first class below .4 but one, two of the second at .3 and .45: from .4 on, 7 of 8 are right."""
    probabilities, labels = [0.05, 0.1, 0.15, 0.2, 0.25, 0.35, 0.3, 0.45], [0, 0, 0, 0, 0, 0, 1, 1]
    # at .275 both of the second and five of six of the first are right: (1 + 5/6) / 2 is more than (1/2 + 1) / 2 at .4
    assert by_class.best_threshold(probabilities, labels) == pytest.approx(0.275)
    logits = np.stack([np.zeros(8), np.log(probabilities) - np.log1p(-np.array(probabilities))], axis=-1)
    found = by_class.threshold_figures(logits, labels, 0.275)
    assert found["balanced_accuracy"] == pytest.approx(11 / 12)
    assert found["accuracy"] == pytest.approx(7 / 8)
    assert found["recall"] == pytest.approx([5 / 6, 1])
    assert found["precision"] == pytest.approx([1, 2 / 3])
    # one half stays where nothing is better
    assert by_class.best_threshold([0.1, 0.9], [0, 1]) == 0.5
    with pytest.raises(ValueError, match="needs images of both"):
        by_class.best_threshold([0.1, 0.9], [1, 1])


def test_no_threshold_is_better_than_the_best(case):
    logits, labels = case
    first = labels < 2
    logits, labels = logits[first, :2], labels[first]
    probabilities = softmax(logits, axis=-1)[:, 1]
    best = by_class.best_threshold(probabilities, labels)
    scores = [by_class.threshold_figures(logits, labels, t)["balanced_accuracy"] for t in np.linspace(0, 1, 201)]
    assert by_class.threshold_figures(logits, labels, best)["balanced_accuracy"] >= max(scores) - 1e-12


@pytest.mark.parametrize("num_classes", [2, 3])
def test_chance_is_what_permutations_say(num_classes):
    random = np.random.default_rng(1)
    labels = random.choice(num_classes, 60, p=[0.7, 0.3] if num_classes == 2 else [0.6, 0.3, 0.1])
    answers = np.where(random.random(60) < 0.25, labels, random.permutation(labels))
    right = (answers == labels).sum()
    permuted = np.array([(random.permutation(answers) == labels).sum() for _ in range(20_000)])
    expected = (permuted >= right).mean()
    assert 0.001 < expected < 0.5  # or the test says nothing
    assert by_class.probability_by_chance(answers, labels, num_classes) == pytest.approx(expected, abs=0.01)


def test_what_the_majority_class_hides():
    """Two thirds are of one class. Right as often as it alone would be, and still far from guessing."""
    labels = np.repeat([0, 1], [80, 40])
    answers = np.concatenate([np.repeat([0, 1], [55, 25]), np.repeat([0, 1], [13, 27])])
    assert (answers == labels).mean() < 80 / 120 + 0.02
    assert by_class.probability_by_chance(answers, labels, 2) < 0.001
    assert by_class.probability_by_chance(np.zeros(120, int), labels, 2) == 1
    assert by_class.probability_by_chance(np.zeros(120, int), labels, 3) == 1
