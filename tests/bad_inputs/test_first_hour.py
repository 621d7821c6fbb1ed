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


def monitored(callback, **options):
    """A `fit` with one of Keras' callbacks; `callback` makes it, of a row's folder."""

    def call(here):
        return fit(callbacks=[callback(here.folder)], **options)(here)

    return call


EarlyStopping, ReduceLROnPlateau = keras.callbacks.EarlyStopping, keras.callbacks.ReduceLROnPlateau


def checkpoint(name="best.keras", monitor="val_loss", **options):
    return lambda folder: keras.callbacks.ModelCheckpoint(folder / name, monitor, **options)


WHOLE = {"validation_split": 0.5}
NO_VALIDATION = "a figure on validation data: pass `validation_data` or `validation_split`"
MONITORS = [
    Row(
        "EarlyStopping of val_acc",
        monitored(lambda _: EarlyStopping("val_acc"), **WHOLE),
        "EarlyStopping needs 'val_acc', which `fit` doesn't log; it logs loss.*val_loss.*Did you mean 'val_accuracy'",
    ),
    Row("EarlyStopping without validation data", monitored(lambda _: EarlyStopping()), NO_VALIDATION),
    Row("ReduceLROnPlateau of val_acc", monitored(lambda _: ReduceLROnPlateau("val_acc"), **WHOLE), "val_accuracy"),
    Row(
        "ModelCheckpoint of val_acc",
        monitored(checkpoint(monitor="val_acc", save_best_only=True), **WHOLE),
        "val_accur",
    ),
    Row(
        "ModelCheckpoint, a path with {val_acc}", monitored(checkpoint("{val_acc:.2f}.keras"), **WHOLE), "val_accuracy"
    ),
    Row("ModelCheckpoint without validation data", monitored(checkpoint(save_best_only=True)), NO_VALIDATION),
    Row("EarlyStopping of val_accuracy", monitored(lambda _: EarlyStopping("val_accuracy", mode="max"), **WHOLE)),
    Row("EarlyStopping of the loss", monitored(lambda _: EarlyStopping("loss"))),
    Row("ModelCheckpoint, a path with {epoch}", monitored(checkpoint("{epoch:02d}-{val_accuracy:.2f}.keras"), **WHOLE)),
]


def fit_of_classes(num_classes, labels):
    """A `fit` of a model of so many classes on labels."""

    def call(here):
        model = here.another_model(num_classes=num_classes)
        images = np.resize(here.data[0], (len(labels), 8, 8, 3))
        return model.fit(images, np.array(labels), batch_size=64, verbose=0)

    return call


def fit_of_directory(label_mode, num_classes=3, classes=("cat", "dog", "owl")):
    """A `fit` on what `keras.utils.image_dataset_from_directory` reads."""

    def call(here):
        for name in classes:
            (here.folder / name).mkdir()
            for number in range(4):
                keras.utils.save_img(here.folder / name / f"{number}.png", here.data[0][number], scale=False)
        images = keras.utils.image_dataset_from_directory(
            here.folder, label_mode=label_mode, image_size=(8, 8), batch_size=4, verbose=False
        )
        model = here.another_model(num_classes=num_classes)
        model.fit(images, verbose=0)
        return model.evaluate(images, verbose=0)

    return call


CLASSES = [
    Row(
        "100 classes, data of 3",
        fit_of_classes(100, [0, 1, 2] * 20),
        warns="num_classes=100, and 60 labels run from 0 to 2 only: pass num_classes=3",
    ),
    Row("10 classes, one-hot data of 3", fit_of_classes(10, np.eye(10)[[0, 1, 2] * 20]), warns="pass num_classes=3"),
    Row("5 classes, data of 3", fit_of_classes(5, [0, 1, 2] * 20)),
    Row("directory, int", fit_of_directory("int")),
    Row("directory, categorical", fit_of_directory("categorical")),
    Row("directory, binary", fit_of_directory("binary", 2, ("cat", "dog"))),
    Row("directory, no labels", fit_of_directory(None), "Labels are missing"),
    Row(
        "directory, more classes in the model",
        fit_of_directory("int", 100),
        warns=r"The dataset has 3 classes \(cat, dog, owl\) and the model num_classes=100: build",
    ),
    Row("directory, fewer classes in the model", fit_of_directory("int", 2), "build the model with num_classes=3"),
]


@each([*LABELS_AND_LOSSES, *DATA, *CLASS_WEIGHTS, *METRICS, *MONITORS, *CLASSES])
def test_first_hour(row, here, record_property):
    check(row, here, record_property)
