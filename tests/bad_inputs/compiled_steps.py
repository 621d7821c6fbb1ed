"""Rows that train by compiled steps, on JAX and under replicas; those of other modules run step by step."""

import keras
import numpy as np
from bad_inputs import test_data_without_end, test_deep_ensembles, test_training_and_answers
from bad_inputs.harness import LossError, Row
from bad_inputs.test_training_and_answers import IMAGES, LABELS, NOT_IN_DATASETS, dataset

from mixmo_keras import distribution
from mixmo_keras.training import incidents
from mixmo_keras.training.checkpoints import Checkpoints


def compiled(here):
    """A model as it was built, whose steps are compiled, as they are unless told otherwise."""

    def make():
        model = here.another_model()
        with distribution.scope(model):
            model.compile(keras.optimizers.SGD(0.01))
        return model, model.get_weights()

    model, weights = here.once("compiled", make)
    model.set_weights(weights)
    return model


def refused(verb, bad, of_labels: bool):
    """Trains or evaluates on a dataset with bad labels or images.

    A step was taken before the error came: the model must be usable after it, or the error say that it is not.
    """

    def call(here):
        x, y = here.data
        data, model = dataset(x, bad(y)) if of_labels else dataset(bad(x), y), compiled(here)
        try:
            return model.fit(data, verbose=0) if verb == "fit" else model.evaluate(data, verbose=0)
        except Exception as error:
            if incidents.unsound_weight(model) and "not usable" not in str(error):
                raise LossError(f"the model is spoiled, and nobody says so: {error}") from error
            raise

    return call


def weights_of(value):
    """Trains with the same sample weight for all images."""
    return lambda here: compiled(here).fit(dataset(*here.data, np.full(8, value)), verbose=0)


def saved_then(change):
    """Restores a checkpoint that was changed."""

    def call(here):
        model = compiled(here)
        model.fit(dataset(*here.data, batch_size=8), verbose=0, callbacks=[Checkpoints(here.folder)])
        (path,) = here.folder.glob("*.npz")
        change(path)
        return Checkpoints(here.folder).restore(model)

    return call


ROWS = [
    *test_training_and_answers.DATA,
    *test_training_and_answers.QUESTIONS,
    *test_training_and_answers.OTHER,
    *test_training_and_answers.OTHER_UNITS,
    *test_data_without_end.ROWS,
    *test_deep_ensembles.ROWS,
    *[
        Row(f"{verb}(compiled, {what} {kind})", refused(verb, bad, what == "labels"), pattern)
        for verb in ("fit", "evaluate")
        for what, table in (("labels", LABELS), ("images", IMAGES))
        for kind, (bad, pattern) in table.items()
        if kind not in NOT_IN_DATASETS
    ],
    *[
        Row(f"fit(compiled, weights of {value})", weights_of(value), "`sample_weight` must be")
        for value in (-1.0, np.nan, np.inf)
    ],
    Row("fit(compiled, weights of 0)", weights_of(0.0)),
    Row("checkpoint(cut off)", saved_then(lambda path: path.write_bytes(path.read_bytes()[:500])), "are damaged"),
    Row("checkpoint(empty)", saved_then(lambda path: path.write_bytes(b"")), "are damaged"),
    Row("checkpoint(text)", saved_then(lambda path: path.write_text("no checkpoint")), "are damaged"),
    Row("checkpoint(sound)", saved_then(lambda path: None)),
]
