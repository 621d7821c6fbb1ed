"""Temperatures and conformal sets: known answers, bounds, degenerate cases, and in the model that carries them."""

import keras
import numpy as np
import pytest
import tiny
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp, softmax
from scipy.stats import betabinom

from mixmo_keras import calibration, metrics
from mixmo_keras.networks.member_average import MemberAverage

RANDOM = np.random.default_rng(0)


def synthetic(n: int, temperature: float = 1.0, classes: int = 10, scale: float = 2.0):
    """Logits whose labels are drawn from softmax(logits / temperature)."""
    logits = RANDOM.normal(scale=scale, size=(n, classes))
    labels = (softmax(logits / temperature, axis=-1).cumsum(-1) > RANDOM.random((n, 1))).argmax(-1)
    return logits, labels


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_found(temperature):
    logits, labels = synthetic(40_000, temperature)
    assert calibration.fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.03)


@pytest.mark.parametrize("seed", range(20))
def test_never_worse_and_the_minimum(seed):
    random = np.random.default_rng(seed)
    logits = random.normal(scale=random.choice([0.1, 1, 20]), size=(50, 4))
    labels = random.integers(0, 4, 50)
    labels[:25] = logits[:25].argmax(-1)
    temperature = calibration.fit_temperature(logits, labels)

    def nll(log_temperature):
        return metrics.negative_log_likelihood(logits / np.exp(log_temperature), labels)

    assert nll(np.log(temperature)) <= nll(0.0) + 1e-12
    best = minimize_scalar(nll, bounds=np.log(calibration.TEMPERATURES), method="bounded")
    assert nll(np.log(temperature)) <= best.fun + 1e-9


def test_ends_of_the_range(caplog):
    logits = RANDOM.normal(size=(30, 3))
    assert calibration.fit_temperature(logits, logits.argmin(-1)) == calibration.TEMPERATURES[1]  # worse than chance
    assert "lies beyond" in caplog.text


def test_all_right_leaves_the_temperature_alone(caplog):
    """The NLL falls towards T = 0 for ever: an ensemble of that temperature would be sure of everything."""
    logits = RANDOM.normal(size=(30, 3))
    labels = logits.argmax(-1)
    assert calibration.fit_temperature(logits, labels) == 1
    assert calibration.fit_member_temperature(np.stack([logits, 2 * logits], axis=1), labels) == 1
    assert "All 30 answers are right" in caplog.text
    of_halves = calibration.calibrated_negative_log_likelihood(logits, labels)
    assert of_halves == pytest.approx(metrics.negative_log_likelihood(logits, labels))


def test_members_before_pooling():
    members = RANDOM.normal(scale=3, size=(4000, 3, 5))
    pooled = logsumexp(log_softmax(members / 2.0, axis=-1), axis=1)
    labels = (softmax(pooled, axis=-1).cumsum(-1) > RANDOM.random((4000, 1))).argmax(-1)
    assert calibration.fit_member_temperature(members, labels) == pytest.approx(2.0, rel=0.1)


def test_labels_of_every_form():
    logits, labels = synthetic(200)
    members = np.stack([logits, 2 * logits], axis=1)
    for form in (labels[:, None], np.eye(10)[labels]):
        assert calibration.fit_temperature(logits, form) == calibration.fit_temperature(logits, labels)
        assert calibration.fit_member_temperature(members, form) == calibration.fit_member_temperature(members, labels)
        assert calibration.ConformalSets.fit(logits, form) == calibration.ConformalSets.fit(logits, labels)


def test_calibrated_nll_does_not_depend_on_the_temperature():
    logits, labels = synthetic(501, 2.0)
    found = calibration.calibrated_negative_log_likelihood(logits, labels)
    assert calibration.calibrated_negative_log_likelihood(logits * 3, labels) == pytest.approx(found, rel=1e-6)
    assert found < metrics.negative_log_likelihood(logits, labels)
    halves = np.array_split(np.random.default_rng(0).permutation(501), 2)
    by_hand = 0.0
    for fitted, tested in (halves, halves[::-1]):
        t = calibration.fit_temperature(logits[fitted], labels[fitted])
        by_hand += metrics.negative_log_likelihood(logits[tested] / t, labels[tested]) * len(tested) / 501
    assert found == pytest.approx(by_hand)


@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("method", calibration.CONFORMAL_METHODS)
def test_conformal_coverage_is_within_its_bounds(method, coverage):
    logits, labels = synthetic(4000, 1.7)  # not calibrated: the sets must hold all the same
    fitted, tested = 1500, 2500
    sets = calibration.ConformalSets.fit(logits[:fitted], labels[:fitted], coverage, method)
    held = sets.sets(logits[fitted:])[np.arange(tested), labels[fitted:]].sum()
    rank = np.ceil((fitted + 1) * coverage)
    low, high = betabinom(tested, rank, fitted + 1 - rank).ppf([0.001, 0.999])
    assert low <= held <= high


def test_thr_sets_by_hand():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.6, 0.3, 0.1]])
    sets = calibration.ConformalSets.fit(np.log(probabilities), np.array([0, 1, 0]), 0.5, "thr")
    assert sets.threshold == pytest.approx(0.4)  # the second of 0.3, 0.4, 0.6
    found = sets.sets(np.log([[0.65, 0.35, 1e-9], [0.61, 0.6, 1e-9], [0.4, 0.35, 0.25]]))
    np.testing.assert_array_equal(found, [[True, False, False], [False, False, False], [False, False, False]])
    few = calibration.ConformalSets.fit(np.log(probabilities), np.array([0, 1, 0]), 0.9, "thr")
    assert few.sets(np.log(probabilities)).all()  # three images can't promise 90 %


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: calibration.fit_temperature(np.zeros((0, 3)), np.zeros(0, int)),
            "`logits` .* of at least one image",
        ),
        (lambda: calibration.fit_temperature(np.zeros((2, 3)), np.zeros(3, int)), "3 labels for 2 images"),
        (lambda: calibration.fit_temperature(np.full((2, 3), np.nan), np.zeros(2, int)), "`logits` must be finite"),
        (lambda: calibration.fit_temperature(np.zeros((2, 3)), [0, 3]), "`labels` must be integers from 0 to 2, got 3"),
        (
            lambda: calibration.fit_member_temperature(np.zeros((2, 3)), [0, 1]),
            r"`member_logits` must be .*\(n, M, K\)",
        ),
        (lambda: calibration.calibrated_negative_log_likelihood(np.zeros((1, 3)), [0]), "at least two"),
        (
            lambda: calibration.ConformalSets.fit(np.zeros((2, 3)), [0, 1], 1.0),
            r"`coverage` must be .* within \(0, 1\)",
        ),
        (lambda: calibration.ConformalSets.fit(np.zeros((2, 3)), [0, 1], method="raps"), "`method` must be one of thr"),
        (lambda: calibration.ConformalSets.fit(np.zeros((2, 3)), [0, 1], seed=1.5), "`seed` must be an integer"),
        (lambda: calibration.ConformalSets("thr", 0.9, 0.5).sets(np.full((1, 3), np.inf)), "`logits` must be finite"),
        (lambda: MemberAverage(temperature=0.0), "`temperature` must be a positive number, got 0"),
        (lambda: MemberAverage(tempering="all"), "`tempering` must be one of ensemble, members, got 'all'"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# -- in a model --------------------------------------------------------------------------------------------------------

X, Y = tiny.data(40)


@pytest.mark.parametrize("tempering", ["ensemble", "members"])
@pytest.mark.parametrize("averaging", ["logits", "probabilities"])
def test_a_model_carries_its_temperature(averaging, tempering, tmp_path):
    model = tiny.model(averaging=averaging)
    before = model.predict(X, verbose=0)
    raw = model.evaluate(X, Y, verbose=0)[0]
    temperature = model.calibrate(X, Y, batch_size=16, tempering=tempering)
    assert model.temperature == temperature != 1
    calibrated = model.predict(X, verbose=0)
    if averaging == "logits" or tempering == "ensemble":
        np.testing.assert_allclose(calibrated, before / temperature, rtol=1e-4, atol=1e-5)
    else:
        members = model.predict_members(X, verbose=0) / temperature
        np.testing.assert_allclose(
            softmax(calibrated, axis=-1), softmax(members, axis=-1).mean(1), rtol=1e-4, atol=1e-5
        )
    assert model.evaluate(X, Y, verbose=0)[0] <= raw
    np.testing.assert_allclose(model.pooled(model.predict_members(X, verbose=0)), calibrated, rtol=1e-4, atol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.temperature == temperature
    np.testing.assert_allclose(loaded.predict(X, verbose=0), calibrated, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.fused().predict(X, verbose=0), calibrated, rtol=1e-3, atol=1e-5)
    model.temperature = 1.0
    np.testing.assert_allclose(model.predict(X, verbose=0), before, rtol=1e-5, atol=1e-6)


def test_calibrated_on_a_dataset_that_shuffles():
    import tensorflow as tf

    model = tiny.model()
    expected = model.calibrate(X, Y)
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(40).batch(7)
    assert model.calibrate(dataset) == pytest.approx(expected, rel=1e-3)


NAN = np.where(np.arange(40)[:, None, None, None] == 3, np.nan, X)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, Y + 1, "Labels from 1 to 5 don't fit a model of 5 classes"),
        (X[:, :4], Y, r"Images must be \(n, 8, 8, 3\), got \(40, 4, 8, 3\)"),
        (X[:0], Y[:0], "The dataset is empty"),
        (NAN, Y, "Images hold NaN or infinite pixels"),
    ],
)
def test_bad_data(x, y, message):
    with pytest.raises(ValueError, match=message):
        tiny.model().calibrate(x, y)


def test_a_broken_model():
    model = tiny.model()
    model.heads.set_weights([weight * np.nan for weight in model.heads.get_weights()])
    with pytest.raises(FloatingPointError, match="40 of 40 images have NaN logits"):
        model.calibrate(X, Y)
    assert model.temperature == 1
