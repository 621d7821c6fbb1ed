"""Data that never end: datasets and Keras' own are refused where no steps say how much to take, generators warned of."""

import functools
import itertools
import warnings
from unittest import mock

import keras
from bad_inputs.harness import Row, check, each
from bad_inputs.test_training_and_answers import CALLS, PREDICT, dataset, fitting

from mixmo_keras import datasets
from mixmo_keras.datasets import pipeline
from mixmo_keras.training import data_checks


def endless(*parts):
    return dataset(*parts).repeat()


ENDLESS = "without end|never end|infinite"


def hidden(data):
    """Batches without end of which nothing tells so."""
    for _ in itertools.count():
        yield data


def filtered(data):
    """The same as a dataset, which doesn't know its length behind a filter."""
    return dataset(*data).repeat().filter(lambda *_: True)


def few_are_many(call):
    """Calls with low limits for what is warned of; a warning ends the call, since nothing else does."""

    def calls(here):
        with (
            mock.patch.object(data_checks, "MANY", 3),
            mock.patch.object(pipeline, "MANY", 2000),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("error", UserWarning)
            return call(here)

    return calls


MANY = "More than [0-9,]+ (batches|images) .*(whose end is not known|doesn't know how many)"
WARNED = (UserWarning,)
HIDDEN = [
    *[
        Row(
            f"{name}({kind} whose end is not known)",
            few_are_many(
                functools.partial(lambda name, make, here: getattr(here.model, name)(make(here.data)), name, make)
            ),
            MANY,
            WARNED,
        )
        for name in ("predict_with_labels", "calibrate", "predict_multiplexed")
        for kind, make in (("generator", hidden), ("dataset", filtered))
    ],
    *[
        Row(f"{name}({kind} whose end is not known, steps=2)", functools.partial(call, make))
        for name, call in {
            "predict_with_labels": lambda make, here: here.model.predict_with_labels(make(here.data), steps=2),
            "calibrate": lambda make, here: here.model.calibrate(make(here.data), steps=2),
        }.items()
        for kind, make in (
            ("generator", hidden),
            ("dataset", filtered),
            ("expression", lambda data: (data for _ in hidden(data))),
        )
    ],
    Row(
        "predict_with_labels(list of many batches)",
        few_are_many(lambda here: here.model.predict_with_labels([here.data] * 5)),
    ),
    *[
        Row(
            f"{call.__name__}(dataset whose end is not known)",
            few_are_many(
                functools.partial(
                    lambda call, here, **of: call(filtered(here.data).unbatch(), 4, **of), call, **training
                )
            ),
            MANY,
            WARNED,
        )
        for call, training in ((datasets.batches, {"training": True}), (datasets.steps_per_epoch, {}))
    ],
]


@each(HIDDEN)
def test_data_whose_end_is_not_known(row, here, record_property):
    check(row, here, record_property)


def test_images_behind_a_filter_are_counted(here):
    behind = dataset(*here.data).unbatch().filter(lambda _, label: label < 3)
    assert datasets.steps_per_epoch(behind, 1) == int((here.data[1] < 3).sum())


class Endless(keras.utils.PyDataset):
    """Batches without end, as Keras' own datasets say it."""

    def __init__(self, data):
        super().__init__()
        self.data = data

    @property
    def num_batches(self):
        return None

    def __getitem__(self, index):
        return self.data


ROWS = [
    *[
        Row(
            f"{name}(dataset without end)",
            functools.partial(lambda call, here: call(here.model, endless(*here.data)), call),
            ENDLESS,
        )
        for name, call in CALLS.items()
    ],
    *[
        Row(
            f"{name}(dataset without end)",
            functools.partial(lambda call, here: call(here.model, endless(here.data[0])), call),
            ENDLESS,
        )
        for name, call in PREDICT.items()
        if name != "predict_on_batch"
    ],
    Row(
        "fit(generator, steps_per_epoch=2)",
        lambda here: here.another_model().fit(hidden(here.data), steps_per_epoch=2, epochs=2, verbose=0),
    ),
    Row("evaluate(generator, steps=2)", lambda here: here.model.evaluate(hidden(here.data), steps=2, verbose=0)),
    Row(
        "predict(generator of images, not tuples)",
        lambda here: here.model.predict((x for x, _ in hidden(here.data)), steps=2, verbose=0),
        "the generator must return a tuple",
    ),
    Row(
        "predict(generator, steps=2)",
        lambda here: here.model.predict(((x,) for x, _ in hidden(here.data)), steps=2, verbose=0),
    ),
    Row("fit(PyDataset without end)", lambda here: here.another_model().fit(Endless(here.data), verbose=0), ENDLESS),
    Row("evaluate(PyDataset without end)", lambda here: here.model.evaluate(Endless(here.data), verbose=0), ENDLESS),
    Row(
        "evaluate(PyDataset without end, steps=2)",
        lambda here: here.model.evaluate(Endless(here.data), steps=2, verbose=0),
    ),
    Row("fit(validation without end)", lambda here: fitting(validation_data=endless(*here.data))(here), ENDLESS),
    Row(
        "fit(dataset without end, steps_per_epoch=2)",
        lambda here: here.another_model().fit(endless(*here.data), steps_per_epoch=2, verbose=0),
    ),
    Row(
        "evaluate(dataset without end, steps=2)",
        lambda here: here.model.evaluate(endless(*here.data), steps=2, verbose=0),
    ),
    Row(
        "predict(dataset without end, steps=2)",
        lambda here: here.model.predict(endless(here.data[0]), steps=2, verbose=0),
    ),
]


@each(ROWS)
def test_data_without_end(row, here, record_property):
    check(row, here, record_property)
