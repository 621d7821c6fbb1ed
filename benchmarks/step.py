"""Rows per second of training: a plain Keras `fit` of the single network beside Cut-MixMo on the same rows and backbone.

    python benchmarks/step.py [--backbone wrn16_2] [--rows 64] [--steps 10] [--rounds 7] [--settings default XLA ...]

Each round runs every contestant once, in turn, on the same images, so that the ratios hold on a machine whose speed
drifts. The plain network is the same encoder, core and head under `keras.Model.fit` with the same optimizer, batch size
and device settings, and neither has weight decay; the ratio is Cut-MixMo's speed to that of the plain network under the
same setting. Cut-MixMo is shown with and without its augmentation, with TrivialAugment, and with sharpness-aware
minimisation (SAM); the plain network has none. Beside the clock stands the processor time of all threads, which other
programs on the machine disturb less. Two replicas are two logical devices of one CPU: what they cost, not what they win.
With the settings default and bfloat16 together, the last line holds Cut-MixMo in bfloat16 against plain Keras in float32.
"""

import argparse
import contextlib
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import mixmo_keras

SETTINGS = ("default", "XLA", "two replicas", "bfloat16")
NAMES = (
    "plain Keras, single network",
    "Cut-MixMo M=2",
    "Cut-MixMo M=2, pad-crop-flip",
    "Cut-MixMo M=2, TrivialAugment",
    "Cut-MixMo M=2, SAM",
)


def plain_keras(backbone: str, num_classes: int, **compiled) -> keras.Model:
    """The single network as a Keras user would write it."""
    parts = mixmo_keras.backbones.get(backbone, (32, 32, 3), seed=0)
    images = keras.Input((32, 32, 3))
    features = parts.core(parts.encoder(keras.layers.Rescaling(1 / 64, -2.0)(images)))
    model = keras.Model(images, keras.layers.Dense(num_classes, dtype="float32")(features))
    model.compile(
        optimizer=keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **compiled,
    )
    return model


def contestants(backbone: str, setting: str) -> dict[str, keras.Model]:
    """The plain network and four Cut-MixMo under one setting, by name."""
    scope = contextlib.nullcontext()
    if setting == "two replicas":
        scope = mixmo_keras.distribution.strategy("mirrored", 2).scope()
    compiled: dict[str, Any] = dict(jit_compile=setting == "XLA")
    options: dict[str, Any] = dict(num_classes=10, batch_repetitions=1, l2=0.0, seed=0)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if setting == "bfloat16" else "float32")
    with scope:
        plain = plain_keras(backbone, 10, **compiled)
        policy = mixmo_keras.policies.TrivialAugment()
        bare, augmented, trivial, sharp = (
            mixmo_keras.CutMixMo(backbone, augmentation=augmentation, **options)
            for augmentation in (None, "pad_crop_flip", policy, None)
        )
        for model in (bare, augmented, trivial):
            model.compile(**compiled)
        sharp.compile(sharpness=mixmo_keras.SAM(), **compiled)
    keras.config.set_dtype_policy(before)
    return dict(zip(NAMES, (plain, bare, augmented, trivial, sharp), strict=True))


def measure(models: dict, images, labels, batch_size: int, rounds: int) -> dict[tuple, np.ndarray]:
    """Rows per second of each model, by the clock and by processor time: (2, rounds)."""
    images_and_labels = tf.data.Dataset.from_tensor_slices((images, labels))
    batches = mixmo_keras.datasets.batches(images_and_labels, batch_size)  # whose end waits for no thread of tf.data

    def fit(model) -> tuple[float, float]:
        clock, processor = time.perf_counter(), time.process_time()
        model.fit(batches, shuffle=False, verbose=0)
        return len(images) / (time.perf_counter() - clock), len(images) / (time.process_time() - processor)

    for model in models.values():
        fit(model)  # traces and compiles
    results = [[fit(model) for model in models.values()] for _ in range(rounds)]
    return dict(zip(models, np.array(results).transpose(1, 2, 0), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="wrn16_2")
    parser.add_argument("--rows", type=int, default=64, help="rows a step")
    parser.add_argument("--steps", type=int, default=10, help="steps a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=SETTINGS)
    arguments = parser.parse_args()
    if "two replicas" in arguments.settings:
        mixmo_keras.distribution.strategy("mirrored", 2)  # divides the CPU, before anything computes

    rng = np.random.default_rng(0)
    size = arguments.rows * arguments.steps
    images = rng.integers(0, 256, (size, 32, 32, 3)).astype("uint8")
    labels = rng.integers(0, 10, size)
    models = {
        (setting, name): model
        for setting in arguments.settings
        for name, model in contestants(arguments.backbone, setting).items()
    }
    results = measure(models, images, labels, arguments.rows, arguments.rounds)

    print(
        f"{arguments.backbone}, {arguments.rows} rows a step, {arguments.steps} steps a round, {arguments.rounds} rounds"
    )
    print(f"{'':<46}{'rows/s':>9}{'ratio to plain: median':>26}{'min':>8}{'max':>8}{'of processor time':>20}")
    for (setting, name), speeds in results.items():
        clock, processor = speeds / results[setting, NAMES[0]]
        print(
            f"{setting + ': ' + name:<46}{np.median(speeds[0]):>9.1f}{np.median(clock):>26.3f}{clock.min():>8.3f}"
            f"{clock.max():>8.3f}{np.median(processor):>20.3f}"
        )
    _, bare, _, trivial, sharp = NAMES
    for setting in arguments.settings:
        for what, name in (("TrivialAugment", trivial), ("SAM", sharp)):
            clock, processor = np.median(results[setting, bare] / results[setting, name], axis=1)
            print(
                f"{setting}: a step with {what} takes {clock:.3f} times as long as one without, {processor:.3f} processor"
            )
    if {"default", "bfloat16"} <= {*arguments.settings}:
        clock, processor = np.median(results["bfloat16", bare] / results["default", NAMES[0]], axis=1)
        print(
            f"Cut-MixMo in bfloat16 makes {clock:.3f} times the rows of plain Keras in float32, {processor:.3f} processor"
        )


if __name__ == "__main__":
    main()
