"""Rows that are answered in a process of their own, under another backend or several replicas: many in one process.

The module of the rows is imported here for their names and patterns, and there to call them.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
from bad_inputs import harness

SCRIPT = Path(tiny.__file__).parent / "scripts" / "answer_rows.py"
SECONDS = 7 * harness.SECONDS  # for one row: there a row is ended much earlier, or its process is
START = 120  # seconds that importing may take on top


class Elsewhere:
    """What became of the rows of a module in another process. Rows are answered in the order of `names`."""

    def __init__(self, module: str, names: list[str], **environment: str):
        self._answers = self._asked(module, names, environment)
        self._found: dict[str, tuple[str, str]] = {}

    def outcome(self, name: str) -> tuple[str, str]:
        """The class of a row, and what it said."""
        while name not in self._found:
            answered, *found = next(self._answers)
            self._found[answered] = tuple(found)
        return self._found[name]

    def close(self) -> None:
        """Ends the process where not all was asked for."""
        self._answers.close()

    @staticmethod
    def _asked(module: str, names: list[str], environment: dict) -> Iterator[list]:
        """Name, class and what was said of each row. A row that ends its process, or never answers, hangs."""
        left = list(names)
        while left:
            with tempfile.TemporaryDirectory() as folder:
                answers, errors = Path(folder, "answers"), Path(folder, "errors")
                answers.touch()
                with open(errors, "w") as file:
                    process = subprocess.Popen(
                        [sys.executable, str(SCRIPT), module, str(answers)],
                        env=tiny.environment_with(**environment),
                        stdin=subprocess.PIPE,
                        stdout=file,
                        stderr=file,
                        text=True,
                    )
                try:
                    assert process.stdin is not None
                    process.stdin.write(json.dumps(left))
                    process.stdin.close()
                    before = len(left)
                    for line in _lines(process, answers):
                        left.remove(line[0])
                        yield line
                finally:
                    process.kill()
                    process.wait()
                if left:
                    said = f"the process ended with {process.returncode}: {errors.read_text()[-2000:]}"
                    yield [left.pop(0), "hang", said]
                    if len(left) == before - 1:  # it answered nothing at all, and would not another time
                        yield from ([name, "hang", said] for name in left)
                        return


def _lines(process: subprocess.Popen, answers: Path) -> Iterator[list]:
    """The lines of a file that a process writes, until it ends or writes nothing for too long."""
    with open(answers) as file:
        last = time.monotonic() + START
        while True:
            ended = process.poll() is not None
            line = file.readline()
            if line.endswith("\n"):
                last = time.monotonic()
                yield json.loads(line)
            elif ended or time.monotonic() - last > SECONDS:
                return
            else:
                file.seek(file.tell() - len(line))
                time.sleep(0.02)


def names_of(request: pytest.FixtureRequest) -> list[str]:
    """The names of the rows of a module that this test run asks for."""
    items = [item for item in request.session.items if item.module is request.module]
    parameters = [item.callspec.params for item in items if hasattr(item, "callspec")]
    return [one["row"].name for one in parameters if "row" in one]
