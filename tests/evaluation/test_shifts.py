"""Means over corruptions, mean corruption error and test sets with some of the classes: by hand."""

import numpy as np
import pytest

from mixmo_keras import datasets
from mixmo_keras.evaluation import shifts


class Answers:
    """Stands for an ensemble: the "images" of a batch are its logits."""

    num_classes = 3

    def predict_with_labels(self, batches):
        return batches

    def pooled(self, member_logits):
        return member_logits


def right_in(share: float, count: int = 10):
    """Logits of a network that is right in a share of images."""
    labels = np.zeros(count, int)
    logits = np.zeros((count, 3), "float32")
    right = round(share * count)
    logits[:right, 0], logits[right:, 1] = 5, 5
    return logits, labels


def test_the_mean_of_fifteen_against_a_table_by_hand():
    """Accuracy falls by .1 a severity from 1 − .02·number of the corruption, rounded: means of rows and of all by hand."""
    table = {
        name: [round(1 - number % 5 / 10 - (severity - 1) / 10, 1) for severity in range(1, 6)]
        for number, name in enumerate(datasets.corrupted.FIFTEEN)
    }
    # rows of number % 5 = 0..4 have means .8, .7, .6, .5, .4; three rows of each: .6 in the mean
    versions = [
        (name, severity, right_in(row[severity - 1])) for name, row in table.items() for severity in range(1, 6)
    ]
    figures = shifts.corruption_figures(Answers(), versions, datasets.ALEXNET_ERRORS)
    assert list(figures["accuracy"]) == list(datasets.corrupted.FIFTEEN)
    for name, row in table.items():
        np.testing.assert_allclose(figures["accuracy"][name], row, atol=1e-6)
    assert figures["mean_accuracy"] == pytest.approx(0.6)
    errors = [0.2, 0.3, 0.4, 0.5, 0.6] * 3
    by_hand = np.mean(
        [error / alexnet for error, alexnet in zip(errors, datasets.ALEXNET_ERRORS.values(), strict=True)]
    )
    assert figures["mean_corruption_error"] == pytest.approx(by_hand)


def test_mce_by_hand():
    """An error of .5 beside AlexNet's .886428 and .25 beside .819324: (.564061 + .305130)/2."""
    accuracies = {"gaussian_noise": [0.9, 0.7, 0.5, 0.3, 0.1], "fog": [0.75] * 5}
    errors = {name: datasets.ALEXNET_ERRORS[name] for name in accuracies}
    assert shifts.mean_corruption_error(accuracies, errors) == pytest.approx(0.434596, abs=1e-6)
    itself = {name: [1 - error] * 5 for name, error in datasets.ALEXNET_ERRORS.items()}
    assert shifts.mean_corruption_error(itself, datasets.ALEXNET_ERRORS) == pytest.approx(1)


def test_no_mce_where_a_corruption_of_the_reference_is_missing():
    versions = [("fog", severity, right_in(0.5)) for severity in range(1, 6)]
    assert "mean_corruption_error" not in shifts.corruption_figures(Answers(), versions, datasets.ALEXNET_ERRORS)


def test_a_test_set_with_some_of_the_classes():
    """Of classes 0 and 2 alone: the second answer is class 1, which isn't there; among 0 and 2 it is right."""
    logits = np.array([[3, 1, 0], [0, 5, 4], [2, 0, 1]], "float32")
    figures = shifts.figures_of_test_set(Answers(), (logits, np.array([0, 2, 2])))
    assert figures["accuracy"] == pytest.approx(1 / 3)
    assert figures["accuracy_among_its_classes"] == pytest.approx(2 / 3)
    assert (figures["images"], figures["classes"]) == (3, 2)
    assert "accuracy_among_its_classes" not in shifts.figures_of_test_set(Answers(), (logits, np.array([0, 1, 2])))
