"""Images per second of the input pipeline against what the training step eats.

    python benchmarks/pipeline.py [--backbone wrn16_2] [--rows 64] [--seconds 5] [--dataset cifar10 --data-dir .data]
    python benchmarks/pipeline.py --photographs 1000 [--size 224]

A step has `rows` rows of `rows / b` images, so the higher the batch repetition b, the fewer images it eats. The pipeline
is `datasets.batches` as the recipes use it; with a pixel augmentation every copy of an image is augmented on the CPU and
the pipeline makes rows. Pipeline and step are measured one after the other on the same cores, in turns.

`--photographs` measures what a folder of photographs gives, by seconds of processor time: a core's images a second. They are
made here, JPEG files of 500×375 pixels of about 80 kB, which is what ImageNet's are on average. Training takes a random part
of each, evaluation the center. The images that a GPU trains a second, divided by this, are the cores that it needs. Of the
other options `--size` and `--rounds` apply.
"""

import argparse
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

import mixmo_keras
from mixmo_keras import datasets
from mixmo_keras.experiments.pixel_augmentation import PIXEL_AUGMENTATIONS


def images_per_second(dataset, images_a_batch: int, seconds: float) -> float:
    """Images of `dataset`'s batches that can be had in a second, each counted once."""
    iterator = iter(dataset)
    next(iterator)
    count, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        next(iterator)
        count += images_a_batch
    return count / passed


def rows_per_second(model, images, labels, batch_size: int) -> float:
    """Rows of the training step in a second, data in memory."""
    start = time.perf_counter()
    model.fit(images, labels, batch_size=batch_size, verbose=0)
    return len(images) * model.batching.repetitions / (time.perf_counter() - start)


def write_photographs(folder: Path, count: int) -> None:
    """Writes JPEG files in two class folders: coarse blots of colour under fine noise."""
    rng = np.random.default_rng(0)
    for number in range(count):
        blots = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype="uint8")).resize(
            (500, 375), Image.Resampling.BICUBIC
        )
        pixels = np.clip(np.asarray(blots) + rng.normal(0, 12, (375, 500, 3)), 0, 255).astype("uint8")
        path = folder / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path, quality=90)


def images_a_core(dataset, images_a_batch: int) -> float:
    """Images by second of processor time, of one pass over a dataset's batches less the first, which starts threads."""
    iterator = iter(dataset)
    next(iterator)
    start = time.process_time()
    batches = sum(1 for _ in iterator)
    return batches * images_a_batch / (time.process_time() - start)


def photographs(count: int, size: int, rounds: int) -> None:
    """Prints the images a second and a core of a folder of photographs, to train on and to evaluate."""
    with tempfile.TemporaryDirectory() as folder:
        write_photographs(Path(folder), count)
        name, shape = f"{folder}@{size}", (size, size)
        training = datasets.batches(datasets.load(name, "train", whole=True), 32, training=True, random_part=shape)
        evaluation = datasets.batches(datasets.load(name, "train"), 32, memory=0)
        for words, pipeline in (("training, a random part", training), ("evaluation, the center", evaluation)):
            speeds = [images_a_core(pipeline, 32) for _ in range(rounds)]
            print(f"{words:<25}{np.median(speeds):>8,.0f} images a second and a core, {min(speeds):,.0f} at least")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="wrn16_2")
    parser.add_argument("--rows", type=int, default=64, help="rows a step")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement of a pipeline")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="of each measurement of the training step")
    parser.add_argument("--dataset", help="such as cifar10; without it, random images of 32×32×3")
    parser.add_argument("--images", type=int, default=50_000, help="so many random images")
    parser.add_argument("--data-dir")
    parser.add_argument("--photographs", type=int, metavar="N", help="measure a folder of N photographs instead")
    parser.add_argument("--size", type=int, default=224, help="pixels of a photograph's side in a batch")
    arguments = parser.parse_args()
    given = {name for name, value in vars(arguments).items() if value != parser.get_default(name)}
    unused = given - {"photographs", "size", "rounds"} if arguments.photographs else given & {"size"}
    if unused:
        parser.error(
            f"{', '.join(sorted(unused))}: no use for it {'with' if arguments.photographs else 'without'} --photographs"
        )
    if arguments.photographs:
        photographs(arguments.photographs, arguments.size, arguments.rounds)
        return

    rng = np.random.default_rng(0)
    if arguments.dataset:
        info = datasets.info(arguments.dataset, arguments.data_dir)
        data, shape = datasets.load(arguments.dataset, "train", arguments.data_dir), info.image_shape
    else:
        shape = (32, 32, 3)
        data = tf.data.Dataset.from_tensor_slices(
            (
                rng.integers(0, 256, (arguments.images, *shape), dtype="uint8"),
                rng.integers(0, 10, arguments.images),
            )
        )
    model = mixmo_keras.CutMixMo(arguments.backbone, num_classes=10, input_shape=shape, seed=0)
    images_a_step = arguments.rows // model.batching.repetitions
    images = rng.integers(0, 256, (images_a_step * arguments.steps, *shape), dtype="uint8")
    labels = rng.integers(0, 10, len(images))
    pipelines = {
        (b, augmented): datasets.batches(
            data,
            arguments.rows // b,
            training=True,
            first_epoch=0,
            repetitions=b if augmented else 1,
            transform=PIXEL_AUGMENTATIONS["randaugment"]() if augmented else None,
        )
        for augmented in (False, True)
        for b in (1, 4)
    }
    model.fit(images, labels, batch_size=images_a_step, verbose=0)  # traces
    eaten: list[float] = []
    made: dict[tuple[int, bool], list[float]] = {key: [] for key in pipelines}
    for _ in range(arguments.rounds):
        eaten.append(rows_per_second(model, images, labels, images_a_step))
        for (b, augmented), pipeline in pipelines.items():
            made[b, augmented].append(images_per_second(pipeline, arguments.rows // b, arguments.seconds))

    rows = np.median(eaten)
    print(f"{arguments.backbone} on {keras.backend.backend()}: {rows:,.0f} rows/s, {arguments.rows} rows a step, M = 2")
    print(f"{'':<32}{'images/s made':>15}{'images/s eaten':>16}{'ratio: median':>15}{'min':>8}")
    for (b, augmented), speeds in made.items():
        ratios = np.array(speeds) / (np.array(eaten) / b)
        name = f"b = {b}" + (", RandAugment by keras-cv" if augmented else "")
        print(f"{name:<32}{np.median(speeds):>15,.0f}{rows / b:>16,.0f}{np.median(ratios):>15.1f}{ratios.min():>8.1f}")


if __name__ == "__main__":
    main()
