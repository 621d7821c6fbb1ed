"""What the tables of gains are made of: runs of rows, differences over seeds, figures that are kept."""

import dataclasses
import json

import beyond
import compare
import fine_tuning
import gains
import noisy_labels
import numpy as np
import pages
import pytest
import repetition
import rows
import study

from mixmo_keras.experiments import splits

STUDIES = (noisy_labels.STUDY, beyond.STUDY, fine_tuning.STUDY, repetition.STUDY)


@pytest.mark.parametrize("one", STUDIES, ids=lambda one: one.name)
def test_every_run_of_a_table_can_begin_and_has_a_folder_of_its_own(one, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for base in one.settings.values():
        runs = [
            (run, row.networks)
            for name, row in one.rows.items()
            for run in rows.recipes(one.rows, name, dataclasses.replace(base, label_noise=0.4), seed=1)
        ]
        for run, _ in runs:
            if run.backbone.endswith(".keras"):
                tmp_path.joinpath(run.backbone).parent.mkdir(parents=True, exist_ok=True)
                tmp_path.joinpath(run.backbone).touch()
            assert run.resolved().data_seed == 1
        alone = [run.folder for run, networks in runs if networks == 1]
        assert len(set(alone)) == len(alone)


def test_a_deep_ensemble_shares_the_networks_of_its_single_row():
    all_rows, base = noisy_labels.ROWS, noisy_labels.SETTINGS["digits"]
    one = rows.recipes(all_rows, "single + CutMix", base, 1)
    two = rows.recipes(all_rows, "two networks + CutMix", base, 1)
    assert two[0] == one[0]
    assert [(run.seed, run.data_seed) for run in two] == [(1, 1), (101, 1)]
    assert rows.shared(fine_tuning.ROWS, fine_tuning.SECOND) == fine_tuning.CLASSIFIER


def test_rows_change_epochs_rate_and_beginning():
    base = fine_tuning.SETTINGS["digits"]
    first, slower, sharp = (
        rows.recipes(fine_tuning.ROWS, name, base, 0)[0]
        for name in (fine_tuning.CLASSIFIER, "single, further at a fifth of the rate", "single + SAM")
    )
    assert slower.backbone == str(first.folder / "last.keras")
    assert slower.learning_rate == pytest.approx(0.2 * base.learning_rate)
    assert (first.epochs, sharp.epochs, sharp.sam) == (40, 20, 0.05)
    with pytest.raises(
        ValueError, match="The rate of 'slow' is a multiple of the recipe's learning_rate, which is None"
    ):
        rows.recipes({"slow": rows.Row({}, rate=0.1)}, "slow", dataclasses.replace(base, learning_rate=None), 0)


def measured(*accuracies: float) -> dict[str, rows.Figures]:
    """Figures of a row by seed."""
    others = {title: None for title, *_ in (*rows.COLUMNS, *rows.PARTNERS)}
    known = {"stopped early %": 50.0, "NLL": 1.0, "AURC": 0.2, "training_seconds": 60.0}
    return {str(seed): {**others, **known, "accuracy %": value} for seed, value in enumerate(accuracies)}


def test_a_difference_is_a_gain_beyond_two_standard_errors():
    assert gains.difference([0.3, 0.5, 0.4], [0.1, 0.1, 0.1]) == {
        "mean": pytest.approx(0.3),
        "standard_error": pytest.approx(0.1 / np.sqrt(3)),  # the deviation of .2, .4, .3 is .1
        "seeds": 3,
        "called": "a gain",
    }
    assert gains.difference([0.1, 0.5], [0.2, 0.3])["called"] == "no difference"
    assert gains.difference([0.1, 0.1], [0.2, 0.3])["called"] == "a loss"
    assert gains.difference([0.5], [0.1])["called"] == "one seed"


def test_tables_by_hand():
    by_row = {"single": measured(50, 52), "Cut-MixMo": measured(60, 64), "MIMO": measured(55)}
    assert gains.table(by_row, ("accuracy %", "NLL", "NLL, calibrated")).splitlines()[2] == (
        "| single | 51.0 ± 1.4 | 1.00 ± 0.00 | – | 2 |"
    )
    assert gains.differences(by_row, "Cut-MixMo").splitlines()[2:] == [
        "| single | +11.0 ± 1.0 | a gain |",
        "| MIMO | +5.0 | one seed |",
    ]
    assert "| single, stopped early | +12.0 ± 2.0 | a gain |" in gains.differences(by_row, "Cut-MixMo", "early")


def test_several_images_a_pass_are_held_against_the_same_or_the_usual_answers():
    by_row = {name: measured(50.0, 52.0) for name in ("single", "Cut-MixMo", "MIMO")}
    for seed in ("0", "1"):
        by_row["Cut-MixMo"][seed]["M images a pass %"] = 45.0
        by_row["MIMO"][seed]["M images a pass %"] = 30.0 + int(seed)
    assert gains.differences(by_row, "Cut-MixMo", "several a pass").splitlines()[2:] == [
        "| single | -6.0 ± 1.0 | a loss |",
        "| MIMO, M images a pass | +14.5 ± 0.5 | a gain |",
    ]


def test_what_is_kept_is_merged_by_row_and_seed(tmp_path):
    path, names, corrupted = tmp_path / "kept.json", ["first", "second"], "accuracy, corrupted %"
    one = measured(60.0)["0"]

    def keep(figures):
        study.keep(path, figures, names)
        return json.loads(path.read_text())

    keep({"second": measured(50.0), "gone": measured(10.0)})
    kept = keep({"second": {"10": one, "2": one}, "first": {"0": one | {corrupted: 30.0}}})
    assert list(kept) == ["first", "second", "gone"]  # as in tables, then rows that there are no more
    assert list(kept["second"]) == ["0", "2", "10"]
    assert keep({"first": {"0": one | {corrupted: None}}})["first"]["0"][corrupted] == 30.0  # of the same run
    another = one | {"accuracy %": 61.0, "training_seconds": 70.0, corrupted: None}
    assert keep({"first": {"0": another}})["first"]["0"] == another
    with pytest.raises(ValueError, match="--keep has nothing to keep"):
        keep({})


@pytest.mark.slow
def test_runs_are_made_evaluated_kept_and_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "FIGURES", tmp_path)
    small = dataclasses.replace(noisy_labels.DIGITS, train_images=64, backbone="wrn10_1", epochs=1)
    one = dataclasses.replace(fine_tuning.STUDY, settings={"digits": small})
    command = ["digits", "--noise", "0.4", "--seeds", "2", "--output-dir", str(tmp_path)]
    command += ["--rows", fine_tuning.DEFAULT, fine_tuning.SECOND]
    assert one.main("", [*command, "--only-table"]) == {}
    found = one.main("", [*command, "--keep"])
    assert one.main("", [*command, "--only-table"]) == found == pages.read("fine_tuning-digits-0.4")
    (run,) = rows.recipes(
        one.rows,
        fine_tuning.DEFAULT,
        dataclasses.replace(small, label_noise=0.4, output_dir=f"{tmp_path}/digits-wrn10_1-noise0.4"),
        2,
    )
    last = json.loads((run.folder / "evaluation_last/metrics.json").read_text())
    noisy, right = splits.noisy_labels(run, "train")
    assert last["label_issues"]["wrong"] == (noisy != right).sum()
    figures = found[fine_tuning.DEFAULT]["2"]
    assert figures["M images a pass %"] == pytest.approx(100 * last["multiplexed"]["network"]["accuracy"])
    assert figures["accuracy %"] == pytest.approx(100 * last["uncalibrated"]["accuracy"])


def test_cells_of_the_methods_side_by_side():
    scores = [dict(accuracy=value, nll=0.9, ece=0.05) for value in (0.5, 0.6)]
    runs = [
        {
            "training_seconds": 60.0,
            "test": {"members": [score, score], "ensemble": score, "diversity": {"ratio_of_errors": None}},
        }
        for score in scores
    ]
    # the deviation of 50 and 60 with one degree of freedom is √50
    accuracy = "55.00 ± 7.07"
    assert compare.cells(runs) == [
        f"{accuracy} / {accuracy}",
        *(accuracy, "0.900 ± 0.000", "0.050 ± 0.000", "–", "1.0 ± 0.0"),
    ]
