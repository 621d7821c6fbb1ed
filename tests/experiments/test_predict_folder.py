"""recipes/predict_folder.py: what it finds, asks, writes, and how it goes on; models are functions here, but in one test."""

import argparse
import csv
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import predict_folder
import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path):
    """Ten images in folders of folders, the level of each its number and one; and what is no image."""
    for number in range(10):
        path = tmp_path / "photos" / ("a", "b/c")[number % 2] / f"{number}.{'png' if number else 'tif'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), number + 1, "uint8")).save(path)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    (tmp_path / "photos" / ".hidden.png").write_text("no image")
    return tmp_path / "photos"


class Model:
    """A function of encoded images, which it counts; of classes `low` and `high`, by the level of their pixels."""

    def __init__(self, largest=10):
        self.largest, self.asked = largest, []

    def __call__(self, images):
        levels = []
        for image in images:
            try:
                levels.append(int(np.asarray(Image.open(io.BytesIO(image))).mean()))
            except OSError as error:
                raise ValueError("The model refused the images") from error
        self.asked.append(len(images))
        shares = [level / self.largest for level in levels]
        return [
            {
                "class_name": "high" if share > 0.5 else "low",
                "confidence": max(share, 1 - share),
                "predictive_entropy": 0.5,
                "mutual_information": 0.1,
                "probabilities": [1 - share, share],
            }
            for share in shares
        ]


def read(file):
    with open(file, newline="") as text:
        return list(csv.DictReader(text))


def test_folders_patterns_and_lists_are_found_once(folder, tmp_path):
    every = [str(folder / "a" / f"{n}.{'png' if n else 'tif'}") for n in (0, 2, 4, 6, 8)]
    every += [str(folder / "b/c" / f"{n}.png") for n in (1, 3, 5, 7, 9)]
    assert predict_folder.find([str(folder)]) == every
    assert predict_folder.find([str(folder / "b"), str(folder)]) == every[5:] + every[:5]
    assert predict_folder.find([str(folder / "**" / "[3-5].png")]) == [every[2], every[6], every[7]]
    (tmp_path / "list.txt").write_text(f"{every[3]}\n\n{folder / 'b'}\n")
    assert predict_folder.find([], tmp_path / "list.txt") == [every[3], *every[5:]]
    for names, message in (
        ([str(folder / "none*")], "no file, folder or pattern"),
        ([str(tmp_path / "e")], "no images in"),
    ):
        (tmp_path / "e").mkdir(exist_ok=True)
        with pytest.raises(FileNotFoundError, match=message):
            predict_folder.find(names)


def test_a_row_for_each_image_some_at_a_time(folder, tmp_path):
    model, file = Model(), tmp_path / "out" / "answers.csv"
    paths = predict_folder.find([str(folder)])
    assert predict_folder.write(paths, model, file, 4) == {"images": 10, "failed": 0}
    assert model.asked == [4, 4, 2]  # never more than a batch is in memory
    rows = read(file)
    assert [row["path"] for row in rows] == paths
    for row in rows:
        share = (int(Path(row["path"]).stem) + 1) / 10  # of the TIFF file too
        assert row["class"] == ("high" if share > 0.5 else "low")
        found = [float(row[name]) for name in ("probability_0", "probability_1", "confidence", "entropy")]
        np.testing.assert_allclose(found, [1 - share, share, max(share, 1 - share), 0.5], atol=1e-6)
        assert (float(row["mutual_information"]), row["error"]) == (0.1, "")


def test_large_files_are_fewer_at_a_time(folder, tmp_path, monkeypatch):
    model, paths = Model(), predict_folder.find([str(folder)])
    monkeypatch.setattr(predict_folder, "MOST_BYTES", 2 * max(len(predict_folder.read(path)) for path in paths))
    assert predict_folder.write(paths, model, tmp_path / "answers.csv", 8)["images"] == 10
    assert sum(model.asked) == 10
    assert max(model.asked) < 8


def test_it_goes_on_where_it_was_killed(folder, tmp_path):
    model, file = Model(), tmp_path / "answers.csv"
    paths = predict_folder.find([str(folder)])
    predict_folder.write(paths, model, file, 4)
    whole = file.read_text()
    file.write_text(whole[: whole.index(paths[6]) + 40 + len(paths[6])])  # in the middle of a row
    model.asked.clear()
    assert predict_folder.write(paths, model, file, 4) == {"images": 10, "failed": 0}
    assert model.asked == [1, 4]  # one of those that are there, to know the model again
    assert file.read_text() == whole
    model.asked.clear()
    predict_folder.write(paths, model, file, 4)
    assert model.asked == []
    file.write_text("".join(whole.splitlines(keepends=True)[:5]))
    with pytest.raises(
        ValueError,
        match=r"answers of another model, .*: class low then, low now, confidence 0.900000 then, 0.999900 now",
    ):
        predict_folder.write(paths, Model(largest=10_000), file, 4)
    (tmp_path / "mine.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"mine\.csv is no table of answers"):
        predict_folder.write(paths, model, tmp_path / "mine.csv", 4)


def test_files_that_cannot_be_read_have_a_reason(folder, tmp_path):
    (folder / "a" / "2.png").write_bytes(b"no image")
    paths = [str(tmp_path / "gone.png"), *predict_folder.find([str(folder)])]
    assert predict_folder.write(paths, Model(), tmp_path / "answers.csv", 4) == {"images": 11, "failed": 2}
    rows = {Path(row["path"]).name: row for row in read(tmp_path / "answers.csv")}
    assert rows["gone.png"]["error"] == "No such file or directory"
    assert rows["2.png"]["error"] == "The model refused the images"
    assert rows["2.png"]["class"] == rows["2.png"]["probability_1"] == ""
    assert rows["4.png"]["class"] == "low"


def test_a_model_that_answers_nothing_stops_it(folder, tmp_path):
    def refuse(images):
        raise ValueError("no signature")

    paths = predict_folder.find([str(folder)])
    with pytest.raises(ValueError, match=r"answers to none of the first 4 images, to .*0.tif: no signature"):
        predict_folder.write(paths, refuse, tmp_path / "answers.csv", 4)
    with pytest.raises(ValueError, match=r"None of the 1 files can be read, such as gone.png: No such file"):
        predict_folder.write(["gone.png"], refuse, tmp_path / "answers.csv", 4)
    assert not (tmp_path / "answers.csv").exists()


def test_parquet_needs_pyarrow(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SystemExit, match="error: A Parquet file needs pyarrow: pip install pyarrow"):
        predict_folder.main([str(folder), "--saved-model", "x", "--output", str(tmp_path / "answers.parquet")])


def test_parquet(folder, tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(predict_folder.predict, "source", lambda options, count: Model())
    arguments = [str(folder), "--saved-model", "x", "--output", str(tmp_path / "answers.parquet")]
    assert predict_folder.main(arguments) == {"images": 10, "failed": 0}
    table = parquet.read_table(tmp_path / "answers.parquet").to_pydict()
    assert table["class"] == ["low"] * 3 + ["high"] * 2 + ["low"] * 2 + ["high"] * 3
    assert table["probability_1"][1] == pytest.approx(0.3)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["answers.parquet"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "a.csv"], "name images, or a --list of them"),
        (["photos", "--output", "a.txt"], "ends in .csv or .parquet"),
        (["photos", "--output", "a.csv", "--batch-size", "0"], "a number of at least 1"),
        (["photos", "--output", "a.csv", "--name", "m"], "--grpc and --name belong together"),
        (["photos"], "the following arguments are required: --output"),
    ],
)
def test_command_line(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        predict_folder.main([*arguments, "--saved-model", "x"])
    assert message in capsys.readouterr().err


def test_over_rest_it_needs_nothing_but_python(folder, tmp_path):
    script = f"""
import runpy, sys
sys.path.insert(0, {str(Path(predict_folder.__file__).parent)!r})
sys.argv = ["predict_folder.py", {str(folder / "b")!r}, "--url", "http://127.0.0.1:1/v1/models/m", "--output", "a.csv"]
try:
    runpy.run_path({predict_folder.__file__!r}, run_name="__main__")
except SystemExit as end:
    print(end)
assert not {{"tensorflow", "mixmo_keras", "numpy", "PIL"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "error: There is no answer from http://127.0.0.1:1/v1/models/m:predict" in done.stdout


def test_the_source_is_that_of_predict():
    parser = argparse.ArgumentParser()
    predict_folder.predict.add_source(parser)
    options = parser.parse_args(["--url", "http://127.0.0.1:1/v1/models/m", "--switch-at", "5"])
    with pytest.raises(ConnectionError, match="There is no answer"):
        predict_folder.predict.source(options, 4)([b"image"])
