"""`tf.debugging.enable_check_numerics`: no NaN and no infinity in the graphs of sound data, and the same numbers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

from mixmo_keras import metrics
from mixmo_keras.common.undefined import nan_where

X, Y = tiny.data(8)


@pytest.fixture
def checked():
    tf.debugging.enable_check_numerics()
    yield
    tf.debugging.disable_check_numerics()


def figures():
    """What training, evaluation and prediction of float images give, with metrics of sums and of ranks."""
    model = tiny.model(augmentation=None)
    every = ["accuracy", metrics.ExpectedCalibrationError(), metrics.AreaUnderRiskCoverage(capacity=200)]
    model.compile(keras.optimizers.SGD(0.05), metrics=every)
    images = X.astype("float32")
    weights = np.ones(len(X), "float32")
    history = model.fit(images, Y, batch_size=4, validation_data=(images, Y), sample_weight=weights, verbose=0).history
    return [history, model.predict(images, verbose=0)]


@pytest.mark.slow
def test_sound_data_train_and_the_numbers_are_the_same(request):
    without = figures()
    request.getfixturevalue("checked")
    (history, predictions), (history_without, predictions_without) = figures(), without
    names = zip(history, history_without, strict=True)  # Keras numbers the names of further metrics
    for name, before in names:  # graphs are optimized otherwise, so that the last bit may differ
        np.testing.assert_allclose(history[name], history_without[before], rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(predictions, predictions_without, rtol=1e-5)


@pytest.mark.usefixtures("checked")
def test_detection_of_errors():
    metric = metrics.ErrorAUROC(capacity=20)
    logits = np.random.default_rng(0).normal(size=(16, tiny.NUM_CLASSES)).astype("float32")
    labels = np.random.default_rng(1).integers(0, tiny.NUM_CLASSES, 16)

    @tf.function
    def auroc(labels, logits):
        metric.update_state(labels, logits)
        return metric.result()

    expected = metrics.misclassification_detection(logits, labels)["auroc"]
    np.testing.assert_allclose(auroc(tf.constant(labels), tf.constant(logits)), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nan_where(dtype):
    values = keras.ops.cast([1.5, -0.0, 3.0], dtype)
    undefined = keras.ops.convert_to_tensor([False, False, True])
    found = nan_where(undefined, values)
    assert keras.backend.standardize_dtype(found.dtype) == dtype
    found = keras.ops.convert_to_numpy(keras.ops.cast(found, "float32"))
    np.testing.assert_array_equal(found, [1.5, 0.0, np.nan])
    np.testing.assert_array_equal(np.signbit(found[:2]), [False, True])
    np.testing.assert_array_equal(nan_where(np.array([True, False]), np.array([1.0, 2.0])), [np.nan, 2.0])
