"""The study of cosub: rows that differ in what they are named for alone, at equal compute."""

import dataclasses

import families
import pytest
import rows
import submodels

from mixmo_keras import datasets
from mixmo_keras.experiments import building


@pytest.mark.parametrize("setting", submodels.SETTINGS)
def test_cosub_has_half_the_epochs_and_all_else_is_the_same(setting):
    single, dropped, cosub = (
        rows.recipes(submodels.ROWS, name, submodels.SETTINGS[setting], 1)[0].resolved() for name in submodels.ROWS
    )
    assert single.epochs == dropped.epochs == 2 * cosub.epochs
    assert (single.drop_path, dropped.drop_path, cosub.drop_path) == (0.0, 0.1, 0.1)
    names = ("method", "epochs", "drop_path", "output_dir")
    others = [
        {key: value for key, value in dataclasses.asdict(one).items() if key not in names}
        for one in (single, dropped, cosub)
    ]
    assert others[0] == others[1]
    assert {key for key in others[1] if others[1][key] != others[2][key]} == {"co_training", "teaching"}


@pytest.mark.parametrize("name", submodels.ROWS)
def test_models_of_the_rows(name):
    (recipe,) = rows.recipes(submodels.ROWS, name, submodels.SETTINGS["vit"], 0)
    assert families.names.FAMILIES["shallow_vit<patch>"]
    recipe = dataclasses.replace(recipe, dataset="digits", backbone="shallow_vit4")
    model = building.build(recipe.resolved(), datasets.info("digits"))
    assert type(model.loss).__name__ == "SigmoidCrossEntropy"
    assert model.loss.multi_hot
    assert (model.co_training is not None) == (name == "cosub")
