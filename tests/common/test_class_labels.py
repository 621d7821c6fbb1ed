"""The rule for labels: the same verdict of arrays and of tensors, against rows judged by hand."""

import re

import numpy as np
import pytest
from keras import ops

from mixmo_keras.common import class_labels

NAN, INF = float("nan"), float("inf")
ONE_HOT = np.eye(3)[[2, 0]]


@pytest.mark.parametrize(
    "values",
    [
        [2, 0],
        [[2], [0]],
        np.array([2.0, 0.0]),
        np.array([2, 0], "uint8"),
        ONE_HOT,
        ONE_HOT.astype(bool),
        ONE_HOT.astype("uint8"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"num_classes": 3}, {"num_classes": 3, "count": 2}])
def test_integers_of_every_form(values, options):
    labels = class_labels.integers("labels", values, **options)
    assert labels.dtype == "int64"
    np.testing.assert_array_equal(labels, [2, 0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: class_labels.integers("y", [0.5, 1]), "`y` must be integers of at least 0, got 0.5 at 0."),
        (lambda: class_labels.integers("y", [0, -1]), "`y` must be integers of at least 0, got -1 at 1."),
        (lambda: class_labels.integers("y", [0, 3], num_classes=3), "`y` must be integers from 0 to 2, got 3 at 1."),
        (
            lambda: class_labels.integers("y", [0, NAN], num_classes=3),
            "`y` must be integers from 0 to 2, got nan at 1.",
        ),
        (lambda: class_labels.integers("y", [INF, 0]), "`y` must be integers of at least 0, got inf at 0."),
        (
            lambda: class_labels.integers("y", [0, 1], count=3),
            "`y` must be one for each image, got 2 labels for 3 images.",
        ),
        (
            lambda: class_labels.integers("y", ["a"]),
            "`y` must be integers (n,) or (n, 1), or one-hot rows (n, K), got <U1 of shape (1,).",
        ),
        (
            lambda: class_labels.integers("y", 3),
            "`y` must be integers (n,) or (n, 1), or one-hot rows (n, K), got int64 of shape ().",
        ),
        (
            lambda: class_labels.integers("y", ONE_HOT, num_classes=4),
            "`y` must be integers (n,) or (n, 1), or one-hot rows (n, 4), got float64 of shape (2, 3).",
        ),
        (lambda: class_labels.integers("y", [[0, 1.0], [0.5, 0.5]]), "got a row that is not one-hot at 1: [0.5 0.5]."),
        (lambda: class_labels.integers("y", [[1, 1]]), "got a row that is not one-hot at 0: [1 1]."),
        (
            lambda: class_labels.check(np.array([1, 3]), 3),
            "integers from 0 to 2 for num_classes=3; the data holds labels from 1 to 3",
        ),
        (
            lambda: class_labels.check(np.array([[1, 0, 0], [0.5, 0, 0]]), 3),
            "Labels (n, 3) must be one-hot, or shares of the classes: numbers of at least 0 that sum to one; the data holds "
            "other rows, such as [0.5 0.  0. ] at 1.",
        ),
        (lambda: class_labels.check_shape(np.zeros((2, 4)), 3), "integers (n,) or one-hot (n, 3), got shape (2, 4)"),
        (
            lambda: class_labels.check_shape(np.zeros((2, 1, 1)), 3),
            "integers (n,) or one-hot (n, 3), got shape (2, 1, 1)",
        ),
    ],
)
def test_messages(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


@pytest.mark.parametrize(
    ("labels", "wrong"),
    [
        (np.array([0, 2, 3, -1]), [False, False, True, True]),
        (np.array([[0], [3]], "uint8"), [False, True]),
        (np.array([1, 0.5, NAN, INF, -INF], "float32"), [False, True, True, True, True]),
        (np.array([[1, 0, 0], [0.25, 0.5, 0.25], [1, 1, 0]], "float32"), [False, False, True]),
        (np.array([[1.5, -0.5, 0], [0, 0, 0], [NAN, 0, 1], [INF, 0, 0]], "float32"), [True] * 4),
        (np.array([[0.333, 0.333, 0.333], [0.3, 0.3, 0.3]], "float16"), [False, True]),
    ],
)
def test_wrong_labels_of_three_classes(labels, wrong):
    np.testing.assert_array_equal(class_labels.are_wrong(labels, 3), wrong)
    np.testing.assert_array_equal(ops.convert_to_numpy(class_labels.are_wrong(ops.convert_to_tensor(labels), 3)), wrong)


@pytest.mark.parametrize("labels", [np.array([2, 0]), np.array([[2.0], [0.0]]), np.eye(3)[[2, 0]]])
def test_both_forms_of_labels(labels):
    np.testing.assert_array_equal(class_labels.as_indices(labels), [2, 0])
    np.testing.assert_array_equal(class_labels.as_shares(labels, 3), np.eye(3)[[2, 0]])
