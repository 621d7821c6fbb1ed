"""Data on the JAX backend, whose step, metrics and checks are its own; and what only TensorFlow has."""

import functools
from pathlib import Path

import keras
import numpy as np
import pytest
from bad_inputs import compiled_steps, elsewhere
from bad_inputs.harness import Here, Row, each, judge

from mixmo_keras import distribution
from mixmo_keras.training.checkpoints import warm_start

pytestmark = pytest.mark.slow


def prepare():
    """Runs every operation of a step once, which JAX compiles one by one: later ones take no time."""
    here = Here(Path(), {})
    here.another_model().fit(*here.data, batch_size=4, verbose=0, validation_data=here.data)


class _Accident(keras.callbacks.Callback):
    """Ctrl-C behind the first batch, when Keras has taken the variables' values away."""

    def _raise(self, *_, **__):
        raise KeyboardInterrupt

    on_train_batch_end = on_test_batch_end = on_predict_batch_end = _raise


def after_an_accident(verb, here):
    model, (images, labels) = here.another_model(), here.data
    data = (images,) if verb == "predict" else (images, labels)
    with pytest.raises(KeyboardInterrupt):
        getattr(model, verb)(*data, batch_size=4, verbose=0, callbacks=[_Accident()])
    assert np.isfinite(model.predict(images, verbose=0)).all()
    model.fit(images, labels, verbose=0)


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
    Row("warm_start(nothing there)", lambda here: warm_start(here.model, "no.npz"), "not a checkpoint, or a damaged"),
    Row(
        "export(a SavedModel)",
        lambda here: here.model.export("exported"),
        "is written by TensorFlow, and Keras runs on 'jax'.*KERAS_BACKEND",
    ),
    *[
        Row(f"{verb} goes on after it was interrupted", functools.partial(after_an_accident, verb))
        for verb in ("fit", "evaluate", "predict")
    ],
    Row(
        "fit(diverges)",
        lambda here: here.another_model(l2=0.0).fit(
            *here.data, batch_size=8, sample_weight=np.full(8, 1e30), epochs=5, verbose=0
        ),
        "NaN or infinite",
    ),
]
ROWS = [*compiled_steps.ROWS, *OWN]


@pytest.fixture(scope="module")
def answered(request):
    rows = elsewhere.Elsewhere("bad_inputs.test_rows_on_jax", elsewhere.names_of(request), KERAS_BACKEND="jax")
    yield rows
    rows.close()


@each(ROWS)
def test_rows_on_jax(row, answered, record_property):
    judge(row, *answered.outcome(row.name), record_property)
