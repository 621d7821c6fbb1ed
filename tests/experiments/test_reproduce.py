"""Published beside ours: nothing that no run wrote, and trials are called trials."""

import dataclasses

import pytest
import reproduce

from mixmo_keras import files


def write_run(recipe, accuracy: float):
    recipe = recipe.resolved()
    files.write_json(recipe.folder / "config.json", recipe.settings())
    files.write_json(
        recipe.folder / "metrics.json", dict(test=dict(ensemble=dict(accuracy=accuracy, nll=0.6, ece=0.02)))
    )


def test_every_experiment_resolves_and_has_a_name_of_its_own(capsys):
    for rows in reproduce.TABLES.values():
        names = [row.recipe.resolved().name for row in rows.values()]
        assert len(set(names)) == len(names)
        assert all(60 < row.published < 100 for row in rows.values())
    reproduce.main(["--list"])
    assert "tiny_imagenet: vanilla-w1, vanilla-w2, vanilla-w3, Linear-MixMo-w1" in capsys.readouterr().out


def test_only_what_runs_wrote(tmp_path, capsys):
    rows = reproduce.TABLES["cifar100"]
    for seed, accuracy in ((0, 0.85), (1, 0.86)):
        recipe = dataclasses.replace(rows["Cut-MixMo"].recipe, seed=seed, output_dir=str(tmp_path / "cifar100"))
        write_run(recipe, accuracy)
    text = reproduce.main(["cifar100", "--only-table", "--seeds", "0", "1", "2", "--output-dir", str(tmp_path)])
    assert text in capsys.readouterr().out
    assert "| Cut-MixMo | 85.52 | 85.50 ± 0.71 | -0.02 | 0.600 | 0.020 | 2 of 3 |" in text
    assert "| vanilla | 81.79 | not run |  |  |  | 0 of 3 |" in text
    assert text.count("not run") == len(rows) - 1


def test_a_run_with_other_settings_is_not_taken(tmp_path):
    recipe = dataclasses.replace(
        reproduce.TABLES["cifar100"]["vanilla"].recipe, epochs=3, output_dir=str(tmp_path / "cifar100")
    )
    write_run(recipe, 0.9)
    with pytest.raises(SystemExit, match=r"error: .*holds a run with other settings .epochs 3 → 300"):
        reproduce.main(["cifar100", "--only-table", "--output-dir", str(tmp_path)])


@pytest.mark.usefixtures("without_export")
def test_a_trial_runs_and_says_that_it_is_one(tmp_path):
    arguments = ["cifar10", "--rows", "vanilla", "--dataset", "digits", "--backbone", "wrn10_1", "--scale", "0.003"]
    text = reproduce.main([*arguments, "--output-dir", str(tmp_path)])
    assert "| vanilla | 96.37 | " in text
    assert "| a trial |" in text
    assert "not comparable with the published figures: wrn10_1, digits, 0.003 of the epochs." in text
    assert reproduce.main([*arguments, "--only-table", "--output-dir", str(tmp_path)]) == text


def test_errors(capsys):
    for arguments, message in ((["cifar10", "--rows", "best"], "unknown experiments: best"), ([], "name a table")):
        with pytest.raises(SystemExit, match="2"):
            reproduce.main(arguments)
        assert message in capsys.readouterr().err
