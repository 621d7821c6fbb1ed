"""Every shell block of README.md and docs/ is run by a shell.

In the default suite a stand-in for `python` notes the commands, and each script's own parser has to understand them. Among
the slow tests those run for real that need no data but the digits.
"""

import argparse
import ast
import dataclasses
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import reproduce
import tiny
from test_docs import PAGES, ROOT

from mixmo_keras.experiments import Recipe, command_line

BLOCKS = [
    pytest.param(block, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))
]
# what needs nothing but this repository; the rest of the commands needs CIFAR-10, days, a container or the network
AT_HAND = (
    r"docs/tutorial.py|recipes/(digits.py|reproduce.py --list|search.py --dataset digits|predict.py .*--saved-model)"
)
AT_HAND += r"|recipes/evaluate.py runs/digits"
PROGRAMS = ("python", "python3", "pip", "make", "docker", "curl")
STAND_IN = Path(tiny.__file__).parent / "scripts" / "stand_in.py"


def run_block(block: str, folder: Path, at_hand: str = "") -> list[list[str]]:
    """Runs a block in a folder that looks like the repository; returns its commands that are not the shell's own."""
    record, programs = folder / "commands.jsonl", folder / "bin"
    programs.mkdir(exist_ok=True)
    record.write_text("")
    for name in PROGRAMS:
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_IN} "$0" "$@"\n')
        (programs / name).chmod(0o755)
    for name in ("recipes", "studies", "docs", "benchmarks", "mixmo_keras", "constraints.txt"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    environment = {**os.environ, "RECORD": str(record), "AT_HAND": at_hand}
    environment["PATH"] = f"{programs}:{os.environ['PATH']}"
    process = subprocess.run(
        ["bash", "-eu", "-c", block], cwd=folder, env=environment, capture_output=True, text=True, timeout=550
    )
    assert process.returncode == 0, process.stderr[-3000:]
    failures = re.findall(r"^(?:error: |Traceback).*", process.stdout + process.stderr, re.MULTILINE)
    assert not failures, process.stderr[-3000:]  # of what runs in the background, too
    return [json.loads(line) for line in record.read_text().splitlines()]


class _Parsed(Exception):  # noqa: N818  # it is what was asked for
    pass


def parsed(command: list[str], monkeypatch) -> argparse.Namespace | Recipe:
    """What a script's own parser makes of a command: of a recipe's, its resolved settings."""

    def stop(self, *arguments):
        raise _Parsed(parse(self, *arguments))

    def stop_run(recipe):
        raise _Parsed(recipe.resolved())

    script = ROOT / command[0]
    method = "parse_known_args" if "parse_known_args" in script.read_text() else "parse_args"
    parse = getattr(argparse.ArgumentParser, method)
    with monkeypatch.context() as patch, mock.patch.dict(os.environ):  # scripts choose a backend there
        patch.setattr(command_line, "run", stop_run)
        if "import Recipe, main" not in script.read_text():
            patch.setattr(argparse.ArgumentParser, method, stop)
        patch.setattr(sys, "argv", command)
        patch.syspath_prepend(str(script.parent))
        try:
            runpy.run_path(str(script), run_name="__main__")
        except _Parsed as stopped:
            return stopped.args[0]
    if "--list" in command:  # which cosub.py answers itself
        return argparse.Namespace()
    raise AssertionError(f"{script} takes no options.")


@pytest.mark.parametrize("block", BLOCKS)
def test_commands_are_understood(block, tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / "classifier.keras").touch()
    monkeypatch.chdir(tmp_path)
    commands = run_block(block, tmp_path)
    assert commands
    for program, *arguments in commands:
        if program == "make":
            targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert set(arguments) <= set(targets)
        if program != "python" or arguments[0] == "docs/tutorial.py":
            continue
        parsed(["photos" if argument == "DIR" else argument for argument in arguments], monkeypatch)


SCRIPTS = [
    pytest.param(path, id=path.stem)
    for path in sorted(path for folder in ("recipes", "studies", "benchmarks") for path in (ROOT / folder).glob("*.py"))
    if re.search(r"^ *python ", path.read_text(), re.MULTILINE)
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_commands_of_docstrings_are_understood(script, tmp_path, monkeypatch):
    """And where they say what a paper reports, that is the row of `reproduce.TABLES` with these settings, on all images."""
    for folder in ("photos", "runs/RUN"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("mine.keras", "runs/RUN/last.keras"):
        (tmp_path / file).touch()
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"^ *python (\S+\.py)(.*)", ast.get_docstring(ast.parse(script.read_text())), re.MULTILINE)
    assert lines
    for path, text in lines:
        arguments, _, remark = text.partition("   ")
        arguments = re.sub(r"[\[\]]|\.\.\.", "", arguments)  # of what may be left out, everything
        options = parsed([path, *shlex.split(arguments)], monkeypatch)
        if percent := re.match(r"\s*([\d.]+) %", remark):
            rows = [row for table in reproduce.TABLES.values() for row in table.values()]
            rows = [row for row in rows if row.published == float(percent[1])]  # to resolve one may build its network
            on_all = [
                dataclasses.replace(options, train_split="train+validation", devices=devices)
                for devices in {options.devices, options.devices or 1}
            ]  # as the docstrings say
            rows = [row for row in rows if row.recipe.resolved() in on_all]
            assert rows, (path, text)


def test_a_wrong_command_is_found(tmp_path, monkeypatch):
    """The tests above would fail for an unknown option, a wrong value, and a block that ends in an error."""
    for command in ("recipes/digits.py --epoch-count 3", "recipes/digits.py --epochs many", "benchmarks/step.py 3"):
        with pytest.raises(SystemExit):
            parsed(shlex.split(command), monkeypatch)
    with pytest.raises(AssertionError):
        run_block("false", tmp_path)
    with pytest.raises(AssertionError):
        run_block("python recipes/digits.py 'unclosed", tmp_path)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A folder for all blocks, one after the other, as a reader would have it."""
    folder = tmp_path_factory.mktemp("repository")
    shutil.copytree(ROOT / "saved_models", folder / "saved_models")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS)
def test_commands_run(block, repository):
    run_block(block, repository, AT_HAND)
