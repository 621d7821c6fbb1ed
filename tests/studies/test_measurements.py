"""Studies that measure: load, clients, memory, conversions, a GPU."""

import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import clients
import conversions
import gallery
import load
import memory
import numpy as np
import pages
import pytest
import tiny
from PIL import Image

# -- on an accelerator: without TensorFlow, here on the CPU ------------------------------------------------------------


ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a study's `main` in this process, and returns the lines that it printed."""

    def run(name: str, *options) -> list[str]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, options)])
        importlib.import_module(name).main()
        return capsys.readouterr().out.splitlines()

    return run


def accelerator(out: Path, *options) -> list[dict]:
    script = ROOT / "studies/accelerator.py"
    tiny.script("without_tensorflow.py", script, *options, "--backbone", "wrn10_1", "--out", out, backend="jax")
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.mark.slow
def test_accelerator_speed(tmp_path):
    options = ("--batches", 4, "--steps", 1, "--rounds", 1, "--peak-size", 64, "--no-torch", "--dtype", "float32")
    peak, single, pair = accelerator(tmp_path / "out.jsonl", "speed", *options)
    assert (single["members"], pair["members"]) == (1, 2)
    for figures in (single, pair):
        flop = figures["utilisation"]["keras_jax"] * peak["tflops"] * 1e12 / figures["rows_per_second"]["keras_jax"]
        assert flop == pytest.approx(3 * by_hand(figures["members"]))


def by_hand(num_members: int) -> float:
    """FLOP of WRN-10-1's forward pass: convolutions by group, then the heads."""
    first = 9 * 3 * 16 * num_members * 32**2
    group1 = (9 * 16 * 16 + 9 * 16 * 16) * 32**2
    group2 = 9 * 16 * 32 * 32**2 + (9 * 32 * 32 + 16 * 32) * 16**2  # the stride is on the second convolution
    group3 = 9 * 32 * 64 * 16**2 + (9 * 64 * 64 + 32 * 64) * 8**2
    return 2 * (first + group1 + group2 + group3 + 64 * 10 * num_members)


@pytest.mark.slow
def test_accelerator_speed_beside_pytorch(tmp_path):
    pytest.importorskip("torch")
    options = ("--batches", 4, "--steps", 1, "--rounds", 1, "--peak-size", 64)
    *_, pair = accelerator(tmp_path / "out.jsonl", "speed", *options)
    assert set(pair["rows_per_second"]) == {"keras_jax", "torch"}
    speeds = pair["rows_per_second"]
    assert pair["ratio"] == pytest.approx(speeds["keras_jax"] / speeds["torch"], rel=0.01)


def archive_of_noise(path: Path) -> Path:
    """As CIFAR-10's archive: 64 and 20 JPEG images of noise."""
    rng = np.random.default_rng(0)
    archive = {}
    for split, count in (("train", 64), ("test", 20)):
        bodies = []
        for _ in range(count):
            buffer = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (32, 32, 3)).astype("uint8")).save(buffer, "JPEG")
            bodies.append(buffer.getvalue())
        archive[f"{split}_header"] = np.zeros(0, "uint8")
        archive[f"{split}_bytes"] = np.frombuffer(b"".join(bodies), "uint8")
        archive[f"{split}_offsets"] = np.cumsum([0, *map(len, bodies)])
        archive[f"{split}_labels"] = rng.integers(0, 10, count)
    np.savez(path, **archive)
    return path


@pytest.mark.slow
def test_accelerator_trains_every_method(tmp_path):
    options = (
        "--data",
        archive_of_noise(tmp_path / "images.npz"),
        "--minutes",
        0.02,
        "--rows",
        8,
        "--warm-steps",
        1,
        "--dtype",
        "float32",
    )
    plan, *trained = accelerator(tmp_path / "out.jsonl", "train", *options)
    assert [figures["method"] for figures in trained] == ["single", "MIMO", "Linear-MixMo", "Cut-MixMo"]
    assert {figures["rows"] for figures in trained} == {plan["rows_each"]}
    assert [len(figures["members"]) for figures in trained] == [1, 2, 2, 2]
    assert all(np.isfinite(figures["ensemble"]["nll"]) for figures in trained)


@pytest.mark.slow
def test_the_plan_for_a_gpu_is_rehearsed_from_a_folder_of_its_own(tmp_path):
    """As on a machine that has no more: stopped, gone on with after a line was cut off, done once."""
    for name in ("mixmo_keras", "studies", "benchmarks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    out, data = tmp_path / "plan.jsonl", archive_of_noise(tmp_path / "images.npz")
    small = "--rehearse --no-torch --dtype float32 --rows 8 --steps-a-call 2 --warm-steps 2 --minutes 0.02"
    small += " --steps 1 --rounds 1"
    command = [tmp_path / "studies/accelerator.py", "plan", "--data", data, "--out", out, *small.split()]
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "PYTHONPATH": str(tmp_path),
    }

    def run(*options):
        process = [
            sys.executable,
            str(tiny.SCRIPTS / "without_tensorflow.py"),
            *map(str, command),
            "--peak-size",
            "64",
            *options,
        ]
        ended = subprocess.run(process, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500)
        assert ended.returncode == 0, ended.stderr[-3000:]
        return ended.stdout

    assert "stopped: the same command goes on" in run("--stop-after", "0")
    assert [json.loads(line)["kind"] for line in out.read_text().splitlines()] == ["peak", "speed", "speed"]
    out.write_text(out.read_text() + '{"kind": "run", "stage"')
    assert "passed over" in run()
    first = out.read_text()
    lines = [json.loads(line) for line in first.splitlines() if line.endswith("}")]
    runs = [line for line in lines if line["kind"] == "run"]
    stages = {line["stage"]: line["steps"] for line in lines if line["kind"] == "stage"}
    assert {run["stage"] for run in runs} == set(stages) == {"wrn10_1, 0 % wrong labels", "wrn10_1, 40 % wrong labels"}
    assert len(runs) == len({(run["stage"], run["method"]) for run in runs}) == 6
    for one in runs:
        assert one["steps"] == stages[one["stage"]]
        assert one["passes"] == one["steps"] * 8 / 64
        assert (one["multiplexed"] is None) == one["method"].startswith("single")
    run()
    assert out.read_text() == first
    table = subprocess.run(
        [sys.executable, *map(str, command[:1]), "table", "--out", str(out)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert table.count("| wrn10_1, 40 % wrong labels |") == 4


def test_the_plan_spends_all_its_minutes():
    shares = re.findall(
        r"^    Stage\(.*, (0\.\d+)\),", (ROOT / "studies/accelerator_plan.py").read_text(), re.MULTILINE
    )
    assert len(shares) == 5
    assert sum(map(float, shares)) == pytest.approx(1)


@pytest.mark.slow
def test_load(run, tmp_path, monkeypatch):
    small = ("--backbone", "wrn10_1", "--input-shape", 8, 8, 3, "--requests", 20, "--seconds", 4, "--loads", 0.5, 2)
    monkeypatch.setattr(pages, "DOCS", tmp_path)
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
    (tmp_path / "multiplexing.md").write_text("<!-- load --> <!-- /load -->")
    run("load", "--docs")
    assert "| switching |" in (tmp_path / "multiplexing.md").read_text()
    with Image.open(tmp_path / "load.png") as picture:
        assert min(picture.size) > 100


def test_what_becomes_of_requests():
    def some_are_refused(images):
        if "bad" in images:
            raise ValueError("no image")
        return images

    queue = load.RequestQueue(some_are_refused)
    point = load.offer(queue, ["good", "bad"], rate=500.0, requests=40, seconds=10.0, seed=0)
    assert (point["requests"], point["answered"], point["multiplexed"]) == (40, 0.5, 0)
    assert 0 <= point["median"] <= point["p99"]
    # who arrives too late is not asked at all: of forty requests at ten a second some two in a quarter of one
    queue = load.RequestQueue(some_are_refused)
    assert load.offer(queue, ["good"], rate=10.0, requests=40, seconds=0.25, seed=0)["requests"] < 8
    nobody = load.offer(load.RequestQueue(list), ["good"], rate=1e-9, requests=1, seconds=0.1, seed=0)
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
    monkeypatch.setattr(pages, "DOCS", tmp_path)
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
    (tmp_path / "serving.md").write_text("<!-- clients --> <!-- /clients -->")
    run("load", "--clients", 1, "--docs")
    assert "| 8 | queue |" in (tmp_path / "serving.md").read_text()


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


@pytest.mark.slow  # each of its pictures is drawn above
def test_gallery(tmp_path, capsys):
    paths = gallery.main(["--dataset", "digits", "--output-dir", str(tmp_path)])
    assert sorted(path.name for path in paths) == [
        "augmentation_gallery.png",
        "loss_weights.png",
        "mixing_gallery.png",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    with pytest.raises(SystemExit, match="has fewer validation images"):
        gallery.main(["--dataset", "digits", "--images", "0", "5000"])
