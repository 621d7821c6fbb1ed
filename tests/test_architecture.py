"""What CONTRIBUTING.md says of the house: sizes, and imports that go downwards only."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import mixmo_keras

PACKAGE = Path(mixmo_keras.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
# from the top: a room imports from those below it
ROOMS = (
    *("experiments", "evaluation", "models", "serving"),
    "multiplexing",  # all that knows of several images a pass; models and serving reach it, and it is told the model
    "datasets",
    "tasks",  # what is predicted; the rooms below are told the task
    *("training", "mixing", "networks", "metrics"),
)
AT_THE_BOTTOM = {"common", "keras_internals", "seeds", "version"}  # for all rooms
MOST_ROOMS = 16
LINES, FUNCTION_LINES, ARGUMENTS = 400, 60, 21


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imported(path: Path) -> set[str]:
    """The modules of the package that a file imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mixmo_keras":
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=name)
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert text.count("\n") <= LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            with_docstring = ast.get_docstring(node) is not None
            first = node.body[1].lineno if with_docstring and len(node.body) > 1 else node.lineno
            assert node.end_lineno - first < FUNCTION_LINES, f"{node.name} of {name(path)}, without its docstring"


def modules_of(*folders: str) -> set[str]:
    """The names by which the scripts of folders beside the package would be imported."""
    return {path.stem for folder in folders for path in (PACKAGE.parent / folder).glob("*.py")}


def imported_by_name(path: Path) -> set[str]:
    """The first parts of all modules that a file imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
    return found


def test_the_package_imports_no_script():
    scripts = modules_of("recipes", "studies", "benchmarks") | {"recipes", "studies", "benchmarks", "tests"}
    for path in FILES:
        assert not imported_by_name(path) & scripts, name(path)


SCRIPTS = [
    path
    for folder in ("recipes", "studies", "benchmarks", "docs")
    for path in sorted((PACKAGE.parent / folder).glob("*.py"))
]
PRINT_WITHOUT_THE_PACKAGE = {"predict.py", "predict_folder.py", "demo_client.py"}


def calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]


def is_text_without_encoding(call: ast.Call) -> bool:
    """Whether a call reads or writes text in the encoding of the system, such as cp1252."""
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    function = ast.unparse(call.func)
    if "encoding" in keywords or None in keywords or function in ("files.write_text", "write_text"):
        return False
    name = function.rpartition(".")[2]
    if name in ("read_text", "write_text") or {"text", "universal_newlines"} & keywords.keys():
        return True
    if name not in ("open", "fdopen"):
        return False
    values = [*call.args, keywords.get("mode")]
    modes = [value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)]
    modes = [mode for mode in modes if re.fullmatch("[rwxabt+]+", mode)]
    # modules such as Image and zipfile have an `open` too
    is_of_files = function in ("open", "io.open", "os.fdopen") or bool(modes) or not call.args
    return is_of_files and not any("b" in mode for mode in modes)


@pytest.mark.parametrize(
    ("code", "is_found"),
    {
        "open(path)": True,
        "open(path, 'a')": True,
        "open(path, mode='w')": True,
        "path.open()": True,
        "path.open('w')": True,
        "Path(path).read_text()": True,
        "path.write_text(text)": True,
        "os.fdopen(number, 'w')": True,
        "subprocess.run(command, text=True)": True,
        "open(path, encoding='utf-8')": False,
        "open(path, 'rb')": False,
        "path.open('rb')": False,
        "Image.open(path)": False,
        "files.write_text(path, text)": False,
        "subprocess.run(command)": False,
    }.items(),
)
def test_text_without_encoding_is_found(code, is_found):
    assert is_text_without_encoding(ast.parse(code, mode="eval").body) == is_found


@pytest.mark.parametrize("path", [*FILES, *SCRIPTS], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_text_is_utf8(path):
    found = [ast.unparse(call) for call in calls(path) if is_text_without_encoding(call)]
    assert not found, "pass encoding='utf-8'"


@pytest.mark.parametrize("path", [*FILES, *SCRIPTS], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_only_the_console_prints(path):
    if path.parent.name in ("studies", "benchmarks", "docs") or path.name in PRINT_WITHOUT_THE_PACKAGE:
        return
    found = [ast.unparse(call) for call in calls(path) if ast.unparse(call.func) == "print"]
    assert not found, "use common.console.say, which no character stops"


def test_recipes_import_no_study():
    studies = modules_of("studies", "benchmarks") | {"studies", "benchmarks", "tests"}
    recipes = sorted((PACKAGE.parent / "recipes").glob("*.py"))
    assert recipes
    for path in recipes:
        assert not imported_by_name(path) & studies, path.name


def test_there_are_no_more_rooms():
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there - {"__init__"} == {*ROOMS, *AT_THE_BOTTOM}
    assert len(there) <= MOST_ROOMS


@pytest.mark.parametrize("path", [path for path in FILES if path.parent != PACKAGE], ids=name)
def test_imports_go_downwards(path):
    own = path.relative_to(PACKAGE).parts[0]
    below = {*ROOMS[ROOMS.index(own) :], *AT_THE_BOTTOM} if own in ROOMS else {own, "version"}
    up = {module for module in imported(path) if room(module) not in below}
    assert not up, f"{name(path)} imports from above it"


def test_what_all_rooms_use_uses_none():
    for path in FILES:
        if path.relative_to(PACKAGE).parts[0].removesuffix(".py") in AT_THE_BOTTOM:
            assert not {module for module in imported(path) if room(module) in ROOMS}, name(path)


def test_a_model_takes_few_arguments():
    parameters = inspect.signature(mixmo_keras.MixMo.__init__).parameters
    assert len(parameters) - len({"self", "kwargs", "options"} & set(parameters)) <= ARGUMENTS
