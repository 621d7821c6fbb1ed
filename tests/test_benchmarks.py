"""The benchmarks run, small; what they compute from the clock is checked on a clock of the test's own."""

import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

ROOT = Path(__file__).parent.parent
SMALL = ("--backbone", "tiny_4", "--rows", 4)
WRN = ("--backbone", "wrn10_1", *SMALL[2:])  # a process of its own knows no other


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a benchmark's `main` in this process, and returns the lines that it printed."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")

    def run(name: str, *options) -> list[str]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, options)])
        importlib.import_module(name).main()
        return capsys.readouterr().out.splitlines()

    return run


class Clock:
    """In place of the module `time`: nothing passes but what a test says."""

    def __init__(self):
        self.now = self.worked = 0.0

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.worked


@pytest.fixture
def clock(monkeypatch):
    """The clock of step.py and pipeline.py, which are imported by it."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    clock = Clock()
    for name in ("step", "pipeline"):
        monkeypatch.setattr(importlib.import_module(name), "time", clock)
    return clock


class Contestant:
    """Takes so many seconds for a `fit`, and the processor half as many."""

    def __init__(self, clock: Clock, *seconds: float):
        self.clock, self.seconds = clock, list(seconds)

    def fit(self, images, labels, **options):
        taken = self.seconds.pop(0)
        self.clock.now += taken
        self.clock.worked += taken / 2


# -- what is computed from the clock -------------------------------------------------------------------------------------


def test_rows_per_second_are_those_after_the_first_fit(clock):
    import step

    models = {"a": Contestant(clock, 100, 2, 4), "b": Contestant(clock, 100, 8, 1)}
    speeds = step.measure(models, np.zeros((16, 1)), None, 4, rounds=2)
    np.testing.assert_array_equal(speeds["a"], [[8, 4], [16, 8]])  # by the clock, by processor time
    np.testing.assert_array_equal(speeds["b"], [[2, 16], [4, 32]])


def test_images_per_second_are_those_after_the_first_batch(clock):
    import pipeline

    def batches():
        for taken in (100, 0.5, 1.5, 2, 50):
            clock.now += taken
            yield None

    assert pipeline.images_per_second(batches(), 8, seconds=4) == 3 * 8 / 4


def test_rows_per_second_count_repetitions(clock):
    import pipeline

    model = tiny.model(batch_repetitions=2)
    model.fit = Contestant(clock, 4).fit
    assert pipeline.rows_per_second(model, np.zeros((16, 1)), None, 4) == 2 * 16 / 4


# -- they run ------------------------------------------------------------------------------------------------------------


def numbers(line: str) -> list[float]:
    return [float(number.replace(",", "")) for number in re.findall(r"(?<=\s)[\d,]+\.?\d*(?=\s|$)", line)]


def is_quotient(ratio: float, a: float, b: float, rounding: float, of_ratio: float = 0.001) -> bool:
    """Whether `ratio` is a / b, where all three were rounded for a table: a machine under load makes few rows a second."""
    smallest, largest = (a - rounding) / (b + rounding), (a + rounding) / max(b - rounding, 1e-9)
    return smallest - of_ratio <= ratio <= largest + of_ratio


@pytest.mark.usefixtures("eagerly")
@pytest.mark.slow  # a benchmark, small
def test_step(run):
    lines = run("step", *SMALL, "--steps", 1, "--rounds", 1, "--settings", "default")
    speeds = {line.split("  ")[0]: numbers(line[46:]) for line in lines[2:-2]}
    plain = speeds.pop("default: plain Keras, single network")
    assert [name.split(", ")[1:] for name in speeds] == [[], ["pad-crop-flip"], ["TrivialAugment"], ["SAM"]]
    assert plain[1:] == [1, 1, 1, 1]
    for speed, median, smallest, largest, _ in speeds.values():
        assert median == smallest == largest
        assert is_quotient(median, speed, plain[0], rounding=0.05)


@pytest.mark.slow
def test_step_under_every_setting():
    # in a process of its own: it divides the CPU into two devices
    command = [sys.executable, ROOT / "benchmarks/step.py", *map(str, WRN), "--steps", "2", "--rounds", "2"]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=500, check=True).stdout
    found = re.findall(r"^(.*?): (.*?)  +[\d.]+ +([\d.]+)", printed, re.MULTILINE)
    assert {setting for setting, _, _ in found} == {"default", "XLA", "two replicas", "bfloat16"}
    assert len(found) == 20
    assert len(re.findall(r"^.*: a step with .* takes [\d.]+ times as long", printed, re.MULTILINE)) == 8
    assert {float(ratio) for _, name, ratio in found if name.startswith("plain")} == {1.0}


@pytest.mark.slow
def test_pipeline(run):
    lines = run("pipeline", *SMALL, "--seconds", 0.01, "--rounds", 1, "--steps", 4, "--images", 64)
    figures = {line[:32].strip(): numbers(line[31:]) for line in lines[2:]}
    assert list(figures) == ["b = 1", "b = 4", *(f"b = {b}, RandAugment by keras-cv" for b in (1, 4))]
    for name, (made, eaten, ratio, smallest) in figures.items():
        assert ratio == smallest
        assert is_quotient(ratio, made, eaten, rounding=0.5, of_ratio=0.05)
        assert eaten * int(name[4]) == pytest.approx(figures["b = 1"][1], abs=3)  # of as many rows


@pytest.mark.slow
def test_resume():
    command = ["resume.py", "--kills", "2", ROOT / "recipes/digits.py", "--backbone", "wrn10_1", "--epochs", "2"]
    command = [sys.executable, ROOT / "benchmarks" / command[0], *command[1:]]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=500, check=True).stdout
    assert "2 of 2 ended with the same bytes" in printed


def test_inference(run):
    lines = run("inference", "--backbone", "tiny_4", "--batches", 2, "--rounds", 1, "--seconds", 0.01)
    figures = {line[:32].strip(): numbers(line[31:]) for line in lines[2:]}
    assert list(figures) == [
        "single network",
        *(f"Cut-MixMo M=2{how}" for how in ("", ", fused", ", fused, members")),
        *(f"Cut-MixMo M=3{how}" for how in ("", ", fused")),
        "deep ensemble of 2",
    ]
    single = figures["single network"]
    assert [*single[1:3], single[4]] == [1, 1, 1]
    for milliseconds, ratio, _, speed, over_single in figures.values():
        assert is_quotient(ratio, milliseconds, single[0], rounding=0.005)
        assert speed == pytest.approx(2000 / milliseconds, rel=0.02, abs=1)
        assert over_single == pytest.approx(1 / ratio, rel=0.02, abs=0.02)


@pytest.mark.slow
def test_inference_of_several_images_a_pass(run, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setattr(importlib.import_module("inference"), "DOCS", tmp_path)
    (tmp_path / "figures").mkdir()
    options = ("--backbone", "wrn10_1", "--batches", 1, 6, "--rounds", 1, "--seconds", 0.01, "--multiplexed", "--keep")
    lines = run("inference", *options)
    (tmp_path / "multiplexing.md").write_text("<!-- speed-wrn10_1 --> <!-- /speed-wrn10_1 -->")
    run("inference", "--docs")
    assert (tmp_path / "multiplexing.md").read_text().count("| batch 6 | M=3 images a pass |") == 1
    tables = lines[: len(lines) // 2], lines[len(lines) // 2 :]
    for batch, table in zip((1, 6), tables, strict=True):
        figures = {line[:32].strip(): numbers(line[31:]) for line in table[2:]}
        modes = ("ensemble pass M={}", "M={} images a pass")
        expected = [mode.format(m) for m in (2, 3, 4) for mode in modes]
        assert list(figures) == ["single network", *expected, "deep ensemble of 2"]
        for name, (milliseconds, ratio, _, speed, over_single) in figures.items():
            images = int(name[2]) if batch == 1 and name.startswith("M=") else batch
            assert speed == pytest.approx(1000 * images / milliseconds, rel=0.02, abs=1)
            assert over_single == pytest.approx(images / batch / ratio, rel=0.02, abs=0.02)


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_stochastic_depth(run):
    line = run("stochastic_depth", *WRN, "--steps", 1, "--rounds", 1, "--rates", 0.5)[-1]
    rate, plain, efficient, ratio, _ = map(float, line.split())
    assert rate == 0.5
    assert is_quotient(ratio, plain, efficient, rounding=0.05)


# -- on an accelerator: without TensorFlow, here on the CPU ------------------------------------------------------------


def accelerator(out: Path, *options) -> list[dict]:
    script = ROOT / "benchmarks/accelerator.py"
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
    for name in ("mixmo_keras", "benchmarks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    out, data = tmp_path / "plan.jsonl", archive_of_noise(tmp_path / "images.npz")
    small = "--rehearse --no-torch --dtype float32 --rows 8 --steps-a-call 2 --warm-steps 2 --minutes 0.02"
    small += " --steps 1 --rounds 1"
    command = [tmp_path / "benchmarks/accelerator.py", "plan", "--data", data, "--out", out, *small.split()]
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
        r"^    Stage\(.*, (0\.\d+)\),", (ROOT / "benchmarks/accelerator_plan.py").read_text(), re.MULTILINE
    )
    assert len(shares) == 5
    assert sum(map(float, shares)) == pytest.approx(1)


@pytest.mark.slow
def test_load(run, tmp_path, monkeypatch):
    small = ("--backbone", "wrn10_1", "--input-shape", 8, 8, 3, "--requests", 20, "--seconds", 4, "--loads", 0.5, 2)
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setattr(importlib.import_module("load"), "DOCS", tmp_path)
    (tmp_path / "figures").mkdir()
    printed = run("load", *small, "--switch-at", 2, "--keep")
    figures = json.loads((tmp_path / "figures/load.json").read_text())
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


def test_what_becomes_of_requests(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    load = importlib.import_module("load")

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
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setattr(importlib.import_module("load"), "DOCS", tmp_path)
    (tmp_path / "figures").mkdir()
    small = ("--backbone", "wrn10_1", "--input-shape", 8, 8, 3, "--requests", 60, "--seconds", 60, "--bad", 0.3)
    run("load", *small, "--clients", 1, 8, "--keep")
    points = json.loads((tmp_path / "figures/clients.json").read_text())["points"]
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


@pytest.fixture
def clients(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("clients")


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
def test_what_clients_see(clients, answer, found):
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


def test_spans_of_samples(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    memory = importlib.import_module("memory")

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
def test_conversions_of_classifiers(name, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    conversions = importlib.import_module("conversions")
    assert list(conversions.MODELS) == CONVERTED
    tried = conversions.try_out(name)
    assert max(tried.error, tried.fused_error, tried.loaded_error, tried.exported_error) < 1e-3
    assert tried.stem_fused
    assert tried.trained
