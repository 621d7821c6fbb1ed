"""Durations in words."""

import pytest

from mixmo_keras.common.durations import duration


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(8.4, "8 s"), (89, "89 s"), (91, "2 min"), (5399, "1 h 30 min"), (7530, "2 h 6 min"), (273600, "3 days 4 h")],
)
def test_durations(seconds, said):
    assert duration(seconds) == said
