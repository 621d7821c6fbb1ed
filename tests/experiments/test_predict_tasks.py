"""The clients on models of other tasks than classes: what they print, and the tables that they write."""

import csv
import sys
from pathlib import Path

import answer_kinds
import numpy as np
import predict
import predict_folder
import pytest
import serving
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent / "tasks"))

from every_task import X, model, targets_and_tasks

LABELS = {"names": ["cat", "dog", "cow"], "probabilities": [0.25, 0.75, 0.5], "labels": [False, True, False]}
NUMBERS = {"names": ["angle"], "mean": [12.345], "aleatoric_deviation": [3.0], "epistemic_deviation": [4.0]}
NUMBERS |= {"lower": [4.5], "upper": [20.25]}


@pytest.mark.parametrize(
    ("answer", "line", "cells"),
    [
        (
            LABELS,
            "dog 75.0%  (highest of the others: cow 50.0%)",
            {
                "labels": "dog",
                "probability of cat": "0.250000",
                "probability of dog": "0.750000",
                "probability of cow": "0.500000",
            },
        ),
        (
            {"names": ["defect"], "probabilities": [0.1], "labels": [False]},
            "none  (highest of the others: defect 10.0%)",
            {"labels": "", "probability of defect": "0.100000"},
        ),
        (
            NUMBERS,
            "angle 12.35 ± 5 (4.5 to 20.25)",
            {"angle": "12.345", "deviation of angle": "5", "lower end of angle": "4.5", "upper end of angle": "20.25"},
        ),
    ],
)
def test_an_answer_as_a_line_and_as_cells(answer, line, cells):
    assert answer_kinds.is_answer(answer)
    kind = answer_kinds.kind_of(answer)
    assert kind.line(answer) == line
    assert kind.cells(answer) == cells


@pytest.mark.parametrize(
    "answer",
    [
        LABELS | {"labels": [0, 1, 0]},
        LABELS | {"probabilities": [0.25, 1.75, 0.5]},
        LABELS | {"probabilities": [0.25, float("nan"), 0.5]},
        LABELS | {"names": ["cat", "dog"]},
        LABELS | {"names": ["cat", "dog", "\ud800"]},
        LABELS | {"names": []},
        NUMBERS | {"mean": [float("nan")]},
        NUMBERS | {"mean": ["12"]},
        NUMBERS | {"upper": 20.25},
        NUMBERS | {"epistemic_deviation": [-4.0]},
        {},
        [],
        "dog",
    ],
)
def test_what_is_no_answer(answer):
    assert not answer_kinds.is_answer(answer)


def test_label_maps_are_refused():
    with pytest.raises(ValueError, match=r"answers with label maps. This client is for classes, labels and numbers"):
        answer_kinds.is_answer({"label_map": [[0]], "confidence": [[0.5]]})
    with pytest.raises(ValueError, match="answers with grade, which are no classes, labels or numbers"):
        answer_kinds.kind_of({"grade": 3})


def exported(name: str, folder):
    """An exported model of a task, two files of images, and what the model answers to them."""
    task, y = targets_and_tasks()[name]
    made = model(task)
    made.fit(X, y, batch_size=8, verbose=0)
    files = [folder / f"{number}.png" for number in range(2)]
    for file, image in zip(files, X, strict=False):
        Image.fromarray(image).save(file)
    path = made.export(folder / "served" / "1")
    return path.parent, [str(file) for file in files], made.answers(X[:2])


def test_numbers_of_a_saved_model(tmp_path, capsys):
    folder, files, expected = exported("regression", tmp_path)
    predictions = predict.main([*files, "--saved-model", str(folder)])
    np.testing.assert_allclose([one["mean"] for one in predictions], expected["mean"], rtol=1e-3)
    shown = answer_kinds.kind_of(predictions[1]).line(predictions[1])
    assert f"1.png  {shown}\n" in capsys.readouterr().out

    table = tmp_path / "answers.csv"
    predict_folder.main([files[0], "--saved-model", str(folder), "--output", str(table)])
    predict_folder.main([*files, "--saved-model", str(folder), "--output", str(table)])  # goes on
    with open(table, newline="") as text:
        rows = list(csv.DictReader(text))
    assert [row["path"] for row in rows] == files
    for row, lower in zip(rows, expected["lower"], strict=True):
        np.testing.assert_allclose([float(row[f"lower end of {name}"]) for name in "01"], lower, rtol=1e-3)
    content = table.read_text()
    table.write_text(content.replace(content.splitlines()[1].split(",")[1], "99.5"))
    with pytest.raises(SystemExit, match=r"has the answers of another model, .*0 99.5 then"):
        predict_folder.main([*files, str(_copy(files[0])), "--saved-model", str(folder), "--output", str(table)])


def _copy(file: str) -> Path:
    copy = Path(file).with_name("copy.png")
    copy.write_bytes(Path(file).read_bytes())
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("name", ["binary", "multi_label", "regression"])
def test_every_way_of_asking(name, tmp_path):
    folder, files, expected = exported(name, tmp_path)
    asked = "mean" if name == "regression" else "probabilities"
    with serving.rest_server("m", folder) as url, serving.grpc_server("m", folder) as address:
        for source in (["--saved-model", str(folder)], ["--url", url], ["--grpc", address, "--name", "m"]):
            answers = predict.main([*files, *source])
            np.testing.assert_allclose([one[asked] for one in answers], expected[asked], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_label_maps_of_a_saved_model(tmp_path):
    folder, files, _ = exported("segmentation", tmp_path)
    with pytest.raises(SystemExit, match="error: The model answers with label maps"):
        predict.main([*files, "--saved-model", str(folder)])
