"""Every task with every method: killed and resumed, calibrated, exported in every format, in half precision, on replicas."""

import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from every_task import METHODS, X, by_method, fit, resumed, targets_and_tasks

NAMES = list(targets_and_tasks())
pytestmark = pytest.mark.slow
EACH = pytest.mark.parametrize(("name", "method"), [(name, method) for name in NAMES for method in METHODS])


@EACH
@pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
)  # of converters
def test_calibrated_and_exported_it_answers_alike(name, method, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    model, y = by_method(name, method)
    fit(model, y, epochs=1)
    model.calibrate_on(*model.predict_with_labels(X, y))  # `calibrate` takes more images
    assert model.temperature != 1
    model.save(tmp_path / "model.keras")
    answers, outputs = model.answers(X), model.predict(X, verbose=0)
    alike = dict(rtol=1e-5, atol=1e-5 * float(np.abs(outputs).max()))
    np.testing.assert_allclose(
        keras.models.load_model(tmp_path / "model.keras").predict(X, verbose=0), outputs, **alike
    )

    signatures = tf.saved_model.load(str(model.export(tmp_path / "served" / "1"))).signatures
    served = {**signatures["serving_default"](images=tf.constant(X, "float32"))}
    assert len(served.pop("names")) == len(X)
    for answer, values in served.items():
        scale = float(np.abs(np.asarray(answers[answer], "float64")).max())
        np.testing.assert_allclose(values, answers[answer], rtol=1e-4, atol=1e-5 * max(scale, 1), err_msg=answer)
    if method == "deep_ensemble":
        return  # other formats hold one network
    model.export(tmp_path / "model.onnx", format="onnx")
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    (found,) = session.run(None, {session.get_inputs()[0].name: X.astype("float32")})
    np.testing.assert_allclose(found, outputs, **alike)
    model.export(tmp_path / "model.tflite", format="litert")
    interpreter = litert.Interpreter(str(tmp_path / "model.tflite"))
    (place,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(place["index"], X.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(place["index"], X.astype("float32"))
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(found, outputs, **alike)


@pytest.mark.parametrize(
    ("name", "method"), [(name, method) for name in NAMES for method in METHODS if method != "deep_ensemble"]
)
def test_a_run_that_is_killed_goes_on_to_the_same_bytes(name, method, tmp_path):
    """By kill -9. The networks of a deep ensemble are trained one by one, as single ones."""
    killed = tiny.run([tiny.SCRIPTS / "killed_task.py", name, method, tmp_path / "killed"])
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]
    assert tiny.equal_weights(resumed(name, method, tmp_path / "killed"), resumed(name, method, tmp_path / "whole"))


def test_under_two_replicas_with_xla():
    """And more than one strategy of the same devices in a process: TensorFlow keeps the shapes of collectives by number."""
    assert tiny.script("tasks_under_two_replicas.py").split() == NAMES


@EACH
def test_in_half_precision(name, method):
    model, y = by_method(name, method, dtype="mixed_bfloat16")
    fit(model, y, epochs=1)
    model.calibrate_on(*model.predict_with_labels(X, y))
    assert all(np.isfinite(np.asarray(values, "float64")).all() for values in model.answers(X).values())
