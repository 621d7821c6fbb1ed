"""Keras' metrics that users compile, against scikit-learn and Keras' own on probabilities."""

import keras
import numpy as np
import pytest
import tiny
from sklearn.metrics import roc_auc_score

import mixmo_keras
from mixmo_keras.training import user_metrics

X, Y = tiny.data(16)
ONE_HOT = np.eye(tiny.NUM_CLASSES, dtype="float32")[Y]
OF_PROBABILITIES = {
    "auc": lambda: keras.metrics.AUC(),
    "name of a class": lambda: "AUC",
    "cross-entropy by name": lambda: "categorical_crossentropy",
    "sparse cross-entropy by name": lambda: "sparse_categorical_crossentropy",
    "cross-entropy as a function": lambda: keras.losses.categorical_crossentropy,
    "cross-entropy as a loss": lambda: keras.losses.CategoricalCrossentropy(),
    "sparse cross-entropy as a function": lambda: keras.losses.sparse_categorical_crossentropy,
    "precision": lambda: keras.metrics.Precision(thresholds=0.25, class_id=1),
    "recall at precision": lambda: keras.metrics.RecallAtPrecision(0.3),
    "false positives": lambda: keras.metrics.FalsePositives(thresholds=0.2),
    "F1": lambda: keras.metrics.F1Score(average="macro"),
    "binary accuracy": lambda: keras.metrics.BinaryAccuracy(threshold=0.2),
    "Brier score by name": lambda: "mse",
    "KL": lambda: keras.metrics.KLDivergence(),
}
OF_LOGITS = {
    "accuracy": lambda: keras.metrics.SparseCategoricalAccuracy(),
    "top-k": lambda: keras.metrics.SparseTopKCategoricalAccuracy(2),
    "cross-entropy": lambda: keras.metrics.SparseCategoricalCrossentropy(from_logits=True),
    "function of a loss": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "own function": lambda: own,
    "own class": lambda: OwnMetric(),
    "own update": lambda: OwnAUC(),
}


def own(y_true, y_pred):
    return keras.ops.max(y_pred, axis=-1)


@keras.saving.register_keras_serializable("tests")
class OwnMetric(keras.metrics.Mean):
    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(own(y_true, y_pred), sample_weight)


@keras.saving.register_keras_serializable("tests")
class OwnAUC(keras.metrics.AUC):
    """Which does the softmax by itself."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true = keras.ops.one_hot(keras.ops.cast(y_true, "int32"), tiny.NUM_CLASSES)
        super().update_state(y_true, keras.ops.softmax(y_pred), sample_weight)


def model(metric, weighted=False, **options):
    network = tiny.model(augmentation=None, batch_repetitions=1, **options)
    metrics = {"weighted_metrics": [metric], "metrics": []} if weighted else {"metrics": [metric]}
    network.compile(keras.optimizers.SGD(0.1), run_eagerly=True, **metrics)
    for weight in network.heads.trainable_weights:
        weight.assign(weight * 5)  # logits that are far from probabilities
    return network


def figure(network, labels, **options):
    """The one metric that was compiled."""
    return network.evaluate(X, labels, verbose=0, **options)[1]


def oracle(metric, labels, answers, weights=None):
    """A metric, as Keras has it, of whole arrays."""
    metric = keras.metrics.get(metric)
    if not isinstance(metric, keras.metrics.Metric):
        metric = keras.metrics.MeanMetricWrapper(metric)
    metric.update_state(labels, answers, sample_weight=weights)
    return np.asarray(metric.result())


@pytest.mark.parametrize("labels", [Y, ONE_HOT], ids=["integers", "one-hot"])
@pytest.mark.parametrize("make", OF_PROBABILITIES.values(), ids=OF_PROBABILITIES)
def test_probabilities_are_given_to_what_takes_them(make, labels):
    network = model(make())
    probabilities = keras.ops.softmax(network.predict(X, verbose=0))
    is_sparse = "sparse" in str(getattr(make(), "__name__", make()))
    expected = oracle(make(), Y if is_sparse else ONE_HOT, probabilities)
    np.testing.assert_allclose(figure(network, labels), expected, rtol=1e-4)


@pytest.mark.parametrize("make", OF_LOGITS.values(), ids=OF_LOGITS)
def test_logits_are_given_to_all_others(make):
    network = model(make())
    np.testing.assert_allclose(figure(network, Y), oracle(make(), Y, network.predict(X, verbose=0)), rtol=1e-4)


def test_the_area_is_that_of_scikit_learn():
    network = model(keras.metrics.AUC(num_thresholds=10_000, multi_label=True, num_labels=tiny.NUM_CLASSES))
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(network.predict(X, verbose=0)))
    expected = roc_auc_score(ONE_HOT, probabilities, average="macro")
    np.testing.assert_allclose(figure(network, ONE_HOT), expected, atol=0.02)  # of probabilities near 0 and 1


def test_the_cross_entropy_is_the_loss_in_training_validation_and_of_a_deep_ensemble():
    network = model("sparse_categorical_crossentropy", num_members=1)
    history = network.fit(X, Y, batch_size=16, validation_data=(X, Y), verbose=0).history
    for prefix in ("", "val_"):
        np.testing.assert_allclose(
            history[f"{prefix}sparse_categorical_crossentropy"], history[f"{prefix}loss"], rtol=1e-4
        )
    ensemble = mixmo_keras.DeepEnsemble([network, tiny.model(seed=5)])
    ensemble.compile(loss=mixmo_keras.losses.CrossEntropy(), metrics=["categorical_crossentropy"], run_eagerly=True)
    np.testing.assert_allclose(*ensemble.evaluate(X, Y, verbose=0), rtol=1e-4)


def test_weights_count_in_weighted_metrics_alone():
    weights = np.linspace(0, 1, len(X)).astype("float32")
    for is_weighted in (False, True):
        network = model(keras.metrics.CategoricalCrossentropy(), is_weighted)
        probabilities = keras.ops.softmax(network.predict(X, verbose=0))
        expected = oracle(
            keras.metrics.CategoricalCrossentropy(), ONE_HOT, probabilities, weights if is_weighted else None
        )
        np.testing.assert_allclose(figure(network, Y, sample_weight=weights), expected, rtol=1e-4)


def test_areas_of_classes():
    network = model(keras.metrics.OneHotMeanIoU(tiny.NUM_CLASSES))
    expected = oracle(keras.metrics.OneHotMeanIoU(tiny.NUM_CLASSES), ONE_HOT, network.predict(X, verbose=0))
    np.testing.assert_allclose(figure(network, Y), expected, rtol=1e-5)


def test_a_loaded_model_gives_the_same(tmp_path):
    network = model(keras.metrics.AUC())
    network.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert figure(loaded, Y) == figure(network, Y)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (keras.metrics.Accuracy(), "keras.metrics.Accuracy compares predicted classes.*SparseCategoricalAccuracy"),
        (keras.metrics.MeanIoU(5), r"keras.metrics.MeanIoU takes predicted classes.*OneHotMeanIoU,"),
        (keras.metrics.IoU(5, [0]), r"keras.metrics.IoU takes predicted classes.*OneHotIoU,"),
        ("MeanIoU", "TypeError|missing"),
    ],
    ids=["Accuracy", "MeanIoU", "IoU", "MeanIoU by name"],
)
def test_metrics_of_predicted_classes_are_refused(metric, message):
    network = tiny.model()
    with pytest.raises((ValueError, TypeError), match=message):
        network.compile(metrics=[metric])
    with pytest.raises((ValueError, TypeError), match=message):
        mixmo_keras.DeepEnsemble([network]).compile(loss=mixmo_keras.losses.CrossEntropy(), weighted_metrics=[metric])


def test_what_takes_probabilities_is_known_by_class_and_by_from_logits():
    assert user_metrics.takes_probabilities(keras.metrics.AUC())
    assert not user_metrics.takes_probabilities(keras.metrics.AUC(from_logits=True))
    assert not user_metrics.takes_probabilities(keras.metrics.CategoricalHinge())
