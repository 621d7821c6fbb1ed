"""Recipes run to the end where text is not UTF-8, there is no home, and names are full of characters that mean something."""

import os
import subprocess
import sys

import pytest
import tiny

FOLDER = "a [b] ü {c} %s"


def run_recipes(folder, *names: str) -> str:
    """What recipes print in a console of the encoding cp1252, in a folder and with a user that has no home."""
    environment = tiny.environment_with(LANG="C", PYTHONUTF8="0", PYTHONIOENCODING="cp1252", KERAS_BACKEND="tensorflow")
    for name in ("HOME", "LC_ALL", "LC_CTYPE", "XDG_CACHE_HOME", "MIXMO_DATA_DIR"):
        environment.pop(name, None)
    folder.mkdir()
    command = [sys.executable, str(tiny.SCRIPTS / "all_recipes.py"), *names]
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, encoding="cp1252", errors="replace"
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    counted = ended.stdout.splitlines()[-1].split()
    assert counted[0] == counted[2] != "0", ended.stderr[-4000:]
    return ended.stdout


@pytest.mark.slow
def test_all_recipes(tmp_path):
    printed = run_recipes(tmp_path / FOLDER)
    assert "mixing block" in printed
    runs = [path for path in (tmp_path / FOLDER / "runs {0} [b] %s").iterdir() if path.name.startswith("digits-")]
    assert runs
    assert {"metrics.json", "best.keras", "last.keras", "log.csv"} <= set(os.listdir(runs[0]))
