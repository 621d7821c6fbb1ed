"""Studies that measure: latency under load, clients that send bad requests, memory, conversions of classifiers."""

import importlib
import json
import sys

import clients
import conversions
import load
import memory
import numpy as np
import pages
import pytest
from request_queue import RequestQueue


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a study's `main` in this process, and returns the lines that it printed."""

    def run(name: str, *options) -> list[str]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, options)])
        importlib.import_module(name).main()
        return capsys.readouterr().out.splitlines()

    return run


@pytest.mark.slow
def test_load(run, tmp_path, monkeypatch):
    small = ("--backbone", "wrn10_1", "--input-shape", 8, 8, 3, "--requests", 20, "--seconds", 4, "--loads", 0.5, 2)
    monkeypatch.setattr(pages, "FIGURES", tmp_path)
    printed = run("load", *small, "--switch-at", 2, "--keep")
    figures = json.loads((tmp_path / "load.json").read_text())
    assert list(figures["points"]) == ["single network", "ensemble", "2 images a pass", "switching"]
    for name, by_load in figures["points"].items():
        for point in by_load.values():
            assert point["requests"] <= 20
            assert point["answered"] == 1
            assert 0 < point["median"] <= point["p99"]
            shared = point["multiplexed"]
            assert shared == (name == "2 images a pass") if name != "switching" else 0 <= shared <= 1
    assert figures["points"]["switching"]["2"]["multiplexed"] > 0
    assert set(figures["capacity"]) == {"single network", "ensemble", "2 images a pass"}
    assert sum(line.startswith("|") for line in printed) == 6


def test_what_becomes_of_requests():
    def some_are_refused(images):
        if "bad" in images:
            raise ValueError("no image")
        return images

    queue = RequestQueue(some_are_refused)
    point = load.offer(queue, ["good", "bad"], rate=500.0, requests=40, seconds=10.0, seed=0)
    assert (point["requests"], point["answered"], point["multiplexed"]) == (40, 0.5, 0)
    assert 0 <= point["median"] <= point["p99"]
    # who arrives too late is not asked at all: of forty requests at ten a second some two in a quarter of one
    queue = RequestQueue(some_are_refused)
    assert load.offer(queue, ["good"], rate=10.0, requests=40, seconds=0.25, seed=0)["requests"] < 8
    nobody = load.offer(RequestQueue(list), ["good"], rate=1e-9, requests=1, seconds=0.1, seed=0)
    assert (nobody["requests"], nobody["answered"], nobody["median"]) == (0, 1.0, None)
    assert load.cell(dict(median=0.0101, p99=0.5, a_second=80.0, offered_a_second=100.0)) == "10 / 500*"
    assert load.cell(dict(median=0.0101, p99=0.5, a_second=95.0, offered_a_second=100.0)) == "10 / 500"
    points = {"single network": {"1": point}, "nobody": {"1": dict(point, median=None, p99=None)}}
    figures = {"capacity": {"single network": 100.4}, "points": points}
    assert "| nobody | – | – |" in load.table(figures)
    assert "| single network | 100 |" in load.table(figures)
    assert len(load.chart(figures).axes[0].get_legend().get_texts()) == 2


@pytest.mark.slow
def test_clients_of_whom_some_are_bad(run, tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "FIGURES", tmp_path)
    small = ("--backbone", "wrn10_1", "--input-shape", 8, 8, 3, "--requests", 60, "--seconds", 60, "--bad", 0.3)
    run("load", *small, "--clients", 1, 8, "--keep")
    points = json.loads((tmp_path / "clients.json").read_text())["points"]
    assert [(point["clients"], point["way"]) for point in points] == [
        *((1, "one by one"), (1, "queue"), (8, "one by one"), (8, "queue"))
    ]
    for point in points:
        assert point["good_answered"] + point["bad_refused"] == 60
        assert point["bad_refused"] > 5
        assert 0 < point["median"] <= point["p99"]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (lambda request: {"probabilities": [0.9, 0.1] if request.image == 0 else [0.2, 0.8]}, "bad_taken"),
        (lambda request: {"probabilities": [0.9, 0.1]}, "good_mixed_up"),
        (lambda request: {"probabilities": []}, "good_lost"),
        (lambda request: {}, "good_lost"),
        (lambda request: int("refused"), "good_refused"),
    ],
)
def test_what_clients_see(answer, found):
    """Every fault of a server is counted as such: taken, mixed up, lost, refused."""
    good = [clients.Request("s", {}, number) for number in (0, 1)]
    bad = [clients.Request("s", {}, kind="empty")]
    expected = np.array([[0.9, 0.1], [0.2, 0.8]])
    point = clients.measure(answer, good, bad, expected, 4, requests=200, seconds=10, bad_share=0.2, seed=1)
    assert point[found] > 10
    assert not clients.is_right(point)

    def right(request):
        if request.image is None:
            raise ValueError("bad")
        return {"probabilities": expected[request.image]}

    point = clients.measure(right, good, bad, expected, 4, requests=200, seconds=10, bad_share=0.2, seed=1)
    assert clients.is_right(point)
    assert point["good_answered"] + point["bad_refused"] == 200
    assert clients.measure(right, good, bad, expected, 4, requests=10**6, seconds=0.05)["good_answered"] < 10**6


@pytest.mark.slow
def test_memory_of_a_training_and_a_search(run):
    printed = run("memory", "--minutes", 0.5, "--trials", 12)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed if line.startswith("| ")]
    grown = {row[0].split(",")[0]: float(row[3]) for row in rows if row[0]}
    assert set(grown) == {"training", "search"}
    assert max(grown.values()) < 60  # MB
    for row in rows:
        if row[0]:
            first, last = map(float, row[4].split(" / "))
            assert last <= first + 2


def test_spans_of_samples():
    def samples(*megabytes):
        return [dict(seconds=30.0 * n, megabytes=m, files=3, threads=1) for n, m in enumerate(megabytes)]

    found = memory.spans(samples(*[500] * 2, *[100] * 5, *[700] * 10, *[130] * 5))
    assert (found["first"]["megabytes"], found["last"]["megabytes"]) == (100, 130)
    found = memory.trial_spans(samples(*[1] * 5, *[10] * 5, *[50] * 5, *[11] * 5))
    assert (found["first"]["megabytes"], found["last"]["megabytes"]) == (10, 11)
    figures = {"search": {"trials": 20, **found}}
    assert "| search, 20 networks | 10 | 11 | +1 | 3 / 3 | 1 / 1 |" in memory.table(figures)


CONVERTED = [  # as the table of docs/classifiers.md has them
    *("own", "Sequential", "transfer learning"),
    *("MobileNet", "MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "EfficientNetV2B0", "ConvNeXtTiny", "ResNet50"),
    *("ResNet50V2", "DenseNet121", "VGG16", "NASNetMobile", "Xception", "InceptionV3"),
    *("keras_hub ResNet", "keras_hub EfficientNet", "keras_hub VGG", "keras_hub CSPNet", "keras_hub ViT"),
]


@pytest.mark.slow  # tests/models/test_from_classifier.py converts small ones
@pytest.mark.parametrize("name", CONVERTED)
@pytest.mark.filterwarnings("ignore:.compile\\(\\). was not called")  # keras_hub's own
def test_conversions_of_classifiers(name):
    assert list(conversions.MODELS) == CONVERTED
    tried = conversions.try_out(name)
    assert max(tried.error, tried.fused_error, tried.loaded_error, tried.exported_error) < 1e-3
    assert tried.stem_fused
    assert tried.trained
