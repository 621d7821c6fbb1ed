"""Deep ensembles: the mean of their networks, saved, served and calibrated as one."""

import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from scipy.special import softmax

import mixmo_keras
from mixmo_keras import metrics

X, Y = tiny.data(20)


def networks():
    """Three, of which two have one name, as runs that differ in their seed."""
    kinds = [(2, "run"), (1, "run"), (3, "other")]
    return [tiny.model(num_members=count, seed=seed, name=name) for seed, (count, name) in enumerate(kinds, start=1)]


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("averaging", ["logits", pytest.param("probabilities", marks=pytest.mark.slow)])
def test_is_the_mean_of_all_members(averaging):
    models = networks()
    ensemble = mixmo_keras.DeepEnsemble(models, averaging)
    members = np.concatenate([model.predict_members(X, verbose=0) for model in models], axis=1)
    assert ensemble.num_members == 6
    np.testing.assert_allclose(ensemble.predict_members(X, verbose=0), members, rtol=1e-4, atol=1e-5)
    expected = softmax(members.mean(1), axis=-1) if averaging == "logits" else softmax(members, axis=-1).mean(1)
    logits = ensemble.predict(X, verbose=0)
    np.testing.assert_allclose(softmax(logits, axis=-1), expected, rtol=1e-4, atol=1e-5)
    loss, accuracy = ensemble.evaluate(X, Y, verbose=0)
    assert loss == pytest.approx(metrics.negative_log_likelihood(logits, Y), rel=1e-4)
    assert accuracy == pytest.approx(metrics.accuracy(logits, Y))
    np.testing.assert_allclose(ensemble.fused().predict(X, verbose=0), logits, rtol=1e-3, atol=1e-4)
    models[0].core.set_weights([0 * weight for weight in models[0].core.get_weights()])
    assert not np.allclose(ensemble.predict(X, verbose=0), logits)  # it holds the networks themselves


@pytest.mark.usefixtures("eagerly")
def test_calibrates_saves_loads_and_serves(tmp_path):
    ensemble = mixmo_keras.DeepEnsemble(networks())
    temperature = ensemble.calibrate_on(*ensemble.predict_with_labels(X, Y))
    assert temperature != 1
    logits = ensemble.predict(X, verbose=0)
    ensemble.save(tmp_path / "ensemble.keras")
    loaded = keras.models.load_model(tmp_path / "ensemble.keras")
    assert loaded.temperature == temperature
    assert [model.num_members for model in loaded.networks()] == [2, 1, 3]
    np.testing.assert_allclose(loaded.predict(X, verbose=0), logits, rtol=1e-5, atol=1e-6)
    loaded.export(tmp_path / "1")
    served = tf.saved_model.load(tmp_path / "1").signatures["serving_default"](images=tf.constant(X, "float32"))
    np.testing.assert_allclose(served["probabilities"], softmax(logits, axis=-1), atol=1e-5)


def with_configuration(path, change):
    """Changes the configuration in a .keras file."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    contents["config.json"] = json.dumps(change(json.loads(contents["config.json"]))).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


def without_preprocessing(config):
    """A configuration as it was before backbones had a preprocessing, wherever one is in it."""
    if isinstance(config, dict):
        return {name: without_preprocessing(value) for name, value in config.items() if name != "preprocessing"}
    return [without_preprocessing(one) for one in config] if isinstance(config, list) else config


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_files_of_earlier_versions(tmp_path):
    """Backbones had no preprocessing."""
    ensemble = mixmo_keras.DeepEnsemble(networks()[:2], temperature=1.5)
    ensemble.save(tmp_path / "ensemble.keras")
    with_configuration(tmp_path / "ensemble.keras", without_preprocessing)
    loaded = keras.models.load_model(tmp_path / "ensemble.keras")
    assert loaded.temperature == 1.5
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), ensemble.predict(X, verbose=0))
    assert loaded.evaluate(X, Y, verbose=0) == pytest.approx(ensemble.evaluate(X, Y, verbose=0))


def test_a_file_that_cannot_be_loaded_says_so(tmp_path):
    def with_settings_of_another_version(config):
        return config | {"config": config["config"] | {"tempering": "ensemble", "repeated_data": False}}

    tiny.model().save(tmp_path / "model.keras")
    with_configuration(tmp_path / "model.keras", with_settings_of_another_version)
    with pytest.raises(
        ValueError, match=r"of another version .* \(repeated_data, tempering\). Load it with the version"
    ):
        keras.models.load_model(tmp_path / "model.keras")


def test_errors():
    with pytest.raises(ValueError, match=r"a has \(8, 8, 3\) and .*=5\), b \(8, 8, 3\) and .*=3\)"):
        mixmo_keras.DeepEnsemble([tiny.model(name="a"), tiny.model(num_classes=3, name="b")])
    with pytest.raises(TypeError, match="train its networks one by one"):
        mixmo_keras.DeepEnsemble(networks()[:1]).fit(X, Y)
