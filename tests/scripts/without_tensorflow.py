"""Runs a benchmark as on a machine without TensorFlow: without_tensorflow.py SCRIPT ARGUMENTS ..."""

import runpy
import sys
from importlib.machinery import PathFinder

find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.split(".")[0] == "tensorflow" else find(name, *rest)
sys.argv = sys.argv[1:]
sys.path[0] = sys.argv[0].rpartition("/")[0]  # as Python does for a script
runpy.run_path(sys.argv[0], run_name="__main__")
assert "tensorflow" not in sys.modules
