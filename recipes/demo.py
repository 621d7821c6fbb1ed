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
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import demo_client
import keras
import noisy_labels
import numpy as np

from mixmo_keras import datasets, evaluation
from mixmo_keras.evaluation import charts, plots
from mixmo_keras.experiments import Recipe, run, splits

METHODS = ("single", "single + CutMix", "Cut-MixMo")
RECIPE = dataclasses.replace(noisy_labels.SETTINGS["digits"], label_noise=0.4)


class Shown(NamedTuple):
    """A method of the demo: its recipe, the figures of its run as in metrics.json, and those of its evaluation."""

    recipe: Recipe
    trained: dict
    evaluated: dict


def demo(base: Recipe = RECIPE, methods: Sequence[str] = METHODS) -> dict[str, Shown]:
    """Trains the methods, prints what they are worth, and serves a prediction of the last; returns all by method."""
    start, shown = time.perf_counter(), {}
    for name in methods:
        recipe = dataclasses.replace(base, fresh=True, **noisy_labels.ROWS[name].changes)
        trained = run(recipe)
        evaluated = evaluate(recipe)
        shown[name] = Shown(recipe, trained, evaluated.figures)
    last = shown[methods[-1]]
    picture = plots.save(charts.suspicious_labels(evaluated, columns=10), f"{base.output_dir}/suspicious_labels.png")

    print("\n" + "=" * 92)
    print(conclusion({name: one.evaluated for name, one in shown.items()}))
    print(f"\nThe ten labels that {methods[-1]} finds the most suspicious: {picture}")
    print("\nThe ensemble in a new process, with TensorFlow alone:", flush=True)
    image, label = next(datasets.load("digits", "test").as_numpy_iterator())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.npy"
        np.save(path, image)
        command = [sys.executable, demo_client.__file__, last.trained["saved_model"], path, label]
        subprocess.run(list(map(str, command)), check=True)
    print(f"demo: {time.perf_counter() - start:.0f} s")
    return shown


def evaluate(recipe: Recipe) -> evaluation.Evaluation:
    """What is said of a finished run: on right labels, calibrated by wrong ones, and which labels are wrong."""
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
        right_labels=splits.right_labels(recipe, "train"),
    )


def conclusion(figures: dict[str, dict]) -> str:
    """The table, and what it shows and what not."""
    labels, images = (next(iter(figures.values()))[key] for key in ("label_issues", "images"))
    lines = [
        f"{labels['wrong']} of {labels['images']} training labels are wrong, none of {images['test']} test labels."
    ]
    lines.append(
        f"\n{'after the last epoch':<22}{'accuracy':>10}{'NLL':>8}{'calibrated':>12}{'wrong labels found':>20}"
    )
    for name, one in figures.items():
        found = one["label_issues"]["margin"]["found"]
        plain, calibrated = one["uncalibrated"], one["ensemble"]["nll"]
        lines.append(f"{name:<22}{plain['accuracy']:>10.1%}{plain['nll']:>8.2f}{calibrated:>12.2f}{found:>20.0%}")
    lines.append(
        "\nTrained for long, the single network learned wrong labels by heart. Members never see an image alone and did\n"
        "not, without a clean image to stop by; CutMix does the same for one network, and here as well. What this does not\n"
        "show is a gain on right labels: where all are right and the images are easy, one network is as good."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    demo()
