"""Every public name that takes something has rows in these tables."""

import re
import types
from pathlib import Path

import pytest

import mixmo_keras

# what takes nothing from users: it is called by what does, with what that made and checked
CALLED_BY_OTHERS = {
    "augmentation": {"Augmentation", "apply", "check_size", "draw", "get", "move", "moves_maps"},
    "calibration": {"trying"},  # takes nothing
    "checkpoints": {"Skipping", "begin_as"},  # of two models that are there
    "datasets": {"describe"},
    "distribution": {"across_workers", "is_chief", "num_replicas", "num_workers", "of_model", "scope", "workers"},
    "evaluation": {"Evaluation", "TaskEvaluation"},
    "losses": {"check_labels", "checked_reduction", "default", "get", "is_of_another_task", "name_of", "per_row"},
    # mask functions are called by a step; the others are parts of theirs
    "masks": {
        *("blurred_noise", "box", "channel_concat", "fmix", "fourier_noise", "horizontal", "largest", "patch_side"),
        *("patchup", "patchup_soft", "vertical"),
    },
    "metrics": set(),
    "pilot": {"Advice", "advice", "check_rows", "gains", "label_noise", "verdict"},  # of what `run` gave
    "precision": {"Precision", "cpu_flag", "warn_if_emulated", "width", "width_of_name"},
    "report": {"Run", "comparison_page", "formatted", "in_columns", "of_task"},
    "schedules": {"ProgressSchedule", "with_warmup"},
    "search": {"cost"},
    "tasks": {"Task", "resolve"},
    "uncertainty": {"information_of_members"},
}
TABLES = "\n".join(path.read_text() for path in Path(__file__).parent.glob("*.py") if path.name != Path(__file__).name)


def names_in(module: types.ModuleType) -> list[str]:
    """The functions and classes that a public module offers."""
    own = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    listed = getattr(module, "__all__", own)
    return [name for name in listed if callable(getattr(module, name)) and name[0] != "_" and not name.isupper()]


def public_names():
    for name in mixmo_keras.__all__:
        value = getattr(mixmo_keras, name)
        if isinstance(value, types.ModuleType):
            yield from ((name, one) for one in names_in(value) if one not in CALLED_BY_OTHERS.get(name, ()))
        elif callable(value):
            yield "mixmo_keras", name


@pytest.mark.parametrize(("place", "name"), [pytest.param(*pair, id=".".join(pair)) for pair in public_names()])
def test_a_public_name_has_rows(place, name):
    assert re.search(rf"\b{name}\b", TABLES), f"{place}.{name} has no row of bad input: add one to a table here"


def test_exceptions_exist():
    for place, names in CALLED_BY_OTHERS.items():
        gone = names - set(names_in(getattr(mixmo_keras, place)))
        assert not gone, f"{place} has no {gone}"
