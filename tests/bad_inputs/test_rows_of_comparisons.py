"""The recipe `reproduce`: command lines, and folders of runs that were damaged."""

import dataclasses
import importlib
import json

import pytest
import reproduce
from bad_inputs.damaged_files import CONTENTS, VALUES, at
from bad_inputs.harness import LossError, Row, check, each, would_begin

from mixmo_keras.common import files

pytestmark = pytest.mark.slow
engine = importlib.import_module("mixmo_keras.experiments.running")  # a function has its name in the package
INTEGER, NUMBER = "must be an integer|invalid int value", "must be a.*number|invalid float value"


@pytest.fixture(autouse=True)
def _nothing_trains(monkeypatch):
    """What is accepted ends where training would begin."""
    monkeypatch.setattr(engine, "fit", would_begin)


# -- command lines -------------------------------------------------------------------------------------------------------

TRIAL = ["cifar10", "--dataset=digits", "--backbone=tiny_4", "--scale=0.01", "--rows=vanilla"]
MAINS = {"reproduce": (reproduce.main, TRIAL)}


def on(recipe, *words, pattern):
    main, common = MAINS[recipe]

    def call(here):
        return main([*common, f"--output-dir={here.folder / 'runs'}", *map(str, words)])

    return Row(f"{recipe}.py {' '.join(map(str, words))}", call, pattern)


def without(recipe, *words, pattern):
    """A command line of one's own, without what the others have in common."""
    return Row(f"{recipe}.py alone {' '.join(words)}", lambda here: MAINS[recipe][0](list(words)), pattern)


LINES = [
    without("reproduce", pattern="name a table"),
    *[without("reproduce", name, pattern="invalid choice") for name in ("nonsense", "CIFAR10", "cifar10_n")],
    without("reproduce", "cifar10", "--rows", "best", pattern="unknown experiments: best"),
    without("reproduce", "cifar10", "--rows", "vanilla", "nonsense", pattern="unknown experiments: nonsense"),
    without("reproduce", "cifar10", "--rows", pattern="expected at least one argument"),
    without("reproduce", "cifar10", "--only-table", "--list", pattern="--list names tables: it has no use for"),
    *[on(recipe, f"--seeds={value}", pattern=INTEGER) for recipe in MAINS for value in ("-1", "1.5", "x", "nan")],
    *[on(recipe, "--seeds", pattern="expected at least one argument") for recipe in MAINS],
    *[on(recipe, "--seeds", "0", "0", pattern="`seeds` must be different") for recipe in MAINS],
    *[
        on(recipe, f"--backbone={value}", pattern="backbone")
        for recipe in MAINS
        for value in ("nonsense", "wrn", "", "no.keras")
    ],
    *[
        on(recipe, f"--dataset={value}", pattern="`dataset`|`size`")
        for recipe in MAINS
        for value in ("nonsense", "digits@0", "digits@x", "/no/such/folder")
    ],
    *[on(recipe, "--data-dir=/no/such", "--dataset=cifar10", pattern="is not prepared in") for recipe in MAINS],
    *[on(recipe, "--output-dir=/proc/x", pattern="error: .*proc") for recipe in MAINS],
    *[on(recipe, "--nonsense=1", pattern="unrecognized arguments") for recipe in MAINS],
    *[
        on("reproduce", f"--scale={value}", pattern="`scale` must be|invalid float")
        for value in ("0", "-1", "2", "nan", "inf", "x")
    ],
    *[
        on("reproduce", f"--devices={value}", pattern=INTEGER.replace("an integer", "an integer.*got"))
        for value in ("0", "-1", "1.5", "x")
    ],
    on("reproduce", "--devices=3", pattern="can't be shared out evenly|can't be divided"),
    *[on("reproduce", f"--train-split={value}", pattern="invalid choice") for value in ("test", "all", "")],
    on("reproduce", "--rows", "vanilla", "vanilla", pattern="`rows` must be different"),
]


@each(LINES)
def test_command_lines_of_comparisons(row, here, record_property):
    check(row, here, record_property)


# -- finished runs that were damaged ---------------------------------------------------------------------------------------

SCORE = dict(accuracy=0.9, nll=0.5, ece=0.1)
METRICS = {
    "name": "a run",
    "epochs": 1,
    "training_seconds": 60.0,
    "test": {"images": 360, "members": [SCORE], "members_mean": SCORE, "ensemble": SCORE},
}


def table_of(recipe, name, content):
    """The table of a recipe whose one finished run has something else in a file of its."""

    def call(here):
        row = reproduce.TABLES["cifar100"]["vanilla"].recipe
        run = row_in(row, here.folder / "cifar100")
        words = ["cifar100", "--rows", "vanilla"]
        path = run.folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        try:
            return MAINS[recipe][0]([*words, "--only-table", f"--output-dir={here.folder}"])
        finally:
            if not path.exists():
                raise LossError(f"{path} is gone")

    return call


def row_in(recipe, folder):
    """A finished run of a recipe in a folder."""
    run = dataclasses.replace(recipe, output_dir=str(folder)).resolved()
    files.write_json(run.folder / "config.json", run.settings())
    files.write_json(run.folder / "metrics.json", METRICS)
    return run


PLACES = ("test", "test/ensemble", "test/ensemble/accuracy", "test/ensemble/nll", "test/ensemble/ece")
RUNS = [
    *[
        Row(f"{recipe}.py, {name} of {kind}", table_of(recipe, name, content), rf"{name} .*damaged|with other settings")
        for recipe in MAINS
        for name in ("config.json", "metrics.json")
        for kind, content in CONTENTS.items()
    ],
    *[
        Row(
            f"{recipe}.py, metrics.json with {value!r} at {place}",
            table_of(recipe, "metrics.json", at(METRICS, place, value)),
            r"metrics\.json .*damaged",
        )
        for recipe in MAINS
        for place in PLACES
        for value in ("absent", *VALUES)
    ],
    *[
        Row(
            f"{recipe}.py, metrics.json with accuracy {value}",
            table_of(recipe, "metrics.json", at(METRICS, "test/ensemble/accuracy", value)),
            r"metrics\.json .*damaged",
        )
        for recipe in MAINS
        for value in (-0.1, 1.1, 90)
    ],
    *[Row(f"{recipe}.py, a sound run", table_of(recipe, "metrics.json", METRICS)) for recipe in MAINS],
]


@each(RUNS)
def test_damaged_runs(row, here, record_property):
    check(row, here, record_property)
