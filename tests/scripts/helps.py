"""Asks every recipe for its help, and prints which of them imported something heavy for it."""

import contextlib
import io
import runpy
import sys
from pathlib import Path

HEAVY = {"keras", "tensorflow", "matplotlib", "scipy", "sklearn"}

sys.path.insert(0, sys.argv[1])
for recipe in sorted(Path(sys.argv[1]).glob("*.py")):
    sys.argv = [str(recipe), "--help"]
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as printed:
        runpy.run_path(str(recipe), run_name="__main__")
    found = sorted(HEAVY & set(sys.modules))
    print(recipe.name, "usage:" in printed.getvalue(), *found)
