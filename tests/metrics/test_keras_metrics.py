"""Keras metrics: batch by batch the same as the functions of whole arrays, under replicas and XLA too, and on JAX."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from metric_cases import ALL, LABELS, MEMBERS, OF_MEMBERS, OF_NETWORKS, WEIGHTS, K, M, N, pooled

from mixmo_keras import metrics


def streamed(metric, labels, logits, sizes=(64, 4, 100, 35), traced=False):
    update = tf.function(metric.update_state, reduce_retracing=True) if traced else metric.update_state
    places = np.split(np.arange(len(labels)), np.cumsum(sizes)[:-1])
    for part in places:
        update(tf.constant(labels[part]), tf.constant(logits[part]))
    return float(metric.result())


# members are averaged in one place, before any metric
AVERAGED = [("logits", name, False) for name in OF_NETWORKS]
AVERAGED += [("probabilities", name, name not in ("nll", "ece", "aurc")) for name in OF_NETWORKS]


@pytest.mark.parametrize(
    ("averaging", "name"),
    [pytest.param(*case, marks=[pytest.mark.slow] * slow) for *case, slow in AVERAGED],
)
def test_of_networks(name, averaging):
    build, options, function = OF_NETWORKS[name]
    ensemble = pooled(MEMBERS, averaging)
    assert streamed(build(**options, averaging=averaging), LABELS, MEMBERS, traced=True) == pytest.approx(
        function(ensemble, LABELS), abs=1e-5
    )
    assert streamed(build(**options), LABELS, ensemble) == pytest.approx(function(ensemble, LABELS), abs=1e-5)
    one_hot = np.eye(K, dtype="float32")[LABELS]
    assert streamed(build(**options, of=1), one_hot, MEMBERS) == pytest.approx(
        function(MEMBERS[:, 1], LABELS), abs=1e-5
    )


@pytest.mark.parametrize("name", ["accuracy", "nll", "brier"])
def test_mean_of_members(name):
    build, options, function = OF_NETWORKS[name]
    expected = np.mean([function(MEMBERS[:, member], LABELS) for member in range(M)])
    assert streamed(build(**options, of="members"), LABELS[:, None], MEMBERS) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", list(OF_MEMBERS))
def test_of_members(name):
    build, options, function = OF_MEMBERS[name]
    assert streamed(build(**options), LABELS, MEMBERS, traced=True) == pytest.approx(
        function(MEMBERS, LABELS), abs=1e-5
    )


@pytest.mark.parametrize("name", list(ALL))
@pytest.mark.parametrize("case", ["all right", "all wrong", "ties", "one class"])
def test_degenerate_cases(name, case):
    build, options, function = ALL[name]
    members, labels = MEMBERS, LABELS
    if case == "all right":
        labels = pooled(members).argmax(-1)
        members = np.repeat(pooled(members)[:, None], M, axis=1)
    elif case == "all wrong":
        labels = (pooled(members).argmax(-1) + 1) % K
        members = np.repeat(pooled(members)[:, None], M, axis=1)
    elif case == "ties":
        members = members[np.arange(N) // 4 * 4]  # four images of the same logits, with labels of their own
    else:
        members, labels = members[:, :, :1], np.zeros(N, int)
        options = {**options, **({"num_classes": 1} if "num_classes" in options else {})}
    whole = pooled(members) if name in OF_NETWORKS else members
    expected = function(whole, labels)
    found = streamed(build(**options), labels, members, sizes=(64, N - 64))
    np.testing.assert_allclose(found, expected, atol=2e-5)


# means over images and over bins, a curve of all images, a pair of members: every other metric is made like one of them
KINDS = ("nll", "class-wise ece", "aurc", "q")
SOME_AND_ALL = pytest.mark.parametrize(
    "names", [KINDS, pytest.param(tuple(ALL), marks=pytest.mark.slow)], ids=["one of each kind", "all"]
)


@pytest.mark.slow  # they add statistics, which tests/training/test_distribution.py sums over replicas for accuracy and loss
@SOME_AND_ALL
def test_under_two_replicas_and_with_rows_left_out(names):
    found = json.loads(tiny.script("metrics_under_two_replicas.py", *names).splitlines()[-1])
    assert set(found) == set(names)
    for name in names:
        _, _, function = ALL[name]
        whole = pooled(MEMBERS) if name in OF_NETWORKS else MEMBERS
        for size, value in zip((N, 40), found[name], strict=True):
            kept = np.flatnonzero(WEIGHTS[:size])
            assert value == pytest.approx(function(whole[kept], LABELS[kept]), abs=1e-5), name


@pytest.mark.parametrize("name", list(ALL))
def test_configuration_comes_back(name):
    build, options, _ = ALL[name]
    metric = build(**{key: np.int64(value) for key, value in options.items()}, name="mine")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert again.get_config() == metric.get_config()
    assert options.items() <= json.loads(json.dumps(metric.get_config())).items()
    assert again.name == "mine"


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_in_evaluate(jit_compile):
    model = tiny.model(num_members=2)
    model.compile(
        metrics=[
            "accuracy",
            metrics.ExpectedCalibrationError(name="ece"),
            metrics.ErrorAUROC(capacity=50, name="error_auroc"),
        ]
    )
    x, y = tiny.data(30)
    logits = model.predict(x, verbose=0)
    model.jit_compile = jit_compile
    model.make_test_function(force=True)
    figures = model.evaluate(x, y, batch_size=8, verbose=0, return_dict=True)
    assert figures["ece"] == pytest.approx(metrics.expected_calibration_error(logits, y), abs=1e-5)
    expected = metrics.misclassification_detection(logits, y)["auroc"]
    assert figures["error_auroc"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("metric", [metrics.NegativeLogLikelihood, metrics.AreaUnderRiskCoverage])
@pytest.mark.parametrize("bad", ["fractional", "one-hot", "negative", "infinite"])
def test_what_a_graph_cannot_refuse_makes_a_figure_nan(metric, bad):
    labels, weights = LABELS.astype("float32"), np.ones(N, "float32")
    if bad == "fractional":
        labels[3] += 0.5
    elif bad == "one-hot":
        labels = np.eye(K, dtype="float32")[LABELS]
        labels[3] = np.nan
    else:
        weights[3] = -1 if bad == "negative" else np.inf
    one = metric()
    update = tf.function(one.update_state)
    update(tf.constant(LABELS), tf.constant(MEMBERS))
    assert np.isfinite(float(one.result()))
    update(tf.constant(labels), tf.constant(MEMBERS), tf.constant(weights))
    assert np.isnan(float(one.result()))


def test_more_images_than_the_capacity_are_nan():
    metric = metrics.ErrorAUROC(capacity=203)
    assert np.isfinite(streamed(metric, LABELS, MEMBERS))
    metric.update_state(LABELS[:1], MEMBERS[:1])
    assert np.isnan(float(metric.result()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: metrics.Accuracy(of=3)(LABELS, MEMBERS), "of=3 is no member: there are 3"),
        (lambda: metrics.Accuracy(of=0)(LABELS, MEMBERS[:, 0]), r"of=0 needs logits of members \(n, M, K\)"),
        (lambda: metrics.RatioOfErrors(2)(LABELS, MEMBERS), r"must be \(n, 2, K\), of the members; got \(203, 3, 5\)"),
        (lambda: metrics.MutualInformation()(LABELS, MEMBERS[:, 0]), r"must be \(n, M, K\), of the members"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.slow  # metrics/functions and streams are one definition in Keras' operations
@SOME_AND_ALL
def test_on_jax(names):
    found = json.loads(tiny.script("metrics_on_jax.py", *names, backend="jax").splitlines()[-1])
    assert set(found) == set(names)
    for name in names:
        _, _, function = ALL[name]
        whole = pooled(MEMBERS) if name in OF_NETWORKS else MEMBERS
        assert found[name] == pytest.approx(function(whole, LABELS), abs=1e-4), name
