"""Keras metrics: batch by batch the same as the functions of whole arrays, under replicas and XLA too, and on JAX."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from scipy.special import logsumexp

from mixmo_keras import metrics

RANDOM = np.random.default_rng(0)
N, M, K = 203, 3, 5
LABELS = RANDOM.integers(0, K, N)
MEMBERS = (RANDOM.normal(size=(N, M, K)) + 1.2 * np.eye(K)[LABELS][:, None]).astype("float32")


def pooled(members, averaging="logits"):
    if averaging == "logits":
        return members.mean(1)
    return logsumexp(members - logsumexp(members, axis=-1, keepdims=True), axis=1)


# metric: (its class, how it is built, the function of logits (n, K) that it must equal)
OF_NETWORKS = {
    "accuracy": (metrics.Accuracy, {}, metrics.accuracy),
    "top 2": (metrics.TopKAccuracy, dict(k=2), lambda logits, labels: metrics.top_k_accuracy(logits, labels, 2)),
    "nll": (metrics.NegativeLogLikelihood, {}, metrics.negative_log_likelihood),
    "brier": (metrics.BrierScore, {}, metrics.brier_score),
    "ece": (metrics.ExpectedCalibrationError, {}, metrics.expected_calibration_error),
    "class-wise ece": (metrics.ClasswiseCalibrationError, dict(num_classes=K), metrics.classwise_calibration_error),
    "adaptive ece": (metrics.AdaptiveCalibrationError, dict(capacity=700), metrics.adaptive_calibration_error),
    "auroc": (metrics.ErrorAUROC, dict(capacity=700), lambda *a: metrics.misclassification_detection(*a)["auroc"]),
    "aupr": (metrics.ErrorAUPR, dict(capacity=700), lambda *a: metrics.misclassification_detection(*a)["aupr"]),
    "fpr95": (metrics.ErrorFPR95, dict(capacity=700), lambda *a: metrics.misclassification_detection(*a)["fpr95"]),
    "aurc": (metrics.AreaUnderRiskCoverage, dict(capacity=700), metrics.area_under_risk_coverage),
}
OF_PAIRS = {
    "ratio of errors": (metrics.RatioOfErrors, dict(num_members=M), metrics.ratio_of_errors),
    "q": (metrics.QStatistic, dict(num_members=M), metrics.q_statistic),
    "disagreement": (metrics.Disagreement, dict(num_members=M), lambda members, labels: metrics.disagreement(members)),
    "kl": (metrics.PairwiseKL, dict(num_members=M), lambda members, labels: metrics.pairwise_kl(members)),
    "mi": (metrics.MutualInformation, {}, lambda members, labels: metrics.mutual_information(members)),
}
ALL = {**OF_NETWORKS, **OF_PAIRS}


def streamed(metric, labels, logits, sizes=(64, 4, 100, 35)):
    update = tf.function(metric.update_state, reduce_retracing=True)
    places = np.split(np.arange(len(labels)), np.cumsum(sizes)[:-1])
    for part in places:
        update(tf.constant(labels[part]), tf.constant(logits[part]))
    return float(metric.result())


@pytest.mark.parametrize("averaging", ["logits", "probabilities"])
@pytest.mark.parametrize("name", list(OF_NETWORKS))
def test_of_networks(name, averaging):
    build, options, function = OF_NETWORKS[name]
    ensemble = pooled(MEMBERS, averaging)
    assert streamed(build(**options, averaging=averaging), LABELS, MEMBERS) == pytest.approx(
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


@pytest.mark.parametrize("name", list(OF_PAIRS))
def test_of_pairs(name):
    build, options, function = OF_PAIRS[name]
    assert streamed(build(**options), LABELS, MEMBERS) == pytest.approx(function(MEMBERS, LABELS), abs=1e-5)


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
    found = streamed(build(**options), labels, members)
    np.testing.assert_allclose(found, expected, atol=2e-5)


REPLICAS = """
import json, sys
import numpy as np, tensorflow as tf
from mixmo_keras import distribution
strategy = distribution.strategy("mirrored", 2)
import test_streaming_metrics as t

found = {}
for name, (build, options, _) in t.ALL.items():
    with strategy.scope():
        metric = build(**options)

    @tf.function
    def update(labels, logits, weights):
        strategy.run(metric.update_state, (labels, logits, weights))

    data = tf.data.Dataset.from_tensor_slices((t.LABELS, t.MEMBERS, t.WEIGHTS)).batch(40)
    found[name] = []
    for batches in (data, data.take(1)):
        metric.reset_state()
        for batch in strategy.experimental_distribute_dataset(batches):
            update(*batch)
        found[name].append(float(metric.result()))
print(json.dumps(found))
"""
WEIGHTS = np.ones(N, "float32")
WEIGHTS[::7] = 0  # as replicas mark rows that only fill up


def test_under_two_replicas_and_with_rows_left_out():
    found = json.loads(tiny.python(REPLICAS).splitlines()[-1])
    for name, (_, _, function) in ALL.items():
        whole = pooled(MEMBERS) if name in OF_NETWORKS else MEMBERS
        for size, value in zip((N, 40), found[name], strict=True):
            kept = np.flatnonzero(WEIGHTS[:size])
            assert value == pytest.approx(function(whole[kept], LABELS[kept]), abs=1e-5), name


@pytest.mark.parametrize("name", list(ALL))
def test_configuration_comes_back(name):
    build, options, _ = ALL[name]
    metric = build(**options, name="mine")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert again.get_config() == metric.get_config()
    assert again.name == "mine"


def test_in_evaluate():
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
    for jit_compile in (False, True):
        model.jit_compile = jit_compile
        model.make_test_function(force=True)
        figures = model.evaluate(x, y, batch_size=8, verbose=0, return_dict=True)
        assert figures["ece"] == pytest.approx(metrics.expected_calibration_error(logits, y), abs=1e-5)
        expected = metrics.misclassification_detection(logits, y)["auroc"]
        assert figures["error_auroc"] == pytest.approx(expected, abs=1e-5)


def test_more_images_than_the_capacity_are_nan():
    metric = metrics.ErrorAUROC(capacity=203)
    assert np.isfinite(streamed(metric, LABELS, MEMBERS))
    metric.update_state(LABELS[:1], MEMBERS[:1])
    assert np.isnan(float(metric.result()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: metrics.Accuracy(of="all"), '`of` must be "ensemble", "members" or a member'),
        (lambda: metrics.Accuracy(averaging="votes"), "`averaging` must be one of"),
        (lambda: metrics.Accuracy(of=3)(LABELS, MEMBERS), "of=3 is no member: there are 3"),
        (lambda: metrics.Accuracy(of=0)(LABELS, MEMBERS[:, 0]), r"of=0 needs logits of members \(n, M, K\)"),
        (lambda: metrics.RatioOfErrors(1), "a single member has no diversity"),
        (lambda: metrics.RatioOfErrors(2)(LABELS, MEMBERS), r"must be \(n, 2, K\), of the members; got \(203, 3, 5\)"),
        (lambda: metrics.MutualInformation()(LABELS, MEMBERS[:, 0]), r"must be \(n, M, K\), of the members"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_on_jax(tmp_path):
    script = f"""
import json, sys
import numpy as np
from mixmo_keras import metrics
data = np.load(sys.argv[1])
found = {{}}
for build in (metrics.NegativeLogLikelihood, metrics.ExpectedCalibrationError, metrics.ErrorAUROC, metrics.ErrorAUPR,
              metrics.ErrorFPR95, metrics.AreaUnderRiskCoverage, metrics.AdaptiveCalibrationError):
    metric = build()
    for part in np.array_split(np.arange({N}), 3):
        metric.update_state(data["labels"][part], data["members"][part])
    found[build.__name__] = float(metric.result())
metric = metrics.QStatistic({M})
metric.update_state(data["labels"], data["members"])
found["QStatistic"] = float(metric.result())
print(json.dumps(found))
"""
    np.savez(tmp_path / "data.npz", labels=LABELS, members=MEMBERS)
    found = json.loads(tiny.python(script, tmp_path / "data.npz", backend="jax"))
    assert len(found) == 8
    for build, options, function in ALL.values():
        if build.__name__ in found:
            whole = MEMBERS if "num_members" in options else pooled(MEMBERS)
            assert found[build.__name__] == pytest.approx(function(whole, LABELS), abs=1e-4)
