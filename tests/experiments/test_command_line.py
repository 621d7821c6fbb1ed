"""The command lines: what `--help` says, and how a recipe's options and its folder are read."""

import runpy
import sys

import pytest
from test_docs import ROOT

from mixmo_keras.experiments import Recipe, parse
from mixmo_keras.experiments.command_line import parse_with

RECIPES = [path for path in sorted((ROOT / "recipes").glob("*.py")) if '"__main__"' in path.read_text()]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_answers_help(path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.startswith("usage: ")


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
