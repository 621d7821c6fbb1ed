"""The benchmarks run, small; what they compute from the clock is checked on a clock of the test's own."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny

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

    def fit(self, images, labels=None, **options):
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
    assert re.search(
        r"^Cut-MixMo in bfloat16 makes [\d.]+ times the rows of plain Keras in float32, ", printed, re.MULTILINE
    )


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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_inference_of_files(run):
    lines = run("inference", "--files", "--backbone", "tiny_4", "--batches", 1, 2, "--rounds", 1, "--seconds", 0.01)
    for batch in (1, 2):
        tables = [line.split(":")[0] for line in lines if f": tiny_4, batch {batch}" in line]
        assert tables == ["ONNX Runtime", "LiteRT", "LiteRT int8"]
    assert sum(line.startswith("Cut-MixMo M=2, fused") for line in lines) == 6


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
def test_inference_of_several_images_a_pass(run, tmp_path):
    options = ("--backbone", "wrn10_1", "--batches", 1, 6, "--rounds", 1, "--seconds", 0.01, "--multiplexed")
    lines = run("inference", *options, "--out", tmp_path / "kept.json")
    assert "M=3 images a pass" in json.loads((tmp_path / "kept.json").read_text())["batches"]["6"]
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
    peak, single, pair = accelerator(tmp_path / "out.jsonl", *options)
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
    *_, pair = accelerator(tmp_path / "out.jsonl", *options)
    assert set(pair["rows_per_second"]) == {"keras_jax", "torch"}
    speeds = pair["rows_per_second"]
    assert pair["ratio"] == pytest.approx(speeds["keras_jax"] / speeds["torch"], rel=0.01)
