"""Data that never end: datasets, Python generators, Keras' own datasets; refused where no steps say how much to take."""

import functools
import itertools

import keras
from bad_inputs.harness import Row, check, each
from bad_inputs.test_training_and_answers import CALLS, PREDICT, dataset, fitting


def endless(*parts):
    return dataset(*parts).repeat()


ENDLESS = "without end|never end|infinite"


def forever(here):
    """Batches of a generator function that never returns."""
    while True:
        yield here.data


WITHOUT_END = {
    "function without end": forever,
    "expression without end": lambda here: (here.data for _ in itertools.count()),
}


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
    *[
        Row(
            f"{name}(generator {kind})",
            functools.partial(lambda call, make, here: call(here.model, make(here)), call, make),
            "never end, and .* pass `steps|never end: take some",
        )
        for name, call in CALLS.items()
        for kind, make in WITHOUT_END.items()
    ],
    *[
        Row(
            f"{name}(generator {kind})",
            functools.partial(lambda call, make, here: call(here.model, (x for x, _ in make(here))), call, make),
            "never end, and .* pass `steps",
        )
        for name, call in PREDICT.items()
        for kind, make in WITHOUT_END.items()
        if name in ("predict", "predict_members")
    ],
    Row(
        "fit(validation, a generator)",
        lambda here: fitting(validation_data=forever(here))(here),
        "The validation data never end, .*pass `validation_steps`",
    ),
    Row(
        "fit(generator, steps_per_epoch=2)",
        lambda here: here.another_model().fit(forever(here), steps_per_epoch=2, epochs=2, verbose=0),
    ),
    Row("evaluate(generator, steps=2)", lambda here: here.model.evaluate(forever(here), steps=2, verbose=0)),
    Row(
        "predict(generator of images, not tuples)",
        lambda here: here.model.predict((x for x, _ in forever(here)), steps=2, verbose=0),
        "the generator must return a tuple",
    ),
    Row(
        "predict(generator, steps=2)",
        lambda here: here.model.predict(((x,) for x, _ in forever(here)), steps=2, verbose=0),
    ),
    *[
        Row(
            f"{name}({kind})",
            functools.partial(lambda call, make, here: call(here.model, make(here)), CALLS[name], make),
            "never end",
        )
        for name in ("calibrate", "predict_with_labels")
        for kind, make in {
            "itertools.repeat": lambda here: itertools.repeat(here.data),
            "itertools.cycle": lambda here: itertools.cycle([here.data]),
        }.items()
    ],
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
