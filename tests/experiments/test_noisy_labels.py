"""Recipes with wrong labels: what is learned and measured by which labels, and the table of methods."""

import dataclasses
import json

import digits
import noisy_labels
import numpy as np
import pytest

from mixmo_keras import datasets
from mixmo_keras.datasets import label_noise
from mixmo_keras.experiments import Recipe, gains, splits

NOISY = Recipe(dataset="digits", train_images=200, label_noise=0.5, data_seed=3)


def labels(recipe: Recipe, split: str) -> np.ndarray:
    return label_noise.labels_of(splits.load(recipe, split))


def test_who_sees_which_labels():
    right = {split: label_noise.labels_of(splits.chosen(NOISY, split)) for split in ("train", "validation", "test")}
    assert {split: len(values) for split, values in right.items()} == {"train": 200, "validation": 28, "test": 360}
    noisy, same = splits.noisy_labels(NOISY, "train")
    np.testing.assert_array_equal(same, right["train"])
    np.testing.assert_array_equal(labels(NOISY, "train"), noisy)
    assert 0.3 < (noisy != same).mean() < 0.6
    assert (labels(NOISY, "validation") != right["validation"]).any()
    clean = dataclasses.replace(NOISY, clean_validation=True)
    np.testing.assert_array_equal(labels(clean, "validation"), right["validation"])
    np.testing.assert_array_equal(labels(NOISY, "test"), right["test"])
    everything = Recipe(dataset="digits")
    np.testing.assert_array_equal(labels(everything, "train"), label_noise.labels_of(datasets.load("digits", "train")))


def test_names_and_what_has_no_meaning():
    assert NOISY.name == "digits-200images-noise0.5-data3-cut_mixmo-wrn28_10-seed0"
    asymmetric = dataclasses.replace(NOISY, noise_kind="asymmetric", clean_validation=True)
    assert asymmetric.name.startswith("digits-200images-noise0.5_asymmetric-clean_validation-data3-")
    for changes, message in [
        (dict(noise_kind="asymmetric"), "no meaning without `label_noise`"),
        (dict(clean_validation=True), "no meaning without `label_noise`"),
        (dict(data_seed=1), "`data_seed` .* no meaning without"),
        (dict(label_noise=1.5), "`label_noise` must be"),
        (dict(noise_kind="human"), "`noise_kind` must be"),
    ]:
        with pytest.raises(ValueError, match=message):
            Recipe(dataset="digits", **changes).resolved()


def measured(*accuracies: float, early: float = 0.5) -> dict[int, dict]:
    return {
        seed: {
            "last": {"uncalibrated": {"accuracy": value, "nll": 1.0, "ece": 0.1, "aurc": 0.2}},
            "early": {"uncalibrated": {"accuracy": early, "nll": 2.0}},
            "training_seconds": 60.0,
        }
        for seed, value in enumerate(accuracies)
    }


def test_a_difference_is_a_gain_beyond_two_standard_errors():
    assert gains.difference([0.3, 0.5, 0.4], [0.1, 0.1, 0.1]) == {
        "mean": pytest.approx(0.3),
        "standard_error": pytest.approx(0.1 / np.sqrt(3)),  # the deviation of .2, .4, .3 is .1
        "seeds": 3,
        "called": "more",
    }
    assert gains.difference([0.1, 0.5], [0.2, 0.3])["called"] == "same"
    assert gains.difference([0.1, 0.1], [0.2, 0.3])["called"] == "less"
    assert gains.difference([0.5], [0.1])["called"] == "not known"


def test_tables_by_hand():
    rows = {"single": measured(0.50, 0.52), "Cut-MixMo": measured(0.60, 0.64), "MIMO": measured(0.55)}
    lines = gains.table(rows).splitlines()
    # no member's accuracy and no labels were measured
    cells = ["single", "51.0 ± 1.4", "50.0 ± 0.0", "–", "1.00 ± 0.00", "2.00 ± 0.00", "–", "0.100 ± 0.000"]
    assert lines[2] == f"| {' | '.join([*cells, '0.200 ± 0.000', '–', '–', '2'])} |"
    assert gains.differences(rows, "Cut-MixMo").splitlines()[2:] == [
        "| Cut-MixMo − single | +11.0 ± 1.0 | a gain |",
        "| Cut-MixMo − MIMO | +5.0 | one seed |",
    ]
    assert "| Cut-MixMo − single, stopped early | +12.0 ± 2.0 | a gain |" in gains.differences(
        rows, "Cut-MixMo", early=True
    )


def test_a_deep_ensemble_takes_the_networks_of_its_single_row():
    rows, base = noisy_labels.ROWS, NOISY
    assert gains.shared(rows, "two networks + CutMix") == "single + CutMix"
    assert gains.shared(rows, "Cut-MixMo") == "Cut-MixMo"
    one = gains.recipes(rows["single + CutMix"], "single + CutMix", base, 1)
    two = gains.recipes(rows["two networks + CutMix"], "single + CutMix", base, 1)
    assert two[0] == one[0]
    assert [(recipe.seed, recipe.data_seed) for recipe in two] == [(1, 1), (101, 1)]
    assert two[1].folder.parent == one[0].folder.parent


@pytest.mark.slow  # tests of runs and of evaluate.py hold the parts
def test_runs_are_made_evaluated_and_read_back(tmp_path, monkeypatch, capsys):
    small = dataclasses.replace(digits.RECIPE, train_images=64, backbone="wrn10_1", epochs=1)
    monkeypatch.setitem(noisy_labels.SETTINGS, "digits", small)
    command = ["digits", "--rows", "Cut-MixMo", "--seeds", "2", "--output-dir", str(tmp_path)]
    assert noisy_labels.main([*command, "--only-table"]) == {}
    figures = noisy_labels.main(command)["Cut-MixMo"][2]
    assert (
        figures
        == noisy_labels.main([*command, "--only-table", "--figures", str(tmp_path / "kept.json")])["Cut-MixMo"][2]
    )
    recipe = gains.recipes(noisy_labels.ROWS["Cut-MixMo"], "Cut-MixMo", dataclasses.replace(small, label_noise=0.4), 2)[
        0
    ]
    noisy, right = splits.noisy_labels(recipe, "train")
    assert figures["last"]["label_issues"]["wrong"] == (noisy != right).sum()
    assert figures["last"]["temperature"]["fitted_on"] == 9
    assert figures["early"]["images"]["test"] == 360
    kept = json.loads((tmp_path / "kept.json").read_text())["Cut-MixMo"]["2"]
    assert kept["accuracy %"] == pytest.approx(100 * figures["last"]["uncalibrated"]["accuracy"])
    assert "| Cut-MixMo |" in capsys.readouterr().out
