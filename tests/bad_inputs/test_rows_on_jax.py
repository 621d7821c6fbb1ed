"""Data on the JAX backend, whose step, metrics and checks are its own; and what only TensorFlow has."""

import functools
from pathlib import Path

import keras
import numpy as np
import pytest
from bad_inputs import elsewhere, test_data_without_end, test_deep_ensembles, test_training_and_answers
from bad_inputs.harness import Here, LossError, Row, each, judge
from bad_inputs.test_training_and_answers import IMAGES, LABELS, NOT_IN_DATASETS, dataset

from mixmo_keras import distribution
from mixmo_keras.training import checks
from mixmo_keras.training.checkpoints import Checkpoints, warm_start

pytestmark = pytest.mark.slow


def prepare():
    """Runs every operation of a step once, which JAX compiles one by one: later ones take no time."""
    here = Here(Path(), {})
    here.another_model().fit(*here.data, batch_size=4, verbose=0, validation_data=here.data)


def compiled(here):
    """A model as it was built, whose steps are compiled, as they are unless told otherwise: other rows run step by step."""

    def make():
        model = here.another_model()
        model.compile(keras.optimizers.SGD(0.01))
        return model, model.get_weights()

    model, weights = here.once("compiled", make)
    model.set_weights(weights)
    return model


def refused(verb, bad, of_labels: bool):
    """Trains or evaluates by compiled steps on a dataset with bad labels or images.

    A step was taken before the error came: the model must be usable after it, or the error say that it is not.
    """

    def call(here):
        x, y = here.data
        data, model = dataset(x, bad(y)) if of_labels else dataset(bad(x), y), compiled(here)
        try:
            return model.fit(data, verbose=0) if verb == "fit" else model.evaluate(data, verbose=0)
        except Exception as error:
            if checks.unsound_weight(model) and "not usable" not in str(error):
                raise LossError(f"the model is spoiled, and nobody says so: {error}") from error
            raise

    return call


COMPILED = [
    Row(f"{verb}(compiled, {what} {kind})", refused(verb, bad, what == "labels"), pattern)
    for verb in ("fit", "evaluate")
    for what, table in (("labels", LABELS), ("images", IMAGES))
    for kind, (bad, pattern) in table.items()
    if kind not in NOT_IN_DATASETS
]


def weights_of(values):
    def call(here):
        model = compiled(here)
        return model.fit(dataset(*here.data, np.full(8, values)), verbose=0)

    return call


def saved_then(change):
    """Restores a checkpoint that was changed, into a model that was trained on JAX."""

    def call(here):
        model = compiled(here)
        model.fit(*here.data, batch_size=8, verbose=0, callbacks=[Checkpoints(here.folder)])
        (path,) = here.folder.glob("*.npz")
        change(path)
        return Checkpoints(here.folder).restore(model)

    return call


OWN = [
    *[
        Row(
            f"strategy({', '.join(map(repr, arguments))})",
            functools.partial(lambda arguments, here: distribution.strategy(*arguments), arguments),
            "Keras runs on 'jax'",
        )
        for arguments in [("mirrored",), ("mirrored", 2), ("multi_worker",), ("auto", 2)]
    ],
    Row("strategy('none')", lambda here: distribution.strategy("none")),
    Row("strategy('auto')", lambda here: distribution.strategy("auto")),
    Row("fit(compiled, weights of -1)", weights_of(-1.0), "`sample_weight` must be"),
    Row("fit(compiled, weights of NaN)", weights_of(np.nan), "`sample_weight` must be"),
    Row("fit(compiled, weights of 0)", weights_of(0.0)),
    Row("checkpoint(cut off)", saved_then(lambda path: path.write_bytes(path.read_bytes()[:500])), "are damaged"),
    Row("checkpoint(empty)", saved_then(lambda path: path.write_bytes(b"")), "are damaged"),
    Row("checkpoint(text)", saved_then(lambda path: path.write_text("no checkpoint")), "are damaged"),
    Row("checkpoint(sound)", saved_then(lambda path: None)),
    Row("warm_start(nothing there)", lambda here: warm_start(here.model, "no.npz"), "not a checkpoint, or a damaged"),
    Row(
        "fit(diverges)",
        lambda here: here.another_model(l2=0.0).fit(
            *here.data, batch_size=8, sample_weight=np.full(8, 1e30), epochs=5, verbose=0
        ),
        "NaN or infinite",
    ),
]
ROWS = [
    *test_training_and_answers.DATA,
    *test_training_and_answers.QUESTIONS,
    *test_training_and_answers.OTHER,
    *test_data_without_end.ROWS,
    *test_deep_ensembles.ROWS,
    *COMPILED,
    *OWN,
]


@pytest.fixture(scope="module")
def answered(request):
    rows = elsewhere.Elsewhere("bad_inputs.test_rows_on_jax", elsewhere.names_of(request), KERAS_BACKEND="jax")
    yield rows
    rows.close()


@each(ROWS)
def test_rows_on_jax(row, answered, record_property):
    judge(row, *answered.outcome(row.name), record_property)
