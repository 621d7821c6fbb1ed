"""The first mistakes of people who know Keras: each is answered by what to do, before the first step."""

import keras
import numpy as np
from bad_inputs.harness import Row, check, each

import mixmo_keras

ONE_HOT = np.eye(5, dtype="float32")
SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
FROM_LOGITS = keras.losses.CategoricalCrossentropy(from_logits=True)
SMOOTHED = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)


def compiled(here, loss=None, metrics=("accuracy",)):
    model = here.another_model()
    model.compile(keras.optimizers.SGD(0.01), loss, metrics=metrics, run_eagerly=True)
    return model


def fit(labels=lambda y: y, images=lambda x: x, loss=None, metrics=("accuracy",), verb="fit", **options):
    """A call of `fit`, or of `evaluate`, with labels and images in the form that a tutorial has them in."""

    def call(here):
        x, y = here.data
        return getattr(compiled(here, loss, metrics), verb)(images(x), labels(y), verbose=0, **options)

    return call


def one_hot(labels):
    return ONE_HOT[labels]


TAKES_BOTH = "Leave `loss` out, the default takes both"
LABELS_AND_LOSSES = [
    Row("sparse loss, one-hot labels", fit(one_hot, loss=SPARSE), f"got one-hot labels.*{TAKES_BOTH}"),
    Row("sparse loss, one-hot labels, evaluate", fit(one_hot, loss=SPARSE, verb="evaluate"), TAKES_BOTH),
    Row("categorical loss, integer labels", fit(loss=FROM_LOGITS), f"got integer labels.*{TAKES_BOTH}.*to_categorical"),
    Row("categorical loss, integer labels, evaluate", fit(loss=FROM_LOGITS, verb="evaluate"), TAKES_BOTH),
    Row("smoothed categorical loss, integer labels", fit(loss=SMOOTHED), r"losses.CrossEntropy\(label_smoothing=0.1\)"),
    Row(
        "focal loss, integer labels", fit(loss=keras.losses.CategoricalFocalCrossentropy(from_logits=True)), TAKES_BOTH
    ),
    Row("sparse loss, integer labels", fit(loss=SPARSE)),
    Row("categorical loss, one-hot labels", fit(one_hot, loss=FROM_LOGITS)),
    Row("smoothed categorical loss, one-hot labels, evaluate", fit(one_hot, loss=SMOOTHED, verb="evaluate")),
    Row("our smoothed loss, integer labels", fit(loss=mixmo_keras.losses.CrossEntropy(0.1))),
    Row("labels that are booleans", fit(lambda y: y > 2)),
]
DATA = [
    Row("labels in a list", fit(list), r"Labels must be one array, got a list of 8: pass np.array\(y\)"),
    Row("images in a list", fit(images=list), r"got a list of 8: for a list of images pass np.stack\(x\)"),
    Row("images in a list, predict", lambda here: here.model.predict(list(here.data[0])), "got a list of 8"),
    Row("images and labels in a tuple", lambda here: compiled(here).fit(here.data), "got a tuple of 2"),
    Row("validation data in a list", lambda here: fit(validation_data=[*here.data])(here)),
    Row("validation_split=25", fit(validation_split=25), "`validation_split` must be"),
    Row("validation_split=1.5", fit(validation_split=1.5), "`validation_split` must be"),
    Row("validation_split=0.25", fit(validation_split=0.25)),
]
WEIGHTS = "`class_weight` must be a dictionary from a class' index"
CLASS_WEIGHTS = [
    Row("class_weight='balanced'", fit(class_weight="balanced"), WEIGHTS),
    Row("class_weight=[...]", fit(class_weight=[1.0, 2.0, 1.0, 1.0, 1.0]), WEIGHTS),
    Row("class_weight of names", fit(class_weight={"cat": 2.0}), "class_weight's keys` must be an integer from 0 to 4"),
    Row("class_weight of class K", fit(class_weight={5: 2.0}), "class_weight's keys` must be an integer from 0 to 4"),
    Row("class_weight < 0", fit(class_weight={0: -1.0}), r"`class_weight\[0\]` must be"),
    Row("class_weight", fit(class_weight={0: 1.0, 1: np.float64(2)})),
]
METRICS = [
    Row("metrics='accuracy'", fit(metrics="accuracy")),
    Row("metrics=a metric", lambda here: fit(metrics=keras.metrics.SparseCategoricalAccuracy())(here)),
    Row("metrics={...}", fit(metrics={"output": "accuracy"}), r"`metrics` must be a list, such as \['accuracy'\]"),
    Row("metrics=None", fit(metrics=None)),
]


@each([*LABELS_AND_LOSSES, *DATA, *CLASS_WEIGHTS, *METRICS])
def test_first_hour(row, here, record_property):
    check(row, here, record_property)
