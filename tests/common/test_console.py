"""Text for people stops nothing that prints it."""

import argparse
import io
import os
import sys

import keras
import pytest

from mixmo_keras.common import console
from mixmo_keras.common.console import say

TEXT = "accuracy ± 0.5 → ρ ☃"


class Broken(io.StringIO):
    """A stream that raises whenever it is used."""

    def __init__(self, error: Exception):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error

    def flush(self):
        raise self.error


def stream(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict", newline="")


@pytest.mark.parametrize(
    ("encoding", "shown"),
    {
        "utf-8": TEXT,
        "cp1252": "accuracy +- 0.5 -> rho ?",
        "ascii": "accuracy +- 0.5 -> rho ?",
        "shift_jis": "accuracy +- 0.5 -> rho ?",
    }.items(),
)
def test_what_an_encoding_lacks_is_replaced(encoding, shown):
    file = stream(encoding)
    say(TEXT, file=file)
    assert file.buffer.getvalue().decode(encoding) == f"{shown}\n"


def test_names_of_files_that_are_not_utf8_are_shown():
    file = stream("utf-8")
    say(os.fsdecode(b"caf\xe9"), file=file)
    assert file.buffer.getvalue() == b"caf?\n"


def test_prints_as_print_does(capsys):
    say("one", 2, end="!")
    say()
    assert capsys.readouterr().out == "one 2!\n"


@pytest.mark.parametrize(
    "file", [None, Broken(BrokenPipeError(32, "Broken pipe")), Broken(OSError(28, "No space left on device"))]
)
def test_no_stream_stops_what_prints(file, monkeypatch):
    monkeypatch.setattr(sys, "stdout", file)
    monkeypatch.setattr(sys, "stderr", file)
    say(TEXT)
    with console.unbreakable():
        print(TEXT)
        keras.utils.Progbar(2).update(1)
        argparse.ArgumentParser(description=TEXT).print_help()
        assert not sys.stdout.isatty()
    assert sys.stdout is file


def test_a_closed_stream_stops_nothing(monkeypatch):
    closed = stream("utf-8")
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    say(TEXT)
    with console.unbreakable():
        print(TEXT)
        keras.utils.Progbar(2).update(1)


def test_all_that_prints_is_unbreakable_within(monkeypatch):
    file = stream("ascii")
    monkeypatch.setattr(sys, "stdout", file)
    monkeypatch.setattr(sys, "stderr", file)
    with console.unbreakable(), console.unbreakable():
        argparse.ArgumentParser(description=TEXT).print_help()
        print(TEXT, file=sys.stderr)
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="ρ")]).summary()
    shown = file.buffer.getvalue().decode("ascii")
    assert shown.count("accuracy +- 0.5 -> rho ?") >= 2
    assert "Total params" in shown


def test_a_pipe_that_nobody_reads_stops_nothing_at_exit():
    reads, writes = os.pipe()
    with open(writes, "w", encoding="utf-8") as pipe:
        os.close(reads)
        say(TEXT, file=pipe)
        say(TEXT, file=pipe)  # and closing it raises no BrokenPipeError
