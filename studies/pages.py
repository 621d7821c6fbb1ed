"""The figures that studies keep, and the pages of the documentation that they write from them."""

import json
from pathlib import Path
from typing import Any

from mixmo_keras.common import files

DOCS = Path(__file__).parents[1] / "docs"
FIGURES = Path(__file__).parent / "figures"


def kept_at(name: str) -> Path:
    """The file of the figures of a name."""
    return FIGURES / f"{name}.json"


def read(name: str) -> Any:
    """Figures that were kept."""
    return json.loads(kept_at(name).read_text(encoding="utf-8"))


def put(page: str, name: str, text: str) -> str:
    """A page with a text in the place that `<!-- name -->` and `<!-- /name -->` mark.

    Raises:
        ValueError: the page has no such place.
    """
    before, first, rest = page.partition(f"<!-- {name} -->")
    _, last, after = rest.partition(f"<!-- /{name} -->")
    if not (first and last):
        raise ValueError(f"The page has no place for {name!r}: it is marked <!-- {name} --> and <!-- /{name} -->.")
    return f"{before}{first}\n\n{text}\n\n{last}{after}"


def write(page: str, texts: dict[str, str]) -> None:
    """Puts texts into a page of the documentation, such as "results.md", by the names of their places."""
    content = (DOCS / page).read_text(encoding="utf-8")
    for name, text in texts.items():
        content = put(content, name, text)
    files.write_text(DOCS / page, content)
