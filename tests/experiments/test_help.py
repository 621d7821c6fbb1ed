"""What a command line answers before it imports anything, and what it was told of the library that it did not import."""

import json
import sys

import pytest
import tiny
from test_docs import ROOT

import mixmo_keras
from mixmo_keras.experiments import Recipe, known, parse
from mixmo_keras.experiments.collected import collected as collect
from mixmo_keras.experiments.command_line import parse_with


def test_help_imports_neither_keras_nor_tensorflow():
    lines = tiny.python((tiny.SCRIPTS / "helps.py").read_text(), str(ROOT / "recipes")).splitlines()
    assert len(lines) == len(list((ROOT / "recipes").glob("*.py")))
    assert [line for line in lines if not line.endswith(".py True")] == []


def test_what_is_known_is_what_the_library_has():
    collected = collect()
    collected["datasets"] = collected["datasets"][: len(known.KNOWN["datasets"])]  # other tests add some of theirs
    assert collected == known.KNOWN, "python -m mixmo_keras.experiments.collected writes known.json anew"


@pytest.mark.parametrize("imports", ["mixmo_keras,keras", pytest.param("mixmo_keras.seeds", marks=pytest.mark.slow)])
@pytest.mark.slow  # a process that imports TensorFlow
def test_keras_knows_the_classes_of_saved_models_after_the_import_alone(imports):
    script = (tiny.SCRIPTS / "registered.py").read_text()
    assert tiny.python(script, imports).split() == ["True"]


def test_public_names_are_there():
    for name in mixmo_keras.__all__:
        assert getattr(mixmo_keras, name) is not None
    assert set(mixmo_keras.__all__) <= set(dir(mixmo_keras))
    with pytest.raises(AttributeError, match="module 'mixmo_keras' has no attribute 'CutMixMoo'"):
        mixmo_keras.CutMixMoo  # noqa: B018


def test_ten_options_come_first(capsys):
    with pytest.raises(SystemExit, match="0"):
        parse(Recipe(), "What it is.", ["--help"])
    most_used, others = capsys.readouterr().out.partition("most used:")[2].split("\ndata:")
    assert most_used.count("\n  --") == 10
    assert "--epochs" not in others
    assert all(f"\n{group}:" in others for group in ("model", "training", "folders"))


@pytest.mark.parametrize(
    "arguments",
    ["photos --epochs 3 --compare-single", "--epochs 3 --compare-single photos", "--epochs 3 photos --compare-single"],
)
def test_a_folder_may_stand_anywhere(arguments):
    recipe, given = parse_with(
        Recipe(), "", arguments.split(), folder="of images", flags={"compare_single": "both", "other": "another"}
    )
    assert (recipe.dataset, recipe.epochs) == ("photos", 3)
    assert given == {"compare_single": True, "other": False}


def test_a_folder_must_be_named(capsys):
    with pytest.raises(SystemExit, match="2"):
        parse_with(Recipe(), "", ["--epochs", "3"], folder="of images")
    assert "the following arguments are required: DIR" in capsys.readouterr().err


def test_known_is_for_json():
    assert json.loads(json.dumps(known.KNOWN)) == known.KNOWN


def test_what_libraries_note_while_they_are_loaded_is_left_out():
    process = tiny.start([sys.executable, tiny.SCRIPTS / "quiet.py"])
    _, errors = process.communicate(timeout=60)
    assert errors.splitlines() == ["libsomething.so: cannot open shared object file", "and Python's", "after"]
