"""Imports what writes on stderr past Python, notes and something that matters."""

import os
import sys

from mixmo_keras.experiments.command_line import quiet_imports

with quiet_imports():
    os.write(2, b"I0000 00:00:1 1 port.cc:153] oneDNN custom operations are on.\n")
    os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n")
    os.write(2, b"libsomething.so: cannot open shared object file\n")
    print("and Python's", file=sys.stderr)
print("after", file=sys.stderr)
