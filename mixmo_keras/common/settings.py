"""Dataclasses of settings, which are saved with a model and are options of a command line."""

import copy
import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Collection
from typing import Any, Self

import keras

from mixmo_keras.common.arguments import choice


class Settings:
    """A frozen dataclass whose fields are made by `setting`. It checks them, and its configuration is its fields.

    Raises:
        ValueError: a value is not what its check expects.
    """

    def __post_init__(self):
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            object.__setattr__(self, field.name, checked(field, getattr(self, field.name)))  # in Python's own types

    def get_config(self) -> dict[str, Any]:
        """The fields; functions and objects in them as Keras saves them."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {name: keras.saving.serialize_keras_object(value) for name, value in values.items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        config = copy.deepcopy(config)  # Keras empties what it deserializes
        return cls(**{name: keras.saving.deserialize_keras_object(value) for name, value in config.items()})


def setting(
    default: Any, text: str, check: Callable[..., Any] | None = None, keyword: str | None = None, **bounds
) -> Any:
    """A field of a dataclass of settings.

    Args:
        default: Its default.
        text: What it is, as `--help` says it.
        check: A function `(name, value, **bounds)` of `common.arguments` that returns the value or raises. Defaults to none.
        keyword: The name under which methods and command lines know it. Defaults to the field's name.
        **bounds: Arguments of the check.
    """
    check = None if check is None else functools.partial(check, **bounds)
    return dataclasses.field(default=default, metadata={"help": text, "check": check, "keyword": keyword})


def one_of(known: Collection[str], default: str | None, text: str, more: str = "") -> Any:
    """A field whose values are the names in `known`, which its help says behind `text`; `more` ends the help."""
    return setting(default, f"{text}: {', '.join(known)}{more}", choice, known=known)


def keyword_of(field: dataclasses.Field) -> str:
    """The name under which methods and command lines know a field."""
    return field.metadata.get("keyword") or field.name


def checked(field: dataclasses.Field, value: Any) -> Any:
    """The value after the field's check. `None` passes where the type of the field has it."""
    check = field.metadata.get("check")
    if check is None or (value is None and types.NoneType in typing.get_args(field.type)):
        return value
    return check(keyword_of(field), value)
