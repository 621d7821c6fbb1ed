"""Every Python block of README.md and docs/ runs, README's on the network it names; every file that they name exists."""

import ast
import json
import re
import runpy
from pathlib import Path

import pytest
import tiny

from mixmo_keras import datasets
from mixmo_keras.networks.backbones import names

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SLOW = ("backbones", "evaluation", "extending", "multiplexing", "search", "segmentation", "serving")
BLOCKS = [
    pytest.param(block, id=f"{page.stem}-{number}", marks=[pytest.mark.slow] * (page.stem in SLOW))
    for page in PAGES
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))
]


@pytest.fixture
def few_images(monkeypatch):
    """Of 48 images an epoch is over after three steps, and an evaluation after one."""
    load = datasets.load

    def few(name, split, *rest, **options):
        return load(name, split, *rest, **options).take(48)

    monkeypatch.setattr(datasets, "load", few)


@pytest.mark.usefixtures("few_images")
@pytest.mark.parametrize("block", BLOCKS)
def test_blocks_run(block, tmp_path, monkeypatch, request):
    if "README" not in request.node.name:  # which runs as it will for its readers
        request.getfixturevalue("eagerly")
        monkeypatch.setattr(names, "FAMILIES", {"wrn10_<channels>": tiny.named_backbone, **names.FAMILIES})
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "docs", "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_places_of_figures_are_filled(page):
    places = re.findall(r"<!-- ([\w.-]+) -->(.*?)<!-- /\1 -->", page.read_text(), re.DOTALL)
    assert not [name for name, text in places if not text.strip()]


def test_the_readme_begins_with_python():
    assert "```python" in README.splitlines()[:30]


def test_the_readme_names_every_recipe():
    recipes = {path.name for path in (ROOT / "recipes").glob("*.py")}
    assert not {name for name in recipes if f"recipes/{name}" not in README and not name.startswith("demo")}


def test_what_is_said_of_speed_is_what_was_measured():
    kept = json.loads((ROOT / "studies/figures/several_a_pass-wrn16_2.json").read_text())
    by_name = kept["batches"]["64"]
    two, three = (by_name[f"M={m} images a pass"]["over_single"] for m in (2, 3))
    sentence = r"([\d.]+) times the single network's images per second with two, ([\d.]+) with three"
    said = re.search(sentence, " ".join(README.split()))
    assert said.groups() == (f"{two:.2f}", f"{three:.2f}")
    assert two >= 1.85
    assert three >= 2.6
    assert f"| {two:.3f} |" in (ROOT / "docs/multiplexing.md").read_text()


@pytest.mark.slow
def test_the_tutorial(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "docs" / "tutorial.py"), run_name="__main__")
    printed = capsys.readouterr().out
    accuracy = float(re.search(r"ensemble: ([\d.]+)%", printed)[1])
    assert accuracy > 95
    assert "exported: saved_models/tutorial/1" in printed


def test_the_notebook_is_the_script():
    script = (ROOT / "docs/tutorial.py").read_text()
    made = runpy.run_path(str(ROOT / "docs/notebook.py"))["notebook"](script)
    assert (ROOT / "docs/tutorial.ipynb").read_text() == made, "python docs/notebook.py writes it anew"
    cells = json.loads(made)["cells"]
    assert "".join(cells[0]["source"]).startswith("# An ensemble in one network")
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    assert all(compile(one, "cell", "exec") for one in code)
    # nothing of the script is left out, and nothing comes twice
    parts = ast.parse(script).body
    statements = [ast.unparse(part) for part in parts if not _is_text(part)]
    assert [ast.unparse(part) for one in code for part in ast.parse(one).body] == statements
    assert len(texts) == len(parts) - len(statements)


def _is_text(part: ast.stmt) -> bool:
    return isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)


def test_workflows_run_targets_of_the_makefile():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for workflow in ("tests", "docs", "release"):
        steps = (ROOT / f".github/workflows/{workflow}.yml").read_text()
        [target] = re.findall(r"run: make (\w+)$", steps, re.MULTILINE)
        assert target in targets


def test_commands_name_existing_files():
    text = "\n".join(page.read_text() for page in PAGES)
    for script in set(re.findall(r"python ((?:recipes|studies|benchmarks)/\w+\.py)", text)):
        assert (ROOT / script).exists(), script
