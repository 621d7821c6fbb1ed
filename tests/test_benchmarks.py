"""The benchmarks run, small."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_step():
    command = [
        sys.executable,
        ROOT / "benchmarks/step.py",
        *["--backbone", "wrn10_1", "--rows", "4", "--steps", "2", "--rounds", "2"],
    ]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "plain Keras, single network" in printed
    ratios = [float(line.split()[-1]) for line in printed.splitlines() if line.startswith("Cut-MixMo")]
    assert len(ratios) == 2
    assert all(ratio > 0 for ratio in ratios)
