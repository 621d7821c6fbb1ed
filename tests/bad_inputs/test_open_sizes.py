"""Data whose spec leaves sizes open, and generators: images of another size are refused when they come, others are taken."""

import functools

import keras
import numpy as np
import tensorflow as tf
from bad_inputs.harness import Row, check, each
from tiny import model as tiny_model

K = 5
WRONG = r"Images must be \(n, 8, 8, 3\), got \(4, "


def wider(x):
    return x.repeat(2, 1)


def grey(x):
    return x[..., :1]


def opened(x, y, spec, label_spec=()):
    """A dataset that says of its images no more than a spec."""
    signature = (tf.TensorSpec(spec, tf.uint8), tf.TensorSpec(label_spec, tf.int64))
    return (
        tf.data.Dataset.from_generator(lambda: zip(x, y, strict=True), output_signature=signature)
        .batch(4)
        .apply(
            tf.data.experimental.assert_cardinality(len(x) // 4)  # Keras warns of an unknown end
        )
    )


class Batches(keras.utils.PyDataset):
    """Batches of Keras' own kind of dataset."""

    def __init__(self, *batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def generator(*batches):
    return (batch for batch in batches)


def graphs(here):
    """A model whose steps are compiled, with the default augmentation: it needs to know sizes."""

    def make():
        model = tiny_model(backbone=here.backbone, batch_repetitions=2, augmentation="pad_crop_flip")
        model.compile(keras.optimizers.SGD(0.01))
        return model

    return here.once("graphs", make)


VERBS = {
    "fit": lambda model, data: model.fit(data, verbose=0),
    "evaluate": lambda model, data: model.evaluate(data, verbose=0),
    "predict": lambda model, data: model.predict(data.map(lambda x, y: x), verbose=0),
}
SPECS = {"height and width": (None, None, 3), "all sizes": (None, None, None), "the rank": None}


def in_dataset(verb, change, spec, here):
    x, y = here.data
    return VERBS[verb](graphs(here), opened(change(x), y, spec))


def in_batches(make, change, where, here):
    """A batch of other images behind the first, or as the third: Keras takes the shapes of two for those of all."""
    x, y = here.data
    batches = [(x[:4], y[:4])] * where + [(change(x)[:4], y[:4])]
    return graphs(here).fit(make(*batches), verbose=0)


ROWS = [
    *[
        Row(
            f"{verb}(spec without {what}, images {name})",
            functools.partial(in_dataset, verb, change, spec),
            pattern,
            slow=verb == "evaluate" and what == "all sizes",
        )
        for verb in VERBS
        for what, spec in SPECS.items()
        for name, change, pattern in (("too wide", wider, WRONG), ("of the right size", lambda x: x, ""))
    ],
    Row("fit(spec without channels, grey images)", functools.partial(in_dataset, "fit", grey, (8, 8, None)), WRONG),
    *[
        Row(f"fit({kind}, batch {where + 1} too wide)", functools.partial(in_batches, make, wider, where), WRONG)
        for kind, make in (("generator", generator), ("PyDataset", Batches))
        for where in (1, 2)
    ],
    Row(
        "predict(generator, batch 3 too wide)",
        lambda here: graphs(here).predict(
            generator((here.data[0][:4],), (here.data[0][:4],), (wider(here.data[0])[:4],))
        ),
        WRONG,
    ),
    Row(
        "fit(labels of a rank that isn't known)",
        lambda here: graphs(here).fit(opened(*here.data, (8, 8, 3), None), verbose=0),
        "doesn't say whether its labels are integers.*ensure_shape",
    ),
    Row(
        "fit(one-hot labels of open size)",
        lambda here: graphs(here).fit(opened(here.data[0], np.eye(K, dtype="int64")[here.data[1]], (8, 8, 3), (None,))),
    ),
    Row(
        "fit(one-hot labels of open size, K + 1)",
        lambda here: graphs(here).fit(
            opened(here.data[0], np.eye(K + 1, dtype="int64")[here.data[1]], (8, 8, 3), (None,))
        ),
        r"Labels must be integers \(n,\) or one-hot \(n, 5\), got \(4, 6\)",
    ),
]


@each(ROWS)
def test_open_sizes(row, here, record_property):
    check(row, here, record_property)


def passes(count, **options):
    def call(here):
        x, y = here.data
        return here.another_model().fit(generator(*[(x[:4], y[:4])] * count), verbose=0, **options)

    return call


ONCE = "A generator passes over its data once"
ONE_PASS = [
    Row(
        "fit(generator, epochs=3)",
        passes(10, epochs=3),
        f"{ONCE}, and `fit` was asked for 3 epochs: pass a tf.data.Dataset",
    ),
    Row("fit(generator, epochs=3, initial_epoch=2)", passes(2, epochs=3, initial_epoch=2), warns="ran out of data"),
    Row(
        "fit(generator that ends with the first of its epochs)",
        passes(3, epochs=2, steps_per_epoch=3),
        f"The generator ended after 3 batches; 2 epochs of steps_per_epoch=3 take 6. {ONCE}",
    ),
    Row(
        "fit(generator that ends in the first of its epochs)",
        passes(2, epochs=2, steps_per_epoch=3),
        "The generator ended after 2 batches; [12] epochs of steps_per_epoch=3 take [36]",
    ),
    Row("fit(generator of as many batches as its epochs take)", passes(4, epochs=2, steps_per_epoch=2)),
    *[
        Row(
            f"fit(validation by a generator, epochs=2{', validation_steps=1' if options else ''})",
            lambda here, options=options: here.another_model().fit(
                *here.data, epochs=2, validation_data=generator(here.data, here.data, here.data), verbose=0, **options
            ),
            f"{ONCE}, and `fit` was asked for 2 validations",
        )
        for options in ({}, {"validation_steps": 1})
    ],
    Row(
        "fit(validation by a generator, once)",
        lambda here: here.another_model().fit(
            *here.data, epochs=2, validation_freq=2, validation_data=generator(here.data), verbose=0
        ),
        warns="ran out of data",
    ),
    Row(
        "evaluate(generator that ran out)",
        lambda here: here.model.evaluate(generator(), verbose=0),
        "must yield at least one batch",
    ),
]


@each(ONE_PASS)
def test_generators_of_one_pass(row, here, record_property):
    check(row, here, record_property)


SMALL = [
    Row(
        "fit(one image a batch)",
        lambda here: here.another_model().fit(here.data[0][:3], here.data[1][:3], batch_size=1),
    ),
    Row(
        "fit(last batch of one image, repetitions, MSDA)",
        lambda here: here.another_model(batch_repetitions=3, msda="cutmix").fit(
            here.data[0][:5], here.data[1][:5], batch_size=4, verbose=0
        ),
    ),
    Row("evaluate(one image a batch)", lambda here: here.model.evaluate(*here.data, batch_size=1, verbose=0)),
    Row("predict(one image)", lambda here: here.model.predict(here.data[0][:1], verbose=0)),
    Row("calibrate(last batch of one image)", lambda here: here.another_model().calibrate(*here.data, batch_size=7)),
]


@each(SMALL)
def test_batches_of_few_images(row, here, record_property):
    check(row, here, record_property)
