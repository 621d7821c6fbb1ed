"""Published beside ours: nothing that no run wrote, and trials are called trials."""

import dataclasses
import re

import paper_curves
import pytest
import rehearsal
import reproduce

from mixmo_keras.common import files


def write_run(recipe, accuracy: float):
    recipe = recipe.resolved()
    files.write_json(recipe.folder / "config.json", recipe.settings())
    figures = dict(ensemble=dict(accuracy=accuracy, nll=0.6, ece=0.02), diversity=dict(ratio_of_errors=0.862))
    files.write_json(recipe.folder / "metrics.json", dict(test=figures))


def without_width(recipe):
    """The resolved recipe, without building a large network to choose its precision by."""
    return dataclasses.replace(recipe, dtype="float32").resolved()


def test_every_experiment_resolves_and_has_a_name_of_its_own(capsys):
    for table, rows in reproduce.TABLES.items():
        runs = [
            tuple(without_width(one).folder for one in reproduce.recipes_of(row, 0, table, name))
            for name, row in rows.items()
        ]
        assert len(set(runs)) == len(runs), table
        assert all(60 < row.published < 100 for row in rows.values() if row.published is not None)
        assert not any(reproduce.trial(row, row.recipe) for row in rows.values())
    reproduce.main(["--list"])
    printed = capsys.readouterr().out
    assert "| Cut-MixMo-w1 | tiny_imagenet | cut_mixmo | preact_resnet18_1 | 1200 | 64.32 | – | – |" in printed
    for name, table in reproduce.PAPER_TABLES.items():
        assert f"{name}: {table.source}; " in printed
        assert f"needs {table.needs}\n\n| experiment |" in printed


def test_only_what_runs_wrote(tmp_path, capsys):
    rows = reproduce.TABLES["cifar100"]
    for seed, accuracy in ((0, 0.85), (1, 0.86)):
        recipe = dataclasses.replace(rows["Cut-MixMo"].recipe, seed=seed, output_dir=str(tmp_path / "cifar100"))
        write_run(recipe, accuracy)
    text = reproduce.main(["cifar100", "--only-table", "--seeds", "0", "1", "2", "--output-dir", str(tmp_path)])
    assert text in capsys.readouterr().out
    assert "| Cut-MixMo | 85.52 | 85.50 ± 0.71 | -0.02 | – | 0.600 | – | 0.020 | 0.862 | 2 of 3 |" in text
    assert "| vanilla | 81.79 | not run |  |  |  |  |  |  | 0 of 3 |" in text
    assert text.count("not run") == len(rows) - 1
    held_out = ["cifar100", "--only-table", "--seeds", "0", "--train-split", "train", "--output-dir", str(tmp_path)]
    assert "| Cut-MixMo | 85.52 | not run |" in reproduce.main(held_out)  # it is another run
    write_run(dataclasses.replace(recipe, seed=0, train_split="train"), 0.85)
    assert "| Cut-MixMo | 85.52 | 85.00 | a tenth held out | – | 0.600 |" in reproduce.main(held_out)


def test_other_devices_than_the_papers_make_a_trial(tmp_path):
    row = reproduce.TABLES["mimo_cifar100"]["MIMO"]
    for devices, folder in ((8, "mimo_cifar100-devices8"), (1, "mimo_cifar100-devices1")):
        write_run(dataclasses.replace(row.recipe, devices=devices, output_dir=str(tmp_path / folder)), 0.81)
    arguments = ["mimo_cifar100", "--rows", "MIMO", "--only-table", "--output-dir", str(tmp_path), "--devices"]
    text = reproduce.main([*arguments, "1"])
    assert "| MIMO | 82.00 | 81.00 | a trial |" in text
    assert text.endswith("Trials are not comparable with the published figures: 1 device.")
    assert "| MIMO | 82.00 | 81.00 | -1.00 |" in reproduce.main([*arguments, "8"])


def test_a_run_with_other_settings_is_not_taken(tmp_path):
    recipe = dataclasses.replace(
        reproduce.TABLES["cifar100"]["vanilla"].recipe, epochs=3, output_dir=str(tmp_path / "cifar100")
    )
    write_run(recipe, 0.9)
    with pytest.raises(SystemExit, match=r"error: .*holds a run with other settings .epochs 3 → 300"):
        reproduce.main(["cifar100", "--only-table", "--output-dir", str(tmp_path)])


@pytest.mark.usefixtures("without_export")
def test_a_trial_runs_and_says_that_it_is_one(tmp_path, capsys):
    arguments = ["cifar10", "--rows", "vanilla", "--dataset", "digits", "--backbone", "tiny_4", "--scale", "0.003"]
    text = reproduce.main([*arguments, "--output-dir", str(tmp_path)])
    assert "| vanilla | 96.37 | " in text
    table = re.search(r"360 test images(.*?)trained in", capsys.readouterr().out, re.DOTALL)[1]
    assert "member 1" not in table  # of a single network
    assert "| a trial |" in text
    assert "not comparable with the published figures: tiny_4, digits, 0.003 of the epochs." in text
    assert reproduce.main([*arguments, "--only-table", "--output-dir", str(tmp_path)]) == text


def test_errors(capsys):
    for arguments, message in (
        (["cifar10", "--rows", "best"], "unknown experiments: best"),
        ([], "name a table"),
        (["all"], "all tables take years of a GPU: name one, or pass --budget MINUTES"),
        (["cifar10", "--budget", "1", "--scale", "0.5"], "--budget has settings of its own: it has no use for scale"),
    ):
        with pytest.raises(SystemExit, match="2"):
            reproduce.main(arguments)
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit, match="error: `budget` must be minutes above 0, got 0"):
        reproduce.main(["cifar10", "--budget", "0"])


# -- deep ensembles, test sets elsewhere, and rehearsals -----------------------------------------------------------------


@pytest.fixture
def in_small(monkeypatch):
    """Rehearsals on digits with the tiny network."""
    monkeypatch.setattr(rehearsal, "STAND_INS", ((r".*", "tiny_4", 8),))
    monkeypatch.setattr(rehearsal, "DATASET", "digits")
    monkeypatch.setattr(rehearsal, "CORRUPTED_IMAGES", 2)


@pytest.mark.slow  # six short trainings
def test_published_and_rehearsed_figures_share_no_table(in_small, tmp_path):
    text = reproduce.main(["ensembles", "--budget", "0.0001", "--output-dir", str(tmp_path)])
    theirs, ours = text.split("**Our rehearsal, no result: not comparable with the figures above.**")
    assert "| 2 × vanilla, CIFAR-100 | 83.17 | – | – | – |" in theirs
    assert "83.17" not in ours
    last = r"\| 3 × Cut-MixMo \+ CutMix, CIFAR-100 \| tiny_4, digits@8 \| [\d.]+ \| [\d.]+ \| [\d.]+ \| – \|"
    assert re.search(last, ours)
    assert "| 2 × vanilla, CIFAR-10 | not reached |" in ours  # the minutes were over after the first
    assert "No figure of ours on this page is a result" in theirs


def test_every_experiment_has_a_small_one():
    for rows in reproduce.TABLES.values():
        for row in rows.values():
            small = rehearsal.scaled(row.recipe).resolved()
            assert (small.epochs, small.train_images, small.dtype) == (1, 256, "float32")
            assert small.method == row.recipe.method


def test_figures_elsewhere_are_read_beside_the_papers(tmp_path):
    row = reproduce.TABLES["mimo_cifar100"]["MIMO"]
    recipe = dataclasses.replace(row.recipe, output_dir=str(tmp_path / "mimo_cifar100"))
    write_run(recipe, 0.82)
    figures = dict(corruptions=dict(mean_accuracy=0.54, mean_nll=2.2, mean_ece=0.13))
    files.write_json(recipe.resolved().folder / "evaluation-cifar100_c" / "metrics.json", figures)
    text = reproduce.main(["mimo_cifar100", "--only-table", "--output-dir", str(tmp_path)])
    assert "| MIMO | cifar100_c | 53.7 | 2.280 | 0.129 | 54.0 | 2.200 | 0.130 |" in text
    assert "| ensemble of 4 | 82.70 | not run |" in text
    assert reproduce.status("mimo_cifar100", str(tmp_path)) == "ran here: 1 of 3 experiments"


def test_figures_over_a_setting_are_drawn_beside_the_papers():
    table = reproduce.PAPER_TABLES["training_time"]
    figure = paper_curves.draw(table, {"batch_repetitions=2": [80.0, 82.0], "2 × vanilla": [81.0]})
    axes = figure.axes[0]
    assert axes.get_xlabel() == "training time, in that of a single network"
    points = {
        line.get_label(): line.get_xydata().tolist() for line in axes.lines if not line.get_label().startswith("_")
    }
    assert points == {"cut_mixmo, paper": [[4, 85.52]], "2 × single, paper": [[2, 83.17]]}
    ours = {bars.get_label(): bars.lines[0].get_xydata().tolist() for bars in axes.containers}
    assert ours == {"cut_mixmo, ours": [[2, 81.0]], "2 × single, ours": [[2, 81.0]]}


def test_a_curves_picture_is_written_and_says_where_runs_are_a_trial(tmp_path, capsys):
    reproduce.main(["cifar100_widths", "--only-table", "--output-dir", str(tmp_path)])
    assert f"picture: {tmp_path / 'cifar100_widths' / 'curve.png'}" in capsys.readouterr().out
    assert (tmp_path / "cifar100_widths" / "curve.png").stat().st_size > 10_000


def test_a_rehearsal_goes_through_all_tables_before_a_second_round():
    names = ["cifar10", "mimo_cifar10", "sam_cifar10_long"]
    assert rehearsal.in_rounds(names)[:5] == [
        ("cifar10", "Cut-MixMo + CutMix"),
        ("mimo_cifar10", "MIMO"),  # the one with figures out of distribution
        ("sam_cifar10_long", "SAM + AutoAugment, long"),
        ("cifar10", "Linear-MixMo + CutMix"),
        ("mimo_cifar10", "ensemble of 4"),
    ]
    assert sorted(rehearsal.in_rounds(names)) == sorted((name, row) for name in names for row in reproduce.TABLES[name])
