"""The client of recipes/predict.py against TensorFlow Serving's protocols and the SavedModel itself."""

import csv
import io
import json
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import predict
import predict_folder
import pytest
import serving
from PIL import Image
from scipy.special import softmax

import mixmo_keras

NAMES = [f"digit {number}" for number in range(10)]
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), dtype="uint8")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A model's second version, the first of which nobody can load, three PNG files, and the model's probabilities."""
    folder = tmp_path_factory.mktemp("served") / "digits"
    (folder / "1").mkdir(parents=True)
    model = mixmo_keras.CutMixMo("tiny_4", num_classes=10, input_shape=(8, 8, 1), seed=2)
    assert model.export(folder, class_names=NAMES) == folder / "2"
    files = []
    for number, image in enumerate(IMAGES):
        files.append(folder.parent / f"{number}.png")
        Image.fromarray(image[..., 0]).save(files[-1])
    return folder, files, softmax(model.predict(IMAGES, verbose=0), axis=-1)


def main(files, *arguments):
    return predict.main([*map(str, files), *map(str, arguments)])


def check(answers, probabilities):
    np.testing.assert_allclose([answer["probabilities"] for answer in answers], probabilities, atol=1e-5)
    assert [answer["class_name"] for answer in answers] == [NAMES[k] for k in probabilities.argmax(-1)]
    np.testing.assert_allclose([answer["confidence"] for answer in answers], probabilities.max(-1), atol=1e-5)


def test_rest(served, capsys):
    folder, files, probabilities = served
    with serving.rest_server("digits", folder) as url:
        check(main(files, "--url", url), probabilities)
        printed = capsys.readouterr().out.splitlines()
        assert len(printed) == 3
        assert f"0.png  {NAMES[probabilities[0].argmax()]}  confidence" in printed[0]
        check(main(files, "--url", f"{url}/versions/2", "--json"), probabilities)
        assert [answer["file"] for answer in json.loads(capsys.readouterr().out)] == list(map(str, files))
        with urllib.request.urlopen(url) as status:
            assert json.load(status)["model_version_status"][0]["state"] == "AVAILABLE"
        with urllib.request.urlopen(f"{url}/metadata") as metadata:
            signatures = json.load(metadata)["metadata"]["signature_def"]["signature_def"]
        several = {"multiplexed", "multiplexed_uint8", "multiplexed_bytes"}
        assert set(signatures) == {"serving_default", "uint8", "serving_bytes", "members", *several}
        with pytest.raises(
            SystemExit, match=r"error: The server answered 404: Servable not found for request: Latest\(other"
        ):
            main(files, "--url", url.replace("digits", "other"))


def test_a_folder_over_rest_goes_on_where_the_server_was_lost(served, tmp_path):
    folder, files, probabilities = served
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    table, listed = tmp_path / "answers.csv", tmp_path / "files.txt"
    listed.write_text("\n".join(map(str, [*files, tmp_path / "broken.jpg"])))
    command = ["--list", str(listed), "--output", str(table), "--batch-size", "2"]
    ask, asked = predict.over_rest, []

    def lost_after_two(url, images, **options):
        asked.extend(images)
        if len(asked) > 2:
            raise ConnectionError("There is no answer")
        return ask(url, images, **options)

    with serving.rest_server("digits", folder) as url, pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict, "over_rest", lost_after_two)
        with pytest.raises(SystemExit, match="error: There is no answer"):
            predict_folder.main([*command, "--url", url])
    assert len(table.read_text().splitlines()) == 3
    with serving.rest_server("digits", folder) as url:  # at another port
        assert predict_folder.main([*command, "--url", url]) == {"images": 4, "failed": 1}
    with open(table, newline="") as text:
        rows = {row["path"]: row for row in csv.DictReader(text)}
    found = [[float(rows[str(file)][f"probability_{k}"]) for k in range(10)] for file in files]
    np.testing.assert_allclose(found, probabilities, atol=1e-5)
    assert "Unknown image file format" in rows[str(tmp_path / "broken.jpg")]["error"]


def test_grpc(served):
    folder, files, probabilities = served
    with serving.grpc_server("digits", folder) as address:
        check(main(files, "--grpc", address, "--name", "digits"), probabilities)
        with pytest.raises(SystemExit, match=r"answered NOT_FOUND: Servable not found"):
            main(files, "--grpc", address, "--name", "other")


def test_the_saved_model_itself(served):
    folder, files, probabilities = served
    check(main(files, "--saved-model", folder), probabilities)
    check(main(files, "--saved-model", folder / "2"), probabilities)


def test_several_images_a_pass_by_every_way(served, capsys):
    folder, files, _ = served
    answers = main(files, "--saved-model", folder, "--multiplexed")
    assert "mutual information" not in capsys.readouterr().out
    assert "mutual_information" not in answers[0]
    with serving.rest_server("digits", folder) as url, serving.grpc_server("digits", folder) as address:
        for way in (["--url", url], ["--grpc", address, "--name", "digits"]):
            for one, other in zip(main(files, *way, "--multiplexed"), answers, strict=True):
                np.testing.assert_allclose(one.pop("probabilities"), other["probabilities"], atol=1e-6)
                assert one == {
                    name: pytest.approx(value, abs=1e-6) if isinstance(value, float) else value
                    for name, value in other.items()
                    if name != "probabilities"
                }


@pytest.mark.slow
def test_images_share_passes_where_there_are_many(served, capsys):
    folder, files, probabilities = served
    several = main(files, "--saved-model", folder, "--multiplexed")
    assert main(files, "--saved-model", folder, "--switch-at", len(files)) == several
    check(main(files, "--saved-model", folder, "--switch-at", len(files) + 1), probabilities)
    for wrong in (["--switch-at", "1"], ["--switch-at", "3", "--multiplexed"]):
        with pytest.raises(SystemExit, match="2"):
            main(files, "--saved-model", folder, *wrong)
        assert "--switch-at takes a number of at least 2, and replaces --multiplexed" in capsys.readouterr().err


def test_images_of_other_sizes_and_kinds(served, tmp_path):
    folder, files, _ = served
    large = Image.fromarray(IMAGES[0, ..., 0]).resize((64, 64), Image.Resampling.NEAREST)
    paths = [tmp_path / "large.png", tmp_path / "colour.jpg", tmp_path / "image.bmp"]
    for path in paths:
        (large.convert("RGB") if path.suffix != ".png" else large).save(path, quality=100)
    found = np.array([answer["probabilities"] for answer in main([files[0], *paths], "--saved-model", folder)])
    np.testing.assert_allclose(found[2:], found[[1, 1]], atol=0.02)  # JPEG changes pixels a little
    assert np.abs(found[1] - found[0]).max() < 0.3  # so does resizing


def test_errors(served, tmp_path, capsys):
    folder, files, _ = served
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    truncated = tmp_path / "truncated.jpg"
    file = io.BytesIO()
    Image.fromarray(IMAGES[0, ..., 0]).resize((64, 64)).save(file, "JPEG")
    truncated.write_bytes(file.getvalue()[:200])
    closed = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{closed.getsockname()[1]}"
    closed.close()
    for arguments, message in [
        (([tmp_path / "none.png"], "--saved-model", folder), "No such file"),
        (([broken], "--saved-model", folder), "The model refused the images: Unknown image file format"),
        (([truncated], "--saved-model", folder), "The model refused the images: .*JPEG"),
        ((files, "--saved-model", tmp_path), "There is no SavedModel in"),
        ((files, "--url", f"http://{address}/v1/models/digits"), "There is no answer from http"),
        ((files, "--grpc", address, "--name", "digits"), "answered UNAVAILABLE"),
    ]:
        with pytest.raises(SystemExit, match=f"error: .*{message}"):
            main(*arguments)
    with (
        serving.rest_server("digits", folder) as url,
        pytest.raises(SystemExit, match=r"answered 400: .*Unknown image"),
    ):
        main([broken], "--url", url)
    with pytest.raises(SystemExit, match="2"):
        main(files, "--grpc", address)
    assert "--grpc and --name belong together" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([tmp_path], "--saved-model", folder)
    assert f"{tmp_path} is a folder: recipes/predict_folder.py asks" in capsys.readouterr().err


def test_rest_needs_neither_tensorflow_nor_this_package(served):
    folder, files, _ = served
    script = f"""
import runpy, sys
sys.path.insert(0, {str(Path(predict.__file__).parent)!r})
sys.argv = ["predict.py", {str(files[0])!r}, "--url", sys.argv[1]]
runpy.run_path({predict.__file__!r}, run_name="__main__")
assert not {{"tensorflow", "mixmo_keras", "numpy"}} & set(sys.modules)
"""
    with serving.rest_server("digits", folder) as url:
        done = subprocess.run([sys.executable, "-c", script, url], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "confidence" in done.stdout


@pytest.mark.slow
def test_a_saved_model_is_loaded_without_keras_which_takes_memory(served):
    folder, files, probabilities = served
    script = f"""
import json, pathlib, sys
sys.path.insert(0, {str(Path(predict.__file__).parent)!r})
import predict
(answer,) = predict.from_saved_model(pathlib.Path({str(folder)!r}), [pathlib.Path({str(files[0])!r}).read_bytes()])
assert "keras" not in sys.modules
print(json.dumps(answer["probabilities"]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), probabilities[0], atol=1e-5)
    assert done.stderr == ""


@pytest.mark.slow
def test_a_saved_model_in_a_folder_whose_name_looks_like_a_pattern(tmp_path, monkeypatch):
    """It can't be exported there, since TensorFlow couldn't load it; one that was moved there answers all the same."""
    monkeypatch.chdir(tmp_path)
    model = mixmo_keras.CutMixMo("tiny_4", num_classes=4, input_shape=(8, 8, 3), seed=0)
    with pytest.raises(
        ValueError, match=r"TensorFlow takes the characters .* couldn't load a SavedModel from a \[b\] {c}"
    ):
        model.export("a [b] {c}")
    assert not Path("a [b] {c}").exists()
    model.export("plain")
    Path("plain").rename("a [b] {c}")
    image = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 100, "uint8")).save(image, "png")
    for path in (Path("a [b] {c}"), Path("a [b] {c}/1").absolute()):
        (answer,) = predict.from_saved_model(path, [image.getvalue()])
        assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)
