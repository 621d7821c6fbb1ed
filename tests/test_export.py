"""SavedModels: the same numbers in a process without the package, and never half-written."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import mixmo_keras

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype("float32")

CLIENT = """
import sys
import numpy as np
import tensorflow as tf

serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
for size in (1, 5):
    answer = serve(images=tf.constant(np.load(sys.argv[2])[:size]))
np.savez(sys.argv[3], **{name: value.numpy() for name, value in answer.items()})
assert "mixmo_keras" not in sys.modules
"""


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def model(averaging="logits"):
    return mixmo_keras.CutMixMo("wrn10_1", num_classes=4, input_shape=(8, 8, 3), averaging=averaging, seed=0)


@pytest.mark.parametrize("averaging", ["logits", "probabilities"])
def test_serves_the_models_numbers_without_the_package(tmp_path, averaging):
    network = model(averaging)
    network.export(tmp_path / "served/1")
    np.save(tmp_path / "images.npy", IMAGES)
    arguments = [tmp_path / "served/1", tmp_path / "images.npy", tmp_path / "answer.npz"]
    subprocess.run([sys.executable, "-c", CLIENT, *map(str, arguments)], check=True, cwd=tmp_path)
    answer = np.load(tmp_path / "answer.npz")

    members = softmax(network.predict_members(IMAGES, verbose=0))
    ensemble = softmax(network.predict(IMAGES, verbose=0))
    np.testing.assert_allclose(answer["member_probabilities"], members, atol=1e-5)
    np.testing.assert_allclose(answer["probabilities"], ensemble, atol=1e-5)
    if averaging == "probabilities":
        np.testing.assert_allclose(answer["probabilities"], members.mean(1), atol=1e-5)
    np.testing.assert_array_equal(answer["label"], ensemble.argmax(-1))
    assert answer["label"].dtype == np.int64


def test_an_existing_version_is_kept_unless_told(tmp_path):
    network = model()
    network.export(tmp_path / "1")
    marker = tmp_path / "1" / "marker"
    marker.touch()
    with pytest.raises(FileExistsError, match="overwrite=True to replace it"):
        network.export(tmp_path / "1")
    assert marker.exists()
    network.export(tmp_path / "1", overwrite=True)
    assert not marker.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_a_failed_export_leaves_nothing(tmp_path, monkeypatch):
    def full_disk(self, *arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(keras.export.ExportArchive()), "write_out", full_disk)
    with pytest.raises(OSError, match="No space left"):
        model().export(tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(format="onnx", overwrite=True), "`overwrite` applies to format='tf_saved_model'"),
        (dict(opset_version=18), "Options not used by format='tf_saved_model': opset_version"),
    ],
)
def test_options_that_would_be_ignored(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        model().export(tmp_path / "1", **options)
