"""Files of a folder are decoded once, remembered, and looked at anew where they change."""

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from bad_inputs.test_data_and_folders import photos, picture

from mixmo_keras import datasets
from mixmo_keras.datasets import file_checks


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return photos(tmp_path / "photos")


def paths(folder):
    return sorted(map(str, folder.rglob("*.png")))


def greys(folder):
    return [facts.grey for facts in file_checks.check(folder, paths(folder))]


def test_what_was_sound_is_remembered_by_size_and_time(folder, monkeypatch):
    looked_at = []
    inspect = file_checks._inspect
    monkeypatch.setattr(file_checks, "_inspect", lambda path: looked_at.append(path) or inspect(path))
    assert greys(folder) == [False] * 12
    assert len(looked_at) == 12
    assert greys(folder) == [False] * 12
    assert len(looked_at) == 12
    picture(folder / "cat" / "0.png", size=(20, 20), mode="L")
    assert greys(folder) == [True] + [False] * 11
    assert looked_at[12:] == [str(folder / "cat" / "0.png")]
    (folder / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="1 of 12 files"):
        file_checks.check(folder, paths(folder))


@pytest.mark.parametrize(
    "content", ["", "[1]", '{"a": 3}', '{"version": 2, "files": {"x": [1, 2]}}', '{"version": 1, "files": {}}']
)
def test_a_damaged_memory_is_made_anew(folder, content, tmp_path):
    file_checks.check(folder, paths(folder))
    (cache,) = (tmp_path / "cache" / "mixmo_keras").iterdir()
    cache.write_text(content)
    assert greys(folder) == [False] * 12
    assert len(json.loads(cache.read_text())["files"]) == 12


@pytest.fixture
def no_home(monkeypatch):
    """As in a container whose user has no HOME and no entry in the system's list of users."""

    def nobody(user):
        raise KeyError(f"getpwuid(): uid not found: {user}")

    for name in ("HOME", "XDG_CACHE_HOME", "TFDS_DATA_DIR", "MIXMO_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)


def test_without_a_home_directory_nothing_is_remembered(folder, no_home, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    for _ in range(2):
        assert len(file_checks.check(folder, paths(folder))) == 12
    assert datasets.info(f"{folder}@8").class_names
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("cache", ["file", "read-only"])
def test_a_cache_that_cant_be_written_stops_nothing(folder, cache, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    place = tmp_path / "file" if cache == "file" else Path("/proc/none")
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    assert len(file_checks.check(folder, paths(folder))) == 12


def test_without_a_home_directory_tfds_folder_must_be_named(no_home, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", "~/tensorflow_datasets")
    with pytest.raises(FileNotFoundError, match=r"no home directory: pass the folder .* --data-dir or MIXMO_DATA_DIR"):
        datasets.info("cifar10")


def test_many_broken_files_are_counted(folder):
    for path in paths(folder):
        Path(path).write_bytes(b"")
    with pytest.raises(ValueError, match=r"12 of 12 files .*cat/0.png: .*; and 2 more"):
        file_checks.check(folder, paths(folder))


def test_a_folder_is_listed_anew_when_files_come_or_the_process_goes(folder, tmp_path, monkeypatch):
    def count(name):
        return sum(int(datasets.load(name, split).cardinality()) for split in ("train", "validation", "test"))

    monkeypatch.chdir(tmp_path)
    assert count("photos@8") == 12
    picture(folder / "cat" / "new.png")
    assert count("photos@8") == 13
    photos(tmp_path / "other" / "photos", count=5)
    loaded = datasets.load("photos@8", "test")
    monkeypatch.chdir(tmp_path / "other")
    assert count("photos@8") == 10
    assert np.array([label for _, label in loaded.as_numpy_iterator()]).size == len(loaded)  # its paths are absolute


def test_where_nothing_can_be_written_nothing_is_remembered(folder, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    assert greys(folder) == [False] * 12


def test_files_are_decoded_at_the_same_time_and_progress_is_said(folder, monkeypatch, capsys):
    inspect, together = file_checks._inspect, threading.Barrier(2, timeout=20)

    def with_another(path):
        together.wait()  # raises where nobody else is at it
        return inspect(path)

    monkeypatch.setattr(file_checks, "_inspect", with_another)
    monkeypatch.setattr(file_checks, "_SECONDS", -1)
    assert greys(folder) == [False] * 12
    assert "11 of 12 files are checked" in capsys.readouterr().err
