"""The temperature that a model carries: a variable, fitted by `calibrate`."""

import keras
import numpy as np
import pytest
import tiny
from scipy.special import softmax

from mixmo_keras.metrics import calibration
from mixmo_keras.models import temperatures
from mixmo_keras.training.checkpoints import Checkpoints, warm_start

X, Y = tiny.data(60)


@pytest.mark.parametrize(
    ("averaging", "temperature_applies_to"),
    [
        pytest.param("logits", "ensemble", marks=pytest.mark.slow),
        ("probabilities", "members"),
        pytest.param("logits", "members", marks=pytest.mark.slow),
        pytest.param("probabilities", "ensemble", marks=pytest.mark.slow),
    ],
)
def test_a_model_carries_its_temperature(averaging, temperature_applies_to, tmp_path):
    model = tiny.model(averaging=averaging)
    before = model.predict(X, verbose=0)
    raw = model.evaluate(X, Y, verbose=0)[0]
    temperature = model.calibrate_on(*model.predict_with_labels(X, Y, batch_size=16), temperature_applies_to)
    assert model.temperature == temperature != 1
    assert model.average.temperature_applies_to == temperature_applies_to
    calibrated = model.predict(X, verbose=0)
    if averaging == "logits" or temperature_applies_to == "ensemble":
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


def test_setting_it_traces_nothing_anew():
    model = tiny.model()
    before = model.predict(X, verbose=0)
    function = model.predict_function
    model.temperature = 4.0
    np.testing.assert_allclose(model.predict(X, verbose=0), before / 4, rtol=1e-5, atol=1e-7)
    assert model.predict_function is function
    model.calibrate(X, Y)
    assert model.predict_function is function


@pytest.mark.usefixtures("eagerly")
def test_weights_files_and_checkpoints_hold_it(tmp_path):
    model = tiny.model()
    model.temperature = 2.5
    model.fit(X, Y, verbose=0, callbacks=[Checkpoints(tmp_path / "checkpoints")])
    model.save_weights(tmp_path / "model.weights.h5")
    loaded, restored = tiny.model(seed=9), tiny.model(seed=9)
    loaded.load_weights(tmp_path / "model.weights.h5")
    Checkpoints(tmp_path / "checkpoints").restore(restored)
    for other in (loaded, restored):
        assert other.temperature == 2.5
        np.testing.assert_allclose(other.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-5, atol=1e-6)
    started = tiny.model(seed=9)
    warm_start(started, tmp_path / "checkpoints" / "epoch-0001-step-000000.npz")
    assert started.temperature == 1  # it was fitted to other weights than those to come


@pytest.mark.usefixtures("eagerly")
def test_training_leaves_it_alone():
    model = tiny.model()
    model.temperature = 3.0
    model.fit(X, Y, verbose=0)
    assert model.temperature == 3


def test_calibrated_on_a_dataset_that_shuffles():
    import tensorflow as tf

    model = tiny.model()
    labels = mostly_said(model)
    expected = model.calibrate(X, labels)
    assert expected == pytest.approx(model.calibrate_on(*model.predict_with_labels(X, labels)))
    dataset = tf.data.Dataset.from_tensor_slices((X, labels)).shuffle(60).batch(7)
    model.temperature = 1.0
    assert model.calibrate(dataset) == pytest.approx(expected, rel=1e-3) != 1


def mostly_said(model):
    """Labels of which nine of ten are what a model says: of an untrained one, a low temperature helps."""
    return np.where(np.arange(60) % 10, model.predict(X, verbose=0).argmax(-1), Y)


def test_it_is_applied_where_it_helps_alone(caplog):
    """The rule of evaluations: not by few images, nor where each half does worse under the other half's."""
    model = tiny.model()
    labels = mostly_said(model)
    assert model.calibrate(X[:49], labels[:49], multiplexed=False) == model.temperature == 1
    assert "49 validation images are too few to fit it on, 50 are the least" in caplog.text
    caplog.clear()
    assert model.calibrate(X, labels, multiplexed=False) < 0.9
    assert not [record for record in caplog.records if record.name.startswith("mixmo_keras")]
    figures = temperatures.fit(tiny.model(), model.predict_with_labels(X, labels), None)
    assert figures["value"] == pytest.approx(model.temperature)


def test_one_that_does_harm_changes_nothing(monkeypatch, caplog):
    model = tiny.model(averaging="probabilities")
    before = model.predict(X, verbose=0)
    monkeypatch.setattr(calibration, "fit_member_temperature", lambda *_: 0.01)  # a fit gone wrong
    assert model.calibrate(X, Y, temperature_applies_to="members", multiplexed=False) == 1
    assert "the temperature stays at 1: each half of the validation images has a higher NLL" in caplog.text
    assert model.average.temperature_applies_to == "ensemble"
    np.testing.assert_array_equal(model.predict(X, verbose=0), before)


def test_a_broken_model():
    model = tiny.model()
    model.heads.set_weights([weight * np.nan for weight in model.heads.get_weights()])
    with pytest.raises(FloatingPointError, match="60 of 60 images have NaN logits"):
        model.calibrate(X, Y)
    assert model.temperature == 1


def test_held_out_labels_may_be_wrong():
    model = tiny.model()
    member_logits, labels = model.predict_with_labels(X, Y)
    expected, _ = calibration.fit_temperature_under_noise(model.pooled(member_logits), labels, 0.3)
    assert model.calibrate(X, Y, label_noise=0.3) == pytest.approx(expected)
    assert model.temperature == pytest.approx(expected)
    estimated, _ = calibration.fit_temperature_under_noise(model.pooled(member_logits, calibrated=False), labels)
    assert model.calibrate(X, Y, label_noise="estimate") == pytest.approx(estimated)
    with pytest.raises(ValueError, match="`label_noise` must be"):
        model.calibrate(X, Y, label_noise=1.5)
    with pytest.raises(ValueError, match="under `label_noise` is the ensemble's"):
        tiny.model(averaging="probabilities").calibrate(X, Y, temperature_applies_to="members", label_noise=0.1)
