"""Tasks beside classes: their arguments, targets of another task, and what can't be combined with them."""

import keras
import numpy as np
from bad_inputs.harness import NAN, Row, anything_else, check, each, integers, numbers

import mixmo_keras
from mixmo_keras import tasks

LABELS, NUMBERS = tasks.MultiLabel(3), tasks.Regression(2)
N = 8  # images of `here.data`


def of(function, name, *arguments, **options):
    return lambda here, value: function(*arguments, **options | {name: value})


def weights(name, argument, call):
    """Rows of an argument that is a positive number, or a list of them."""
    bad = [0, -1, NAN, "0.5", ["1"], [-1.0]]
    return anything_else(name, argument, call, bad, f"`{argument}` must be a positive number")


def fit(task, targets, **options):
    """A call of `fit` with targets for eight images."""

    def call(here):
        model = here.another_model(num_classes=None, task=task)
        return model.fit(here.data[0], np.asarray(targets), verbose=0, **options)

    return call


def made(task, **options):
    return lambda here: mixmo_keras.CutMixMo(here.backbone, task=task, seed=1, **options)


def compiled(task, loss):
    return lambda here: here.another_model(num_classes=None, task=task).compile(loss=loss)


ARGUMENTS = [
    *integers("MultiLabel", "labels", of(tasks.MultiLabel, "labels"), 2, below=0)[:2],
    *anything_else(
        "MultiLabel", "labels", of(tasks.MultiLabel, "labels"), ["cat", None, True], "`labels` must be an integer"
    ),
    Row("MultiLabel(a label twice)", lambda here: tasks.MultiLabel(["a", "a"]), "must be different values"),
    Row("Binary(two labels)", lambda here: tasks.Binary(2), "Binary has one label, got 2"),
    *weights("Binary", "positive_weight", of(tasks.Binary, "positive_weight")),
    *weights("LabelCrossEntropy", "positive_weight", of(tasks.LabelCrossEntropy, "positive_weight")),
    Row(
        "MultiLabel(two weights for three labels)",
        lambda here: tasks.MultiLabel(3, positive_weight=[1, 2]),
        "`positive_weight` must be a number, or 3 of them, got 2",
    ),
    *integers("Regression", "targets", of(tasks.Regression, "targets"), 2, below=0)[:2],
    *numbers("Regression", "beta", of(tasks.Regression, "beta", 1), 0.5, [-0.1, 1.1]),
    *numbers("Regression", "coverage", of(tasks.Regression, "coverage", 1), 0.5, [0, 1]),
    *weights("Regression", "deviation", of(tasks.Regression, "deviation", 1, mean=0.0)),
    Row("Regression(mean alone)", lambda here: tasks.Regression(1, mean=3.0), "belong together: pass both, or neither"),
    Row(
        "Regression(three means for two targets)",
        lambda here: tasks.Regression(2, mean=[1, 2, 3], deviation=1),
        "`mean` must be a number, or 2 of them, got 3",
    ),
    *numbers("GaussianNegativeLogLikelihood", "beta", of(tasks.GaussianNegativeLogLikelihood, "beta"), 0.5, [-1, 2]),
    Row("SquaredError(no reduction)", compiled(NUMBERS, tasks.SquaredError(reduction="none")), "must have reduction="),
]
TARGETS = [
    Row("MultiLabel: class indices", fit(LABELS, np.arange(N) % 3), r"Targets must be \(n, 3\).*tasks.Classification"),
    Row("MultiLabel: two columns", fit(LABELS, np.zeros((N, 2))), r"must be \(n, 3\).*got shape \(8, 2\)"),
    Row(
        "MultiLabel: a count", fit(LABELS, np.full((N, 3), 2)), "must be 0, 1 or probabilities between; .* from 2 to 2"
    ),
    Row(
        "MultiLabel: NaN", fit(LABELS, np.full((N, 3), NAN)), "must be 0, 1 or probabilities between; the data hold NaN"
    ),
    Row("Binary: −1 and 1", fit(tasks.Binary(), np.arange(N) % 2 * 2 - 1), "the data hold targets from -1 to 1"),
    Row("Binary: one-hot", fit(tasks.Binary(), np.eye(2)[np.arange(N) % 2]), r"Targets must be \(n,\) or \(n, 1\)"),
    Row("Regression: one column of two", fit(NUMBERS, np.arange(N)), r"must be \(n, 2\), got shape \(8,\)"),
    Row("Regression: NaN", fit(NUMBERS, np.full((N, 2), NAN)), "must be finite numbers"),
    Row(
        "Regression: a constant target",
        fit(tasks.Regression(["a", "b"]), np.stack([np.arange(N), np.ones(N)], 1)),
        r"Target 'b' is constant \(1\) in the training data",
    ),
    Row(
        "Classification: floats",
        fit(tasks.Classification(5), np.linspace(0.1, 3.7, N)),
        "Labels must be integers from 0 to 4",
    ),
    Row("MultiLabel: probabilities", fit(LABELS, np.full((N, 3), 1 / 3))),
    Row(
        "MultiLabel: a label that never holds",
        fit(LABELS, np.eye(3)[[0, 1] * 4]),
        warns="Label '2' never holds in the training data",
    ),
]
TOGETHER = [
    Row(
        "Regression and CutMix",
        made(NUMBERS, msda="cutmix"),
        "CutMix can't be combined with a regression: .*msda='mixup'",
    ),
    Row("Regression and MixUp", made(NUMBERS, msda="mixup")),
    Row(
        "Regression of averaged logits",
        made(NUMBERS, averaging="logits"),
        "averaging='logits' is about classes and labels",
    ),
    Row(
        "Regression and the members' temperature",
        made(NUMBERS, temperature_applies_to="members"),
        "temperature_applies_to='members' is about classes and labels",
    ),
    Row(
        "Regression and co-training", made(NUMBERS, co_training=0.5), "`co_training` is written for classes and labels"
    ),
    Row(
        "MultiLabel taught by softmax",
        made(LABELS, co_training=0.5),
        "teaching='softmax' is about one class an image: .*teaching='sigmoid'",
    ),
    Row(
        "MultiLabel and class_weight",
        fit(LABELS, np.eye(3)[np.arange(N) % 3], class_weight={0: 2}),
        "use `positive_weight`",
    ),
    Row(
        "Regression and class_weight",
        fit(NUMBERS, np.eye(2)[np.arange(N) % 2], class_weight={0: 2}),
        "use `sample_weight`",
    ),
    Row("MultiLabel and softmax", compiled(LABELS, mixmo_keras.losses.CrossEntropy()), "is about one class an image"),
    Row("MultiLabel and probabilities", compiled(LABELS, "binary_crossentropy"), "expects probabilities"),
    Row("MultiLabel and focal loss", compiled(LABELS, keras.losses.BinaryFocalCrossentropy(from_logits=True))),
    Row("Regression and Keras' squared error", compiled(NUMBERS, "mean_squared_error"), r"use tasks.SquaredError\(\)"),
    Row("Regression and squared error", compiled(NUMBERS, tasks.SquaredError())),
    Row(
        "Regression, a first step outside of fit",
        lambda here: here.another_model(num_classes=None, task=NUMBERS).train_on_batch(
            here.data[0], np.eye(2)[[0, 1] * 4]
        ),
        "mean and deviation of the targets are not known yet",
    ),
    Row(
        "Regression, a generator",
        lambda here: here.another_model(num_classes=None, task=NUMBERS).fit(
            ((here.data[0], np.eye(2)[[0, 1] * 4]) for _ in range(2)), verbose=0
        ),
        "can't be looked at before training: pass the `mean`",
    ),
    Row(
        "a classifier's heads for labels",
        lambda here: mixmo_keras.from_classifier(
            here.another_model(num_classes=None, task=LABELS, num_members=1), verbose=False
        ),
        "heads of .* can't be kept: it is written for one class an image",
    ),
]


@each([*ARGUMENTS, *TARGETS, *TOGETHER])
def test_tasks(row, here, record_property):
    check(row, here, record_property)
