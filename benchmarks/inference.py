"""Inference side by side: single network, Cut-MixMo fused and not, M images a pass, a deep ensemble of two.

    python benchmarks/inference.py --backbone wrn16_2 --batches 1 64 --rounds 15 --seconds 1
    python benchmarks/inference.py --saved-models --input-shape 32 32 3
    python benchmarks/inference.py --files
    python benchmarks/inference.py --multiplexed
    python benchmarks/inference.py --multiplexed --out studies/figures/several_a_pass-wrn16_2.json

Each round times every contestant once, in turn; a contestant is one compiled function of a batch of raw pixels: of a
network's logits, or with --saved-models the `serving_default` and the `multiplexed` of an exported model, which also give
entropies and class names. With --files the single network and fused ensembles are exported for ONNX Runtime and LiteRT, the
latter in 8 bits too, and run there on one thread: a table for each. With --multiplexed the contestants are the single
network, an ensemble pass and M images a pass for M = 2, 3 and 4, and a deep ensemble of two. Shown are the medians over
rounds of milliseconds a batch and of the ratio to the single network, by the clock and by processor time; and images per
second, of which M images a pass take M times as many at batch 1: M requests at once, which make one pass. --out keeps the
figures in a file, for studies/both_modes.py.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import mixmo_keras
from mixmo_keras import version
from mixmo_keras.common import files

IMAGES_A_PASS = (2, 3, 4)
MULTIPLEXED = "M={} images a pass"


def trained(backbone: str, input_shape: tuple, members: tuple = (2, 3)) -> tuple:
    """Two single networks, and Cut-MixMo by number of members; what they have learnt makes no difference here."""
    options: dict[str, Any] = dict(num_classes=100, input_shape=input_shape, augmentation=None)
    single, other = (mixmo_keras.SingleNetwork(backbone, seed=seed, **options) for seed in (0, 1))
    return single, other, {m: mixmo_keras.CutMixMo(backbone, num_members=m, seed=0, **options) for m in members}


def saved_contestants(backbone: str, input_shape: tuple, folder: str) -> dict:
    """The served functions of exported models, by name."""
    single, other, mixmos = trained(backbone, input_shape)
    models = {
        "single network": single,
        "Cut-MixMo M=2, fused": mixmos[2],
        "Cut-MixMo M=3, fused": mixmos[3],
        "deep ensemble of 2": mixmo_keras.DeepEnsemble([single, other]),
    }
    paths = {name: model.export(f"{folder}/{number}/1") for number, (name, model) in enumerate(models.items())}

    def function(path, signature="serving_default"):
        served = tf.saved_model.load(path).signatures[signature]
        return lambda images: served(images=images)["probabilities"]

    functions = {name: function(path) for name, path in paths.items()}
    for m in mixmos:
        functions[MULTIPLEXED.format(m)] = function(paths[f"Cut-MixMo M={m}, fused"], "multiplexed")
    mixmos[2].fused = lambda members: mixmos[2]._members()  # what export would write without fusing
    mixmos[2].why_not_multiplexed = lambda: "its layers have the names of a fused network no more"
    functions["Cut-MixMo M=2, unfused"] = function(mixmos[2].export(f"{folder}/unfused/1"))
    return functions


def file_contestants(backbone: str, input_shape: tuple, folder: str) -> dict[str, dict]:
    """The single network and fused ensembles as exported files, by runtime and name."""
    single, _, mixmos = trained(backbone, input_shape)
    models = {"single network": single} | {f"Cut-MixMo M={m}, fused": model for m, model in mixmos.items()}
    images = np.random.default_rng(0).integers(0, 256, (64, *input_shape))
    exports: dict[str, tuple[Callable, str, dict]] = {
        "ONNX Runtime": (onnx_runtime, "onnx", {}),
        "LiteRT": (litert, "litert", {}),
        "LiteRT int8": (litert, "litert", dict(quantize="int8", representative=images)),
    }
    functions: dict[str, dict] = {}
    for runtime, (load, format, options) in exports.items():
        ending = {"onnx": ".onnx", "litert": ".tflite"}[format]
        for number, (name, model) in enumerate(models.items()):
            path = model.export(Path(folder) / f"{runtime} {number}{ending}", format=format, **options)
            functions.setdefault(runtime, {})[name] = load(path)
    return functions


def onnx_runtime(path: Path) -> Callable:
    """The function of images in a file, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    (inputs,) = session.get_inputs()
    return lambda images: session.run(None, {inputs.name: images.numpy()})[0]


def litert(path: Path) -> Callable:
    """The function of images in a file, on one thread."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()  # for the batch of one that the file is of

    def answer(images):
        (inputs,), (outputs,) = interpreter.get_input_details(), interpreter.get_output_details()
        if tuple(inputs["shape"]) != images.shape:
            interpreter.resize_tensor_input(inputs["index"], images.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(inputs["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(outputs["index"])

    return answer


def contestants(backbone: str, input_shape: tuple, multiplexed: bool = False) -> dict:
    """Compiled functions of images (n, H, W, C), by name."""
    single, other, mixmos = trained(backbone, input_shape, IMAGES_A_PASS if multiplexed else (2, 3))
    networks = {"single network": [single]}
    for m, model in mixmos.items():
        if multiplexed:
            networks[f"ensemble pass M={m}"] = [model.fused()]
            networks[MULTIPLEXED.format(m)] = [model.multiplexed()]
        else:
            networks |= {f"Cut-MixMo M={m}": [model], f"Cut-MixMo M={m}, fused": [model.fused()]}
            if m == 2:
                networks["Cut-MixMo M=2, fused, members"] = [model.fused(members=True)]
    networks["deep ensemble of 2"] = [single, other]

    def function(models):
        spec = [tf.TensorSpec((None, *input_shape))]
        return tf.function(
            lambda x: sum(model(x, training=False) for model in models) / len(models), input_signature=spec
        )

    return {name: function(models) for name, models in networks.items()}


def num_images(name: str, batch: int) -> int:
    """How many images a contestant is given for a batch of so many: at batch 1 a pass full of them."""
    return int(name[2]) if batch == 1 and name.endswith("images a pass") else batch


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--saved-models", action="store_true", help="exported models in place of networks")
    parser.add_argument("--files", action="store_true", help="files for ONNX Runtime and LiteRT in place of networks")
    parser.add_argument("--multiplexed", action="store_true", help="M images a pass for M = 2, 3, 4")
    parser.add_argument("--input-shape", type=int, nargs=3, default=(32, 32, 3), metavar=("H", "W", "C"))
    parser.add_argument("--backbone", default="wrn16_2")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one contestant in one round, about")
    parser.add_argument("--out", type=Path, help="keep the figures of --multiplexed in a JSON file")
    options = parser.parse_args(arguments)
    if options.saved_models + options.files + options.multiplexed > 1:
        parser.error("choose one of --saved-models, --files and --multiplexed")
    if options.out and not options.multiplexed:
        parser.error("--out is for --multiplexed")
    input_shape = tuple(options.input_shape)
    with tempfile.TemporaryDirectory() as folder:
        if options.files:
            for runtime, functions in file_contestants(options.backbone, input_shape, folder).items():
                for batch in options.batches:
                    print(f"\n{runtime}: ", end="")
                    timed(options, functions, batch, input_shape)
            return
        if options.saved_models:
            functions = saved_contestants(options.backbone, input_shape, folder)
        else:
            functions = contestants(options.backbone, input_shape, options.multiplexed)
    figures = {str(batch): timed(options, functions, batch, input_shape) for batch in options.batches}
    if options.out:
        settings = {name: value for name, value in vars(options).items() if name != "out"}
        files.write_json(options.out, {"settings": settings, "commit": version.commit(), "batches": figures})


COLUMNS = (
    ("milliseconds", "ms a batch", "{:.2f}"),
    ("ratio", "ratio to single", "{:.3f}"),
    ("ratio_of_processor_time", "of processor time", "{:.3f}"),
    ("images_per_second", "images/s", "{:.0f}"),
    ("over_single", "over single", "{:.3f}"),
)


def timed(
    arguments: argparse.Namespace, functions: dict, batch: int, input_shape: tuple
) -> dict[str, dict[str, float]]:
    """Times all contestants on batches of one size, prints a table, and returns its figures by contestant."""
    counts = {name: num_images(name, batch) for name in functions}
    random = np.random.default_rng(0)
    images = {
        count: tf.constant(random.integers(0, 256, (count, *input_shape)).astype("float32"))
        for count in sorted(set(counts.values()))
    }

    def measure(name, count) -> tuple[float, float]:
        clock, processor = time.perf_counter(), time.process_time()
        for _ in range(count):
            np.asarray(functions[name](images[counts[name]]))
        return (time.perf_counter() - clock) / count, (time.process_time() - processor) / count

    for name in functions:
        measure(name, 2)  # traces
    count = max(int(arguments.seconds / measure("single network", 3)[0]), 1)
    results = np.array([[measure(name, count) for name in functions] for _ in range(arguments.rounds)])
    of_images = np.array([counts[name] / batch for name in functions])[:, None]
    ratios = np.median(results / results[:, :1], axis=0)
    speeds = np.median(of_images * results[:, :1] / results, axis=0)[
        :, 0
    ]  # images per second over the single network's
    print(f"{arguments.backbone}, batch {batch}, {count} batches a round, {arguments.rounds} rounds")
    widths = (12, 17, 19, 10, 13)
    print(f"{'':<32}" + "".join(f"{title:>{width}}" for (_, title, _), width in zip(COLUMNS, widths, strict=True)))
    figures = {}
    rows = zip(counts.items(), np.median(results, axis=0), ratios, speeds, strict=True)
    for (name, number), times, (clock, processor), speed in rows:
        values = (times[0] * 1e3, clock, processor, number / times[0], speed)
        figures[name] = {key: float(value) for (key, _, _), value in zip(COLUMNS, values, strict=True)}
        cells = (form.format(value) for (_, _, form), value in zip(COLUMNS, values, strict=True))
        print(f"{name:<32}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)))
    return figures


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    main()
