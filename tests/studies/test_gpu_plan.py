"""The plan for a GPU, rehearsed on a CPU with TensorFlow hidden."""

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

ROOT = Path(__file__).parents[2]


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
def test_the_plan_for_a_gpu_is_rehearsed_from_a_folder_of_its_own(tmp_path):
    """As on a machine that has no more: stopped, gone on with after a line was cut off, done once."""
    for name in ("mixmo_keras", "studies", "benchmarks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    out, data = tmp_path / "plan.jsonl", archive_of_noise(tmp_path / "images.npz")
    small = "--rehearse --dtype float32 --rows 8 --steps-a-call 2 --warm-steps 2 --minutes 0.02"
    command = [tmp_path / "studies/gpu_plan.py", "--data", data, "--out", out, *small.split()]
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
            *options,
        ]
        ended = subprocess.run(process, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500)
        assert ended.returncode == 0, ended.stderr[-3000:]
        return ended.stdout

    assert "stopped: the same command goes on" in run("--stop-after", "0")
    assert not out.exists()
    out.write_text('{"kind": "run", "stage"')
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
        [sys.executable, str(command[0]), "--table", str(out)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert table.count("| wrn10_1, 40 % wrong labels |") == 4


def test_the_plan_spends_all_its_minutes():
    shares = re.findall(r"^    Stage\(.*, (0\.\d+)\),", (ROOT / "studies/gpu_plan.py").read_text(), re.MULTILINE)
    assert len(shares) == 5
    assert sum(map(float, shares)) == pytest.approx(1)
