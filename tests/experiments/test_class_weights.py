"""--class-weights balanced: every class counts alike in training."""

import contextlib
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from mixmo_keras import tasks
from mixmo_keras.experiments import Recipe, running, splits

BALANCED = Recipe(dataset="digits", class_weights="balanced", train_split="train+validation")


def images(labels):
    labels = np.array(labels)
    return tf.data.Dataset.from_tensor_slices((np.zeros((len(labels), 2, 2, 1), "uint8"), labels))


def test_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    labels = [0] * 8 + [1] * 2 + [3] * 2 + [2] * 4
    expected = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    assert splits.class_weights(BALANCED, images(labels)) == pytest.approx(dict(enumerate(expected)))
    assert expected[0] == 0.5  # 16 / (4 · 8)
    assert splits.class_weights(BALANCED, images([0, 2, 2])) == pytest.approx({0: 1.0, 1: 1.0, 2: 0.5})
    assert splits.class_weights(dataclasses.replace(BALANCED, class_weights=None), images(labels)) is None


def test_shares_count_as_parts_of_images():
    shares = np.float32([[1, 0], [0.75, 0.25], [0.75, 0.25], [0.5, 0.5]])
    assert splits.class_weights(BALANCED, images(shares)) == {0: 4 / (2 * 3), 1: 4 / (2 * 1)}


def test_a_run_trains_by_them(tmp_path):
    """Keras' `class_weight` is what a model is given: what it does with it is tested with `fit`."""
    options = {}
    model = SimpleNamespace(fit=lambda *data, **given: options.update(given), task=tasks.Classification(2))
    checkpoints = SimpleNamespace(
        position=SimpleNamespace(epoch=0), on_sigterm=lambda: contextlib.nullcontext(None), files=dict
    )
    recipe = dataclasses.replace(BALANCED.resolved(), batch_size=4, batch_repetitions=1)
    data = SimpleNamespace(train=images([0] * 6 + [1] * 2), validation=None)
    running.fit(recipe, model, data, checkpoints, tmp_path)
    assert options["class_weight"] == {0: 8 / 12, 1: 2.0}
    assert "balanced" in BALANCED.name


def test_other_weights_are_refused():
    with pytest.raises(ValueError, match=r"`class_weights` must be .*balanced"):
        dataclasses.replace(BALANCED, class_weights="heavy").resolved()
