"""Data that models are trained on, evaluated on and asked about."""

import functools
import warnings

import numpy as np
import tensorflow as tf
from bad_inputs.harness import INF, NAN, Row, anything_else, check, each, first_quickly, integers

from mixmo_keras import multiplexing

K = 5
MEMBERS_OF_OTHERS = [(4, 2, 7), (4, 3, 5), (4, 5)]  # where (n, 2, 5) is expected
ONE_HOT = np.eye(K, dtype="float32")[[0, 1, 2, 3, 4, 0, 1, 2]]


def changed(array, place, value, dtype=None):
    """A copy with another value in one place."""
    array = np.array(array, dtype)
    array[place] = value
    return array


def dataset(*parts, batch_size=4):
    return tf.data.Dataset.from_tensor_slices(parts).batch(batch_size)


RANGE = r"[Ll]abels`? must be integers from 0 to 4"
LABELS = {  # what is wrong with them, a function of the right ones, and the message
    "of -1": (lambda y: changed(y, 3, -1), RANGE),
    "of K": (lambda y: changed(y, 3, K), RANGE),
    "of 0.5": (lambda y: changed(y, 3, 0.5, "float32"), RANGE),
    "of NaN": (lambda y: changed(y, 3, NAN, "float32"), RANGE),
    "one-hot that sums to 2": (lambda y: changed(ONE_HOT, (3, 0), 1), "one-hot|sum to one"),
    "one-hot of -1": (lambda y: changed(ONE_HOT, (3, 0), -1), "one-hot|sum to one"),
    "one-hot of NaN": (lambda y: changed(ONE_HOT, (3, 0), NAN), "one-hot|sum to one"),
    "one-hot of zeros": (lambda y: np.zeros_like(ONE_HOT), "one-hot|sum to one"),
    "one-hot of K + 1": (
        lambda y: np.eye(K + 1)[y],
        r"[Ll]abels`? must be integers \(n,\).*one-hot .*\(n, 5\)|one-hot rows \(n, 5\)",
    ),
    "of three axes": (lambda y: y[:, None, None], r"[Ll]abels`? must be"),
    "that are names": (lambda y: np.array(["cat"] * len(y)), r"[Ll]abels`? must be"),
    "too few": (lambda y: y[:-1], "labels for 8 images|one for each image"),
}
IMAGES = {
    "of NaN": (lambda x: changed(x, (3, 0, 0, 0), NAN, "float32"), "NaN or infinite pixels"),
    "of infinity": (lambda x: changed(x, (3, 0, 0, 0), INF, "float32"), "NaN or infinite pixels"),
    "too large": (lambda x: x.repeat(2, 1), r"Images must be \(n, 8, 8, 3\), got"),
    "grey": (lambda x: x[..., :1], r"Images must be \(n, 8, 8, 3\), got"),
    "without a channel axis": (lambda x: x[..., 0], r"Images must be \(n, 8, 8, 3\), got"),
    "one, without a batch axis": (lambda x: x[0], r"Images must be \(n, 8, 8, 3\), got"),
    "none": (lambda x: x[:0], "empty|no image"),
    "that are texts": (lambda x: x.astype(str), "[Ii]mages.* must be.*numbers|numbers"),
    "complex": (lambda x: x.astype("complex64"), "[Ii]mages.* must be.*numbers|numbers"),
}
CALLS = {
    "fit": lambda model, *data: model.fit(*data, verbose=0, batch_size=4 if len(data) > 1 else None),
    "evaluate": lambda model, *data: model.evaluate(*data, verbose=0, batch_size=4 if len(data) > 1 else None),
    "calibrate": lambda model, *data: model.calibrate(*data),
    "predict_with_labels": lambda model, *data: model.predict_with_labels(*data),
}


# of a dataset's values, which only a step sees; the others take the same way
STEPS = ("of -1", "one-hot that sums to 2", "of NaN")


def takes_steps(name, kind, as_dataset) -> bool:
    """Whether a row trains, and another one like it stays among the quick ones."""
    return name == "fit" and as_dataset and kind not in STEPS


def on(name, bad, of_labels: bool, as_dataset: bool):
    def call(here):
        x, y = here.data
        data = (x, bad(y)) if of_labels else (bad(x), y[: len(bad(x))] if len(bad(x)) in (0, 8) else y[:1])
        # a broken label or image may stay in the metrics of a model that is trained on it
        model = here.another_model() if name == "fit" else here.model
        return CALLS[name](model, *([dataset(*data)] if as_dataset else data))

    return call


# what is no batch of a dataset's
NOT_IN_DATASETS = ("too few", "none", "one, without a batch axis")
DATA = [
    Row(
        f"{name}({'dataset' if as_dataset else 'arrays'}, {what} {kind})",
        on(name, bad, what == "labels", as_dataset),
        pattern,
        slow=takes_steps(name, kind, as_dataset),
    )
    for what, table in (("labels", LABELS), ("images", IMAGES))
    for name in CALLS
    for kind, (bad, pattern) in table.items()
    for as_dataset in (False, True)
    if not (as_dataset and kind in NOT_IN_DATASETS)
]


@each(DATA)
def test_data(row, here, record_property):
    check(row, here, record_property)


PREDICT = {
    "predict": lambda model, x: model.predict(x, verbose=0),
    "predict_members": lambda model, x: model.predict_members(x, verbose=0),
    "predict_multiplexed": lambda model, x: model.predict_multiplexed(x),
    "predict_on_batch": lambda model, x: model.predict_on_batch(x),
}


def asking(name, bad, as_dataset):
    def call(here):
        x = bad(here.data[0])
        return PREDICT[name](here.model, dataset(x).map(lambda x: x) if as_dataset else x)

    return call


QUESTIONS = [
    Row(f"{name}({'dataset' if as_dataset else 'array'}, images {kind})", asking(name, bad, as_dataset), pattern)
    for name in PREDICT
    for kind, (bad, pattern) in IMAGES.items()
    for as_dataset in (False, True)
    if not (as_dataset and (kind in NOT_IN_DATASETS or name == "predict_on_batch"))
]


@each(QUESTIONS)
def test_questions(row, here, record_property):
    check(row, here, record_property)


ODD = {
    "uint16 up to 65,535": lambda x: x.astype("uint16") * 257,
    "from 0 to 1": lambda x: (x / 255).astype("float32"),
    "from -1 to 1": lambda x: (x / 127.5 - 1).astype("float64"),
}
ON_BATCHES = {
    "train_on_batch": lambda model, x, y: model.train_on_batch(x, y),
    "test_on_batch": lambda model, x, y: model.test_on_batch(x, y),
    "predict_both_with_labels": multiplexing.predict_both_with_labels,
}


def asking_other_units(call, convert, as_dataset=False, **options):
    """Asks a model about images in other units; it must not go on warning when they are right again."""

    def ask(here):
        model, (x, y) = here.another_model(**options) if options else here.model, here.data
        odd = convert(x)
        call(model, *((dataset(odd, y),) if as_dataset else (odd, y)))
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*raw pixels")
            call(model, *((dataset(x, y),) if as_dataset else (x, y)))

    return ask


OTHER_UNITS = [
    Row(
        f"{name}({'dataset' if as_dataset else 'array'}, images {kind})",
        asking_other_units(call, convert, as_dataset, **({"seed": 1} if name in ("fit", "train_on_batch") else {})),
        slow=name != "predict" and (as_dataset or kind != "uint16 up to 65,535"),
        warns="The model expects raw pixels, 0 to 255, .* a batch's values run from",
    )
    for name, call in {
        **CALLS,
        **{name: functools.partial(lambda ask, model, x, *_: ask(model, x), ask) for name, ask in PREDICT.items()},
        **ON_BATCHES,
    }.items()
    for kind, convert in ODD.items()
    for as_dataset in (False, True)
    if not (as_dataset and name.endswith("on_batch"))
] + [
    Row(
        "predict(images from 0 to 1, no normalisation)",
        asking_other_units(ON_BATCHES["test_on_batch"], ODD["from 0 to 1"], normalization=None),
    ),
    *[
        Row(
            f"predict({dtype} images)",
            functools.partial(lambda dtype, here: here.model.predict(here.data[0].astype(dtype), verbose=0), dtype),
            slow=dtype not in ("uint16", "float16"),
        )
        for dtype in ("uint8", "uint16", "uint32", "int16", "int64", "float16", "float64")
    ],
]


@each(OTHER_UNITS)
def test_images_in_other_units(row, here, record_property):
    check(row, here, record_property)


def fitting(**options):
    return lambda here: here.another_model().fit(*here.data, **dict(verbose=0, batch_size=4) | options)


def fitting_with(name):
    return lambda here, value: here.another_model().fit(*here.data, **dict(verbose=0, batch_size=4) | {name: value})


def weighted(weights, as_dataset):
    def call(here):
        x, y = here.data
        if as_dataset:
            return here.another_model().fit(dataset(x, y, weights), verbose=0)
        return here.another_model().fit(x, y, sample_weight=weights, batch_size=4, verbose=0)

    return call


def labels_of_another_form(first, then):
    """Evaluates the same labels in two forms: Keras' metrics keep to the one that they saw first."""

    def call(here):
        model, (x, y) = here.another_model(), here.data
        one, other = (model.evaluate(x, form(y), verbose=0) for form in (first, then))
        np.testing.assert_allclose(one, other, rtol=1e-5)

    return call


OTHER = [
    Row(
        "fit(validation labels of -1)",
        lambda here: fitting(validation_data=(here.data[0], here.data[1] * 0 - 1))(here),
        RANGE,
    ),
    Row("fit(no labels)", lambda here: here.another_model().fit(here.data[0], verbose=0), "Labels are missing"),
    Row("evaluate(one-hot after integers)", labels_of_another_form(lambda y: y, lambda y: np.eye(K)[y])),
    Row("evaluate(integers after one-hot)", labels_of_another_form(lambda y: np.eye(K)[y], lambda y: y)),
    Row("evaluate(labels (n, 1) after one-hot)", labels_of_another_form(lambda y: np.eye(K)[y], lambda y: y[:, None])),
    Row("fit(nothing)", lambda here: here.another_model().fit(verbose=0), "missing|`x`"),
    Row("evaluate(no labels)", lambda here: here.model.evaluate(here.data[0], verbose=0), "Labels are missing"),
    Row("calibrate(no labels)", lambda here: here.model.calibrate(here.data[0]), "[Ll]abels are missing|must be"),
    Row(
        "predict_with_labels(no labels)",
        lambda here: here.model.predict_with_labels(here.data[0]),
        "[Ll]abels are missing|must be",
    ),
    Row("calibrate(nothing)", lambda here: here.model.calibrate(None), "[Ll]abels are missing|must be"),
    Row(
        "calibrate(dataset of images)",
        lambda here: here.model.calibrate(dataset(here.data[0])),
        "[Ll]abels are missing|must be",
    ),
    Row("predict_multiplexed(None)", lambda here: here.model.predict_multiplexed(None), "must be"),
    Row("predict(None)", lambda here: here.model.predict(None, verbose=0), "must be"),
    Row("predict(text)", lambda here: here.model.predict("cat.png", verbose=0), "must be"),
    Row("fit(text)", lambda here: here.another_model().fit("photos", verbose=0), "must be"),
    *anything_else(
        "fit",
        "initial_epoch",
        fitting_with("initial_epoch"),
        [-3, 1.5, None],
        "`initial_epoch` must be an integer of at least",
    ),
    *anything_else(
        "fit", "epochs", fitting_with("epochs"), [0, -1, 1.5, "2", None, NAN], "`epochs` must be an integer"
    ),
    *anything_else(
        "fit", "batch_size", fitting_with("batch_size"), [0, -1, 1.5, "4"], "`batch_size` must be an integer"
    ),
    *anything_else(
        "fit",
        "steps_per_epoch",
        fitting_with("steps_per_epoch"),
        [0, -1, 1.5, "4"],
        "`steps_per_epoch` must be an integer",
    ),
    *[
        row
        for of, call in (
            ("evaluate", lambda here, value: here.model.evaluate(*here.data, value, verbose=0)),
            ("predict", lambda here, value: here.model.predict(here.data[0], value, verbose=0)),
        )
        for row in anything_else(of, "batch_size", call, [0, -1, 1.5, "4"], "`batch_size` must be an integer")
    ],
    *[
        row
        for of, call in (
            ("predict", lambda here, value: here.model.predict(here.data[0], verbose=0, views=value)),
            ("predict_members", lambda here, value: here.model.predict_members(here.data[0], verbose=0, views=value)),
            ("predict_with_labels", lambda here, value: here.model.predict_with_labels(*here.data, views=value)),
            ("export", lambda here, value: here.model.export(here.folder / "model", views=value)),
        )
        for row in anything_else(of, "views", call, [0, 3, -1, 1.5, "6", None], "`views` must be")
    ],
    Row(
        "predict(views, never flipped)",
        lambda here: here.model.predict(here.data[0], verbose=0, views=2),
        warns="was trained without flips",
    ),
    *integers("calibrate", "steps", lambda here, value: here.model.calibrate([here.data] * 2, steps=value), 1, 0, True),
    *integers(
        "predict_with_labels",
        "steps",
        lambda here, value: here.model.predict_with_labels(*here.data, steps=value),
        1,
        below=0,
        none=True,
    ),
    *first_quickly(
        integers(
            "predict_both_with_labels",
            "steps",
            lambda here, value: multiplexing.predict_both_with_labels(here.model, *here.data, steps=value),
            1,
            below=0,
            none=True,
        )
    ),
    *[
        Row(
            f"{name}(logits {shape})",
            functools.partial(call, shape),
            rf"logits` must be \(n, .*5\), got shape \({shape[0]}, ",
        )
        for name, call, shapes in [
            ("calibrate_on", lambda shape, here: here.model.calibrate_on(np.ones(shape), [0] * 4), MEMBERS_OF_OTHERS),
            ("pooled", lambda shape, here: here.model.pooled(np.ones(shape)), MEMBERS_OF_OTHERS),
            (
                "calibrate_multiplexed_on",
                lambda shape, here: multiplexing.calibrate_on(here.model, np.ones(shape), [0] * 4),
                [(4, 7), (4, 2, 5)],
            ),
        ]
        for shape in shapes
    ],
    *integers("calibrate", "batch_size", lambda here, value: here.model.calibrate(*here.data, value), 4, below=0),
    *integers(
        "predict_with_labels",
        "batch_size",
        lambda here, value: here.model.predict_with_labels(*here.data, value),
        4,
        below=0,
    ),
    *integers(
        "predict_multiplexed",
        "batch_size",
        lambda here, value: here.model.predict_multiplexed(here.data[0], value),
        4,
        below=0,
        none=True,
    ),
    *integers(
        "predict_multiplexed",
        "seed",
        lambda here, value: here.model.predict_multiplexed(here.data[0], seed=value),
        4,
        below=-1,
        none=True,
    ),
    *anything_else(
        "calibrate",
        "label_noise",
        lambda here, value: here.model.calibrate(*here.data, label_noise=value),
        [-0.1, 1, NAN, "guess", True],
        "`label_noise` must be",
    ),
    *anything_else(
        "calibrate",
        "temperature_applies_to",
        lambda here, value: here.model.calibrate(*here.data, temperature_applies_to=value),
        ["x", 3],
        "`temperature_applies_to` must be",
    ),
    *anything_else(
        "calibrate",
        "multiplexed",
        lambda here, value: here.model.calibrate(*here.data, multiplexed=value),
        [1, "yes"],
        "`multiplexed` must be",
    ),
    *anything_else(
        "model",
        "temperature",
        lambda here, value: setattr(here.model, "temperature", value),
        [0, -1, NAN, INF, "2", None],
        "`temperature` must be",
    ),
    Row(
        "fit(uint16 images)",
        lambda here: here.another_model().fit(dataset(here.data[0].astype("uint16"), here.data[1]), verbose=0),
    ),
    Row(
        "fit(int64 images)",
        lambda here: here.another_model().fit(here.data[0].astype("int64"), here.data[1], verbose=0),
    ),
    Row(
        "fit(float labels that fit)",
        lambda here: here.another_model().fit(here.data[0], here.data[1].astype("float32"), verbose=0),
    ),
    Row(
        "calibrate(float labels that fit)",
        lambda here: here.model.calibrate(here.data[0], here.data[1].astype("float32")),
    ),
    Row("calibrate(labels (n, 1))", lambda here: here.model.calibrate(here.data[0], here.data[1][:, None])),
    Row("calibrate(lists)", lambda here: here.model.calibrate(here.data[0].tolist(), here.data[1].tolist())),
    Row("calibrate(images, labels, weights)", lambda here: here.model.calibrate(dataset(*here.data, np.ones(8)))),
    Row("calibrate(generator)", lambda here: here.model.calibrate(here.data for _ in range(2))),
    Row("calibrate(list of batches)", lambda here: here.model.calibrate([here.data, here.data])),
    Row(
        "predict_with_labels(generator of three)",
        lambda here: here.model.predict_with_labels((*here.data, np.ones(8)) for _ in range(2)),
    ),
    *[
        Row(f"fit(weights {dtype} in a dataset)", weighted(np.ones(8, dtype), True), slow=dtype != "float64")
        for dtype in ("float64", "int32", "float16", "bool")
    ],
    *[
        Row(
            f"fit(weights {name}, {'dataset' if as_dataset else 'arrays'})",
            weighted(weights, as_dataset),
            "`sample_weight` must be",
        )
        for as_dataset in (False, True)
        for name, weights in {
            "of -1": changed(np.ones(8), 3, -1),
            "of NaN": changed(np.ones(8), 3, NAN),
            "of infinity": changed(np.ones(8), 3, INF),
            "(n, 2)": np.ones((8, 2)),
        }.items()
    ],
    Row("fit(too few weights)", weighted(np.ones(7), False), "sample_weight|weights"),
    Row(
        "train_on_batch(labels of K)",
        lambda here: here.another_model().train_on_batch(here.data[0], here.data[1] + K),
        RANGE,
    ),
    Row(
        "train_on_batch(images of NaN)",
        lambda here: here.another_model().train_on_batch(here.data[0] * NAN, here.data[1]),
        "NaN",
    ),
    Row("test_on_batch(labels of K)", lambda here: here.model.test_on_batch(here.data[0], here.data[1] + K), RANGE),
    Row(
        "test_on_batch(images of NaN)",
        lambda here: here.model.test_on_batch(here.data[0] * NAN, here.data[1]),
        "NaN or infinite pixels",
    ),
    Row("compile(loss='nonsense')", lambda here: here.another_model().compile(loss="nonsense"), "nonsense"),
    Row("compile(optimizer=3)", lambda here: here.another_model().compile(3), "3|optimizer"),
    Row(
        "compile(loss of probabilities)",
        lambda here: here.another_model().compile(loss="sparse_categorical_crossentropy"),
        "from_logits=True",
    ),
    Row(
        "compile(loss of another task)",
        lambda here: here.another_model().compile(loss="squared_hinge"),
        r"CategoricalHinge\(\) is the margin",
    ),
    Row("compile(loss_weights)", lambda here: here.another_model().compile(loss_weights=[1, 2]), "no meaning here"),
]


@each(OTHER)
def test_other_arguments(row, here, record_property):
    check(row, here, record_property)
