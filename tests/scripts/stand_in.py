"""Stands in for a program of a shell block: python stand_in.py PROGRAM ARGUMENTS...

Notes the command in the file RECORD. Commands of Python that match AT_HAND, if it is set, are run after all.
"""

import json
import os
import re
import sys
from pathlib import Path

program, *arguments = sys.argv[1:]
with open(os.environ["RECORD"], "a") as file:
    file.write(json.dumps([os.path.basename(program), *arguments]) + "\n")
if arguments[:2] == ["-m", "venv"]:
    activate = Path(arguments[2]) / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.touch()
at_hand = os.environ.get("AT_HAND")
if at_hand and re.match(at_hand, " ".join(arguments)):
    os.execv(sys.executable, [sys.executable, *arguments])
