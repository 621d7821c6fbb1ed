"""Checks of options that are paths and texts, and what such texts mean."""

import os
from typing import Any

from mixmo_keras.common.arguments import instance
from mixmo_keras.networks.views import checked as check_views


def path(name: str, value: Any) -> str:
    """A path, checked, as a text."""
    return os.fspath(instance(name, value, (str, os.PathLike), "a path"))


def text(name: str, value: Any) -> str:
    """A text, checked."""
    return instance(name, value, str, "a text")


def views(name: str, value: Any) -> int:
    """A number of views of an image, checked."""
    return check_views(value)


def rates_by_name(name: str, value: Any) -> str:
    """The text of `--rates`, checked."""
    parse_rates(instance(name, value, str, "a text"))
    return value


def parse_rates(rates_text: str) -> dict[str, float]:
    """`"beta=64,whitening/kernel=0"` as names and numbers."""
    rates = {}
    for part in rates_text.split(","):
        end, _, rate = part.strip().rpartition("=")
        try:
            rates[end] = float(rate)
        except ValueError:
            end = ""
        if not end:
            raise ValueError(
                f"`rates` must be names and numbers, such as beta=64,whitening/kernel=0, got {rates_text!r}."
            )
    return rates
