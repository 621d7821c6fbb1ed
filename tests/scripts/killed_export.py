"""Exports a model, PATH, and is killed when the export calls a function of TensorFlow or the system, MODULE.FUNCTION."""

import importlib
import os
import signal
import sys

import tiny

path, (module, function) = sys.argv[1], sys.argv[2].rsplit(".", 1)
model = tiny.model()
setattr(importlib.import_module(module), function, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
model.export(path)
