"""What starts over or writes a report: nothing is removed or replaced but what the same command made."""

import os
from pathlib import Path

import keras_tuner
import numpy as np
import pytest
from bad_inputs.harness import LossError, Row, check, each, would_begin
from bad_inputs.test_searches_and_pictures import HYPERMODEL

from mixmo_keras import search
from mixmo_keras.experiments import evaluating, results, running
from mixmo_keras.experiments.recipe import Recipe


def keeping(call):
    """Calls with a folder, of which all files must be there afterwards, as they were."""

    def calls(here):
        kept: dict[Path, bytes] = {}
        try:
            return call(here, kept)
        finally:
            if lost := [str(path) for path, content in kept.items() if not _holds(path, content)]:
                raise LossError(f"{', '.join(lost)} are gone or others")

    return calls


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def put(kept, *paths):
    """Files that must be kept."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}")
        kept[path] = b"{}"
    return paths[0]


def tuning(*names):
    def call(here, kept):
        put(kept, *(here.folder / "album" / name for name in names))
        return search.tuner(HYPERMODEL(), "random", here.folder / "album", fresh=True)

    return keeping(call)


def recipe(folder: Path, **options) -> Recipe:
    """A fresh one, of a run in `folder / "runs" / <the name of its settings>`."""
    common = dict(dataset="digits", backbone="tiny_4", epochs=1, fresh=True)
    return Recipe(**{**common, **options}, output_dir=str(folder / "runs"), export_dir=str(folder / "saved"))


def fresh_run(*names, begins=None, option="warm_start"):
    """A fresh run in a folder with files, one of which it begins from."""

    def call(here, kept):
        file = here.folder / "link" / begins if begins else None  # by another way to the same folder
        one = recipe(here.folder, **({option: str(file)} if begins else {}))
        put(kept, *(one.folder / name for name in names))
        os.symlink(one.folder, here.folder / "link")
        return running.run(one)

    return keeping(call)


def reporting(here, kept):
    run = put(kept, here.folder / "run" / "metrics.json", here.folder / "run" / "config.json").parent
    put(kept, run / "last.keras")
    return evaluating.evaluate_runs([run], output_dir=run)


RUN = ("config.json", "checkpoints/epoch00001.npz")
REMOVED = [
    Row(
        "tuner(fresh, photos)", tuning("a.jpg", "b/c.jpg"), "`folder` must be that of a search .*album.* holds a.jpg, b"
    ),
    Row("tuner(fresh, settings)", tuning("oracles.json", "trial_0/trial.json"), "`folder` must be that of a search"),
    Row(
        "--fresh, warm start from the same run",
        fresh_run(*RUN, begins="checkpoints/epoch00001.npz"),
        "--fresh removes .*`warm_start`.*lies: copy that elsewhere",
    ),
    Row(
        "--fresh, a backbone of the same run",
        fresh_run(*RUN, "last.keras", begins="last.keras", option="backbone"),
        "--fresh removes .*`backbone`",
    ),
    Row("--fresh, a folder of other files", fresh_run("a.jpg"), "--fresh removes .*no run's folder .*a.jpg"),
    Row("evaluate.py RUN --output-dir RUN", keeping(reporting), "holds a run, whose metrics.json the report would"),
]


@pytest.fixture(autouse=True)
def _nothing_trains(monkeypatch):
    monkeypatch.setattr(running, "fit", would_begin)
    monkeypatch.setattr(keras_tuner.Tuner, "search", would_begin)


@each(REMOVED)
def test_what_is_removed(row, here, record_property):
    check(row, here, record_property)


@pytest.mark.parametrize("names", [(), ("oracle.json", "tuner0.json", "trial_0/trial.json"), ("trial_0/checkpoint",)])
def test_a_search_starts_over(tmp_path, names):
    for name in names:
        (tmp_path / "trials" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "trials" / name).write_text("{}")
    search.tuner(HYPERMODEL(), "random", tmp_path / "trials", fresh=True)
    assert not (tmp_path / "trials" / "trial_0").exists()


@pytest.mark.parametrize("exists", [True, False])
def test_a_fresh_run_in_a_folder_that_is_a_link(tmp_path, exists):
    """`rmtree` refuses links: the old checkpoint stayed, unseen, and was gone on with."""
    one, elsewhere = recipe(tmp_path), tmp_path / "elsewhere"
    if exists:
        (elsewhere / "checkpoints").mkdir(parents=True)
        np.savez(elsewhere / "checkpoints" / "epoch00001.npz", a=1)
    one.folder.parent.mkdir()
    os.symlink(elsewhere, one.folder)
    results.check_folder(one)
    results.empty_folder(one)
    assert one.folder.is_symlink()
    assert not any(elsewhere.iterdir())
