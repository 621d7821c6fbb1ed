"""The engine of the studies of gains: rows, differences, tables, what is kept."""

import dataclasses
import json

import beyond
import both_modes
import digits
import gains
import gains_command
import noisy_labels
import numpy as np
import pages
import pytest
import repetition

from mixmo_keras import corruptions
from mixmo_keras.evaluation.report import charts
from mixmo_keras.experiments import evaluating, splits


@pytest.mark.parametrize("noise", [0.0, 0.4])
@pytest.mark.parametrize("recipe", [beyond, noisy_labels, repetition], ids=lambda module: module.__name__)
def test_every_run_of_a_table_can_begin(recipe, noise):
    for base in recipe.SETTINGS.values():
        for name, row in recipe.ROWS.items():
            runs = [
                one.resolved()
                for seed in (0, 1)
                for one in gains.recipes(row, name, dataclasses.replace(base, label_noise=noise), seed)
            ]
            assert len({run.folder for run in runs}) == 2 * row.networks
            draws_images = bool(base.train_images or noise)
            assert [run.data_seed for run in runs] == [
                seed * draws_images for seed in (0, 1) for _ in range(row.networks)
            ]


def measured(*accuracies: float) -> dict[str, gains.Figures]:
    others = {title: None for title, *_ in (*gains.COLUMNS, *gains.PARTNERS)}
    known = {"stopped early %": 50.0, "NLL": 1.0, "AURC": 0.2}
    return {
        str(seed): {**others, **known, "accuracy %": value, "training_seconds": 60.0}
        for seed, value in enumerate(accuracies)
    }


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
    rows = {"single": measured(50, 52), "Cut-MixMo": measured(60, 64), "MIMO": measured(55)}
    cells = [
        "single",
        "51.0 ± 1.4",
        "50.0 ± 0.0",
        "–",
        "–",
        "1.00 ± 0.00",
        "–",
        "–",
        "–",
        "0.200 ± 0.000",
        "–",
        "–",
        "2",
    ]
    assert gains.table(rows).splitlines()[2] == f"| {' | '.join(cells)} |"
    assert gains.differences(rows, "Cut-MixMo").splitlines()[2:] == [
        "| single | +11.0 ± 1.0 | a gain |",
        "| MIMO | +5.0 | one seed |",
    ]
    assert "| single, stopped early | +12.0 ± 2.0 | a gain |" in gains.differences(rows, "Cut-MixMo", "early")


def test_two_faces_are_held_against_two_faces():
    rows = {name: measured(50.0, 52.0) for name in ("single", "Cut-MixMo", "Cut-MixMo, ρ = 0.5")}
    for seed in ("0", "1"):
        rows["Cut-MixMo"][seed]["M images a pass %"] = 45.0
        rows["Cut-MixMo, ρ = 0.5"][seed]["M images a pass %"] = 30.0 + int(seed)
    assert gains.differences(rows, "Cut-MixMo", "several a pass").splitlines()[2:] == [
        "| single | -6.0 ± 1.0 | a loss |",
        "| Cut-MixMo, ρ = 0.5, M images a pass | +14.5 ± 0.5 | a gain |",
    ]


def test_figures_of_corrupted_images_stand_beside_the_usual_ones():
    rows = {name: measured(50.0, 52.0) for name in ("single", "MIMO", "Cut-MixMo")}
    assert gains_command.corrupted(rows, "Cut-MixMo") == {}  # nothing was evaluated on them
    for name, accuracy in (("single", 30.0), ("Cut-MixMo", 40.0)):
        for seed in ("0", "1"):
            rows[name][seed]["accuracy, corrupted %"] = accuracy + int(seed)
            rows[name][seed]["ECE, calibrated, corrupted"] = 0.125
    assert gains_command.corrupted(rows, "MIMO") == {}  # ours was not
    shown = gains_command.corrupted(rows, "Cut-MixMo")
    assert shown["corrupted"].splitlines() == [
        "| method | accuracy % | NLL, calibrated | ECE, calibrated | accuracy, corrupted % | NLL, calibrated, corrupted "
        "| ECE, calibrated, corrupted | seeds |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        "| single | 51.0 ± 1.4 | – | – | 30.5 ± 0.7 | – | 0.125 ± 0.000 | 2 |",
        "| Cut-MixMo | 51.0 ± 1.4 | – | – | 40.5 ± 0.7 | – | 0.125 ± 0.000 | 2 |",
    ]
    assert shown["corrupted-differences"].splitlines() == [
        "| Cut-MixMo, corrupted, against | points ± standard error | beyond 2 standard errors |",
        "|---|---:|---:|",
        "| single, corrupted | +10.0 ± 0.0 | a gain |",
    ]


def test_what_is_kept_is_merged_by_row_and_seed(tmp_path):
    kept, rows = tmp_path / "kept.json", ["first", "second"]
    gains_command.keep(kept, {"second": measured(50.0), "gone": measured(10.0)}, rows)
    one = measured(60.0)["0"]
    gains_command.keep(kept, {"second": {"10": one, "2": one}, "first": {"0": one}}, rows)
    found = gains_command.read(kept)
    assert list(found) == ["first", "second", "gone"]  # as in tables, then rows that there are no more
    assert list(found["second"]) == ["0", "2", "10"]
    corrupted = "accuracy, corrupted %"
    gains_command.keep(kept, {"first": {"0": one | {corrupted: 30.0}}}, rows)
    gains_command.keep(kept, {"first": {"0": one | {corrupted: None}}}, rows)
    assert gains_command.read(kept)["first"]["0"][corrupted] == 30.0  # of the same run, which nobody evaluated so again
    another = one | {"accuracy %": 61.0, "training_seconds": 70.0, corrupted: None}
    gains_command.keep(kept, {"first": {"0": another}}, rows)
    assert gains_command.read(kept)["first"]["0"] == another


def test_a_chart_shows_a_panel_a_case_and_whose_rows_are_ours():
    panels = {"few": {"single": measured(50, 52), "ours": measured(60)}, "many": {"single": measured(70, 72)}}
    figure = gains.chart(panels, ours=["ours"])
    first, _ = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["few (1–2 seeds)", "many (2 seeds)"]
    assert [label.get_text() for label in first.get_yticklabels()] == ["ours", "single"]
    assert all(axes.get_xlabel() for axes in figure.axes)
    dots = [line for line in first.get_lines() if line.get_marker() == "o"]
    by_place = {tuple(line.get_xydata()[0]): line.get_color() for line in dots}
    assert by_place == {
        (60, 0): charts.BLUE,
        (50, 0): charts.BLUE,
        (51, 1): charts.GREY,
        (50, 1): charts.GREY,
    }


def test_tables_are_put_into_their_places():
    page = "before\n<!-- a -->\nold\n<!-- /a -->\nafter\n"
    assert pages.put(page, "a", "new") == "before\n<!-- a -->\n\nnew\n\n<!-- /a -->\nafter\n"
    with pytest.raises(ValueError, match="no place for 'b'"):
        pages.put(page, "b", "new")


def test_a_deep_ensemble_takes_the_networks_of_its_single_row():
    rows, base = noisy_labels.ROWS, noisy_labels.SETTINGS["digits"]
    assert gains.shared(rows, "two networks + CutMix") == "single + CutMix"
    assert gains.shared(rows, "Cut-MixMo") == "Cut-MixMo"
    one = gains.recipes(rows["single + CutMix"], "single + CutMix", base, 1)
    two = gains.recipes(rows["two networks + CutMix"], "single + CutMix", base, 1)
    assert two[0] == one[0]
    assert [(recipe.seed, recipe.data_seed) for recipe in two] == [(1, 1), (101, 1)]
    assert two[1].folder.parent == one[0].folder.parent


def test_a_rows_rate_is_a_factor_of_the_learning_rate():
    base = noisy_labels.SETTINGS["digits"]
    slower = gains.Row(dict(method="single"), rate=0.2)
    assert gains.recipes(slower, "slower", base, 0)[0].learning_rate == pytest.approx(0.2 * base.learning_rate)
    with pytest.raises(
        ValueError, match="the rate of 'slower' is a factor of the recipe's learning_rate, which is None"
    ):
        gains.recipes(slower, "slower", dataclasses.replace(base, learning_rate=None), 0)


def test_a_row_whose_steps_cost_twice_trains_for_half_the_epochs():
    plain, sharp = (
        gains.recipes(beyond.ROWS[name], name, beyond.SETTINGS["digits"], 0)[0].resolved()
        for name in ("Cut-MixMo", "Cut-MixMo + SAM")
    )
    assert (plain.epochs, plain.sam) == (40, None)
    assert (sharp.epochs, sharp.sam) == (20, 0.05)
    assert sharp.name == "digits-1000images-cut_mixmo-sam0.05-wrn10_2-seed0"
    others = [gains.recipes(row, name, beyond.SETTINGS["digits"], 0)[0] for name, row in beyond.ROWS.items()]
    assert len({recipe.folder for recipe in others}) == len(beyond.ROWS)


def test_what_helps_beyond_the_papers_is_put_into_the_results(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    monkeypatch.setattr(pages, "FIGURES", tmp_path)
    rows = {"single": measured(50.0, 52.0), "Cut-MixMo": measured(60.0, 63.0)}
    (tmp_path / "beyond-digits-0.4.json").write_text(json.dumps(rows))
    marks = "".join(
        f"<!-- beyond-digits-0.4-{part} --><!-- /beyond-digits-0.4-{part} -->" for part in ("table", "differences")
    )
    (tmp_path / "results.md").write_text(marks)
    assert beyond.main(["digits", "--noise", "0.4", "--docs"]) == rows
    assert gains.table(rows) in (tmp_path / "results.md").read_text()
    assert "| single | +10.5 ± 0.5 | a gain |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        beyond.main(["digits", "--docs", "--keep"])


@pytest.mark.slow
def test_accuracy_beside_images_per_second(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    monkeypatch.setattr(pages, "FIGURES", tmp_path)
    rows = {name: measured(50.0, 52.0) for name in ("single", "narrower single", "two networks", "Cut-MixMo")}
    for seed in ("0", "1"):
        rows["Cut-MixMo"][seed]["M images a pass %"] = 40.0
        rows["Cut-MixMo"][seed] |= {title: 10.0 + int(seed) for title, *_ in gains.PARTNERS}
    (tmp_path / "noisy_labels-digits-0.4.json").write_text(json.dumps(rows))
    small = dataclasses.replace(noisy_labels.SETTINGS["digits"], backbone="wrn10_1")
    monkeypatch.setitem(noisy_labels.SETTINGS, "digits", small)
    points = both_modes.main(["digits", "--rounds", "2", "--keep"])
    assert list(points) == [
        *("single", "narrower single", "two networks"),
        *("Cut-MixMo, the ensemble", "Cut-MixMo, 2 images a pass"),
    ]
    assert points["single"]["times as fast"] == 1
    assert points["Cut-MixMo, the ensemble"]["accuracy %"] == [50.0, 52.0]
    assert points["Cut-MixMo, 2 images a pass"]["accuracy %"] == [40.0, 40.0]
    assert "| digits | two networks | 51.0 ± 1.4 | 2 |" in capsys.readouterr().out

    page = tmp_path / "multiplexing.md"
    page.write_text("<!-- accuracy --><!-- /accuracy --><!-- partners --><!-- /partners -->")
    assert both_modes.main(["--docs"]) == {"digits": points}
    assert page.read_text().count("| digits |") == 6  # one of partners
    assert "| digits | 40% | 10.5 ± 0.7 |" in page.read_text()
    assert (tmp_path / "both_modes.png").exists()
    for wrong in ([], ["digits", "--docs"], ["--docs", "--keep"], ["--docs", "--rounds", "2"]):
        with pytest.raises(SystemExit, match="2"):
            both_modes.main(wrong)


@pytest.mark.slow  # tests of runs and of evaluate.py hold the parts
def test_runs_are_made_evaluated_and_read_back(tmp_path, monkeypatch, capsys):
    small = dataclasses.replace(digits.RECIPE, train_images=64, backbone="wrn10_1", epochs=1)
    monkeypatch.setitem(noisy_labels.SETTINGS, "digits", small)
    command = ["digits", "--rows", "Cut-MixMo", "--seeds", "2", "--output-dir", str(tmp_path)]
    assert noisy_labels.main([*command, "--only-table"]) == {}
    monkeypatch.setattr(pages, "FIGURES", tmp_path)
    figures = noisy_labels.main(command)["Cut-MixMo"]["2"]
    assert noisy_labels.main([*command, "--only-table", "--keep"]) == {"Cut-MixMo": {"2": figures}}
    recipe = gains.recipes(noisy_labels.ROWS["Cut-MixMo"], "Cut-MixMo", dataclasses.replace(small, label_noise=0.4), 2)[
        0
    ]
    folder = tmp_path / "digits-wrn10_1-noise0.4/Cut-MixMo" / recipe.name
    last, early = (json.loads((folder / f"evaluation_{key}/metrics.json").read_text()) for key in ("last", "early"))
    noisy, right = splits.noisy_labels(recipe, "train")
    assert last["label_issues"]["wrong"] == (noisy != right).sum()
    assert "9 validation images are too few" in last["temperature"]["not_applied"]["why"]
    assert figures["M images a pass %"] == pytest.approx(100 * last["multiplexed"]["network"]["accuracy"])
    assert figures["accuracy %"] == pytest.approx(100 * last["uncalibrated"]["accuracy"])
    assert figures["accuracy, corrupted %"] is None
    with monkeypatch.context() as few:
        few.setattr(corruptions, "CORRUPTIONS", {"contrast": corruptions.CORRUPTIONS["contrast"]})
        few.setattr(evaluating, "CORRUPTIONS", corruptions.CORRUPTIONS)
        figures = noisy_labels.main([*command, "--corrupted"])["Cut-MixMo"]["2"]
    shifted = json.loads((folder / "evaluation_corrupted/metrics.json").read_text())["corruptions"]
    assert figures["accuracy, corrupted %"] == pytest.approx(100 * shifted["mean_accuracy"])
    assert figures["ECE, calibrated, corrupted"] == pytest.approx(shifted["mean_ece"])
    assert noisy_labels.main([*command, "--only-table", "--keep"]) == {"Cut-MixMo": {"2": figures}}
    assert figures["stopped early %"] == pytest.approx(100 * early["uncalibrated"]["accuracy"])
    places = "".join(
        f"<!-- noisy_labels-digits-0.4-{part} -->\n<!-- /noisy_labels-digits-0.4-{part} -->\n"
        for part in ("table", "differences", "stopped-early", "several-a-pass", "corrupted", "corrupted-differences")
    )
    (tmp_path / "results.md").write_text(places)
    noisy_labels.main(["digits", "--docs"])
    assert gains.table({"Cut-MixMo": {"2": figures}}) in (tmp_path / "results.md").read_text()
    assert "| Cut-MixMo |" in capsys.readouterr().out
