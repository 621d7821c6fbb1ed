"""Answers rows of bad inputs, many in one process: python answer_rows.py MODULE ANSWERS, names as JSON on the input.

MODULE has `ROWS`, and may have `HERE`, a class in place of `harness.Here`, and `prepare()`, which is called first. A line
for each row, [name, class, what was said], is written into the file ANSWERS as soon as it is known. With DEVICES in
the environment the CPU is that many devices.
"""

import gc
import importlib
import json
import os
import sys
import tempfile
from pathlib import Path

if devices := int(os.environ.get("DEVICES", "0")):
    from mixmo_keras import distribution

    distribution.strategy("mirrored", devices)  # divides the CPU, which must come before anything else

module = importlib.import_module(sys.argv[1])
if hasattr(module, "prepare"):
    module.prepare()

from bad_inputs import harness

from mixmo_keras.experiments import logs

logs.quiet()
names = json.load(sys.stdin)
rows = {row.name: row for row in module.ROWS}
kept: dict = {}
with open(sys.argv[2], "w") as answers:
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            here = getattr(module, "HERE", harness.Here)(Path(folder), kept)
            found, said = harness.outcome(rows[name], here)
        # An iterator that an error left is destroyed while it is young. TensorFlow's thread that tunes it sleeps for up to
        # as long as it has lived, a minute at most, and can miss being woken by its destructor: the flag is set behind it.
        gc.collect()
        print(json.dumps([name, found, said]), file=answers, flush=True)
