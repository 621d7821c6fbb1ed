"""Exports a model, PATH, and is killed when the export calls a function of TensorFlow or the system, MODULE.FUNCTION."""

import importlib
import os
import signal
import sys

import mixmo_keras

path, (module, function) = sys.argv[1], sys.argv[2].rsplit(".", 1)
model = mixmo_keras.CutMixMo("wrn10_1", num_classes=4, input_shape=(8, 8, 3))
setattr(importlib.import_module(module), function, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
model.export(path)
