"""Command lines of what measures: benchmarks, and recipes that hold methods beside each other over seeds."""

import functools
import importlib
import json
from pathlib import Path

import beyond
import both_modes
import fine_tuning
import noisy_labels
import pytest
import repetition
from bad_inputs.harness import LossError, Row, check, each, would_begin

from mixmo_keras.experiments import gains

ROOT = Path(__file__).parents[2]
INTEGER, NUMBER = "must be an integer|invalid int value", "must be a.*number|invalid float value"


@pytest.fixture(autouse=True)
def _nothing_is_measured(monkeypatch, tmp_path):
    """What is accepted ends where something would be measured; nothing is written into the documentation."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    for name in ("measure", "measure_clients"):
        monkeypatch.setattr(importlib.import_module("load"), name, would_begin)
    for name in ("train", "search_through"):
        monkeypatch.setattr(importlib.import_module("memory"), name, would_begin)
    monkeypatch.setattr(gains, "measure", would_begin)
    monkeypatch.setattr(both_modes, "measure", would_begin)
    for recipe in (beyond, fine_tuning, noisy_labels, repetition):
        monkeypatch.setattr(recipe, "DOCS", tmp_path / "docs")


def accelerator(words, here):
    """The options of accelerator.py, which are read before JAX is loaded."""
    parse = importlib.import_module("accelerator_options").parse
    data = here.folder / "images.npz"
    data.touch()
    return parse(
        "", [*words, f"--data={data}", *([] if "--out" in " ".join(words) else [f"--out={here.folder / 'out'}"])]
    )


def benchmark(name, words, here):
    return importlib.import_module(name).main([*words])


def recipe(module, words, here):
    return module.main(["digits", *words, f"--output-dir={here.folder / 'runs'}"])


CALLS = {
    "accelerator.py plan": lambda words, here: accelerator(["plan", *words], here),
    "accelerator.py speed": lambda words, here: accelerator(["speed", *words], here),
    "accelerator.py table": lambda words, here: accelerator(["table", *words], here),
    "load.py": functools.partial(benchmark, "load"),
    "memory.py": functools.partial(benchmark, "memory"),
    "beyond.py": functools.partial(recipe, beyond),
    "noisy_labels.py": functools.partial(recipe, noisy_labels),
    "repetition.py": functools.partial(recipe, repetition),
    "fine_tuning.py": functools.partial(recipe, fine_tuning),
    "both_modes.py": lambda words, here: both_modes.main(["digits", *words]),
}


def on(name, *words, pattern=""):
    return Row(f"{name} {' '.join(words)}", functools.partial(CALLS[name], words), pattern)


def each_of(name, options, values, pattern):
    return [on(name, f"--{option}={value}", pattern=pattern) for option in options for value in values]


RECIPES = ("beyond.py", "noisy_labels.py", "fine_tuning.py", "repetition.py")
LINES = [
    *each_of("accelerator.py plan", ("rows", "repetitions", "warm-steps", "steps-a-call"), ("0", "-1", "1.5"), INTEGER),
    *each_of("accelerator.py speed", ("steps", "rounds", "peak-size", "batches"), ("0", "-1", "x"), INTEGER),
    *each_of("accelerator.py plan", ("minutes", "learning-rate"), ("0", "-1", "nan", "inf", "x"), NUMBER),
    *each_of("accelerator.py plan", ("stop-after",), ("-1", "nan", "inf", "x"), NUMBER),
    *each_of("accelerator.py plan", ("seed",), ("-1", "1.5"), INTEGER),
    on("accelerator.py plan", "--rows=9", pattern="`rows` .*must be divisible by `repetitions`"),
    on("accelerator.py speed", "--batches", "64", "0", pattern=INTEGER),
    on("accelerator.py plan", "--out=/no/such/folder/out", pattern="`out` must be a file in a folder that exists"),
    on("accelerator.py plan", "--out=/", pattern="`out` must be a file in a folder that exists"),
    on("accelerator.py table", "--out=/no/such", pattern="there is no file"),
    Row(
        "accelerator.py train (no such archive)",
        lambda here: importlib.import_module("accelerator_options").parse("", ["train", "--data=/no/such"]),
        "train needs --data",
    ),
    on("accelerator.py plan"),
    on("accelerator.py plan", "--stop-after=0", "--rehearse"),
    *each_of("load.py", ("clients", "requests", "max-batch", "num-members"), ("0", "-1", "1.5", "x"), INTEGER),
    *each_of("load.py", ("loads", "seconds"), ("0", "-1", "nan", "inf", "x"), NUMBER),
    *[on("load.py", "--clients=1", f"--bad={value}", pattern=NUMBER) for value in ("-0.1", "1.1", "nan", "x")],
    on("load.py", "--switch-at=0", pattern=INTEGER),
    on("load.py", "--seed=-1", pattern=INTEGER),
    on("load.py", "--input-shape", "0", "8", "3", pattern="`input_shape` must be"),
    on("load.py", "--clients", "1", "1", pattern="`clients` must be different"),
    on("load.py", "--bad=0.5", pattern="no meaning without --clients"),
    on("load.py", "--docs", "--requests=3", pattern="it has no use for --requests"),
    *each_of("memory.py", ("minutes",), ("0", "-1", "nan", "inf", "x"), NUMBER),
    *each_of("memory.py", ("trials",), ("0", "-1", "1.5", "x"), INTEGER),
    on("memory.py", pattern="pass --minutes, --trials or both; or --docs alone"),
    on("memory.py", "--docs", "--keep", pattern="pass --minutes, --trials or both; or --docs alone"),
    *each_of("both_modes.py", ("rounds",), ("0", "-1", "1.5", "x"), INTEGER),
    *[row for name in RECIPES for row in each_of(name, ("seeds",), ("-1", "1.5", "x"), INTEGER)],
    *[row for name in RECIPES for row in each_of(name, ("noise",), ("-0.1", "1.1", "nan", "x"), NUMBER)],
    *[on(name, "--seeds", "0", "0", pattern="`seeds` must be different") for name in RECIPES],
    *[on(name, "--rows", "nonsense", pattern="invalid choice") for name in RECIPES],
    *[on(name, "--ours", "nonsense", pattern="invalid choice") for name in RECIPES],
    on("beyond.py", "--rows", "single", "single", pattern="`rows` must be different"),
    *each_of("fine_tuning.py", ("rate",), ("0", "-1", "nan", "x"), NUMBER),
    *each_of("fine_tuning.py", ("encoder-noise",), ("-1", "nan", "x"), NUMBER),
    Row(
        "beyond.py --only-table --corrupted",
        lambda here: beyond.main(["digits", "--only-table", "--corrupted"]),
        "--only-table runs nothing, and shows what was evaluated with --corrupted anyway",
    ),
    Row(
        "beyond.py --docs (of what was never kept)",
        lambda here: beyond.main(["digits", "--docs", "--noise=0.123"]),
        "error: nothing was kept in .*beyond-digits-0.123.json",
    ),
]


@each(LINES)
def test_command_lines_of_measurements(row, here, record_property):
    check(row, here, record_property)


FIGURES = {title: 50.0 for title, *_ in gains.COLUMNS} | {"training_seconds": 1.0}


def keeping(before, found, monkeypatch, here):
    """`--keep` where a file has figures already, and runs have some."""
    kept = here.folder / "docs/figures/beyond-digits-0.json"
    if before is not None:
        kept.parent.mkdir(parents=True)
        kept.write_text(before if isinstance(before, str) else json.dumps(before))
    rows = list(found) or ["single"]

    def measure(_, name, base, seed, only_read=False, corrupted=False):
        return found.get(name, {}).get(str(seed))

    monkeypatch.setattr(gains, "measure", measure)
    monkeypatch.setattr(beyond, "DOCS", here.folder / "docs")
    try:
        measured = beyond.main(["digits", "--only-table", "--keep", "--rows", *rows])
        together = {row: before.get(row, {}) | measured.get(row, {}) for row in {*before, *measured}}
        if json.loads(kept.read_text()) != together:
            raise LossError(f"{kept} lacks figures")
        return measured
    except SystemExit:
        if before is not None and json.dumps(before) not in (kept.read_text(), json.dumps(kept.read_text())):
            raise LossError(f"{kept} is another") from None
        raise


ONE = {"single": {"0": FIGURES}}
KEPT = [
    Row("--keep of nothing", lambda here: here.keep(ONE, {}), "error: --keep has nothing to keep"),
    Row("--keep of nothing, nothing there", lambda here: here.keep(None, {}), "error: --keep has nothing to keep"),
    Row(
        "--keep of another row",
        lambda here: here.keep(ONE, {"single + SAM": {"0": FIGURES}}),
    ),
    Row(
        "--keep of fewer seeds",
        lambda here: here.keep({"single": {"0": FIGURES, "1": FIGURES}}, ONE),
    ),
    Row("--keep over a list", lambda here: here.keep("[1]", ONE), "error: .* holds no figures by row and seed"),
    Row("--keep over a damaged file", lambda here: here.keep("{", ONE), "error: "),
    Row("--keep of the same", lambda here: here.keep(ONE, ONE)),
    Row("--keep of more", lambda here: here.keep(ONE, ONE | {"single + SAM": {"0": FIGURES}})),
]


@each(KEPT)
def test_figures_that_are_kept(row, here, monkeypatch, record_property):
    here.keep = lambda before, found: keeping(before, found, monkeypatch, here)
    check(row, here, record_property)
