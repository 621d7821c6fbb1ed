"""How far CIFAR-10 gets in half an hour of processor time on two cores: recipes/cifar10_fast.py, several seeds.

    python studies/fast.py --seed 0 --epochs 20 --data-dir DATA     trains and evaluates once, and keeps the figures
    python studies/fast.py --seed 0 --method cut_mixmo --input-repetition 0.5     any other option of a recipe

Of each run are kept its settings, versions and commit, its accuracy with one view of an image and with six, and its
processor time in seconds: that of all threads, from the start of Python to the last evaluation.
"""

import json
import re
import sys
import time

import pages

from mixmo_keras.common import files
from mixmo_keras.experiments import command_line, results, running, tables
from mixmo_keras.experiments.recipe import Recipe

sys.path.insert(0, str(pages.DOCS.parent / "recipes"))

import cifar10_fast

KEPT = "fast"  # the name of the figures
SHOWN = ("method", "input_repetition", "msda", "backbone", "epochs")  # settings that tell rows apart


def measure(recipe: Recipe) -> dict:
    """Runs a recipe, without its export, and returns what is kept of it."""
    figures = running.run(recipe, saved_model=False)
    return {
        "command": re.sub(r" --data-dir[ =]\S+", "", " ".join(["python", "studies/fast.py", *sys.argv[1:]])),
        "versions": results.versions(),
        "processor_seconds": round(time.process_time(), 1),
        "settings": recipe.resolved().settings(),
        "test": figures["test"],
        "test_views": figures["test_views"],
    }


def document() -> None:
    """Writes the table of docs/results.md."""
    pages.write("results.md", {"fast-table": table(pages.read(KEPT))})


def table(runs: dict[str, dict]) -> str:
    """A row for all seeds of the same settings, by mean and standard deviation."""
    rows: dict[tuple, list[dict]] = {}
    for run in runs.values():
        rows.setdefault(tuple(run["settings"][name] for name in SHOWN), []).append(run)
    lines = []
    for (method, repetition, msda, backbone, epochs), of_seeds in rows.items():
        name = method + (f", ρ = {repetition:g}" if repetition else "") + (f" + {msda}" if msda else "")
        seconds = tables.cell([run["processor_seconds"] for run in of_seeds], "{:.0f}")
        accuracies = (
            tables.cell([100 * run[of]["ensemble"]["accuracy"] for run in of_seeds], "{:.2f}")
            for of in ("test", "test_views")
        )
        seeds = ", ".join(str(run["settings"]["seed"]) for run in of_seeds)
        commits = ", ".join(sorted({run["versions"]["commit"][:7] for run in of_seeds}))
        lines.append([name, backbone, str(epochs), seconds, *accuracies, seeds, commits])
    head = ["method", "network", "epochs", "processor seconds", "accuracy %", "six views %", "seeds", "commit"]
    return tables.markdown(head, lines)


def main() -> None:
    recipe = command_line.parse(cifar10_fast.RECIPE, __doc__)
    if recipe.folder.exists() and not recipe.fresh:
        raise SystemExit(
            f"error: {recipe.folder} exists, and a run that goes on counts the rest of its time only: --fresh."
        )
    kept = measure(recipe)
    path = pages.kept_at(KEPT)
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    files.write_json(path, before | {f"{recipe.name}-{recipe.epochs}": kept})
    print(f"{kept['processor_seconds']} s of processor time, {kept['test_views']['ensemble']['accuracy']:.2%}")


if __name__ == "__main__":
    main()
