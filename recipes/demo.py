"""What members are good for, in three minutes: digits of which four in ten labels were drawn anew.

make demo          or          python recipes/demo.py

The same network is trained three times, with as many rows a step and steps: by itself, by itself with CutMix, and as the two
members of Cut-MixMo. Then the wrong labels are searched for, and the ensemble is exported, reloaded and served.
"""

import argparse
import dataclasses
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import demo_client
import digits
import numpy as np

import mixmo_keras
from mixmo_keras import experiments
from mixmo_keras.common.console import say, unbreakable
from mixmo_keras.evaluation.report import charts
from mixmo_keras.experiments import Recipe, splits
from mixmo_keras.models.ensemble import EVALUATED_AT_ONCE
from mixmo_keras.networks import speed

METHODS: dict[str, dict[str, Any]] = {  # what each changes of the recipe
    "single": dict(method="single"),
    "single + CutMix": dict(method="single", msda="cutmix", msda_probability=1.0, msda_alpha=1.0),
    "Cut-MixMo": dict(method="cut_mixmo"),
}
RECIPE = dataclasses.replace(
    digits.RECIPE,
    train_images=1000,
    label_noise=0.4,
    backbone="wrn10_2",
    epochs=40,
    batch_size=64,
    learning_rate=0.05,
)


class Shown(NamedTuple):
    """A method of the demo: its recipe, the figures of its run as in metrics.json, its evaluation, and its network."""

    recipe: Recipe
    trained: dict
    evaluated: "mixmo_keras.evaluation.Evaluation"
    model: "mixmo_keras.MixMo"


def demo(base: Recipe = RECIPE, methods: Sequence[str] = tuple(METHODS)) -> dict[str, Shown]:
    """Trains the methods, prints what they are worth, and serves a prediction of the last; returns all by method."""
    start, shown = time.perf_counter(), {}
    for name in methods:
        recipe = dataclasses.replace(base, fresh=True, **METHODS[name])
        trained = experiments.run(recipe)
        shown[name] = Shown(recipe, trained, *evaluate(recipe))
    last = shown[methods[-1]]
    suspicious = charts.suspicious_labels(last.evaluated, columns=10)
    picture = mixmo_keras.plots.save(suspicious, f"{base.output_dir}/suspicious_labels.png")

    say("\n" + "=" * 92)
    say(conclusion({name: one.evaluated.figures for name, one in shown.items()}, times_as_fast(shown)))
    say(f"\nThe ten labels that {methods[-1]} finds the most suspicious: {picture}")
    say("\nThe ensemble in a new process, with TensorFlow alone:")
    image, label = next(mixmo_keras.datasets.load("digits", "test").as_numpy_iterator())
    say(client_answer(last.trained["saved_model"], image, label))
    say(f"demo: {time.perf_counter() - start:.0f} s")
    return shown


def client_answer(saved_model: str, image: np.ndarray, label: int) -> str:
    """The line that `demo_client.py` prints in a process of its own. TensorFlow writes notes to its stderr: left out."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.npy"
        np.save(path, image)
        command = [sys.executable, demo_client.__file__, saved_model, path, label]
        client = subprocess.run(list(map(str, command)), capture_output=True, encoding="utf-8", errors="replace")
    if client.returncode:
        raise SystemExit(f"error: `{demo_client.__file__}` could not ask the exported model:\n{client.stderr}")
    return client.stdout.rstrip()


def evaluate(recipe: Recipe) -> tuple["mixmo_keras.evaluation.Evaluation", "mixmo_keras.MixMo"]:
    """The evaluation of a finished run, tested on right labels and calibrated by wrong ones, and its network."""
    import keras  # after mixmo_keras, which keeps TensorFlow's notes from being printed

    test, validation, labelled = (
        mixmo_keras.datasets.batches(splits.load(recipe, split), EVALUATED_AT_ONCE)
        for split in ("test", "validation", "train")
    )
    model = keras.models.load_model(recipe.folder / "last.keras")
    evaluated = mixmo_keras.evaluation.evaluate(
        model,
        test,
        mixmo_keras.datasets.info(recipe.dataset).class_names,
        validation=validation,
        temperature=True,
        multiplexed=model.why_not_multiplexed() is None,
        label_noise="estimate",
        num_disagreements=10,
        labelled=labelled,
        right_labels=splits.right_labels(recipe, "train"),
    )
    assert isinstance(evaluated, mixmo_keras.evaluation.Evaluation)  # of classes
    return evaluated, model


def times_as_fast(shown: dict[str, Shown]) -> dict[str, float]:
    """Images per second, in units of the first method's, of each network and of those that take several images a pass."""
    networks = {name: one.model.fused() for name, one in shown.items()}
    for name, one in shown.items():
        if one.model.why_not_multiplexed() is None:
            networks[a_pass(name, one.model.num_members)] = one.model.multiplexed()
    first = next(iter(shown))
    test = mixmo_keras.datasets.load(shown[first].recipe.dataset, "test")
    images = np.stack([image for image, _ in test.take(256).as_numpy_iterator()])
    return speed.times_as_fast(speed.seconds_in_turn(networks, images, rounds=15), first)


def a_pass(name: str, num_members: int) -> str:
    return f"{name}, {num_members} images a pass"


def conclusion(figures: dict[str, dict], speeds: dict[str, float]) -> str:
    """The table, and what it shows and what not."""
    labels, images = (next(iter(figures.values()))[key] for key in ("label_issues", "images"))
    lines = [
        f"{labels['wrong']} of {labels['images']} training labels are wrong, none of {images['test']} test labels."
    ]
    titles = ("accuracy", "NLL", "calibrated", "wrong labels found", "speed")
    lines.append(f"\n{'after the last epoch':<30}" + "".join(f"{title:>{len(title) + 2}}" for title in titles))
    for name, one in figures.items():
        found = f"{one['label_issues']['margin']['found']:.0%}"
        lines.append(row(name, one["uncalibrated"], one["ensemble"], found, speeds[name]))
        if passes := one.get("multiplexed"):
            name = a_pass(name, passes["images_a_pass"])
            lines.append(row(name, passes["uncalibrated"], passes["network"], "", speeds[name]))
    lines.append(
        "\nTrained for long, the single network learned wrong labels by heart. Members never see an image alone and did\n"
        "not; no right label told them when to stop. CutMix does the same for one network, and here it does as well. This\n"
        "shows no gain on right labels: where all labels are right and the images are easy, one network is as good."
    )
    return "\n".join(lines)


def row(name: str, plain: dict, calibrated: dict, found: str, times_as_fast: float) -> str:
    """A line of the table."""
    accuracy, nll, calibrated_nll = f"{plain['accuracy']:.1%}", f"{plain['nll']:.2f}", f"{calibrated['nll']:.2f}"
    return f"{name:<30}{accuracy:>10}{nll:>5}{calibrated_nll:>12}{found:>20}{f'{times_as_fast:.2f} x':>7}"


if __name__ == "__main__":
    formatter = argparse.RawDescriptionHelpFormatter
    with unbreakable():
        argparse.ArgumentParser(description=__doc__, formatter_class=formatter).parse_args()
        demo()
