"""The study that compares methods prints what runs wrote and nothing else."""

import dataclasses
import json

import compare
import pytest

from mixmo_keras.common import files
from mixmo_keras.experiments import Recipe


def write_run(folder, seed: int, accuracies: list[float], **method):
    epochs = "wrn10_1-1-epochs"
    recipe = Recipe(
        dataset="digits",
        backbone="wrn10_1",
        epochs=1,
        schedule="cosine",
        seed=seed,
        output_dir=str(folder / epochs),
        **method,
    ).resolved()
    files.write_json(recipe.folder / "config.json", recipe.settings())
    members = [dict(accuracy=accuracy, nll=1.0, ece=0.1) for accuracy in accuracies]
    test = dict(images=10, members=members, members_mean={}, ensemble=dict(accuracy=0.5 + seed / 10, nll=0.9, ece=0.05))
    if len(members) > 1:
        test["ratio_of_errors"] = 0.75
    files.write_json(recipe.folder / "metrics.json", dict(test=test, training_seconds=60.0))


def test_table_of_finished_runs(tmp_path, capsys):
    for seed in (0, 1):
        write_run(tmp_path, seed, [0.4, 0.6], **compare.METHODS["Cut-MixMo"])
    write_run(tmp_path, 0, [0.3], **compare.METHODS["single"])
    common = [
        "--dataset",
        "digits",
        "--backbone",
        "wrn10_1",
        "--epochs",
        "1",
        "--output-dir",
        str(tmp_path),
        "--only-table",
    ]
    table = compare.main([*common, "--seeds", "0", "1", "--methods", "single", "Cut-MixMo", "MIMO"])
    assert table in capsys.readouterr().out
    lines = table.splitlines()
    assert lines[2] == "| single | 30.00 | 50.00 | 0.900 | 0.050 | – | 1.0 | 1 of 2 |"
    # the deviation of 50 and 60 with one degree of freedom is √50
    assert lines[3] == (
        "| Cut-MixMo | 40.00 ± 0.00 / 60.00 ± 0.00 | 55.00 ± 7.07 | 0.900 ± 0.000 | 0.050 ± 0.000 | 0.75 ± 0.00 | 1.0 ± 0.0 "
        "| 2 of 2 |"
    )
    assert lines[4] == "| MIMO | not run |  |  |  |  |  | 0 of 2 |"


def test_runs_what_is_missing_once(tmp_path):
    write_run(tmp_path, 0, [0.3], **compare.METHODS["single"])
    ran = []

    def run(recipe):
        ran.append(recipe.method)
        write_run(tmp_path, recipe.seed, [0.4, 0.6], **compare.METHODS["MIMO"])

    common = ["--dataset", "digits", "--backbone", "wrn10_1", "--epochs", "1", "--output-dir", str(tmp_path)]
    for _ in range(2):
        compare.main([*common, "--methods", "single", "MIMO"], run)
    assert ran == ["mimo"]


def test_another_run_in_the_way_is_said(tmp_path):
    write_run(tmp_path, 0, [0.3], **compare.METHODS["single"])
    [config] = tmp_path.glob("*/*/config.json")
    files.write_json(config, {**json.loads(config.read_text()), "l2": 0.5})
    common = [
        "--dataset",
        "digits",
        "--backbone",
        "wrn10_1",
        "--epochs",
        "1",
        "--output-dir",
        str(tmp_path),
        "--only-table",
    ]
    with pytest.raises(SystemExit, match=r"error: .* holds a run with other settings \(l2 0.5 → 0.0003\)"):
        compare.main([*common, "--methods", "single"])


def test_the_methods_resolve_and_have_names_of_their_own():
    recipes = [dataclasses.replace(Recipe(), **settings).resolved() for settings in compare.METHODS.values()]
    assert len({recipe.name for recipe in recipes}) == len(recipes)
    assert {recipe.batch_repetitions for recipe in recipes} == {2}  # equal rows
