"""SavedModels: the same numbers in a process without the package, and never half-written."""

import io
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from image_files import CASES, by_pillow, of_mode
from PIL import Image
from tensorflow_serving.apis import prediction_log_pb2

import mixmo_keras
from mixmo_keras.networks import fusing
from mixmo_keras.serving import export, versions

IMAGES = np.random.default_rng(0).integers(0, 256, (256, 8, 8, 3), dtype="uint8")
ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "tests" / "scripts"
NAMES = ["cat", "dog", "car", "ship"]


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def model(averaging="logits", num_members=2):
    return mixmo_keras.CutMixMo(
        "tiny_4", num_classes=4, input_shape=(8, 8, 3), num_members=num_members, averaging=averaging, seed=0
    )


@pytest.fixture(scope="module")
def animals(tmp_path_factory):
    """The folder of an exported version."""
    return model().export(tmp_path_factory.mktemp("served") / "animals", max_pixels=10_000)


@pytest.fixture
def quickly_written(monkeypatch):
    """Versions hold no network, where the question is which there are."""

    class Nothing(tf.Module):
        def __init__(self, *_):
            super().__init__()

        def signatures(self):
            return {}

    monkeypatch.setattr(
        export, "write_network", lambda model, path, verbose, views: tf.saved_model.save(tf.Module(), str(path))
    )
    monkeypatch.setattr(export, "Served", Nothing)


def entropy(p):
    return -(p * np.log(p)).sum(-1)


# heads stay apart where probabilities are averaged; what averages logits is served in test_predict.py too
@pytest.mark.parametrize(
    ("averaging", "num_members"), [("probabilities", 3), pytest.param("logits", 2, marks=pytest.mark.slow)]
)
def test_serves_the_models_numbers_without_the_package(tmp_path, averaging, num_members):
    network = model(averaging, num_members)
    network.temperature, network.multiplexed_temperature = 1.7, 1.3
    network.export(tmp_path / "served/1", class_names=NAMES)
    np.save(tmp_path / "images.npy", IMAGES)
    (tmp_path / "files").mkdir()
    for number, case in enumerate(CASES):
        (tmp_path / "files" / f"{number:03d}").write_bytes(of_mode(*case, IMAGES[0]))
    arguments = [tmp_path / "served/1", tmp_path / "images.npy", tmp_path / "files", tmp_path / "answer.npz"]
    ended = tiny.run([SCRIPTS / "serving_client.py", *arguments], tmp_path)
    assert ended.returncode == 0, ended.stderr[-3000:]
    answers = np.load(tmp_path / "answer.npz")

    members = softmax(network.predict_members(IMAGES, verbose=0).astype("float64"))
    ensemble = softmax(network.predict(IMAGES, verbose=0).astype("float64"))
    expected = {
        "probabilities": ensemble,
        "confidence": ensemble.max(-1),
        "label": ensemble.argmax(-1),
        "predictive_entropy": entropy(ensemble),
        "mutual_information": entropy(members.mean(1)) - entropy(members).mean(1),
    }
    for size in (*range(1, 8), 256):
        for case in ("float", "uint8", "bytes"):
            for name, values in expected.items():
                np.testing.assert_allclose(answers[f"{case} {size}/{name}"], values[:size], atol=1e-5)
            names = [NAMES[k] for k in expected["label"][:size]]
            assert answers[f"{case} {size}/class_name"].tolist() == names
        alone = softmax(network.predict_multiplexed(IMAGES[:size]).astype("float64"))
        for case in ("float", "uint8", "bytes"):
            for name, values in {
                "probabilities": alone,
                "label": alone.argmax(-1),
                "confidence": alone.max(-1),
            }.items():
                np.testing.assert_allclose(answers[f"multiplexed {case} {size}/{name}"], values, atol=1e-5)
            entropies = answers[f"multiplexed {case} {size}/predictive_entropy"]
            np.testing.assert_allclose(entropies, entropy(alone), atol=1e-5)
            assert answers[f"multiplexed {case} {size}/class_name"].tolist() == [NAMES[k] for k in alone.argmax(-1)]
        np.testing.assert_allclose(answers[f"members {size}/member_probabilities"], members[:size], atol=1e-5)
    assert answers["float 7/label"].dtype == np.int64
    check_answers_to_files(network, answers["files/probabilities"])


def check_answers_to_files(network, answers):
    """Of every format, mode and orientation the answer is that to the pixels which Pillow reads."""
    pixels = np.stack([by_pillow(of_mode(*case, IMAGES[0]), "RGB") for case in CASES])
    expected = softmax(network.predict(pixels, verbose=0).astype("float64"))
    for number, (kind, mode, _) in enumerate(CASES):
        if kind != "JPEG":
            np.testing.assert_allclose(answers[number], expected[number], atol=1e-5)
            continue
        # decoders of JPEG differ by up to four levels: the answer is nearest to that of the right orientation
        turned = [index for index, case in enumerate(CASES) if case[:2] == (kind, mode)]
        assert turned[np.abs(expected[turned] - answers[number]).max(-1).argmin()] == number


@pytest.mark.parametrize("averaging", ["logits", pytest.param("probabilities", marks=pytest.mark.slow)])
def test_serves_the_mean_of_views(tmp_path, averaging):
    model = tiny.model(averaging=averaging, temperature=2.0)
    images = tiny.data(3)[0].astype("float32")
    version = model.export(tmp_path / "views", views=6)
    served = tf.saved_model.load(str(version)).signatures
    expected = keras.ops.softmax(model.predict(images, verbose=0, views=6))
    np.testing.assert_allclose(
        served["serving_default"](images=tf.constant(images))["probabilities"], expected, atol=1e-5
    )
    np.testing.assert_allclose(
        served["members"](images=tf.constant(images))["member_logits"],
        model.predict_members(images, verbose=0, views=6),
        atol=1e-4,
    )
    network = fusing.fused_views(model, 6)  # what other formats get
    np.testing.assert_allclose(network(images), model.predict(images, verbose=0, views=6), atol=1e-4)
    assert "views of an image" in (version / "model_card.md").read_text()
    with pytest.raises(ValueError, match=r"`views` \(=6\) can't be combined with multiplexed=True"):
        model.export(tmp_path / "views.onnx", format="onnx", multiplexed=True, views=6)


def test_bad_requests_are_clear_errors(animals):
    signatures = tf.saved_model.load(animals).signatures
    images = IMAGES[:2].astype("float32")
    files = ("serving_bytes", "multiplexed_bytes")
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")  # 48 KB, and gigabytes in pixels
    bomb = bomb.getvalue()
    for call, message in [
        (lambda: signatures["serving_default"](images=tf.constant(images[:0])), "The batch is empty: send an image"),
        (lambda: signatures["serving_bytes"](image_bytes=tf.constant([], tf.string)), "The batch is empty"),
        (lambda: signatures["serving_bytes"](image_bytes=tf.constant([b"no image"])), "Unknown image file format"),
        (lambda: signatures["multiplexed"](images=tf.constant(images[:0])), "The batch is empty"),
        *(
            (lambda name=name: signatures[name](image_bytes=tf.constant([bomb])), "more pixels than the")
            for name in files
        ),
        (
            lambda: signatures["serving_default"](images=tf.constant(images[:, :4])),
            r"Images must be \(n, 8, 8, 3\)",
        ),
        (
            lambda: signatures["serving_default"](images=tf.constant(IMAGES[:2])),
            "expected to be a float tensor but is a uint8",
        ),
    ]:
        with pytest.raises((tf.errors.InvalidArgumentError, TypeError), match=f"(?s){message}"):
            call()


@pytest.mark.usefixtures("quickly_written")
def test_versions_follow_each_other(tmp_path):
    network = tiny.model()
    assert network.export(tmp_path / "name") == tmp_path / "name" / "1"
    assert network.export(tmp_path / "name" / "7") == tmp_path / "name" / "7"
    assert network.export(tmp_path / "name") == tmp_path / "name" / "8"


def test_the_warm_up_is_a_request_that_the_model_answers(animals):
    signatures = tf.saved_model.load(animals).signatures
    seen = []
    for record in tf.data.TFRecordDataset(str(animals / "assets.extra/tf_serving_warmup_requests")).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        assert request.model_spec.name == "animals"
        inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        assert signatures[request.model_spec.signature_name](**inputs)["probabilities"].shape == (1, 4)
        seen.append(request.model_spec.signature_name)
    assert seen == ["serving_default", "serving_bytes", "multiplexed"]


@pytest.mark.usefixtures("quickly_written")
def test_model_card(tmp_path):
    network = model()
    network.temperature = 1.25
    card = {"Data": "animals & things", "Figures": {"accuracy": 0.987654, "images": 360}}
    exported = network.export(tmp_path / "1", class_names=NAMES, card=card, max_pixels=100)
    text = (exported / "model_card.md").read_text()
    for part in ("8×8 pixels and 3 channels into 4 classes: cat, dog, car, ship", "an ensemble of 2 members"):
        assert part in text
    assert "| temperature | 1.25 |" in text
    assert "## Data\n\nanimals & things" in text
    assert "| accuracy | 0.9877 |\n| images | 360 |" in text
    assert "## Limits" in text
    assert "| images a pass | 1, or 2 with `multiplexed`" in text
    assert "Images of different people must not share a request" in text
    assert "Encoded images of more than 100 pixels are refused" in text
    assert re.search(rf"mixmo_keras {mixmo_keras.__version__}, Keras \d.*, TensorFlow \d.*commit \w+", text)


def test_class_names_must_fit(tmp_path):
    with pytest.raises(ValueError, match="`class_names` has 3 names for 4 classes"):
        model().export(tmp_path / "1", class_names=NAMES[:3])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("averaging", ["logits", pytest.param("probabilities", marks=pytest.mark.slow)])
def test_onnx(tmp_path, averaging):
    onnxruntime = pytest.importorskip("onnxruntime")
    network = model(averaging)
    network.temperature = 1.7
    network.export(tmp_path / "model.onnx", format="onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    for size in (1, 7):
        images = IMAGES[:size].astype("float32")
        (logits,) = session.run(None, {session.get_inputs()[0].name: images})
        np.testing.assert_allclose(logits, network.predict(images, verbose=0), atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("averaging", ["logits", "probabilities"])
def test_onnx_of_several_images_a_pass(tmp_path, averaging):
    onnxruntime = pytest.importorskip("onnxruntime")
    network = tiny.model(num_members=3, averaging=averaging)
    network.multiplexed_temperature = 1.7
    network.export(tmp_path / "model.onnx", format="onnx", multiplexed=True)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    for size in range(1, 8):
        images = IMAGES[:size].astype("float32")
        (logits,) = session.run(None, {session.get_inputs()[0].name: images})
        np.testing.assert_allclose(logits, network.predict_multiplexed(images), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_litert(tmp_path):
    interpreter_module = pytest.importorskip("ai_edge_litert.interpreter")
    network = model(num_members=3)
    network.temperature, network.multiplexed_temperature = 1.7, 1.3
    for multiplexed in (False, True):
        network.export(tmp_path / "model.tflite", format="litert", multiplexed=multiplexed, overwrite=multiplexed)
        interpreter = interpreter_module.Interpreter(str(tmp_path / "model.tflite"))
        (inputs,), (outputs,) = interpreter.get_input_details(), interpreter.get_output_details()
        for size in (1, 5, 7):
            images = IMAGES[:size].astype("float32")
            interpreter.resize_tensor_input(inputs["index"], images.shape)
            interpreter.allocate_tensors()
            interpreter.set_tensor(inputs["index"], images)
            interpreter.invoke()
            logits = interpreter.get_tensor(outputs["index"])
            expected = network.predict_multiplexed(images) if multiplexed else network.predict(images, verbose=0)
            np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("multiplexed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_files_of_a_network_in_half_precision_compute_in_float32(tmp_path, multiplexed):
    """LiteRT would leave bfloat16 to TensorFlow's own operations, which it doesn't have."""
    interpreter_module = pytest.importorskip("ai_edge_litert.interpreter")
    options = dict(num_classes=4, input_shape=(8, 8, 3), seed=0)
    half, single = (mixmo_keras.CutMixMo("tiny_4", dtype=of, **options) for of in ("mixed_bfloat16", "float32"))
    single.set_weights(half.get_weights())
    half.export(tmp_path / "model.tflite", format="litert", multiplexed=multiplexed)
    assert b"Flex" not in (tmp_path / "model.tflite").read_bytes()
    interpreter = interpreter_module.Interpreter(str(tmp_path / "model.tflite"))
    (inputs,), (outputs,) = interpreter.get_input_details(), interpreter.get_output_details()
    images = IMAGES[:5].astype("float32")
    interpreter.resize_tensor_input(inputs["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(inputs["index"], images)
    interpreter.invoke()
    expected = single.predict_multiplexed(images) if multiplexed else single.predict(images, verbose=0)
    np.testing.assert_allclose(interpreter.get_tensor(outputs["index"]), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_litert_in_eight_bits(tmp_path):
    interpreter_module = pytest.importorskip("ai_edge_litert.interpreter")
    network = model(num_members=3)
    images = IMAGES.astype("float32")
    for name, options in {"float": {}, "int8": dict(quantize="int8", representative=images)}.items():
        network.export(tmp_path / f"{name}.tflite", format="litert", **options)
    interpreter = interpreter_module.Interpreter(str(tmp_path / "int8.tflite"))
    (inputs,), (outputs,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(inputs["index"], images.shape)
    interpreter.allocate_tensors()
    assert any(tensor["dtype"] is np.int8 for tensor in interpreter.get_tensor_details())
    interpreter.set_tensor(inputs["index"], images)
    interpreter.invoke()
    expected = network.predict(images, verbose=0)
    difference = np.abs(interpreter.get_tensor(outputs["index"]) - expected).max()
    assert 0 < difference < 0.1 * np.abs(expected).max()  # a step of 8 bits at each layer


EARLIER = (
    "tensorflow.saved_model.save",  # which Keras calls first
    "tensorflow.saved_model.load",
    "tensorflow.io.TFRecordWriter",
)


@pytest.mark.slow  # tests/common/test_files.py kills a write at the same moment
# when all is written but the name
@pytest.mark.parametrize("moments", [("os.replace",), pytest.param(EARLIER, marks=pytest.mark.slow)], ids=len)
def test_a_kill_leaves_no_version_behind(tmp_path, moments):
    for moment in moments:
        assert tiny.run([SCRIPTS / "killed_export.py", tmp_path / "name", moment]).returncode == -9, moment
        assert not any(path.name.isdecimal() for path in (tmp_path / "name").iterdir()), moment
    assert tiny.model().export(tmp_path / "name").name == "1"
    assert [path.name for path in (tmp_path / "name").iterdir()] == ["1"]  # nothing of what was killed


@pytest.mark.usefixtures("quickly_written")
def test_exports_at_once_take_versions_of_their_own(tmp_path):
    network = tiny.model()
    with versions.claimed(tmp_path, overwrite=False) as mine:
        assert mine == tmp_path / "1"
        assert network.export(tmp_path) == tmp_path / "2"
        with pytest.raises(FileExistsError, match="1 is being written by another export"):
            network.export(tmp_path / "1")
    assert network.export(tmp_path / "1") == tmp_path / "1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


@pytest.mark.usefixtures("quickly_written")
def test_an_existing_version_is_kept_unless_told(tmp_path):
    network = tiny.model()
    network.export(tmp_path / "1")
    marker = tmp_path / "1" / "assets.extra" / "marker"
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
        (dict(format="onnx", max_pixels=9), "`max_pixels` applies to format='tf_saved_model'"),
        (dict(format="onnx", class_names=NAMES), "`class_names` applies to format='tf_saved_model'"),
        (dict(multiplexed=True), "`multiplexed` is for other formats: a SavedModel has both"),
        (dict(opset_version=18), "Options not used by format='tf_saved_model': opset_version"),
    ],
)
def test_options_that_would_be_ignored(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        model().export(tmp_path / "1", **options)


def test_the_model_kept_in_git_serves_a_digit(tmp_path):
    folder = ROOT / "saved_models" / "digits"
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 1_000_000
    command = [ROOT / "recipes/predict.py", ROOT / "docs/digit.png", "--saved-model", folder]
    done = tiny.run(command, tmp_path)
    assert "docs/digit.png  3  confidence" in done.stdout, done.stderr
    done = tiny.run([*command[:2], ROOT / "docs/digit.png", *command[2:], "--multiplexed"], tmp_path)
    assert done.stdout.count("docs/digit.png  3  confidence") == 2, done.stderr


def test_both_modes_share_core_and_heads_and_the_ensemble_has_one_encoder():
    """What they do not share: the kernel of the encoders, and a temperature."""
    loaded = tf.saved_model.load(ROOT / "saved_models" / "digits" / "1")
    ensemble, several = (
        {id(variable.handle): tuple(variable.shape) for variable in loaded.signatures[name].variables}
        for name in ("serving_default", "multiplexed")
    )
    apart = {key: shape for key, shape in ensemble.items() if key not in several}
    assert sorted(apart.values()) == [(), (3, 3, 1, 16)]  # fused: one grey image
    apart = {key: shape for key, shape in several.items() if key not in ensemble}
    assert sorted(apart.values()) == [(), (3, 3, 2, 16)]  # joined: two
    assert len(ensemble) == len(several) == 40


def test_an_export_that_fails_leaves_no_folder_and_is_found_before_a_training(tmp_path, monkeypatch):
    def fails(*_):
        raise ValueError("a layer can't be traced\nfor a reason")

    monkeypatch.setattr("mixmo_keras.serving.export.write_network", fails)
    with pytest.raises(ValueError, match="a layer can't be traced"):
        model().export(tmp_path / "saved_models" / "animals" / "1")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(
        ValueError, match=r"can't be exported as a SavedModel \(a layer can't be traced\)\. It was tried"
    ):
        export.check(model())
