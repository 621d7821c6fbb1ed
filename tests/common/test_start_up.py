"""`import mixmo_keras` prints nothing, imports no more than its backend needs, and makes its classes known to Keras."""

import os
import sys

import pytest
import tiny

import mixmo_keras
from mixmo_keras.common import start_up

NOTES = {
    "I": "I0000 00:00:1 1 port.cc:153] oneDNN custom operations are on.",
    "W": "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "E": "E0000 00:00:1 1 cuda_platform.cc:51] failed call to cuInit",
    "": "libsomething.so: cannot open shared object file",
}
# for each level, as TensorFlow's documentation says what it leaves out; unset is 3
LEVELS = {"0": "", "1": "I", "2": "IW", "3": "IWE", None: "IWE"}


def said_within_quiet(capfd) -> list[str]:
    with start_up.quiet():
        for note in NOTES.values():
            os.write(2, f"{note}\n".encode())
    return capfd.readouterr().err.splitlines()


@pytest.mark.parametrize(("level", "left_out"), LEVELS.items())
def test_notes_of_libraries_are_left_out_by_the_users_level(level, left_out, monkeypatch, capfd):
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", level or "")
    if level is None:
        monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    assert said_within_quiet(capfd) == [note for severity, note in NOTES.items() if severity not in [*left_out]]
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == (level or "3")


def test_where_tensorflow_is_imported_nothing_is_left_out_or_set(monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "tensorflow", sys)
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    assert said_within_quiet(capfd) == list(NOTES.values())
    assert "TF_CPP_MIN_LOG_LEVEL" not in os.environ


def test_without_a_folder_for_temporary_files_nothing_is_left_out(monkeypatch, capfd):
    def no_folder():
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.setattr(start_up.tempfile, "TemporaryFile", no_folder)
    assert said_within_quiet(capfd) == list(NOTES.values())


SCRIPT = """
import mixmo_keras, sys
print("tensorflow" in sys.modules, *(name in sys.modules for name in ("keras_tuner", "tensorflow_datasets")))
import keras
classes = [keras.saving.get_registered_object(f"mixmo_keras>{name}") for name in ("MixMo", "DeepEnsemble", "Seating")]
print(all(classes))
"""


@pytest.mark.slow  # a process that imports TensorFlow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_the_import_alone(backend):
    process = tiny.start([sys.executable, "-c", SCRIPT], KERAS_BACKEND=backend, TF_CPP_MIN_LOG_LEVEL="3")
    output, errors = process.communicate(timeout=300)
    assert output.splitlines() == [f"{backend == 'tensorflow'} False False", "True"], errors
    assert errors == ""


def test_public_names_are_there():
    for name in mixmo_keras.__all__:
        assert getattr(mixmo_keras, name) is not None
    assert set(mixmo_keras.__all__) <= set(dir(mixmo_keras))
    with pytest.raises(AttributeError, match="module 'mixmo_keras' has no attribute 'CutMixMoo'"):
        mixmo_keras.CutMixMoo  # noqa: B018
