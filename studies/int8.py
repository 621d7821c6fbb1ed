"""What 8 bits cost: exported LiteRT files of the single network and of members, in float32 and in int8.

    python studies/int8.py --data-dir DATA --keep       runs what is missing, minutes a run on an idle core
    python studies/int8.py --data-dir DATA              the same, and keeps no figures

WRN-16-2 on 5,000 images of CIFAR-10 at 16 pixels, as many steps for each network. Answers are measured on all 10,000 test
images, a file's time on one thread, 64 images at once, in turns. Ranges of activations come from 256 training images.
"""

import argparse
import dataclasses
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pages

from mixmo_keras import metrics
from mixmo_keras.common import files
from mixmo_keras.experiments import Recipe, results, run, tables
from mixmo_keras.experiments.running import load
from mixmo_keras.metrics.differences import mean_and_deviation

sys.path.insert(0, str(pages.DOCS.parent / "benchmarks"))

import inference

SEEDS = (0, 1, 2)
NAME = "int8"
METHODS: dict[str, dict[str, Any]] = {
    "single network": dict(method="single"),
    "two members, Cut-MixMo, ρ = 0.5": dict(method="cut_mixmo", input_repetition=0.5),
}
FORMATS = ("float32", "int8")
BATCH, REPRESENTATIVE, ROUNDS = 64, 256, 20
RECIPE = Recipe(
    dataset="cifar10@16",
    crop="pad",
    padding=2,
    backbone="wrn16_2",
    batch_repetitions=1,
    epochs=12,
    batch_size=64,
    learning_rate=0.05,
    schedule="cosine",
    train_images=5000,
    output_dir="runs/int8",
)


def measured(recipe: Recipe) -> dict[str, dict[str, float]]:
    """The figures of a run's exported files, by format; trains the run if it is missing."""
    if results.finished(recipe) is None:
        run(recipe, saved_model=False)
    model = keras.models.load_model(recipe.folder / "last.keras")
    data = load(recipe.resolved())
    images, labels = (np.concatenate(arrays) for arrays in zip(*data.test.as_numpy_iterator(), strict=True))
    representative = np.stack([image for image, _ in data.train.take(REPRESENTATIVE).as_numpy_iterator()])
    options: dict[str, dict[str, Any]] = {"float32": {}, "int8": dict(quantize="int8", representative=representative)}
    figures, answers = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name in FORMATS:
            path = Path(model.export(f"{folder}/{name}.tflite", format="litert", **options[name]))
            answers[name] = inference.litert(path)
            logits = np.concatenate(
                [answers[name](images[i : i + 1000].astype("float32")) for i in range(0, len(images), 1000)]
            )
            scores = metrics.network_figures(logits, labels)
            figures[name] = {key: scores[key] for key in ("accuracy", "nll", "ece")} | {"mb": path.stat().st_size / 1e6}
        for name, seconds in times(answers, images[:BATCH].astype("float32")).items():
            figures[name]["ms"] = 1000 * seconds / BATCH
    return figures


def times(answers: dict, images: np.ndarray) -> dict[str, float]:
    """The median seconds of processor time of an answer to a batch, measured in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in answers}
    for _ in range(ROUNDS):
        for name, answer in answers.items():
            start = time.process_time()
            answer(images)
            seconds[name].append(time.process_time() - start)
    return {name: float(np.median(of_name)) for name, of_name in seconds.items()}


def table(kept: dict[str, dict[str, dict[str, dict[str, float]]]]) -> str:
    """Rows by network and format, mean ± deviation over seeds; what int8 changed by seed, ± the deviation of the changes."""
    lines = []
    for name, by_seed in kept.items():
        for of in FORMATS:
            values = {
                key: [figures[of][key] for figures in by_seed.values()]
                for key in ("accuracy", "nll", "ece", "mb", "ms")
            }
            changes = [100 * (figures[of]["accuracy"] - figures["float32"]["accuracy"]) for figures in by_seed.values()]
            mean, deviation = mean_and_deviation(changes)
            lines.append(
                [
                    name,
                    of,
                    tables.cell([100 * value for value in values["accuracy"]], "{:.2f}"),
                    tables.NOTHING if of == "float32" else f"{mean:+.2f} ± {deviation or 0:.2f}",
                    tables.cell(values["nll"], "{:.3f}"),
                    tables.cell(values["ece"], "{:.3f}"),
                    tables.cell(values["mb"], "{:.2f}", deviation=False),
                    tables.cell(values["ms"], "{:.2f}", deviation=False),
                ]
            )
    return tables.markdown(
        ["network", "file", "accuracy %", "change", "NLL", "ECE", "MB", "ms an image"], lines, names=2
    )


def document() -> None:
    """Writes the table of docs/serving.md."""
    pages.write("serving.md", {f"{NAME}-table": table(pages.read(NAME))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir")
    parser.add_argument("--keep", action="store_true", help="keep the figures in studies/figures")
    options = parser.parse_args()
    kept = {
        name: {
            str(seed): measured(dataclasses.replace(RECIPE, seed=seed, data_dir=options.data_dir, **changes))
            for seed in SEEDS
        }
        for name, changes in METHODS.items()
    }
    if options.keep:
        files.write_json(pages.kept_at(NAME), kept)
    print(table(kept))


if __name__ == "__main__":
    main()
