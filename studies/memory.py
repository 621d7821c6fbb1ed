"""Memory and open files of a long training, and of a search: do they grow?

    python studies/memory.py --minutes 30     one training with all that a recipe keeps, watched for so long
    python studies/memory.py --trials 50      a search of so many networks, built, trained and dropped in one process
    python studies/memory.py --minutes 30 --trials 50 --keep     both, and keep the figures in studies/figures/

Memory is what the system counts as resident of this process. Of the training, medians over the samples of two spans of time
are compared: minutes 1 to 3, when all is traced and every kind of file was written, and the last two. Of the search, memory
when a trial begins, over trials 6 to 10 and over the last five. Digits, networks of some ten thousand weights: what grows
with each epoch, or each network, is not lost beside large ones.
"""

import argparse
import contextlib
import io
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pages
from clients import resident

import mixmo_keras
from mixmo_keras import datasets, search, version
from mixmo_keras.common import files
from mixmo_keras.experiments import logs, tables
from mixmo_keras.training.checkpoints import Checkpoints

EVERY = 5.0  # seconds between two samples of a training
FIRST, LAST = (60.0, 180.0), 120.0  # seconds of a training: from and to, and how many at its end
SETTLED = 5  # trials of a search after which all kinds of networks were seen


class Watch(keras.callbacks.Callback):
    """Ends a training after so many seconds, and takes samples of it."""

    def __init__(self, seconds: float):
        super().__init__()
        self.seconds, self.start = seconds, time.monotonic()
        self.samples: list[dict[str, float]] = []
        self.epochs = 0

    def on_epoch_end(self, epoch, logs=None):
        self.epochs += 1
        passed = time.monotonic() - self.start
        if not self.samples or passed - self.samples[-1]["seconds"] >= EVERY:
            self.samples.append({"seconds": passed, **sample()})
        self.model.stop_training = passed >= self.seconds


def sample() -> dict[str, float]:
    """Memory, open files and threads of this process."""
    return {
        "megabytes": resident(os.getpid()),
        "files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
    }


def train(seconds: float) -> dict[str, Any]:
    """Trains for so long, with all that a recipe writes on the way, and says what grew."""
    images, validation = datasets.load("digits", "train"), datasets.load("digits", "validation")
    model = mixmo_keras.CutMixMo("wrn10_1", num_classes=10, input_shape=(8, 8, 1), batch_repetitions=2, seed=0)
    watch = Watch(seconds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model.fit(
            datasets.batches(images, 64, training=True, first_epoch=0),
            steps_per_epoch=datasets.steps_per_epoch(images, 64),
            validation_data=datasets.batches(validation, 256),
            epochs=10**6,
            verbose=0,
            callbacks=[*logs.callbacks(folder, []), Checkpoints(folder / "checkpoints", every_steps=10), watch],
        )
    return {"epochs": watch.epochs, "seconds": seconds, "samples": watch.samples, **spans(watch.samples)}


def spans(samples: list[dict[str, float]]) -> dict[str, Any]:
    """Medians over the first span of a training and the last one."""
    end = samples[-1]["seconds"]
    first = [one for one in samples if FIRST[0] <= one["seconds"] <= FIRST[1]] or samples[:1]
    last = [one for one in samples if one["seconds"] >= end - LAST] or samples[-1:]
    return _medians(first, last)


def _medians(first: list[dict[str, float]], last: list[dict[str, float]]) -> dict[str, Any]:
    return {
        place: {name: float(np.median([one[name] for one in span])) for name in ("megabytes", "files", "threads")}
        for place, span in (("first", first), ("last", last))
    }


class Watched(search.MixMoHyperModel):
    """Takes a sample when a trial begins."""

    samples: list[dict[str, float]]

    def fit(self, *arguments, **options):
        self.samples.append(sample())
        return super().fit(*arguments, **options)


def search_through(trials: int) -> dict[str, Any]:
    """Searches for so many trials, and says how much memory each left behind."""
    data = [datasets.load("digits", name).take(count) for name, count in (("train", 64), ("validation", 64))]
    hypermodel = Watched(
        lambda width: f"wrn10_{width}",
        num_classes=10,
        input_shape=(8, 8, 1),
        # more settings than trials: KerasTuner tries none twice
        space=search.Space(
            (1, 2, 3), (1, 2), (1.0, 2.0, 3.0, 5.0), alphas=(1.0, 2.0, 4.0), masks=("cutmix", "cow", "fmix")
        ),
        rows=32,
        augmentation=None,
    )
    hypermodel.samples = []
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        tuner = search.tuner(hypermodel, "random", Path(name, "trials"), max_trials=trials)
        tuner.search(*data, epochs=1)
        hypermodel.samples.append(sample())
    return {"trials": trials, "samples": hypermodel.samples, **trial_spans(hypermodel.samples)}


def trial_spans(samples: list[dict[str, float]]) -> dict[str, Any]:
    """Medians over the first trials of a search that is settled, and over as many last ones."""
    return _medians(samples[SETTLED : 2 * SETTLED] or samples[:1], samples[-SETTLED:])


def table(figures: dict[str, Any]) -> str:
    """What was measured, as Markdown."""
    lines = []
    if training := figures.get("training"):
        name = f"training, {training['epochs']:,} epochs in {training['seconds'] / 60:.0f} min"
        lines.append([name, *_cells(training)])
    if searched := figures.get("search"):
        lines.append([f"search, {searched['trials']} networks", *_cells(searched)])
    header = ["", "MB at first", "MB at last", "grown", "open files, first / last", "threads, first / last"]
    return tables.markdown(header, lines)


def _cells(part: dict[str, Any]) -> list[str]:
    first, last = part["first"], part["last"]
    return [
        f"{first['megabytes']:.0f}",
        f"{last['megabytes']:.0f}",
        f"{last['megabytes'] - first['megabytes']:+.0f}",
        f"{first['files']:.0f} / {last['files']:.0f}",
        f"{first['threads']:.0f} / {last['threads']:.0f}",
    ]


def document() -> None:
    """Writes the table of docs/results.md from figures that were kept."""
    pages.write("results.md", {"memory": table(pages.read("memory"))})


def main(arguments: list[str] | None = None) -> None:
    """Measures what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, help="of the training")
    parser.add_argument("--trials", type=int, help="of the search")
    parser.add_argument("--keep", action="store_true", help="keep the figures in studies/figures/")
    options = parser.parse_args(arguments)
    figures = {}
    if options.trials:
        figures["search"] = {"commit": version.commit(), **search_through(options.trials)}
    if options.minutes:
        figures["training"] = {"commit": version.commit(), **train(60 * options.minutes)}
    print(table(figures))
    if options.keep:  # beside what was kept of the other
        kept = pages.kept_at("memory")
        files.write_json(kept, (pages.read("memory") if kept.exists() else {}) | figures)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # freeing some graphs of TensorFlow takes a minute
