"""Kill -9 at random moments: does the same command end with the same bytes as the run that was never killed?

    python benchmarks/resume.py --kills 20
    python benchmarks/resume.py --kills 5 recipes/cifar10.py --data-dir .data --backbone wrn10_1 --epochs 1 --msda cutmix
    python benchmarks/resume.py --kills 5 recipes/cifar10.py --dataset DIR@32 --crop whole --backbone wrn10_1    streamed

Runs a recipe once to its end, then once for each kill: killed at a moment drawn evenly from the whole of the run, start-up
and export included, started again, and compared: the weights of the last and of the best model, the log and the figures.
Without a recipe it is the digits', with partner images beside each batch.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RECIPE = ["recipes/digits.py", "--backbone", "wrn10_1", "--epochs", "6", "--checkpoint-steps", "20", "--msda", "cutmix"]


def start(recipe: list[str], folder: Path) -> subprocess.Popen:
    """A run of the recipe that writes below `folder`."""
    command = [sys.executable, *recipe, "--output-dir", str(folder / "runs"), "--export-dir", str(folder / "served")]
    with open(folder / "output.txt", "a", encoding="utf-8") as output:
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)


def finish(recipe: list[str], folder: Path) -> str:
    """Runs the recipe to its end and returns what it printed."""
    printed = len((folder / "output.txt").read_text(encoding="utf-8")) if (folder / "output.txt").exists() else 0
    if start(recipe, folder).wait():
        raise SystemExit(f"the recipe failed:\n{(folder / 'output.txt').read_text(encoding='utf-8')[-3000:]}")
    return (folder / "output.txt").read_text(encoding="utf-8")[printed:]


def result(folder: Path) -> dict:
    """What a finished run has left, in a form to compare: bytes of every weight, the log, the figures but for the time."""
    import keras

    import mixmo_keras  # noqa: F401

    (run,) = (folder / "runs").iterdir()
    models = {
        path.name: keras.models.load_model(path) for path in run.glob("*.keras")
    }  # none is best without validation
    weights = {name: [weight.tobytes() for weight in model.get_weights()] for name, model in models.items()}
    figures = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    del figures["training_seconds"], figures["saved_model"]
    return {**weights, "log.csv": (run / "log.csv").read_text(encoding="utf-8"), "metrics.json": figures}


def main(arguments: list[str] | None = None) -> int:
    """Prints a line for each kill and returns the number of runs that ended otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options, recipe = parser.parse_known_args(arguments)
    recipe = recipe or RECIPE
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    moments = random.Random(options.seed)
    differed = resumed = 0
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary) / "whole"
        whole.mkdir()
        begun = time.monotonic()
        finish(recipe, whole)
        duration = time.monotonic() - begun
        expected = result(whole)
        print(f"{' '.join(recipe)}: {duration:.1f} s", flush=True)
        for kill in range(options.kills):
            folder = Path(temporary) / str(kill)
            folder.mkdir()
            process = start(recipe, folder)
            moment = moments.uniform(0, duration)
            time.sleep(moment)
            process.send_signal(signal.SIGKILL)
            killed = process.wait() == -signal.SIGKILL
            printed = finish(recipe, folder)
            found = re.search(r"goes on after (epoch \d+, step \d+)", printed)
            resumed += found is not None
            ended = result(folder)
            other = [name for name in expected | ended if ended.get(name) != expected.get(name)]
            differed += bool(other)
            print(
                f"{kill + 1:3}: {'killed' if killed else 'had ended'} after {moment:5.1f} s, "
                f"{'went on after ' + found[1] if found else 'began anew':<32}"
                f"{'differs in ' + ', '.join(other) if other else 'the same'}",
                flush=True,
            )
    print(
        f"{options.kills - differed} of {options.kills} ended with the same bytes; {resumed} went on from a checkpoint"
    )
    return differed


if __name__ == "__main__":
    sys.exit(min(main(), 1))
