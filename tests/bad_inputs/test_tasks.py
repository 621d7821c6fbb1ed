"""Tasks beside classes: their arguments, targets of another task, and what can't be combined with them."""

import keras
import numpy as np
from bad_inputs.harness import NAN, Row, anything_else, check, each, integers, numbers

import mixmo_keras
from mixmo_keras import policies, tasks

LABELS, NUMBERS, PIXELS = tasks.MultiLabel(3), tasks.Regression(2), tasks.Segmentation(3, width=4)
N = 8  # images of `here.data`
MAPS = np.arange(N * 64).reshape(N, 8, 8) % 3


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


def dataset(images, targets):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((images, targets)).batch(4)


def evaluated(targets):
    """A call of `evaluate` of a segmentation with label maps of eight images."""

    def call(here):
        model = here.another_model(num_classes=None, task=PIXELS)
        return mixmo_keras.evaluation.evaluate(model, [(here.data[0], targets)], ["a", "b", "c"])

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
    *anything_else(
        "MultiLabel",
        "temperature_by_label",
        of(tasks.MultiLabel, "temperature_by_label", 2),
        [1, "yes", None],
        "`temperature_by_label` must be True or False",
    ),
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
    *integers("Segmentation", "classes", of(tasks.Segmentation, "classes"), 2, below=1)[:2],
    Row("Segmentation(one name)", lambda here: tasks.Segmentation(["a"]), "`classes` must be an integer of at least 2"),
    Row(
        "Segmentation(a class ignored)",
        lambda here: tasks.Segmentation(3, ignore=2),
        r"`ignore` \(=2\) is one of the 3",
    ),
    *anything_else(
        "Segmentation", "ignore", of(tasks.Segmentation, "ignore", 3), ["255", 2.5], "`ignore` must be an int"
    ),
    *anything_else(
        "Segmentation", "decoder", of(tasks.Segmentation, "decoder", 3), ["fcn", 3], "`decoder` must be one"
    ),
    *integers("Segmentation", "width", of(tasks.Segmentation, "width", 3), 4, below=0)[:2],
    *anything_else(
        "PixelCrossEntropy", "ignore", of(tasks.PixelCrossEntropy, "ignore"), ["x"], "`ignore` must be an int"
    ),
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
    Row("Segmentation: classes", fit(PIXELS, np.arange(N) % 3), r"must be label maps \(n, H, W\).*got shape \(8,\)"),
    Row("Segmentation: colours", fit(PIXELS, np.zeros((N, 8, 8, 3))), r"label maps .* got shape \(8, 8, 8, 3\)"),
    Row("Segmentation: smaller maps", fit(PIXELS, np.zeros((N, 4, 4))), "size of their images, 8×8 pixels, got 4×4"),
    Row("Segmentation: an unknown label", fit(PIXELS, np.full((N, 8, 8), 7)), "from 0 to 2, or 255 .* from 7 to 7"),
    Row("Segmentation: NaN", fit(PIXELS, np.full((N, 8, 8), NAN)), "Label maps must hold integers from 0 to 2"),
    Row("Segmentation: shares", fit(PIXELS, np.full((N, 8, 8), 0.5)), "the data hold others, from 0.5 to 0.5"),
    Row("Segmentation: all ignored", fit(PIXELS, np.full((N, 8, 8), 255)), "No pixel of the training data counts"),
    Row(
        "Segmentation: a class that no pixel has",
        fit(PIXELS, np.arange(N * 64).reshape(N, 8, 8) % 2),
        warns="No pixel of the training data has class 2: nothing can be learnt of it",
    ),
    Row(
        "Classification: label maps", fit(tasks.Classification(3), np.zeros((N, 8, 8), int)), r"Labels must be integers"
    ),
    Row(
        "Segmentation: an unknown label in a dataset",
        lambda here: here.another_model(num_classes=None, task=PIXELS).fit(
            dataset(here.data[0], np.full((N, 8, 8), 7)), verbose=0
        ),
        "from 0 to 2, or 255 .* from 7 to 7",
    ),
    Row(
        "Segmentation: evaluated on maps of another size",
        evaluated(np.zeros((N, 4, 8), int)),
        "size of their images, 8×8 pixels, got 4×8",
    ),
    Row(
        "Segmentation: evaluated on an unknown label",
        evaluated(np.full((N, 8, 8), 3)),
        "from 0 to 2, or 255 .* from 3 to 3",
    ),
    Row("Segmentation: evaluated on fewer maps", evaluated(MAPS[:2]), "2 label maps for 8 images"),
    Row("Segmentation: evaluated where no pixel counts", evaluated(np.full((N, 8, 8), 255))),
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
    Row("Segmentation and MixUp", made(PIXELS, msda="mixup"), "shows two images in each pixel.*msda='cutmix'"),
    Row("Segmentation and CutMix", made(PIXELS, msda="cutmix")),
    Row(
        "Segmentation and TrivialAugment",
        made(PIXELS, augmentation=policies.TrivialAugment()),
        "doesn't say how label maps move with their images",
    ),
    Row(
        "Segmentation and a layer of Keras",
        made(PIXELS, augmentation=keras.layers.RandomFlip()),
        "doesn't say how label maps move with their images",
    ),
    Row(
        "Segmentation taught by sigmoids",
        made(PIXELS, co_training=0.5, teaching="sigmoid"),
        "its pixels have one class each. Use teaching=.softmax.",
    ),
    Row("Segmentation and class_weight", fit(PIXELS, MAPS, class_weight={0: 2}), "`class_weight` weighs images"),
    Row("Segmentation and a loss of classes", compiled(PIXELS, mixmo_keras.losses.CrossEntropy()), "leave `loss` out"),
    Row("Segmentation and a loss of Keras", compiled(PIXELS, "sparse_categorical_crossentropy"), "weights of pixels"),
    Row(
        "Segmentation and views",
        lambda here: here.another_model(num_classes=None, task=PIXELS).predict(here.data[0], views=2, verbose=0),
        "averages answers about whole images",
    ),
    Row(
        "Segmentation and label noise",
        lambda here: here.another_model(num_classes=None, task=PIXELS).calibrate(here.data[0], MAPS, label_noise=0.1),
        "is about one class an image",
    ),
    Row(
        "Segmentation, nothing to calibrate on",
        lambda here: here.another_model(num_classes=None, task=PIXELS).calibrate(here.data[0], np.full((N, 8, 8), 255)),
        "No pixel to calibrate on counts",
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
