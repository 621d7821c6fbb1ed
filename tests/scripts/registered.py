"""Prints whether Keras knows the package's classes after nothing but imports, in the order that the argument says."""

import importlib
import sys

for module in sys.argv[1].split(","):
    importlib.import_module(module)
import keras

import mixmo_keras

known = [keras.saving.get_registered_object(f"mixmo_keras>{name}") for name in ("MixMo", "DeepEnsemble")]
print(known == [mixmo_keras.MixMo, mixmo_keras.DeepEnsemble])
