"""The defaults of options: a recipe's own, the method's, or that of the settings or the function that an option is for."""

import dataclasses
import enum
import inspect
from collections.abc import Callable
from typing import Any


class Default(enum.Enum):
    """The default of an option that is left to the method, of which `None` may be another value: `weight_root=None`.

    In a resolved recipe an option still has it where the method has no such option.
    """

    METHOD = "the method's"

    def __str__(self) -> str:
        return self.value

    __repr__ = __str__


def taken_from(settings: type, name: str, more: str = "", check: Callable | None = None, default=Default.METHOD) -> Any:
    """A field of `Recipe` for one of a dataclass of settings, where its help and its check stand.

    Args:
        settings: The dataclass, such as `Mixing`.
        name: The field's name there.
        more: What the help of a command line adds.
        check: A check in place of the field's, which may take functions and layers: a recipe is saved as JSON.
        default: The option's default. Defaults to the method's own.
    """
    (field,) = (field for field in dataclasses.fields(settings) if field.name == name)
    metadata = {**field.metadata, "help": field.metadata["help"] + more, "check": check or field.metadata["check"]}
    return dataclasses.field(default=default, metadata=metadata)


def default_of(function: Callable, name: str) -> Any:
    """The default of an argument in its function's signature."""
    return inspect.signature(function).parameters[name].default
