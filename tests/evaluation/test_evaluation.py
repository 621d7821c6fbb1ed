"""Evaluations and their reports: numbers from where they should come, honest data, pages that hold together."""

import csv
import html
import json
import re
import tomllib
import xml.dom.minidom
from pathlib import Path

import numpy as np
import pytest
import tiny
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

import mixmo_keras
from mixmo_keras import calibration, evaluation, metrics, report
from mixmo_keras.evaluation.report import charts

ROOT = Path(__file__).parents[2]
NAMES = tuple(f"class {number} <&>" for number in range(tiny.NUM_CLASSES))
X, Y = tiny.data(60)
HELD_X, HELD_Y = tiny.data(70, seed=1)


def batches(x, y, size=16):
    return [(x[place : place + size], y[place : place + size]) for place in range(0, len(x), size)]


FILES = [f"photos of <birds>/{number:04d}.png" for number in range(len(X))]
TEST, VALIDATION = batches(X, Y), batches(HELD_X, HELD_Y)


@pytest.fixture(scope="module")
def model():
    return tiny.model(num_members=3)


@pytest.fixture(scope="module")
def whole(model):
    model.temperature = 1.0
    evaluated = evaluation.evaluate(
        model,
        TEST,
        NAMES,
        validation=VALIDATION,
        temperature=True,
        out_of_distribution=[(255 - x, y + 900) for x, y in TEST],
        out_of_distribution_name="negatives",
        corrupted=evaluation.corrupted_batches(TEST, ["contrast", "gaussian_noise"]),
        name="mine-seed0",
        test_names=FILES,
    )
    return evaluated, model.temperature, model.predict_members(X, verbose=0)


def test_figures_are_those_of_the_functions(whole):
    evaluated, temperature, members = whole
    figures = evaluated.figures
    np.testing.assert_allclose(evaluated.member_logits, members, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(evaluated.logits, members.mean(1) / temperature, rtol=1e-4, atol=1e-5)
    assert figures["temperature"] == {"value": temperature, "fitted_on": 70, "before": 1.0}
    assert figures["images"] == {"test": 60, "validation": 70}
    assert figures["ensemble"]["nll"] == pytest.approx(
        metrics.negative_log_likelihood(members.mean(1) / temperature, Y), rel=1e-4
    )
    assert figures["uncalibrated"]["ece"] == pytest.approx(
        metrics.expected_calibration_error(members.mean(1), Y), abs=1e-4
    )
    assert figures["members"][2]["accuracy"] == metrics.accuracy(members[:, 2], Y)
    assert figures["diversity"]["disagreement"] == pytest.approx(metrics.disagreement(members))
    for k, one in enumerate(figures["classes"]):
        assert one["images"] == (k == Y).sum()
        assert one["accuracy"] == pytest.approx((members.mean(1).argmax(-1) == Y)[k == Y].mean())


def test_the_temperature_is_that_of_the_validation_data(whole, model):
    held_out = model.predict_members(HELD_X, verbose=0).mean(1)
    assert whole[1] == pytest.approx(calibration.fit_temperature(held_out, HELD_Y), rel=1e-4)


def test_images_from_elsewhere_and_corruptions(whole, model):
    figures = whole[0].figures
    elsewhere = figures["out_of_distribution"]
    assert (elsewhere["dataset"], elsewhere["images"]) == ("negatives", 60)
    logits = [model.predict(images, verbose=0) for images in (X, 255 - X)]
    confidence = np.concatenate([softmax(values, axis=-1).max(-1) for values in logits])
    expected = roc_auc_score(np.arange(120) >= 60, -confidence)
    assert elsewhere["measures"]["max_probability"]["auroc"] == pytest.approx(expected, abs=1e-4)
    corrupted = figures["corruptions"]
    again = model.predict(mixmo_keras.corruptions.corrupt(X, "contrast", 4), verbose=0)
    assert corrupted["accuracy"]["contrast"][3] == metrics.accuracy(again, Y)
    assert corrupted["ece"]["contrast"][3] == pytest.approx(metrics.expected_calibration_error(again, Y))
    for figure in ("accuracy", "nll", "ece"):
        assert corrupted[f"mean_{figure}"] == pytest.approx(np.mean(list(corrupted[figure].values())))
    assert [len(values) for values in corrupted["nll"].values()] == [5, 5]


def test_the_most_disputed_images(whole):
    indices, images = whole[0].disagreement
    np.testing.assert_array_equal(images, X[indices])
    p = softmax(whole[2].astype("float64"), axis=-1)
    information = -(p.mean(1) * np.log(p.mean(1))).sum(-1) + (p * np.log(p)).sum(-1).mean(1)
    np.testing.assert_array_equal(indices, np.argsort(-information, kind="stable")[:18])


def test_report(whole, tmp_path):
    path = report.write(whole[0], tmp_path / "evaluation")
    page = path.read_text()
    written = ["answers.csv", "metrics.csv", "metrics.json", "report.html"]
    assert sorted(file.name for file in path.parent.iterdir()) == written
    assert json.loads((path.parent / "metrics.json").read_text()) == whole[0].figures
    assert (
        (path.parent / "metrics.csv").read_text().splitlines()[0].startswith("network,accuracy,nll")
    )  # five classes have no top-5
    assert len((path.parent / "metrics.csv").read_text().splitlines()) == 7  # 3 members, mean, before and after T
    assert "$" not in page.replace("$\\mathdefault", "")  # every place of the template is filled
    links = re.findall(r'(?:src|href)="([^"]{0,40})', page)  # what a page would load
    assert all(link.startswith(("data:", "#")) for link in links)
    assert "class 0 <&>" not in page
    assert "class 0 &lt;&amp;&gt;" in page
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) == 7  # reliability, confusion, risk, classes, entropy, agreement, corruptions
    for drawing in drawings:
        xml.dom.minidom.parseString(drawing)
    clip_paths = re.findall(r'<clipPath id="([^"]+)"', page)
    assert len(set(clip_paths)) == len(clip_paths) > 0  # drawings on one page share its names
    table = report.table(whole[0].figures)
    assert "mine-seed0: 60 test images" in table
    assert "fitted on 70 validation images" in table
    assert "told from 60 images of negatives" in table


def test_answers_by_file(whole, tmp_path):
    report.write(whole[0], tmp_path)
    with open(tmp_path / "answers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == FILES
    assert [row["class"] for row in rows] == [NAMES[label] for label in Y]
    probabilities = softmax(whole[0].logits.astype("float64"), axis=-1)
    assert [row["answer"] for row in rows] == [NAMES[answer] for answer in probabilities.argmax(-1)]
    np.testing.assert_allclose([float(row["confidence"]) for row in rows], probabilities.max(-1), atol=1e-6)
    index = whole[0].disagreement[0][0]
    images, texts = charts.disputed(whole[0])
    assert texts[0][-1] == FILES[index]
    assert texts[0][0] == NAMES[Y[index]].upper()
    assert len(images) == len(texts) == 18
    page = (tmp_path / "report.html").read_text()
    assert f"<br>{html.escape(FILES[index])}</div>" in page  # whole: it is what a person opens


def test_data_files_are_installed_with_the_package():
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    listed = {Path(*package.split("."), name) for package, names in packages.items() for name in names}
    there = {
        path.relative_to(ROOT) for path in (ROOT / "mixmo_keras").rglob("*.*") if path.suffix not in (".py", ".pyc")
    }
    assert Path("mixmo_keras/evaluation/report/layout.html") in there
    assert there == listed


@pytest.mark.slow
def test_a_single_network_without_anything_fitted(tmp_path):
    evaluated = evaluation.evaluate(tiny.model(num_members=1), TEST, NAMES)
    figures = evaluated.figures
    assert figures["temperature"]["fitted_on"] == 0
    assert "conformal" not in figures
    assert figures["diversity"]["ratio_of_errors"] is None
    assert "mutual_information" not in evaluated.uncertainty
    page = report.write(evaluated, tmp_path).read_text()
    assert "agreement" not in page
    assert "What was fitted was fitted on nothing" in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(temperature=True), "A temperature is fitted on validation data, never on the test set"),
        (dict(corrupted=[("fog", 1, TEST), ("fog", 2, TEST)]), r"need severities 1 to 5.*\['fog'\] lack some"),
        (dict(corrupted=[]), "none was given"),
        (dict(coverage=0.8), "Conformal sets of a `coverage` are fitted on validation data"),
        (
            dict(out_of_distribution_name="x"),
            "`out_of_distribution_name` .*names nothing without `out_of_distribution`",
        ),
        (dict(model="mine"), "`model` must be a model of mixmo_keras, .* got 'mine'"),
        (dict(name=3), "`name` must be a name or None, got 3"),
    ],
)
def test_errors(model, change, message):
    with pytest.raises(ValueError, match=message):
        evaluation.evaluate(**{"model": model, "test": TEST, "class_names": NAMES, **change})
