"""Faults in every phase of a run: it ends in one line or none, loses nothing, and the same command goes on to the same end.

Phases are the listing of the images, the first epoch, a checkpoint, the evaluation, the export and the report. A disk that
is full is a limit on the size of files: every write fails, of Python's, of HDF5's and of TensorFlow's.
"""

import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from mixmo_keras.datasets import manifest

pytestmark = pytest.mark.slow
PHASES = ("listing", "first epoch", "checkpoint", "evaluation", "export", "report")
SCRIPT = tiny.SCRIPTS / "faulty_run.py"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of two classes of forty images."""
    folder, random = tmp_path_factory.mktemp("faults") / "photos", np.random.default_rng(0)
    for number, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for index in range(40):
            pixels = random.integers(0, 128, (8, 8, 3)) + 100 * number
            Image.fromarray(pixels.astype("uint8")).save(folder / name / f"{index}.png")
    return folder


def run(folder, photos, phase="none", fault="none", **environment):
    cache = dict(XDG_CACHE_HOME=str(folder / "cache"))  # else the files were checked before
    return tiny.run([SCRIPT, folder, photos, phase, fault], **cache | environment)


def figures(folder):
    """What a run ended with: its figures but for the time, and those of its evaluation."""
    (path,) = folder.glob("runs/*/metrics.json")
    found = [json.loads(file.read_text()) for file in (path, path.parent / "evaluation" / "metrics.json")]
    for name in ("training_seconds", "saved_model"):
        found[0].pop(name)
    return found


@pytest.fixture(scope="module")
def whole(photos):
    """The figures of a run to which nothing happens."""
    folder = photos.parent / "whole"
    folder.mkdir()
    ended = run(folder, photos)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return figures(folder)


def check_ends(folder, photos, whole, phase="none"):
    """The same command ends as if nothing had happened, and nothing half-written is left."""
    again = run(folder, photos, phase)  # with "export" it does export, which the others leave out
    assert again.returncode == 0, (again.stdout + again.stderr)[-3000:]
    assert figures(folder) == whole
    left = [path for path in folder.rglob(".part-*") if not path.name.endswith(".lock")]
    assert not left


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("fault", ["SIGTERM", "SIGKILL"])
def test_a_run_that_is_ended(tmp_path, photos, whole, phase, fault):
    ended = run(tmp_path, photos, phase, fault)
    assert f"{fault} in {phase}" in ended.stdout + ended.stderr
    if fault == "SIGTERM" and phase in ("first epoch", "checkpoint"):
        assert ended.returncode == 0
        assert "SIGTERM: stopped in epoch" in ended.stdout
    else:  # SIGTERM that waits for nothing ends a program where it is
        assert ended.returncode == -getattr(signal, fault)
    check_ends(tmp_path, photos, whole, phase)


@pytest.mark.parametrize("phase", PHASES)
def test_a_full_disk(tmp_path, photos, whole, phase):
    ended = run(tmp_path, photos, phase, "full")
    printed = ended.stdout + ended.stderr
    assert f"full in {phase}" in printed
    assert "Traceback" not in printed, printed[-3000:]
    assert ended.returncode == 1, printed[-2000:]
    (said,) = re.findall("^error: .*", printed, re.MULTILINE)
    assert re.search("too large|No space|can't be written|written", said), said
    check_ends(tmp_path, photos, whole, phase)


@pytest.mark.parametrize("phase", ["first epoch", "checkpoint", "evaluation"])
def test_a_clock_that_is_set_back(tmp_path, photos, whole, phase):
    ended = run(tmp_path, photos, phase, "back")
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert figures(tmp_path) == whole
    (path,) = tmp_path.glob("runs/*/metrics.json")
    assert 0 <= json.loads(path.read_text())["training_seconds"] < 600


def test_an_image_that_is_removed_while_others_are_trained_on(tmp_path, photos, whole):
    name = manifest.of(f"{photos}@8").names("test")[0]
    content = (photos / name).read_bytes()
    try:
        ended = run(tmp_path, photos, "first epoch", "removed")
    finally:
        (photos / name).write_bytes(content)
    printed = ended.stdout + ended.stderr
    assert ended.returncode == 1
    assert "Traceback" not in printed, printed[-3000:]
    (said,) = re.findall("^error: .*", printed, re.MULTILINE)
    assert f"The data have changed since the run in {tmp_path}" in said
    assert f"1 file was removed ({name}). Put them back" in said
    check_ends(tmp_path, photos, whole)


@pytest.mark.parametrize("place", ["runs", "saved", "cache"])
def test_a_folder_that_cannot_be_written_into(tmp_path, photos, whole, place):
    """A file stands in its place, which nobody can write into, root neither."""
    (tmp_path / place).write_text("in the way")
    ended = run(tmp_path, photos)
    if place == "cache":  # the images are checked anew every time
        assert ended.returncode == 0, ended.stderr[-3000:]
        assert figures(tmp_path) == whole
        return
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert re.search(rf"^error: .*{place}", ended.stdout + ended.stderr, re.MULTILINE)
    assert (tmp_path / place).read_text() == "in the way"
    assert not list(tmp_path.glob("runs/*/log.csv"))  # found before the first epoch


def test_two_runs_in_one_folder_at_once(tmp_path, photos, whole):
    """One of them ends as alone, and the other says why it doesn't; or both do the same thing twice."""
    command, environment = [SCRIPT, tmp_path, photos, "none", "none"], dict(XDG_CACHE_HOME=str(tmp_path / "cache"))
    ended = tiny.run_together([command] * 2, [environment] * 2)
    for one in ended:
        assert "Traceback" not in one.stderr, one.stderr[-3000:]
    assert sorted(one.returncode for one in ended) == [0, 1], [one.stderr[-500:] for one in ended]
    (refused,) = (one for one in ended if one.returncode)
    assert re.search(r"^error: .* is being written by another run", refused.stdout + refused.stderr, re.MULTILINE)
    assert figures(tmp_path) == whole
    check_ends(tmp_path, photos, whole)


def test_the_phases_are_all_of_the_scripts():
    text = Path(SCRIPT).read_text()
    assert all(f'"{phase}"' in text for phase in PHASES)
