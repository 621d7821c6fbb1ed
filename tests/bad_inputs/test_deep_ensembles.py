"""Deep ensembles, which are not trained; and a training that diverges in its last step."""

import functools

import keras
import numpy as np
from bad_inputs.harness import Row, check, each
from bad_inputs.test_training_and_answers import IMAGES, LABELS

import mixmo_keras
from mixmo_keras import DeepEnsemble


def diverging(steps):
    """A model that the last of so many steps spoils: its loss is taken before the update."""

    def call(here):
        model = here.another_model()
        model.compile(keras.optimizers.SGD(3e38), run_eagerly=True)
        model.fit(*here.data, batch_size=8, steps_per_epoch=steps, sample_weight=np.full(8, 1e6), verbose=0)

    return call


def ensemble(here):
    def make():
        model = DeepEnsemble([here.model, here.another_model(seed=4)])
        model.compile(loss=mixmo_keras.losses.CrossEntropy(), metrics=["accuracy"], run_eagerly=True)
        return model

    return here.once("ensemble", make)


ROWS = [
    Row("fit(that diverges in its last step)", diverging(1), "NaN or infinite"),
    Row("DeepEnsemble.fit", lambda here: ensemble(here).fit(*here.data), "is not trained"),
    Row("DeepEnsemble.train_on_batch", lambda here: ensemble(here).train_on_batch(*here.data), "is not trained"),
    Row("DeepEnsemble.train_step", lambda here: ensemble(here).train_step(here.data), "is not trained"),
    Row("DeepEnsemble.predict_multiplexed", lambda here: ensemble(here).multiplexed(), "can't answer several images"),
    *[
        Row(
            f"DeepEnsemble.evaluate(labels {kind})",
            functools.partial(
                lambda bad, here: ensemble(here).evaluate(here.data[0], bad(here.data[1]), verbose=0), bad
            ),
            pattern,
        )
        for kind, (bad, pattern) in LABELS.items()
    ],
    *[
        Row(
            f"DeepEnsemble.evaluate(images {kind})",
            functools.partial(
                lambda bad, here: ensemble(here).evaluate(
                    bad(here.data[0]), here.data[1][: len(bad(here.data[0]))], verbose=0
                ),
                bad,
            ),
            pattern,
        )
        for kind, (bad, pattern) in IMAGES.items()
    ],
    *[
        Row(
            f"DeepEnsemble.predict(images {kind})",
            functools.partial(lambda bad, here: ensemble(here).predict(bad(here.data[0]), verbose=0), bad),
            pattern,
        )
        for kind, (bad, pattern) in IMAGES.items()
    ],
]


@each(ROWS)
def test_other_models(row, here, record_property):
    check(row, here, record_property)
