"""600 photographs and a pretrained network: how is it best fine-tuned, and do members that begin as it gain after that?

    export TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1              so that processor time is that of one core
    python studies/photographs.py elpv --seeds 0 1 2 --photographs DIR    two minutes a run
    python studies/photographs.py cifar10 --seeds 0 1 2 --data-dir DATA   CIFAR-10's images, enlarged to 96 pixels
    python studies/photographs.py elpv --only-table                       what there is

elpv are photographs of solar cells (Deitsch et al., 2019; CC BY-NC-SA 4.0), functional or defective by experts:
pip install --target DIR elpv-dataset. Each seed draws 480 images to train on, 120 to validate and 1,000 to test on. All runs
see 96×96 pixels, 32 images a step, flipped and shifted by up to 4 pixels, in EfficientNet-Lite0 with ImageNet's weights.

First, ways to fine-tune one network for 8 epochs: plain Keras, as its guides do it, and rates of the core in this library.
Plain Keras takes less processor time: its network is frozen but for the head at first, while this library trains the encoder
too, behind the whole core. So it gets four more epochs in a row of its own, with which the times are about equal.
Then the way with the lowest mean validation NLL goes on for 6 more, as one network and as two members (MIMO, ρ = 0.5). Every
finished run is kept at once, so that a study that was stopped goes on.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pages
from PIL import Image

import mixmo_keras
from mixmo_keras import augmentation, datasets, metrics
from mixmo_keras.common import files
from mixmo_keras.experiments import tables
from mixmo_keras.metrics import by_class, calibration
from mixmo_keras.metrics.differences import paired
from mixmo_keras.networks.backbones import libraries
from mixmo_keras.training.schedules import Cosine

NETWORK, SIZE, BATCH_SIZE = "efficientnet_lite0", 96, 32
TRAIN, VALIDATION, TEST = 480, 120, 1000
EPOCHS, FURTHER_EPOCHS, FROZEN_EPOCHS, RATE = 8, 6, 2, 1e-3
MORE_EPOCHS = 4  # with which plain Keras takes the processor time of this library's ways
AUGMENTATION: dict[str, Any] = dict(padding=4)
PLAIN, ONE_MORE, MEMBERS = "plain Keras", "6 more epochs, one network", "6 more epochs, two members"

Arrays = tuple[np.ndarray, np.ndarray]  # images (n, size, size, 3) from 0 to 255, labels (n,)


@dataclasses.dataclass(frozen=True)
class Split:
    """The images of a seed."""

    train: Arrays
    validation: Arrays
    test: Arrays
    num_classes: int


# what Adam's learning rate is multiplied by for the core, by way; batch norm keeps ImageNet's averages
WAYS = {
    f"Adam .001, core {rate} after 2 epochs, batch norm frozen": share
    for rate, share in ((".0001", 0.1), (".0003", 0.3), (".001", 1.0))
}
DEFAULT = list(WAYS)[1]  # of recipes
# of plain Keras: whether batch norm is trained, and more epochs than others have
PLAIN_WAYS = {
    f"{PLAIN}, batch norm frozen": (False, 0),
    f"{PLAIN}, batch norm trained": (True, 0),
    f"{PLAIN}, batch norm frozen, {EPOCHS + MORE_EPOCHS} epochs": (False, MORE_EPOCHS),
}


# -- the images --------------------------------------------------------------------------------------------------------


def elpv(folder: Path, size: int) -> Arrays:
    """All solar cells: defective where experts say so with a probability above a half."""
    data = folder / "elpv_dataset" / "data"
    if not data.is_dir():
        raise SystemExit(f"error: there is no {data}: pip install --target DIR elpv-dataset, and --photographs DIR")
    lines = [line.split() for line in (data / "labels.csv").read_text(encoding="utf-8").splitlines() if line.strip()]
    images = [np.asarray(_resized(Image.open(data / name).convert("RGB"), size), "uint8") for name, *_ in lines]
    return np.stack(images), np.array([float(probability) > 0.5 for _, probability, *_ in lines], "int64")


def cifar10(data_dir: str | None, size: int) -> Arrays:
    """The first 5,000 test images of CIFAR-10, enlarged."""
    batch = next(iter(datasets.batches(datasets.load("cifar10", "test", data_dir), 5000)))
    images = [np.asarray(_resized(Image.fromarray(image), size), "uint8") for image in np.asarray(batch[0], "uint8")]
    return np.stack(images), np.asarray(batch[1], "int64")


def _resized(image: Image.Image, size: int) -> Image.Image:
    way = Image.Resampling.BOX if image.width > size else Image.Resampling.BICUBIC
    return image.resize((size, size), way)


def split(data: Arrays, seed: int) -> Split:
    """The images of a seed, drawn at random."""
    order = np.random.default_rng(seed).permutation(len(data[1]))
    parts = np.split(order[: TRAIN + VALIDATION + TEST], [TRAIN, TRAIN + VALIDATION])
    train, validation, test = ((data[0][part].astype("float32"), data[1][part]) for part in parts)
    return Split(train, validation, test, int(data[1].max()) + 1)


# -- the runs ----------------------------------------------------------------------------------------------------------


def plain_keras(of_seed: Split, seed: int, train_batch_norm: bool, more_epochs: int = 0) -> keras.Model:
    """As Keras' guide to transfer learning: Adam .001 on a new head, then .0001 on all, without a schedule."""
    keras.utils.set_random_seed(seed)
    network = libraries.network(NETWORK, of_seed.num_classes, (SIZE, SIZE, 3), seed=seed)
    rescale, encoder, core, head = network.layers[1:]
    images = keras.Input((SIZE, SIZE, 3))
    shift = AUGMENTATION["padding"] / SIZE
    x = keras.layers.RandomFlip("horizontal", seed=seed)(images)
    x = rescale(keras.layers.RandomTranslation(shift, shift, fill_mode="constant", seed=seed)(x))
    model = keras.Model(images, head(core(encoder(x))))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    of_all = EPOCHS + more_epochs - FROZEN_EPOCHS
    for trainable, rate, epochs in ((False, 1e-3, FROZEN_EPOCHS), (True, 1e-4, of_all)):
        encoder.trainable = core.trainable = trainable
        for layer in core.layers:  # `core(x, training=False)` would not do: Keras passes its own to a model within
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = trainable and train_batch_norm
        model.compile(keras.optimizers.Adam(rate), loss, jit_compile=False)
        model.fit(*of_seed.train, batch_size=BATCH_SIZE, epochs=epochs, verbose=0)
    return model


def compile(
    model: mixmo_keras.MixMo, rate: float, core_rate: float = 1.0, frozen_epochs: int = 0, average_from=None, **options
) -> None:
    """With Adam, whose rate falls by half a cosine, and which averages the weights from a share of training on."""
    tuning = mixmo_keras.FineTuning(core_rate, frozen_epochs, freeze_batch_norm=True)
    optimizer = keras.optimizers.Adam(Cosine(rate), use_ema=average_from is not None)
    model.compile(optimizer, average_from=average_from, fine_tuning=tuning, jit_compile=False, **options)


def fine_tuned(of_seed: Split, seed: int, core_rate: float, epochs: int | None = None) -> mixmo_keras.MixMo:
    """One network of this library, from ImageNet's weights; for `EPOCHS` unless another number is given."""
    network = libraries.network(NETWORK, of_seed.num_classes, of_seed.train[0].shape[1:], seed=seed)
    model = mixmo_keras.from_classifier(network, num_classes=of_seed.num_classes, **options_of(seed, "single"))
    compile(model, RATE, core_rate, FROZEN_EPOCHS)
    model.fit(*of_seed.train, batch_size=BATCH_SIZE, epochs=epochs or EPOCHS, verbose=0)
    return model


def further(of_seed: Split, seed: int, core_rate: float, network: Path, **options) -> mixmo_keras.MixMo:
    """A model that begins as a fine-tuned network: all of it at half the core's rate."""
    model = mixmo_keras.from_classifier(network, **options_of(seed, **options))
    compile(model, RATE * core_rate / 2)
    model.fit(*of_seed.train, batch_size=BATCH_SIZE, epochs=FURTHER_EPOCHS, verbose=0)
    return model


def options_of(seed: int, method: str, **options) -> dict[str, Any]:
    """Of `from_classifier`: a method, and what all have in common."""
    common = dict(augmentation=augmentation.PadCropFlip(**AUGMENTATION), batch_repetitions=1, seed=seed, verbose=False)
    return dict(method=method, **common, l2=0.0, **options)


def figures(model: keras.Model, of_seed: Split) -> dict[str, float]:
    """Figures on test images, calibrated by validation images; and those of validation."""
    validation, test = (np.asarray(model.predict(x, verbose=0)) for x, _ in (of_seed.validation, of_seed.test))
    temperature = calibration.fit_temperature(validation, of_seed.validation[1])
    labels = of_seed.test[1]
    return {
        "accuracy": metrics.accuracy(test, labels),
        "balanced_accuracy": by_class.means(by_class.class_figures(test, labels))["balanced_accuracy"],
        "nll": metrics.negative_log_likelihood(test, labels),
        "nll_calibrated": metrics.negative_log_likelihood(test / temperature, labels),
        "ece_calibrated": metrics.expected_calibration_error(test / temperature, labels),
        "aurc": metrics.area_under_risk_coverage(test, labels),
        "validation_accuracy": metrics.accuracy(validation, of_seed.validation[1]),
        "validation_nll": metrics.negative_log_likelihood(validation, of_seed.validation[1]),
    }


# -- the study ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Kept:
    """The figures of a study's runs by row and seed, the folder of their networks, and the rows whose networks are kept."""

    name: str
    folder: Path
    with_network: Collection[str] = tuple(WAYS)

    def read(self) -> dict[str, dict[str, Any]]:
        """What was kept."""
        path = pages.kept_at(self.name)
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def network(self, row: str, seed: int) -> Path:
        """The file of a row's network."""
        return self.folder / self.name / f"{row.replace(' ', '_')}-{seed}.keras"

    def run(self, row: str, seed: int, of_seed: Split, make: Callable[[], keras.Model]) -> None:
        """Makes and measures a model, unless it was before, and keeps its figures."""
        if str(seed) in self.read().get(row, {}) and (row not in self.with_network or self.network(row, seed).exists()):
            return
        start = time.process_time()
        model = make()
        took = {"processor_seconds": round(time.process_time() - start, 1)}
        measured = figures(model, of_seed) | took
        if row in self.with_network:
            self.network(row, seed).parent.mkdir(parents=True, exist_ok=True)
            model.save(self.network(row, seed))
        kept = self.read()
        kept.setdefault(row, {})[str(seed)] = measured
        files.write_json(pages.kept_at(self.name), kept)
        print(f"{row}, seed {seed}: " + ", ".join(f"{key} {value:.3f}" for key, value in measured.items()), flush=True)


def best_way(kept: dict[str, dict[str, Any]], seeds: list[int]) -> str:
    """The way with the lowest mean NLL on validation images."""

    def validation_nll(row: str) -> float:
        return float(np.mean([kept[row][str(seed)]["validation_nll"] for seed in seeds]))

    return min(WAYS, key=validation_nll)


def measure(kept: Kept, data: Arrays, seeds: list[int]) -> None:
    """Runs what is missing, seed by seed."""
    for seed in seeds:
        of_seed = split(data, seed)
        for row, arguments in PLAIN_WAYS.items():
            kept.run(row, seed, of_seed, lambda: plain_keras(of_seed, seed, *arguments))  # noqa: B023
        for row, core_rate in WAYS.items():
            kept.run(row, seed, of_seed, lambda: fine_tuned(of_seed, seed, core_rate))  # noqa: B023
    best = best_way(kept.read(), seeds)
    members: dict[str, Any] = dict(method="mimo", num_members=2, input_repetition=0.5)
    for seed in seeds:
        of_seed, network = split(data, seed), kept.network(best, seed)
        for row, options in ((ONE_MORE, dict(method="single")), (MEMBERS, members)):
            row = f"{best}, then {row}"
            kept.run(row, seed, of_seed, lambda: further(of_seed, seed, WAYS[best], network, **options))  # noqa: B023


COLUMNS = (
    ("accuracy %", "accuracy", "{:.1f}", 100),
    ("NLL", "nll", "{:.3f}", 1),
    ("NLL, calibrated", "nll_calibrated", "{:.3f}", 1),
    ("ECE, calibrated", "ece_calibrated", "{:.3f}", 1),
    ("AURC", "aurc", "{:.3f}", 1),
    ("processor seconds", "processor_seconds", "{:.0f}", 1),
)


def table(kept: dict[str, dict[str, Any]], columns: tuple = COLUMNS) -> str:
    """A row for each way, mean ± standard deviation over seeds."""
    lines = [
        [
            row,
            *(tables.cell([times * one[key] for one in by_seed.values()], form) for _, key, form, times in columns),
            str(len(by_seed)),
        ]
        for row, by_seed in kept.items()
    ]
    return tables.markdown(["way", *(title for title, *_ in columns), "seeds"], lines)


def compared(kept: dict[str, dict[str, Any]], row: str, other: str, figures: Sequence[str]) -> list[str]:
    """What a row has more than another, figure by figure, over the seeds that both have."""
    seeds, cells = [seed for seed in kept[row] if seed in kept[other]], []
    for key in figures:
        form, times = ("{:+.1f} ± {:.1f}", 100) if key == "accuracy" else ("{:+.3f} ± {:.3f}", 1)
        difference = paired(*([times * kept[name][seed][key] for seed in seeds] for name in (row, other)))
        cells.append(form.format(difference.mean, difference.error))
    return cells


def differences(kept: dict[str, dict[str, Any]]) -> str:
    """What one way has more than another, seed by seed: mean ± standard error."""
    further = next(row.removesuffix(ONE_MORE) for row in kept if row.endswith(ONE_MORE))
    lines = []
    for row, other in ((DEFAULT, list(PLAIN_WAYS)[-1]), (further + MEMBERS, further + ONE_MORE)):
        lines.append([row, other, *compared(kept, row, other, ("accuracy", "nll_calibrated"))])
    return tables.markdown(["way", "against", "accuracy, points", "NLL, calibrated"], lines)


def document() -> None:
    """Writes the tables of docs/classifiers.md."""
    for path in sorted(pages.FIGURES.glob("photographs-*.json")):
        kept = pages.read(path.stem)
        pages.write("classifiers.md", {path.stem: table(kept), f"{path.stem}-differences": differences(kept)})


def parsed(description: str | None, folder: str, arguments: list[str] | None) -> argparse.Namespace:
    """The options of a study on photographs, whose networks are kept in a folder unless another is given."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=("elpv", "cifar10"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--photographs", type=Path, help="of elpv: where pip installed elpv-dataset (default: here)")
    parser.add_argument("--data-dir", help="of cifar10: where it lies")
    parser.add_argument("--output-dir", type=Path, default=Path(folder), help="folder of the networks")
    parser.add_argument("--only-table", action="store_true", help="run nothing")
    options = parser.parse_args(arguments)
    for name, value, data in (
        ("--photographs", options.photographs, "elpv"),
        ("--data-dir", options.data_dir, "cifar10"),
    ):
        if value is not None and options.data != data:
            parser.error(f"{name} is of {data}")
    return options


def load(options: argparse.Namespace, size: int) -> Arrays:
    """The images that the options name, of so many rows and columns."""
    if options.data == "elpv":
        return elpv(options.photographs or Path("."), size)
    return cifar10(options.data_dir, size)


def main(arguments: list[str] | None = None) -> None:
    """Measures and prints the table."""
    options = parsed(__doc__, "runs/photographs", arguments)
    kept = Kept(f"photographs-{options.data}", options.output_dir)
    if not options.only_table:
        measure(kept, load(options, SIZE), options.seeds)
    print(f"{table(kept.read())}\n\n{differences(kept.read())}")


if __name__ == "__main__":
    main()
