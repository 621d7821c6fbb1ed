"""Trains an ensemble that gives each pixel a class: on scenes of digits, or on your own images and masks.

python recipes/segmentation.py                                      scenes of digits, which need no download
python recipes/segmentation.py DIR --size 128                       DIR/images/NAME.jpg and DIR/masks/NAME.png
python recipes/segmentation.py ADE20K --size 512 --backbone convnext_tiny --decoder upernet --batch-size 16
python recipes/segmentation.py DIR --begin-with runs/NAME/best.keras    the core of a classifier of this package, or of Keras

AdamW, whose rate rises and then falls by half a cosine; padded crops and flips. Writes best.keras, by the validation split's
mIoU, metrics.json with all figures of the test split, and a SavedModel that serves label maps.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import keras

import mixmo_keras
from mixmo_keras import augmentation, datasets, schedules, tasks
from mixmo_keras.common import files
from mixmo_keras.common.console import say, unbreakable
from mixmo_keras.models.methods import METHODS
from mixmo_keras.networks.decoders import DECODERS
from mixmo_keras.training.fine_tuning import FineTuning

SCENES = "digit_scenes_segmentation"


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", default=SCENES, help="folder of images and masks (default: %(default)s)")
    parser.add_argument("--size", type=int, help="height and width in pixels (default: 32 for scenes, 64 for folders)")
    parser.add_argument("--method", choices=METHODS, default="cut_mixmo", help="default: %(default)s")
    parser.add_argument("--backbone", default="wrn10_2", help="name of a network (default: %(default)s)")
    parser.add_argument("--begin-with", help="a .keras file of a classifier, in place of --backbone")
    parser.add_argument("--core-rate", type=float, default=0.1, help="share of the rate of a core that begins so")
    parser.add_argument(
        "--layer-decay", type=float, default=1.0, help="such as 0.9: its rate by depth, see docs/training.md"
    )
    parser.add_argument("--decoder", choices=DECODERS, default="light", help="default: %(default)s")
    parser.add_argument("--decoder-width", type=int, default=64, help="channels (default: %(default)s)")
    parser.add_argument("--cutmix", action="store_true", help="CutMix inside each member's image")
    parser.add_argument("--no-flip", dest="flip", action="store_false", help="leave out mirror images")
    parser.add_argument("--epochs", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=32, help="images a step (default: %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="default: %(default)s")
    parser.add_argument("--weight-decay", type=float, default=0.05, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--data-dir", help="folder of TensorFlow Datasets")
    parser.add_argument("--output-dir", default="runs", help="folder of the run (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    unused = ("backbone",) if chosen.begin_with else ("core_rate", "layer_decay")
    if given := [f"--{name.replace('_', '-')}" for name in unused if getattr(chosen, name) != parser.get_default(name)]:
        parser.error(f"{', '.join(given)}: no use for it {'with' if chosen.begin_with else 'without'} --begin-with")
    return chosen


def build(chosen: argparse.Namespace, info: datasets.Info, task: tasks.Segmentation) -> mixmo_keras.MixMo:
    """The compiled model."""
    task = dataclasses.replace(task, decoder=chosen.decoder, width=chosen.decoder_width)
    flip = chosen.flip and chosen.dataset != SCENES  # a mirrored 2 is no digit
    of_training = dict(
        task=task,
        augmentation=augmentation.PadCropFlip(max(info.image_shape[0] // 8, 1), flip),
        msda="cutmix" if chosen.cutmix else None,
        batch_repetitions=1,
        l2=0.0,  # the optimizer decays weights
        seed=chosen.seed,
    )
    if chosen.begin_with:
        model = mixmo_keras.from_classifier(
            chosen.begin_with, method=chosen.method, input_shape=info.image_shape, **of_training
        )
    else:
        model = METHODS[chosen.method](
            chosen.backbone, input_shape=info.image_shape, normalization=info.normalization, **of_training
        )
    optimizer = keras.optimizers.AdamW(schedules.Cosine(chosen.learning_rate, 0.05), weight_decay=chosen.weight_decay)
    fine_tuning = FineTuning(chosen.core_rate, layer_decay=chosen.layer_decay) if chosen.begin_with else None
    model.compile(optimizer, fine_tuning=fine_tuning, decay_kernels_only=bool(chosen.weight_decay))
    return model


@unbreakable()
def main(arguments: list[str] | None = None) -> dict:
    """Loads, builds, fits, evaluates, saves and exports; returns the test split's figures."""
    chosen = options(arguments)
    name = chosen.dataset if chosen.size is None else f"{chosen.dataset}@{chosen.size}"
    info = datasets.info(name, chosen.data_dir)
    task = info.task
    if not isinstance(task, tasks.Segmentation):
        raise SystemExit(f"{name} has no masks: a folder must hold `images` and `masks`, or ADE20K's `annotations`.")
    say(datasets.describe(name, chosen.data_dir))
    train, validation, test = (
        datasets.batches(
            datasets.load(name, split, chosen.data_dir), chosen.batch_size, training=split == "train", seed=chosen.seed
        )
        for split in ("train", "validation", "test")
    )
    model = build(chosen, info, task)
    folder = Path(chosen.output_dir) / f"segmentation-{info.name}-{chosen.method}-seed{chosen.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    monitor, mode = model.task.monitor
    best = keras.callbacks.ModelCheckpoint(folder / "best.keras", monitor, mode=mode, save_best_only=True)
    model.fit(train, validation_data=validation, epochs=chosen.epochs, callbacks=[best], verbose=2)

    model = keras.models.load_model(folder / "best.keras")
    model.calibrate(validation)
    model.save(folder / "best.keras")
    figures = model.figures(test)
    with files.replacing(folder / "metrics.json") as path:
        Path(path).write_text(json.dumps(figures, indent=1), encoding="utf-8")
    for network in ("ensemble", "uncalibrated"):
        shown = ", ".join(f"{key} {figures[network][key]:.4f}" for key in ("miou", "accuracy", "nll", "ece"))
        say(f"{network}: {shown}")
    say(f"served from {model.export(folder / 'served' / '1', overwrite=True)}")
    return figures


if __name__ == "__main__":
    main()
