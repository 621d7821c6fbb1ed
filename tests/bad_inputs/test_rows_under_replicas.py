"""Data under two replicas, whose step shares out batches and sums over replicas; and what can't be shared out."""

import functools
import json
import os
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from bad_inputs import elsewhere, harness, test_data_without_end, test_deep_ensembles, test_training_and_answers
from bad_inputs.harness import LossError, Row, each, judge
from bad_inputs.test_training_and_answers import IMAGES, LABELS, NOT_IN_DATASETS, dataset

import mixmo_keras
from mixmo_keras import distribution
from mixmo_keras.training import checks
from mixmo_keras.training.checkpoints import Checkpoints

pytestmark = pytest.mark.slow


@functools.cache
def strategy():
    return distribution.strategy("mirrored", 2)


class HERE(harness.Here):
    """Its models are built under two replicas."""

    def another_model(self, **options):
        with strategy().scope():
            return super().another_model(**options)


def compiled(here):
    """A model as it was built, whose steps are traced, as they are unless told otherwise: other rows run step by step."""

    def make():
        model = here.another_model()
        with strategy().scope():
            model.compile(keras.optimizers.SGD(0.01))
        return model, model.get_weights()

    model, weights = here.once("compiled", make)
    model.set_weights(weights)
    return model


def refused(verb, bad, of_labels: bool):
    """As in `test_rows_on_jax`: the model must be usable after the error, or the error say that it is not."""

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


TRACED = [
    Row(f"{verb}(traced, {what} {kind})", refused(verb, bad, what == "labels"), pattern)
    for verb in ("fit", "evaluate")
    for what, table in (("labels", LABELS), ("images", IMAGES))
    for kind, (bad, pattern) in table.items()
    if kind not in NOT_IN_DATASETS
]


def with_weights(value):
    return lambda here: compiled(here).fit(dataset(*here.data, np.full(8, value)), verbose=0)


def in_batches_of(size, count=8):
    """Trains, evaluates and predicts on batches that can't be shared out evenly; answers must be one replica's."""

    def call(here):
        x, y = (part[:count] for part in here.data)
        model, data = compiled(here), dataset(x, y, batch_size=size)
        model.fit(data, verbose=0)
        model.evaluate(data, verbose=0)
        logits = model.predict(data, verbose=0)
        np.testing.assert_allclose(logits, model.predict(x, batch_size=count, verbose=0), rtol=1e-3, atol=1e-4)

    return call


def configured(tf_config, *arguments):
    """Asks for a strategy where TF_CONFIG says something."""

    def call(here):
        with mock.patch.dict(os.environ, TF_CONFIG=tf_config):
            return distribution.strategy(*arguments)

    return call


def compiling(build=None, **options):
    def call(here):
        model = here.another_model(**(build or {}))
        with strategy().scope():
            return model.compile(**options)

    return call


def saved_then(change):
    """Restores a checkpoint that was changed, into a model under replicas."""

    def call(here):
        model = compiled(here)
        model.fit(dataset(*here.data, batch_size=8), verbose=0, callbacks=[Checkpoints(here.folder)])
        (path,) = here.folder.glob("*.npz")
        change(path)
        return Checkpoints(here.folder).restore(model)

    return call


def exported(here):
    path = compiled(here).export(here.folder / "model")
    served = tf.saved_model.load(str(path)).signatures["serving_default"]
    return served(images=tf.constant(here.data[0], "float32"))


WORKERS = json.dumps({"cluster": {"worker": ["127.0.0.1:1"]}, "task": {"type": "worker", "index": 0}})
OWN = [
    *[
        Row(
            f"strategy('mirrored', {value!r})",
            functools.partial(lambda value, here: distribution.strategy("mirrored", value), value),
            "`num_devices` must be an integer",
        )
        for value in (0, -1, 1.5, "2", True, [2], float("nan"))
    ],
    *[
        Row(
            f"strategy({value!r})",
            functools.partial(lambda value, here: distribution.strategy(value), value),
            "`strategy` must be one of",
        )
        for value in ("nonsense", 3, None, "", "MIRRORED")
    ],
    Row(
        "strategy('mirrored', 100)",
        lambda here: distribution.strategy("mirrored", 100),
        "can't be divided any more",
        (RuntimeError,),
    ),
    Row("strategy('none', 2)", lambda here: distribution.strategy("none", 2), "'none' trains on one device"),
    Row(
        "strategy('multi_worker')",
        lambda here: distribution.strategy("multi_worker"),
        "needs the environment variable TF_CONFIG",
    ),
    *[
        Row(f"strategy({name!r}, TF_CONFIG={content})", configured(content, name), "TF_CONFIG")
        for name in ("auto", "multi_worker")
        for content in ("{", "[]", "3", '"x"', '{"cluster": 3}', '{"cluster": []}', "null")
    ],
    Row(
        "strategy('multi_worker', one worker)",
        configured(WORKERS, "multi_worker"),
        "TF_CONFIG with at least two workers",
    ),
    Row("strategy('auto', one worker)", configured(WORKERS, "auto")),
    *[
        Row(f"fit(traced, weights of {value})", with_weights(value), "`sample_weight` must be")
        for value in (-1.0, np.nan, np.inf)
    ],
    Row("fit(traced, weights of 0)", with_weights(0.0)),
    *[
        Row(f"batches of {size} of {count} images", in_batches_of(size, count))
        for size, count in ((1, 3), (3, 8), (5, 8), (8, 8), (7, 8))
    ],
    Row(
        "compile(accumulation)",
        compiling(optimizer=keras.optimizers.SGD(gradient_accumulation_steps=2)),
        "can't accumulate gradients",
    ),
    Row(
        "compile(jit, synchronized)",
        compiling(dict(synchronized_batch_norm=True), jit_compile=True),
        "can't be combined with synchronized_batch_norm",
    ),
    Row("compile(loss_weights) in scope", compiling(loss_weights=[1]), "no meaning here"),
    Row("compile(loss of probabilities) in scope", compiling(loss="categorical_crossentropy"), "from_logits=True"),
    Row("checkpoint(cut off)", saved_then(lambda path: path.write_bytes(path.read_bytes()[:500])), "are damaged"),
    Row("checkpoint(empty)", saved_then(lambda path: path.write_bytes(b"")), "are damaged"),
    Row("checkpoint(text)", saved_then(lambda path: path.write_text("no checkpoint")), "are damaged"),
    Row("checkpoint(sound)", saved_then(lambda path: None)),
    Row("export under replicas", exported),
    Row("train_on_batch(one image)", lambda here: compiled(here).train_on_batch(here.data[0][:1], here.data[1][:1])),
    Row(
        "train_on_batch(traced, labels of K)",
        lambda here: compiled(here).train_on_batch(here.data[0], here.data[1] + 5),
        "labels? .*must be|Labels must be",
    ),
    Row("predict_members(one image)", lambda here: compiled(here).predict_members(here.data[0][:1], verbose=0)),
    Row("predict_multiplexed(one image)", lambda here: compiled(here).predict_multiplexed(here.data[0][:1])),
    Row(
        "DeepEnsemble of models under replicas",
        lambda here: mixmo_keras.DeepEnsemble([here.model, here.another_model()]).predict(here.data[0], verbose=0),
    ),
]
COUNTED = [
    Row(f"{name} under replicas", functools.partial(lambda ask, here: counted(here, ask), ask))
    for name, ask in {
        "predict": lambda model, x: model.predict(x, verbose=0),
        "predict_on_batch": lambda model, x: model.predict_on_batch(x),
        "predict_members": lambda model, x: model.predict_members(x, verbose=0),
        "predict_multiplexed": lambda model, x: model.predict_multiplexed(x),
        "predict_with_labels": lambda model, x: model.predict_with_labels(x, np.zeros(len(x), int))[0],
    }.items()
]


def counted(here, ask):
    """There is an answer for each image, of whatever number."""
    for count in (1, 2, 3, 8):
        assert len(ask(compiled(here), here.data[0][:count])) == count


ROWS = [
    *COUNTED,
    *test_training_and_answers.DATA,
    *test_training_and_answers.QUESTIONS,
    *test_training_and_answers.OTHER,
    *test_data_without_end.ROWS,
    *test_deep_ensembles.ROWS,
    *TRACED,
    *OWN,
]


@pytest.fixture(scope="module")
def answered(request):
    rows = elsewhere.Elsewhere("bad_inputs.test_rows_under_replicas", elsewhere.names_of(request), DEVICES="2")
    yield rows
    rows.close()


@each(ROWS)
def test_rows_under_replicas(row, answered, record_property):
    judge(row, *answered.outcome(row.name), record_property)
