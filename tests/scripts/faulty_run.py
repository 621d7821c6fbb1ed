"""A run on a folder of images to which something happens in one of its phases: python faulty_run.py FOLDER DATA PHASE FAULT

FAULT is `none`, `SIGTERM`, `SIGKILL`, or `full`: from that phase on the disk takes no byte. What is printed goes through a
process of its own, so that it comes out whatever the disk does. With FAULT `back` the clock goes back an hour in that phase,
with `removed` the first test image is removed.
"""

import functools
import importlib
import os
import resource
import signal
import subprocess
import sys
import time

relay = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
for number in (1, 2):
    os.dup2(relay.stdin.fileno(), number)
relay.stdin.close()

import evaluate
import images
import tiny  # noqa: F401, whose backbone has a name

import mixmo_keras
from mixmo_keras.datasets import manifest
from mixmo_keras.experiments import main

folder, data, phase, fault = sys.argv[1:]


def happen():
    print(f"{fault} in {phase}", flush=True)
    if fault == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    elif fault == "back":
        now = time.time
        time.time = lambda: now() - 3600
    elif fault == "removed":
        os.remove(os.path.join(data, manifest.of(f"{data}@8").names("test")[0]))
    elif fault != "none":
        os.kill(os.getpid(), getattr(signal, fault))
        time.sleep(0.2)  # a handler runs between two instructions of Python's


def before(owner, name, times=1):
    """Lets it happen when a function is called for the so manieth time."""
    owner = importlib.import_module(owner) if isinstance(owner, str) else owner
    function, calls = getattr(owner, name), []

    @functools.wraps(function)
    def wrapped(*arguments, **options):
        calls.append(1)
        if len(calls) == times:
            happen()
        return function(*arguments, **options)

    setattr(owner, name, wrapped)


PHASES = {
    "listing": ("mixmo_keras.datasets.file_checks", "_inspect", 20),
    "first epoch": ("mixmo_keras.training.checkpoints", "Position", 3),
    "checkpoint": ("numpy", "savez", 2),
    "evaluation": ("mixmo_keras.experiments.results", "test_figures", 1),
    "export": ("mixmo_keras.serving.export", "_write_warm_up", 1),
    "report": ("mixmo_keras.evaluation.report", "page", 1),
}
if phase != "none":
    before(*PHASES[phase])
engine = importlib.import_module("mixmo_keras.experiments.running")
if phase != "export":  # to write a SavedModel takes longer than all the rest
    engine.export = lambda *_: None
compile = mixmo_keras.MixMo.compile
mixmo_keras.MixMo.compile = lambda *values, **options: compile(*values, **options | {"run_eagerly": True})
words = [
    *("--dataset", f"{data}@8", "--backbone", "tiny_4", "--epochs", "2", "--batch-size", "16"),
    *("--checkpoint-steps", "2", "--no-flip", "--padding", "0"),
    *("--output-dir", f"{folder}/runs", "--export-dir", f"{folder}/saved"),
]
figures = main(images.RECIPE, "", words)
evaluate.main([f"{folder}/runs/{figures['name']}"])
print("done", flush=True)
