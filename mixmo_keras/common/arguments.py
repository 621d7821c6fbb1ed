"""Checks of arguments, with one style of message: "`name` must be <what was expected>, got <what came>."

Every check returns the value in its plain Python type (NumPy's numbers become Python's) and raises `ValueError` for a wrong
type as for a wrong value: whoever passed it needs to read the same sentence.
"""

import math
import operator
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np


def integer(name: str, value: Any, least: int | None = None, most: int | None = None) -> int:
    """An integer, Python's or NumPy's, between `least` and `most`, both included. Booleans and 2.0 are none."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or (least is not None and number < least) or (most is not None and number > most):
        raise ValueError(f"`{name}` must be an integer{_range(least, most)}, got {value!r}.")
    return number


def number(
    name: str,
    value: Any,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    otherwise: str = "",
) -> float:
    """A finite number: `least` ≤ value ≤ `most`, `above` < value < `below`, where given.

    `otherwise` ends what was expected, such as ", or None for equal weights".
    """
    is_number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    valid = is_number and math.isfinite(value)
    valid = valid and (least is None or value >= least) and (most is None or value <= most)
    valid = valid and (above is None or value > above) and (below is None or value < below)
    if not valid:
        raise ValueError(f"`{name}` must be {_interval(least, most, above, below)}{otherwise}, got {value!r}.")
    return float(value)


def boolean(name: str, value: Any) -> bool:
    """True or False, Python's or NumPy's; 0 and 1 are none."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"`{name}` must be True or False, got {value!r}.")
    return bool(value)


def choice(name: str, value: Any, known: Collection[str], otherwise: str = "") -> str:
    """One of the names in `known`. `otherwise` ends what was expected, such as ", or a layer"."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"`{name}` must be one of {', '.join(map(str, known))}{otherwise}, got {value!r}.")
    return value


def known_integer(name: str, value: Any, known: Collection[int]) -> int:
    """One of the integers in `known`."""
    value = integer(name, value)
    if value not in known:
        raise ValueError(f"`{name}` must be one of {', '.join(map(str, known))}, got {value}.")
    return value


def bounds(name: str, value: Any, expected: str, most: float | None = None) -> tuple[float, float]:
    """The least and the greatest of something positive. `expected` says of what."""
    try:
        least, greatest = (number(name, bound, above=0, most=most) for bound in value)
        if least > greatest:
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(f"`{name}` must be the least and the greatest {expected}, got {value}.") from None
    return least, greatest


def names(name: str, value: Any) -> list[str]:
    """Several names in their order; a single string is none, nor are numbers names."""
    if isinstance(value, str) or not isinstance(value, (Sequence, np.ndarray)):
        raise ValueError(f"`{name}` must be a list of names, got {value!r}.")
    if others := [one for one in value if not isinstance(one, str)]:
        raise ValueError(f"`{name}` must be a list of names, which are texts, got one of {others[0]!r}.")
    return [str(one) for one in value]


def different(name: str, values: Collection) -> None:
    """Raises where one of several values is there twice."""
    if len(set(values)) < len(values):
        raise ValueError(f"`{name}` must be different values, got one twice in {list(values)}.")


def instance(name: str, value: Any, kind: type | tuple[type, ...], expected: str) -> Any:
    """A value of a type; `expected` says which in words, such as "a mixmo_keras.Mixing or None"."""
    if not isinstance(value, kind):
        raise ValueError(f"`{name}` must be {expected}, got {value!r}.")
    return value


def function(name: str, value: Any, of: str) -> Any:
    """Something that can be called; `of` says with what, such as "the width"."""
    if not callable(value):
        raise ValueError(f"`{name}` must be a function of {of}, got {value!r}.")
    return value


def image_shape(name: str, value: Any) -> tuple[int, int, int]:
    """(height, width, channels), integers of at least 1."""
    height, width, channels = _lengths(name, value, ("height", "width", "channels"))
    return height, width, channels


def logits(name: str, values: Any, of_members: bool = False) -> np.ndarray:
    """Finite logits of at least one image in float64: (n, K), or (n, M, K) for `of_members`."""
    array = np.asarray(values)
    shape = "(n, M, K)" if of_members else "(n, K)"
    if array.dtype.kind not in "biufV" or array.ndim != (3 if of_members else 2) or not array.size:  # V: bfloat16
        raise ValueError(
            f"`{name}` must be numbers {shape} of at least one image, got {array.dtype} of shape {array.shape}."
        )
    array = np.asarray(array, "float64")
    broken = ~np.isfinite(array.reshape(len(array), -1)).all(-1)
    if broken.any():
        raise ValueError(
            f"`{name}` must be finite, got NaN or infinite ones for {broken.sum()} of {len(array)} images."
        )
    return array


def image_size(name: str, value: Any) -> tuple[int, int]:
    """(height, width), integers of at least 1."""
    height, width = _lengths(name, value, ("height", "width"))
    return height, width


def _lengths(name: str, value: Any, axes: tuple[str, ...]) -> tuple[int, ...]:
    try:
        return tuple(integer(axis, length, least=1) for axis, length in zip(axes, value, strict=True))
    except (TypeError, ValueError):
        raise ValueError(f"`{name}` must be ({', '.join(axes)}), integers of at least 1, got {value!r}.") from None


def _range(least: int | None, most: int | None) -> str:
    if least is not None and most is not None:
        return f" from {least} to {most}"
    return f" of at least {least}" if least is not None else f" of at most {most}" if most is not None else ""


def _interval(least, most, above, below) -> str:
    low, high = (above if least is None else least), (below if most is None else most)
    if low is not None and high is not None:
        return f"a number within {'(' if least is None else '['}{low:g}, {high:g}{')' if most is None else ']'}"
    if low is not None:
        if least is not None:
            return f"a number of at least {least:g}"
        return "a positive number" if above == 0 else f"a number greater than {above:g}"
    if high is not None:
        return f"a number less than {below:g}" if most is None else f"a number of at most {most:g}"
    return "a finite number"
