"""A field of settings is checked by its own check, under the name that users know it by."""

import dataclasses

import numpy as np
import pytest

from mixmo_keras import Batching, Mixing
from mixmo_keras.common.arguments import integer, number
from mixmo_keras.common.settings import Settings, keyword_of, setting
from mixmo_keras.experiments import Recipe


@dataclasses.dataclass(frozen=True)
class Example(Settings):
    repetitions: int = setting(4, "b", integer, keyword="batch_repetitions", least=1)
    root: float | None = setting(3.0, "r", number, above=0)
    name: str = "free"


def test_values_become_pythons_and_what_has_no_check_stays():
    settings = Example(np.int64(2), np.float32(0.5), None)
    assert (settings.repetitions, settings.root, settings.name) == (2, 0.5, None)
    assert (type(settings.repetitions), type(settings.root)) == (int, float)


def test_none_passes_where_the_type_has_it():
    assert Example(root=None).root is None
    with pytest.raises(ValueError, match="`batch_repetitions` must be an integer of at least 1, got None"):
        Example(repetitions=None)


def test_an_error_names_the_keyword():
    with pytest.raises(ValueError, match="`batch_repetitions` must be an integer of at least 1, got 0"):
        Example(0)
    with pytest.raises(ValueError, match="`root` must be a positive number, got -1"):
        Example(root=-1)


@pytest.mark.parametrize(
    ("settings", "name", "option"),
    [(Mixing, "weight_root", "weight_root"), (Batching, "repetitions", "batch_repetitions")],
)
def test_an_option_of_a_recipe_has_the_help_of_its_settings(settings, name, option):
    fields = {field.name: field for field in dataclasses.fields(settings)}
    options = {field.name: field for field in dataclasses.fields(Recipe)}
    assert keyword_of(fields[name]) == option
    assert options[option].metadata["help"] == fields[name].metadata["help"]
