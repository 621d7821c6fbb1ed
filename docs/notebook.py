"""Writes docs/tutorial.ipynb from docs/tutorial.py: python docs/notebook.py

A script in the format of Keras' code examples has its text in strings of its own between the code; each becomes a cell.
"""

import ast
import json
from pathlib import Path

HERE = Path(__file__).parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def notebook(script: str) -> str:
    """The notebook of a script, as JSON."""
    lines, cells = script.splitlines(), []
    code_from = 0
    for node in ast.parse(script).body:
        if not (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        ):
            continue
        cells.append(("code", "\n".join(lines[code_from : node.lineno - 1])))
        cells.append(("markdown", node.value.value))
        code_from = node.end_lineno or node.lineno
    cells.append(("code", "\n".join(lines[code_from:])))
    cells = [(kind, text.strip()) for kind, text in cells if text.strip()]
    cells[0] = ("markdown", _title(cells[0][1]))
    content = {"cells": [], "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
    for number, (kind, text) in enumerate(cells):
        cell: dict = {
            "cell_type": kind,
            "id": f"cell-{number}",
            "metadata": {},
            "source": text.splitlines(keepends=True),
        }
        content["cells"].append(cell | ({"execution_count": None, "outputs": []} if kind == "code" else {}))
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _title(header: str) -> str:
    """The first cell: a title and what the script is about, of the fields that Keras' examples begin with."""
    fields = dict(line.split(": ", 1) for line in header.splitlines())
    return f"# {fields['Title']}\n\n{fields['Description']}"


if __name__ == "__main__":
    path = HERE / "tutorial.ipynb"
    path.write_text(notebook((HERE / "tutorial.py").read_text(encoding="utf-8")), encoding="utf-8")
    print(path)
