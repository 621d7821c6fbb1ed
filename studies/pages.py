"""The pages of the documentation that studies write, and the folder in which studies keep their figures."""

from pathlib import Path

from mixmo_keras.common import files

DOCS = Path(__file__).parents[1] / "docs"
FIGURES = Path(__file__).parent / "figures"


def put(page: str, name: str, text: str) -> str:
    """A page of documentation with a text in the place that `<!-- name -->` and `<!-- /name -->` mark.

    Raises:
        ValueError: the page has no such place.
    """
    before, first, rest = page.partition(f"<!-- {name} -->")
    _, last, after = rest.partition(f"<!-- /{name} -->")
    if not (first and last):
        raise ValueError(f"The page has no place for {name!r}: it is marked <!-- {name} --> and <!-- /{name} -->.")
    return f"{before}{first}\n\n{text}\n\n{last}{after}"


def write(path: Path, texts: dict[str, str]) -> None:
    """Puts texts into a page of the documentation, each in the place of its name.

    Raises:
        ValueError: the page has no such place.
    """
    page = path.read_text()
    for name, text in texts.items():
        page = put(page, name, text)
    files.write_text(path, page)
