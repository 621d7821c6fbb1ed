"""Files are whole or not there."""

import json
import os
from pathlib import Path

import pytest

from mixmo_keras.common import files


def test_writes_and_replaces(tmp_path):
    path = files.write_text(tmp_path / "deep" / "figures.json", "1")
    assert files.write_text(path, "2").read_text() == "2"
    assert [one.name for one in path.parent.iterdir()] == ["figures.json"]


def test_json_has_no_nan(tmp_path):
    path = files.write_json(tmp_path / "figures.json", {"accuracy": 0.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"accuracy": float("nan")})
    assert json.loads(path.read_text()) == {"accuracy": 0.5}


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    path = files.write_text(tmp_path / "figures.json", "old")

    def full_disk(self, content, **encoding):
        self.write_bytes(content[:1].encode())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="No space left"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["figures.json"]


def test_empty_folders_do_not_stay(tmp_path):
    def fail():
        with files.no_empty_folders(tmp_path / "a" / "b" / "1"):
            (tmp_path / "a" / "b").mkdir(parents=True)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").mkdir()  # which was there before stays
    with files.no_empty_folders(tmp_path / "a" / "b" / "1"):
        (tmp_path / "a" / "b").mkdir()
    assert list((tmp_path / "a").iterdir()) == []
    with files.no_empty_folders(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "1").mkdir(parents=True)
        (tmp_path / "a" / "b" / "file").touch()
    assert (tmp_path / "a" / "b" / "1").is_dir()


def test_a_folder_is_whole_or_not_there(tmp_path):
    path = tmp_path / "deep" / "version"
    for content in ("old", "new"):
        with files.replacing_folder(path) as part:
            (part / "inside").mkdir()
            (part / "inside" / content).write_text(content)
            assert [file.name for file in path.glob("inside/*")] == ([] if content == "old" else ["old"])

    def full_disk():
        with files.replacing_folder(path) as part:
            (part / "half").write_text("")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        full_disk()
    assert [str(file.relative_to(path)) for file in path.rglob("*")] == ["inside", "inside/new"]
    assert [folder.name for folder in path.parent.iterdir()] == ["version"]


def replaced_where_renames_fail(path, monkeypatch, fails, error=OSError):
    """Replaces an old folder by a new one where some of the renames fail, by their numbers from 1."""
    (path / "old").mkdir(parents=True)
    renames, rename = [], os.replace

    def failing(source, target):
        renames.append(source)
        if len(renames) in fails:
            raise error("no such luck")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing)
        with files.replacing_folder(path) as part:
            (part / "new").mkdir()


@pytest.mark.parametrize("fails", [{1}, {2}])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_rename_that_fails_leaves_the_old_folder(tmp_path, monkeypatch, fails, error):
    with pytest.raises(error, match="no such luck"):
        replaced_where_renames_fail(tmp_path / "version", monkeypatch, fails, error)
    assert [str(one.relative_to(tmp_path)) for one in sorted(tmp_path.rglob("*"))] == ["version", "version/old"]


def test_what_can_not_be_put_back_is_kept_and_named(tmp_path, monkeypatch):
    path = tmp_path / "version"
    with pytest.raises(OSError, match=r"could not be replaced nor put back .*: it is in .*replaced\."):
        replaced_where_renames_fail(path, monkeypatch, {2, 3})
    assert not path.exists()
    files.put_back(path)
    assert [str(one.relative_to(tmp_path)) for one in sorted(tmp_path.rglob("*"))] == ["version", "version/old"]


def test_what_a_kill_left_is_put_back_only_where_nothing_is(tmp_path):
    beside = tmp_path / f"{files.PART}1-abc"
    (beside / files.REPLACED / "old").mkdir(parents=True)
    (tmp_path / "1" / "new").mkdir(parents=True)
    files.put_back(tmp_path / "1")
    assert [str(one.relative_to(tmp_path)) for one in sorted(tmp_path.rglob("*"))] == ["1", "1/new"]


@pytest.mark.parametrize("mask", [0o077, 0o002])
def test_the_users_mask_says_who_may_read_what_is_written(tmp_path, mask):
    before = os.umask(mask)
    try:
        files.write_text(tmp_path / "text", "content")
        with files.replacing_folder(tmp_path / "folder") as part:
            (part / "file").touch()
    finally:
        os.umask(before)
    assert (tmp_path / "text").stat().st_mode & 0o777 == 0o666 & ~mask
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~mask


def test_a_folder_that_can_not_be_written_into_is_named_before(tmp_path):
    files.check_can_be_written(tmp_path / "not" / "there", "The run can't write there")
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match=r"The run can't write there: /proc can't be written into \(.*\)\."):
        files.check_can_be_written("/proc/run", "The run can't write there")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file can't be written into"):
        files.check_can_be_written(tmp_path / "file", "The run can't write there")


def test_a_path_that_tensorflow_can_not_take_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"The run can't write there: TensorFlow takes paths in UTF-8 only.*PYTHONUTF8=1"
    ):
        files.check_can_be_written(tmp_path / "\udcc3\udcbc", "The run can't write there")
