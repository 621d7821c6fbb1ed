"""Data under two replicas, whose step shares out batches and sums over replicas; and what can't be shared out."""

import functools
import json
import os
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from bad_inputs import compiled_steps, elsewhere, harness
from bad_inputs.compiled_steps import compiled
from bad_inputs.harness import Row, each, judge
from bad_inputs.test_training_and_answers import dataset

import mixmo_keras
from mixmo_keras import distribution

pytestmark = pytest.mark.slow


@functools.cache
def strategy():
    return distribution.strategy("mirrored", 2)


class HERE(harness.Here):
    """Its models are built under two replicas."""

    def another_model(self, **options):
        with strategy().scope():
            return super().another_model(**options)


def in_graphs(here, **options):
    """A model of other options, whose steps are compiled."""
    model = here.another_model(**options)
    with strategy().scope():
        model.compile(keras.optimizers.SGD(0.01))
    return model


def in_batches_of(size, count=8, is_open=False, **options):
    """Trains, evaluates and predicts on batches that can't be shared out evenly; answers must be one replica's."""

    def call(here):
        x, y = (part[:count] for part in here.data)
        model = compiled(here) if not options else in_graphs(here, **options)
        data = dataset(x, y, batch_size=size)
        if is_open:  # of sizes that the spec doesn't say
            signature = (tf.TensorSpec((None, None, None, None), tf.uint8), tf.TensorSpec((None,), tf.int64))
            data = tf.data.Dataset.from_generator(
                lambda: iter(dataset(x, y, batch_size=size)), output_signature=signature
            )
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
        Row(f"batches of {size} of {count} images", in_batches_of(size, count))
        for size, count in ((1, 3), (3, 8), (5, 8), (8, 8), (7, 8))
    ],
    Row("batches of 3 of 8 images, repeated", in_batches_of(3, batch_repetitions=3)),
    Row("batches of 5 of 8 images, of open sizes", in_batches_of(5, is_open=True, augmentation="pad_crop_flip")),
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
    Row("export under replicas", exported),
    Row("train_on_batch(one image)", lambda here: compiled(here).train_on_batch(here.data[0][:1], here.data[1][:1])),
    Row(
        "train_on_batch(compiled, labels of K)",
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


ROWS = [*compiled_steps.ROWS, *COUNTED, *OWN]


@pytest.fixture(scope="module")
def answered(request):
    rows = elsewhere.Elsewhere("bad_inputs.test_rows_under_replicas", elsewhere.names_of(request), DEVICES="2")
    yield rows
    rows.close()


@each(ROWS)
def test_rows_under_replicas(row, answered, record_property):
    judge(row, *answered.outcome(row.name), record_property)
