"""The recipe `search` and its pilot: command lines, and folders of searches that were damaged.

All are slow but the last few, by which the default tests see that what is put in the place of training is there.
"""

import functools
import json
import os
import shutil
from unittest import mock

import keras_tuner
import pytest
import search as search_recipe
from bad_inputs.damaged_files import CONTENTS
from bad_inputs.harness import LossError, Row, check, each, would_begin

from mixmo_keras import plots
from mixmo_keras.experiments import search
from mixmo_keras.experiments.pilot import runs as pilot_runs


@pytest.fixture(autouse=True)
def _nothing_trains(monkeypatch):
    """What is accepted ends where training would begin."""
    monkeypatch.setattr(keras_tuner.Tuner, "search", would_begin)
    monkeypatch.setattr(pilot_runs, "_learning_curve", would_begin)
    for kind in search.TUNERS.values():
        monkeypatch.setattr(kind, "search", would_begin)


SMALL = [
    "--dataset=digits",
    "--backbone=tiny",
    "--widths=2",
    "--members=1",
    "--rows=32",
    "--images=64",
    "--max-trials=2",
]


def line(*words, common=SMALL, **environment):
    def call(here):
        # of an option that is there twice the last one counts
        arguments = [*common, f"--output-dir={here.folder / 'runs'}", *map(str, words)]
        with mock.patch.dict(os.environ, environment):
            return search_recipe.main(arguments)

    return call


def on(option, *values, pattern, common=SMALL):
    words = [f"--{option}", *values]
    return Row(
        f"{'pilot' if common is PILOT else 'search.py'} {' '.join(map(str, words))}",
        line(*words, common=common),
        pattern,
    )


INTEGER, NUMBER = "must be an integer|invalid int value", "must be a.*number|invalid float value"
OF_MANY = {"members": "num_members", "widths": "widths", "batch-repetitions": "batch_repetitions"}
OF_NUMBERS = {"weight-roots": "weight_roots", "alphas": "alphas"}
PILOT = [word for word in SMALL if not word.startswith(("--members", "--max-trials"))] + ["--pilot"]
OPTIONS = [
    *[on(option, value, pattern=INTEGER) for option in OF_MANY for value in ("0", "-1", "1.5", "abc", "nan")],
    *[on(option, "1", value, pattern=INTEGER) for option in OF_MANY for value in ("0", "x")],
    *[on(option, pattern="expected at least one argument") for option in (*OF_MANY, *OF_NUMBERS, "masks", "l2")],
    *[on(option, value, pattern=NUMBER) for option in OF_NUMBERS for value in ("0", "-1", "nan", "inf", "abc")],
    *[on("probabilities", value, pattern=NUMBER) for value in ("-0.1", "1.1", "nan", "abc")],
    *[on("masks", value, pattern="must be one of|`masks`") for value in ("nonsense", "linear", "")],
    *[
        on(option, *values, pattern=f"`{option.replace('-', '_')}` must be|invalid float")
        for option in ("learning-rates", "l2")
        for values in (
            ("0.1",),
            ("0.1", "0.01"),
            ("0.1", "0.1"),
            ("0.1", "0.2", "0.3"),
            ("0", "1"),
            ("nan", "1"),
            ("a", "b"),
        )
    ],
    *[on(option, "2", "2", pattern="twice") for option in ("members", "widths", "weight-roots", "batch-repetitions")],
    on("masks", "cow", "cow", pattern="twice"),
    *[on("tuner", value, pattern="invalid choice") for value in ("grid", "", "RANDOM")],
    *[on("objective", value, pattern="invalid choice") for value in ("f1", "")],
    *[on("max-trials", value, pattern=INTEGER) for value in ("0", "-1", "1.5", "many")],
    *[on("epochs", value, pattern=INTEGER) for value in ("0", "-1", "1.5", "nan")],
    *[on("rows", value, pattern=INTEGER) for value in ("0", "-2", "1.5", "x")],
    *[on("images", value, pattern=INTEGER) for value in ("0", "-1", "1.5", "x")],
    *[on("label-noise", value, pattern=NUMBER) for value in ("-0.1", "1.1", "nan", "x")],
    on("label-noise", "0.4", "--noise-kind", "human", pattern="invalid choice"),
    on("noise-kind", "asymmetric", pattern="--noise-kind has no meaning without --label-noise"),
    on("images", "100000", pattern="`images`.*1257"),
    on("images", "8", pattern="16 images a step.*8 to train on|`rows`"),
    on("rows", "33", pattern=r"`rows` \(=33\) must be divisible"),
    on("rows", "6000", pattern="`rows`.*64"),
    *[on("seed", value, pattern=INTEGER) for value in ("-1", "1.5", "x")],
    *[
        on(option, value, pattern=NUMBER)
        for option in ("max-parameters", "max-flops")
        for value in ("0", "-1", "nan", "x")
    ],
    *[on(option, "10", pattern="No width is within the limits") for option in ("max-parameters", "max-flops")],
    *[on("backbone", value, pattern="backbone") for value in ("nonsense", "wrn28_10", "", "no/such.keras")],
    *[
        on("dataset", value, pattern="`dataset`|`size`")
        for value in ("nonsense", "", "digits@0", "digits@x", "no/such@8")
    ],
    on("dataset", "cifar10", pattern="is not prepared in|num_images"),
    on("seeds", "0", pattern="--seeds has no meaning without --pilot"),
    on("core-rate", "0.1", pattern="--core-rate has no meaning without --pilot"),
    on("freeze-epochs", "1", pattern="--freeze-epochs has no meaning without --pilot"),
    on("nonsense", "1", pattern="unrecognized arguments"),
    Row(
        "search.py --output-dir (below a file)",
        lambda here: [(here.folder / "f").touch(), search_recipe.main([*SMALL, f"--output-dir={here.folder / 'f'}"])],
        "error: .*f",
    ),
    Row("search.py --output-dir /proc/x", line("--output-dir", "/proc/x"), "error: .*proc"),
    on("tuner", "hyperband", pattern="--max-trials has no meaning"),
    *[
        on("epochs", value, "--tuner", "hyperband", pattern=INTEGER, common=[w for w in SMALL if "trials" not in w])
        for value in ("0", "-3")
    ],
    # the pilot
    *[
        on(option, value, pattern="has no meaning with --pilot", common=PILOT)
        for option, value in [
            *(("members", 1), ("weight-roots", 2), ("alphas", 1), ("probabilities", 0.5), ("masks", "cow"), ("l2", 1)),
            *(("learning-rates", 0.1), ("tuner", "random"), ("objective", "nll"), ("max-trials", 3), ("seed", 1)),
            *(("max-parameters", 5), ("max-flops", 5)),
        ]
    ],
    *[on("seeds", value, pattern=INTEGER, common=PILOT) for value in ("-1", "1.5", "x")],
    on("seeds", pattern="expected at least one argument", common=PILOT),
    on("seeds", "1", "1", pattern="twice", common=PILOT),
    on("widths", "1", "1", pattern="twice", common=PILOT),
    *[on("widths", value, pattern=INTEGER, common=PILOT) for value in ("0", "-1", "x")],
    *[on("epochs", value, pattern=INTEGER, common=PILOT) for value in ("0", "-1", "x")],
    on("rows", "33", pattern="must be divisible", common=PILOT),
    on("core-rate", "0.1", pattern="are for a trained backbone, not for wrn10", common=PILOT),
    on("freeze-epochs", "1", pattern="are for a trained backbone, not for wrn10", common=PILOT),
    on("rows", "0", pattern=INTEGER, common=PILOT),
    on("images", "8", pattern="`rows`|16 images a step", common=PILOT),
    on("batch-repetitions", "2", "4", pattern="a pilot has one", common=PILOT),
    on("batch-repetitions", "3", pattern="must be divisible", common=PILOT),
    on("backbone", "nonsense", pattern="backbone", common=PILOT),
]


@pytest.mark.slow
@each(OPTIONS)
def test_command_lines_of_search(row, here, record_property):
    check(row, here, record_property)


# -- folders that were damaged -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """The folder of a search of two trials, and of a pilot of one run."""
    folder = tmp_path_factory.mktemp("searched")
    tuner = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search.MixMoHyperModel, "fit", lambda *_, **__: {"val_loss": 1.0})
        patch.setattr(search, "plot", lambda *_: None)
        patch.setattr(plots, "save", lambda *_: None)
        patch.setattr(search_recipe, "write_results", lambda options, folder, rows: rows)
        tuner = search_recipe.main([*SMALL, "--widths", "2", "4", f"--output-dir={folder}"])
    assert len(tuner) == 2
    return folder


FILES = {
    "settings.json": "settings.json .*damaged|with other settings",
    "trials/oracle.json": r"oracle\.json .*damaged",
    "trials/tuner0.json": r"tuner0\.json .*damaged",
    "trials/trial_0/trial.json": r"trial\.json .*damaged",
}


def with_file(name, change):
    """Goes on with a search one of whose files was changed; nothing of it may be removed."""

    def call(here):
        folder = here.folder / "runs"
        shutil.copytree(here.searched, folder)
        change(folder / "digits-search" / name)
        before = set(folder.rglob("*"))
        try:
            return search_recipe.main([*SMALL, "--widths", "2", "4", f"--output-dir={folder}"])
        finally:
            if lost := [path for path in before if not path.exists()]:
                raise LossError(f"{lost} are gone")

    return call


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def folder_in_place(path):
    path.unlink()
    path.mkdir()


DAMAGED = [
    *[
        Row(
            f"{name} of {kind}",
            with_file(name, functools.partial(lambda content, path: path.write_text(content), content)),
            pattern,
        )
        for name, pattern in FILES.items()
        for kind, content in CONTENTS.items()
        if (name, kind) not in {("trials/tuner0.json", "an empty object"), ("trials/tuner0.json", "another object")}
    ],
    *[Row(f"{name} cut off", with_file(name, cut), "damaged") for name in FILES if name != "trials/tuner0.json"],
    *[Row(f"{name} is a folder", with_file(name, folder_in_place), "error: ") for name in FILES],
    *[
        Row(
            f"{name} is binary",
            with_file(name, lambda path: path.write_bytes(bytes(range(256)))),
            "damaged",
        )
        for name in FILES
    ],
]


@pytest.fixture
def of_searched(here, searched):
    here.searched = searched
    return here


@pytest.mark.slow
@each(DAMAGED)
def test_damaged_searches(row, of_searched, record_property):
    check(row, of_searched, record_property)


def pilot_with(content, pattern_of="one_member"):
    """Goes on with a pilot, one of whose finished runs has something else in its file."""

    def call(here):
        folder = here.folder / "runs" / "digits-pilot"
        folder.mkdir(parents=True)
        path = folder / f"{pattern_of}-tiny_2-width2-seed0-10epochs-32rows-b2-4steps.json"
        path.write_text(content)
        return search_recipe.main([*PILOT, "--seeds", "0", f"--output-dir={here.folder / 'runs'}"])

    return call


RUN = {
    "variant": "one member",
    "width": 2,
    "seed": 0,
    "num_classes": 10,
    "seconds": 1.0,
    "accuracy": [0.5] * 10,
    "nll": [1.0] * 10,
}
PILOTS = [
    *[
        Row(f"pilot: a run of {kind}", pilot_with(content), r"one_member.*\.json .*damaged")
        for kind, content in CONTENTS.items()
    ],
    *[
        Row(
            f"pilot: a run without {name}",
            pilot_with(json.dumps({key: value for key, value in RUN.items() if key != name})),
            r"one_member.*\.json .*damaged",
        )
        for name in RUN
        if name not in ("num_classes", "seconds")  # runs of earlier versions lack these
    ],
    *[
        Row(f"pilot: a run whose {name} is {value!r}", pilot_with(json.dumps(RUN | {name: value})), r"\.json .*damaged")
        for name, value in [
            ("accuracy", []),
            ("accuracy", "x"),
            ("nll", None),
            ("width", 7),
            ("variant", "three"),
            ("seconds", "x"),
            ("label_noise", "x"),
            ("label_noise", 1.0),
            ("label_noise", -0.1),
        ]
    ],
]


@pytest.mark.slow
@each(PILOTS)
def test_damaged_pilots(row, here, record_property):
    check(row, here, record_property)


WORKER = dict(KERASTUNER_TUNER_ID="worker0")
CLUSTERS = [
    Row("search.py (a worker without a chief's address)", line(**WORKER), "KERASTUNER_ORACLE_IP"),
    Row(
        "search.py (an address without a port)",
        line(**WORKER, KERASTUNER_ORACLE_IP="127.0.0.1"),
        "KERASTUNER_ORACLE_PORT",
    ),
    Row(
        "search.py (a port that is none)",
        line(**WORKER, KERASTUNER_ORACLE_IP="127.0.0.1", KERASTUNER_ORACLE_PORT="many"),
        "KERASTUNER_ORACLE_PORT",
    ),
    Row(
        "search.py (an address without a name)",
        line(KERASTUNER_ORACLE_IP="127.0.0.1", KERASTUNER_ORACLE_PORT="8000"),
        "KERASTUNER_TUNER_ID",
    ),
]


@each(CLUSTERS)
def test_distributed_searches(row, here, record_property):
    check(row, here, record_property)
