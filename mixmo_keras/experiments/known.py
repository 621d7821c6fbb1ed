"""Names and defaults of the library that command lines say, without importing what they are of: TensorFlow takes seconds.

`known.json` is written by `python -m mixmo_keras.experiments.collected`, from the library itself. A test says when it has to
be written anew: after a mask, a dataset or a method was added, or a default was changed.
"""

import json
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("known.json")
KNOWN: dict[str, Any] = json.loads(PATH.read_text())


def names(kind: str) -> list[str]:
    """The names of a kind, such as `"masks"` or `"methods"`, in their order."""
    return list(KNOWN.get(kind, []))


def default(name: str) -> Any:
    """The default of something that is no method's own."""
    return KNOWN["defaults"].get(name)


def method_defaults(method: str) -> dict[str, Any]:
    """The keywords of a method with their defaults, as `models.methods.defaults` gives them."""
    return KNOWN["methods"][method]
