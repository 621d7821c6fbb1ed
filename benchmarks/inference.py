"""Inference side by side: single network, Cut-MixMo of two and three members, fused and not, a deep ensemble of two.

    python benchmarks/inference.py [--saved-models] [--backbone wrn16_2] [--batches 1 64] [--rounds 15] [--seconds 1]

Each round times every contestant once, in turn; a contestant is one compiled function of a batch of raw pixels: of a
network's logits, or with --saved-models the `serving_default` of an exported model, which also gives entropies and class
names. Shown are the medians over rounds of milliseconds a batch and of the ratio to the single network, by the clock and by
processor time.
"""

import argparse
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf

import mixmo_keras


def trained(backbone: str) -> tuple:
    """Two single networks, and Cut-MixMo of two members and of three; what they have learnt makes no difference here."""
    options = dict(num_classes=100, input_shape=(32, 32, 3), augmentation=None)
    single, other = (mixmo_keras.SingleNetwork(backbone, seed=seed, **options) for seed in (0, 1))
    pair, three = (mixmo_keras.CutMixMo(backbone, num_members=members, seed=0, **options) for members in (2, 3))
    return single, other, pair, three


def saved_contestants(backbone: str, folder: str) -> dict:
    """The served functions of exported models, by name."""
    single, other, pair, three = trained(backbone)
    models = {
        "single network": single,
        "Cut-MixMo M=2, fused": pair,
        "Cut-MixMo M=3, fused": three,
        "deep ensemble of 2": mixmo_keras.DeepEnsemble([single, other]),
    }
    paths = {name: model.export(f"{folder}/{number}/1") for number, (name, model) in enumerate(models.items())}
    pair.fused = lambda members: pair._members()  # what export would write without fusing
    paths["Cut-MixMo M=2, unfused"] = pair.export(f"{folder}/unfused/1")

    def function(path):
        served = tf.saved_model.load(path).signatures["serving_default"]
        return lambda images: served(images=images)["probabilities"]

    return {name: function(path) for name, path in paths.items()}


def contestants(backbone: str) -> dict:
    """Compiled functions of images (n, 32, 32, 3), by name."""
    single, other, pair, three = trained(backbone)
    networks = {
        "single network": [single],
        "Cut-MixMo M=2": [pair],
        "Cut-MixMo M=2, fused": [pair.fused()],
        "Cut-MixMo M=2, fused, members": [pair.fused(members=True)],
        "Cut-MixMo M=3": [three],
        "Cut-MixMo M=3, fused": [three.fused()],
        "deep ensemble of 2": [single, other],
    }

    def function(models):
        spec = [tf.TensorSpec((None, 32, 32, 3))]
        return tf.function(
            lambda x: sum(model(x, training=False) for model in models) / len(models), input_signature=spec
        )

    return {name: function(models) for name, models in networks.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--saved-models", action="store_true", help="exported models in place of networks")
    parser.add_argument("--backbone", default="wrn16_2")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one contestant in one round, about")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        functions = (
            saved_contestants(arguments.backbone, folder) if arguments.saved_models else contestants(arguments.backbone)
        )
    for batch in arguments.batches:
        images = tf.constant(np.random.default_rng(0).integers(0, 256, (batch, 32, 32, 3)).astype("float32"))

        def measure(function, count, images=images) -> tuple[float, float]:
            clock, processor = time.perf_counter(), time.process_time()
            for _ in range(count):
                function(images).numpy()
            return (time.perf_counter() - clock) / count, (time.process_time() - processor) / count

        for function in functions.values():
            measure(function, 2)  # traces
        count = max(int(arguments.seconds / measure(functions["single network"], 3)[0]), 1)
        results = np.array(
            [[measure(function, count) for function in functions.values()] for _ in range(arguments.rounds)]
        )
        ratios = np.median(results / results[:, :1], axis=0)
        print(f"{arguments.backbone}, batch {batch}, {count} batches a round, {arguments.rounds} rounds")
        print(f"{'':<32}{'ms a batch':>12}{'ratio to single':>17}{'of processor time':>19}")
        for name, times, (clock, processor) in zip(functions, np.median(results, axis=0), ratios, strict=True):
            print(f"{name:<32}{times[0] * 1e3:>12.2f}{clock:>17.3f}{processor:>19.3f}")


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    main()
