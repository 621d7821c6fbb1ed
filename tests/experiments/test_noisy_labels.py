"""Recipes with wrong labels: what is learned and measured by which labels, and the table of methods."""

import dataclasses
import json

import numpy as np
import pytest
import search as search_recipe

from mixmo_keras import datasets, pilot
from mixmo_keras.datasets import views
from mixmo_keras.experiments import Recipe, splits

NOISY = Recipe(dataset="digits", train_images=200, label_noise=0.5, data_seed=3)


def labels(recipe: Recipe, split: str) -> np.ndarray:
    return views.labels_of(splits.load(recipe, split))


def test_who_sees_which_labels():
    right = {split: views.labels_of(splits.chosen(NOISY, split)) for split in ("train", "validation", "test")}
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
    np.testing.assert_array_equal(labels(everything, "train"), views.labels_of(datasets.load("digits", "train")))


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


@pytest.mark.slow
def test_the_estimate_of_wrong_labels_is_near_the_truth(tmp_path):
    arguments = ["--dataset", "digits", "--pilot", "--widths", "1", "--seeds", "0", "--epochs", "10"]
    for noise, folder in ((0.0, "digits-pilot"), (0.4, "digits-noise0.4-pilot")):
        found = search_recipe.main([*arguments, "--label-noise", f"{noise}", "--output-dir", str(tmp_path)])
        assert json.loads((tmp_path / folder / "pilot.json").read_text()) == found
        rate, *_ = pilot.label_noise(found)
        assert abs(rate - noise) < 0.1
