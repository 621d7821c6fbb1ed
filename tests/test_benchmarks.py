"""The benchmarks run, small."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

ROOT = Path(__file__).parent.parent


def run(script: str, *options) -> str:
    command = [sys.executable, ROOT / "benchmarks" / script, *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


SMALL = ("--backbone", "wrn10_1", "--rows", 4)


def ratios(printed: str) -> dict[str, float]:
    """The last number of each line that has one for Cut-MixMo."""
    lines = [line for line in printed.splitlines() if "Cut-MixMo M=2" in line]
    return {line.split("  ")[0]: float(line.split()[-1]) for line in lines}


def test_step():
    printed = run("step.py", *SMALL, "--steps", 2, "--rounds", 2, "--settings", "default")
    assert "default: plain Keras, single network" in printed
    assert len(ratios(printed)) == 2
    assert all(ratio > 0 for ratio in ratios(printed).values())


@pytest.mark.slow
def test_step_under_every_setting():
    printed = run("step.py", *SMALL, "--steps", 2, "--rounds", 2)
    assert {name.split(":")[0] for name in ratios(printed)} == {"default", "XLA", "two replicas", "bfloat16"}
    assert all(ratio > 0 for ratio in ratios(printed).values())


def test_pipeline():
    lines = run("pipeline.py", *SMALL, "--seconds", 0.1, "--rounds", 1).splitlines()
    found = [re.fullmatch(r"(b = [14].*?)\s+([\d,]+)\s+([\d,]+)\s+([\d.]+)\s+([\d.]+)", line) for line in lines]
    made = {match[1]: float(match[4]) for match in found if match}
    assert len(made) == 4
    assert made["b = 1"] > 5


@pytest.mark.slow
def test_resume():
    printed = run("resume.py", "--kills", 2, ROOT / "recipes/digits.py", "--backbone", "wrn10_1", "--epochs", 2)
    assert "2 of 2 ended with the same bytes" in printed


# -- on an accelerator: without TensorFlow, here on the CPU ------------------------------------------------------------

ACCELERATOR = """
import runpy, sys
from importlib.machinery import PathFinder

find = PathFinder.find_spec  # as on a machine without TensorFlow
PathFinder.find_spec = lambda name, *rest: None if name.split(".")[0] == "tensorflow" else find(name, *rest)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
assert "tensorflow" not in sys.modules
"""


def accelerator(out: Path, *options) -> list[dict]:
    script = ROOT / "benchmarks/accelerator.py"
    tiny.python(ACCELERATOR, script, *options, "--backbone", "wrn10_1", "--out", out, backend="jax")
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_accelerator_speed(tmp_path):
    options = ("--batches", 4, "--steps", 1, "--rounds", 1, "--peak-size", 64, "--no-torch", "--dtype", "float32")
    peak, single, pair = accelerator(tmp_path / "out.jsonl", "speed", *options)
    assert peak["tflops"] > 0
    assert (single["members"], pair["members"]) == (1, 2)
    for figures in (single, pair):
        assert figures["rows_per_second"]["keras_jax"] > 0
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
    assert pair["ratio"] > 0


@pytest.mark.slow
def test_accelerator_trains_every_method(tmp_path):
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
    np.savez(tmp_path / "images.npz", **archive)
    options = (
        "--data",
        tmp_path / "images.npz",
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


def test_inference():
    printed = run("inference.py", "--backbone", "wrn10_1", "--batches", 2, "--rounds", 1, "--seconds", 0.01)
    lines = [line for line in printed.splitlines() if re.search(r"\d\.\d+$", line)]
    assert len(lines) == 7
    assert lines[0].startswith("single network")
    assert lines[0].split()[-2:] == ["1.000", "1.000"]


def test_stochastic_depth():
    small = ("--backbone", "wrn10_1", "--rows", 4, "--steps", 2, "--rounds", 2, "--rates", 0.5)
    last = run("stochastic_depth.py", *small).splitlines()[-1].split()
    assert last[0] == "0.5"
    assert all(float(number) > 0 for number in last[1:])
