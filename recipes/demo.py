"""What members are good for, in three minutes: digits of which four in ten labels were drawn anew.

make demo          or          python recipes/demo.py

The same network is trained three times, with as many rows a step and steps: by itself, by itself with CutMix, and as the two
members of Cut-MixMo. Then the wrong labels are searched for, and the ensemble is exported, reloaded and served.
"""

import dataclasses
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import demo_client
import keras
import noisy_labels
import numpy as np

from mixmo_keras import datasets, evaluation
from mixmo_keras.evaluation import charts, plots
from mixmo_keras.experiments import Recipe, run, splits

METHODS = ("single", "single + CutMix", "Cut-MixMo")
RECIPE = dataclasses.replace(noisy_labels.SETTINGS["digits"], label_noise=0.4)


def demo(base: Recipe = RECIPE) -> dict[str, dict]:
    """Trains the three, prints what they are worth, serves a prediction; returns their figures by method."""
    start, figures = time.perf_counter(), {}
    for name in METHODS:
        recipe = dataclasses.replace(base, fresh=True, **noisy_labels.ROWS[name].changes)
        trained = run(recipe)
        evaluated = evaluate(recipe)
        figures[name] = evaluated.figures
    picture = plots.save(charts.suspicious_labels(evaluated, columns=10), recipe.folder / "suspicious_labels.png")

    print("\n" + "=" * 92)
    print(conclusion(figures))
    print(f"\nThe ten labels that {METHODS[-1]} finds the most suspicious: {picture}")
    print("\nThe ensemble in a new process, with TensorFlow alone:", flush=True)
    image, label = next(datasets.load("digits", "test").as_numpy_iterator())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.npy"
        np.save(path, image)
        command = [sys.executable, demo_client.__file__, trained["saved_model"], path, label]
        subprocess.run(list(map(str, command)), check=True)
    print(f"demo: {time.perf_counter() - start:.0f} s")
    return figures


def evaluate(recipe: Recipe) -> evaluation.Evaluation:
    """Everything that is said of a finished run: on right labels, calibrated by wrong ones, and which labels are wrong."""
    test, validation, labelled = (
        datasets.batches(splits.load(recipe, split), 256) for split in ("test", "validation", "train")
    )
    return evaluation.evaluate(
        keras.models.load_model(recipe.folder / "last.keras"),
        test,
        datasets.info(recipe.dataset).class_names,
        validation=validation,
        temperature=True,
        label_noise="estimate",
        num_disagreements=10,
        labelled=labelled,
        right_labels=splits.noisy_labels(recipe, "train")[1],
    )


def conclusion(figures: dict[str, dict]) -> str:
    """The table, and what it shows and what not."""
    labels, images = (figures[METHODS[-1]][key] for key in ("label_issues", "images"))
    lines = [
        f"{labels['wrong']} of {labels['images']} training labels are wrong, none of {images['test']} test labels."
    ]
    lines.append(f"\n{'after the last epoch':<22}{'accuracy':>10}{'NLL':>8}{'NLL, T':>9}{'wrong labels found':>20}")
    for name, one in figures.items():
        found = one["label_issues"]["margin"]["found"]
        plain, calibrated = one["uncalibrated"], one["ensemble"]["nll"]
        lines.append(f"{name:<22}{plain['accuracy']:>10.1%}{plain['nll']:>8.2f}{calibrated:>9.2f}{found:>20.0%}")
    return "\n".join(lines)


if __name__ == "__main__":
    demo()
