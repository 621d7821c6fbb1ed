"""Command lines, recipes in Python, and the files of runs."""

import functools
import importlib
import json

import cosub
import digits
import evaluate
import numpy as np
import predict
import pytest
from bad_inputs.harness import NAN, Row, anything_else, check, each, would_begin

from mixmo_keras.experiments import Recipe, command_line, comparison, logs, main, results
from mixmo_keras.training import checkpoint_files
from mixmo_keras.training.checkpoints import Checkpoints

engine = importlib.import_module("mixmo_keras.experiments.running")  # a function has its name in the package


@pytest.fixture(autouse=True)
def _nothing_trains(monkeypatch):
    """What is accepted ends where training would begin."""
    monkeypatch.setattr(engine, "fit", would_begin)


def line(main, *words):
    def call(here):
        places = ["--output-dir", str(here.folder / "runs"), "--export-dir", str(here.folder / "saved")]
        return main([*map(str, words), *places])

    return call


def name_that_no_library_takes(here):
    with command_line.errors_in_one_line():
        "\udcc3".encode()


def on_digits(option, value, pattern):
    words = [f"--{option}={value}", *([] if option == "backbone" else ["--backbone=tiny_4"])]
    return Row(f"digits.py --{option} {value}", line(functools.partial(main, digits.RECIPE, "digits"), *words), pattern)


NUMBER, INTEGER = "must be a.* number", "must be an integer|invalid int value"
LINES = [
    *[
        on_digits(option, "nan", f"`{option.replace('-', '_')}` {NUMBER}")
        for option in ("l2", "learning-rate", "scale", "clip-norm")
    ],
    *[
        on_digits(option, "nan", f"`{option.replace('-', '_')}` {NUMBER}")
        for option in ("ema", "alpha", "weight-root", "probability")
    ],
    *[
        on_digits(option, "inf", f"`{option.replace('-', '_')}` {NUMBER}")
        for option in ("l2", "learning-rate", "clip-norm", "alpha")
    ],
    *[
        on_digits(option, "-1", f"`{option.replace('-', '_')}` {NUMBER}")
        for option in ("l2", "alpha", "label-smoothing", "label-noise")
    ],
    *[
        on_digits(option, "0", f"`{option.replace('-', '_')}` {NUMBER}")
        for option in ("clip-norm", "ema", "learning-rate", "scale")
    ],
    *[
        on_digits(option, "0", INTEGER)
        for option in ("accumulation", "epochs", "batch-size", "num-members", "checkpoint-steps")
    ],
    *[
        on_digits(option, "1.5", INTEGER)
        for option in ("accumulation", "epochs", "batch-size", "num-members", "seed", "padding")
    ],
    *[on_digits(option, "abc", "invalid int value") for option in ("seed", "epochs", "data-seed", "devices")],
    *[on_digits(option, "abc", "invalid float value") for option in ("l2", "learning-rate", "ema", "drop-path")],
    *[
        on_digits(option, "nonsense", "must be one of")
        for option in ("method", "mask", "schedule", "crop", "train-split", "averaging")
    ],
    *[
        on_digits(option, "nonsense", "must be one of|strategy")
        for option in ("msda", "noise-kind", "interpolation", "strategy")
    ],
    on_digits("dataset", "nonsense", "`dataset` must be one of"),
    on_digits("backbone", "nonsense", "backbone"),
    on_digits("dtype", "float99", "dtype"),
    on_digits("teaching", "nonsense", "teaching"),
    on_digits("pixel-augmentation", "nonsense", "must be one of"),
    on_digits("warm-start", "no/such.npz", "`warm_start`: there is no file no/such.npz"),
    on_digits("train-images", "100000", "`num_images` must be an integer from 1 to"),
    on_digits(
        "batch-size", "6000", r"takes 3000 images a step \(`batch_repetitions` is 2\); digits has 1257 to train on"
    ),
    *[on_digits(option, "nonsense", "must be one of") for option in ("optimizer", "loss")],
    *[on_digits(option, "0", f"`{option.replace('-', '_')}` {NUMBER}") for option in ("weight-decay", "color-jitter")],
    on_digits("color-jitter", "1.5", f"`color_jitter` {NUMBER}"),
    on_digits("image-size", "0", INTEGER),
    Row(
        "digits.py --optimizer without a rate",
        line(
            functools.partial(main, digits.RECIPE, "digits"),
            *("--backbone=tiny_4", "--optimizer=lamb", "--learning-rate=none"),
        ),
        "`optimizer` 'lamb' needs a `learning_rate`: the schedules' own are SGD's",
    ),
    on_digits("warmup-epochs", "25", r"`warmup_epochs` \(=25\) must be fewer than the epochs, 25"),
    Row(
        "digits.py --momentum with AdamW",
        line(
            functools.partial(main, digits.RECIPE, "digits"),
            *("--backbone=tiny_4", "--optimizer=adamw", "--learning-rate=0.001", "--momentum=0.8"),
        ),
        r"`momentum` \(=0.8\) has no meaning for optimizer 'adamw'",
    ),
    Row(
        "digits.py --warmup-epochs of a schedule without",
        line(
            functools.partial(main, digits.RECIPE, "digits"),
            *("--backbone=tiny_4", "--schedule=airbench", "--warmup-epochs=1"),
        ),
        "Triangle has no warm-up of its own length",
    ),
    Row(
        "digits.py of two sizes",
        line(functools.partial(main, digits.RECIPE, "digits"), "--dataset=digits@16", "--image-size=8"),
        "digits@16 names another size than --image-size 8: give one",
    ),
    Row(
        "digits.py --image-size that patches don't divide",
        line(functools.partial(main, digits.RECIPE, "digits"), "--backbone=vit_tiny4", "--image-size=9"),
        r"`patch` \(=4\) must divide the images' height and width, 9×9",
    ),
    Row(
        "cosub.py nonsense",
        lambda here: cosub.run(["nonsense"]),
        "setting must be one of vit_small, .*; got 'nonsense'",
    ),
    on_digits("nonsense", "1", "unrecognized arguments"),
    on_digits("batch-size", "63", "must be divisible by `batch_repetitions`"),
    on_digits("msda-alpha", "1", "no meaning without `msda`"),
    Row(
        "digits.py --output-dir /proc/runs",
        lambda here: main(
            digits.RECIPE, "digits", ["--backbone=tiny_4", "--output-dir=/proc/runs", f"--export-dir={here.folder}"]
        ),
        "error: The run can't write /proc/runs/.*: /proc can't be written into",
    ),
    Row(
        "digits.py --output-dir, a name that is no UTF-8",
        lambda here: main(digits.RECIPE, "digits", ["--backbone=tiny_4", f"--output-dir={here.folder}/\udcc3"]),
        "error: The run can't write .*: TensorFlow takes paths in UTF-8 only",
    ),
    Row(
        "a path of other data that is no UTF-8",
        name_that_no_library_takes,
        "error: TensorFlow takes paths in UTF-8 only",
    ),
    Row(
        "evaluate.py (no such run)",
        lambda here: evaluate.main([str(here.folder / "none")]),
        "error: There is no .*none",
    ),
    Row(
        "evaluate.py (an empty folder)",
        lambda here: evaluate.main([str(here.folder)]),
        "error: There is no .*last.keras|name 0 datasets",
    ),
    *[
        Row(
            f"evaluate.py --coverage {value}",
            functools.partial(lambda value, here: evaluate.main([str(here.folder), "--coverage", value]), value),
            r"`coverage` must be a number within \(0, 1\)",
        )
        for value in ("2", "0", "nan")
    ],
    Row(
        "evaluate.py --coverage x",
        lambda here: evaluate.main([str(here.folder), "--coverage", "x"]),
        "invalid float value",
    ),
    Row(
        "evaluate.py --compare (nothing)",
        lambda here: evaluate.main(["--compare", str(here.folder)]),
        "holds no evaluation",
    ),
    Row("predict.py (nothing)", lambda here: predict.main([]), "required"),
    Row(
        "predict.py --grpc without --name",
        lambda here: predict.main(["a.png", "--grpc", "a:1"]),
        "--grpc and --name belong together",
    ),
    Row(
        "predict.py (no such file)",
        lambda here: predict.main([str(here.folder / "a.png"), "--saved-model", "."]),
        "error: .*a.png",
    ),
]


@each(LINES)
def test_command_lines(row, here, record_property):
    check(row, here, record_property)


def resolving(name):
    return lambda here, value: Recipe(dataset="digits", **{name: value}).resolved()


RECIPES = [
    *[
        row
        for name in ("epochs", "batch_size", "seed")
        for row in anything_else(
            "Recipe", name, resolving(name), ["2", 1.5, NAN, True, None], f"`{name}` must be an integer"
        )
    ],
    *[
        row
        for name in ("learning_rate", "scale", "label_noise")
        for row in anything_else("Recipe", name, resolving(name), ["2", NAN, True, -1], f"`{name}` must be a.*number")
    ],
    *[
        row
        for name in ("flip", "fresh", "clean_validation")
        for row in anything_else("Recipe", name, resolving(name), ["no", 1, None], f"`{name}` must be True or False")
    ],
    *[
        row
        for name in ("method", "crop", "schedule")
        for row in anything_else("Recipe", name, resolving(name), ["x", 3], f"`{name}` must be one of")
    ],
    *[
        row
        for name in ("output_dir", "export_dir")
        for row in anything_else("Recipe", name, resolving(name), [3, None], f"`{name}` must be a path")
    ],
    *anything_else(
        "Recipe", "dataset", lambda here, value: Recipe(dataset=value).resolved(), [3, None], "`dataset` must be a text"
    ),
]


@each(RECIPES)
def test_recipes(row, here, record_property):
    check(row, here, record_property)


# -- files of runs -----------------------------------------------------------------------------------------------------


def settings(here, **options) -> Recipe:
    return Recipe(
        dataset="digits",
        backbone="tiny_4",
        epochs=1,
        output_dir=str(here.folder),
        export_dir=str(here.folder / "saved"),
        **options,
    )


def with_file(name, content, **options):
    """Begins a run whose folder has a file with something in it."""

    def call(here):
        recipe = settings(here, **options)
        path = recipe.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return engine.run(recipe)

    return call


def finished_with(content):
    def call(here):
        recipe = settings(here)
        recipe.folder.mkdir(parents=True)
        (recipe.folder / "metrics.json").write_text(content)
        return results.finished(recipe)

    return call


def read_log(content):
    def call(here):
        (here.folder / "log.csv").write_text(content)
        return logs.read(here.folder / "log.csv")

    return call


def without_checkpoints(here):
    """A finished run whose checkpoints were deleted to save room."""
    recipe = settings(here)
    recipe.folder.mkdir(parents=True)
    for name in ("log.csv", "last.keras", "metrics.json"):
        (recipe.folder / name).write_text("{}" if name == "metrics.json" else "epoch,loss\n0,1.0\n")
    try:
        return engine.run(recipe)
    finally:
        assert (recipe.folder / "log.csv").exists()


def checkpoint(change):
    """Restores from a checkpoint that was changed."""

    def call(here):
        model = here.once("restored", here.another_model)
        model.build_optimizer()
        saved = Checkpoints(here.folder)
        saved.set_model(model)
        path = saved.save(checkpoint_files.Position(1))
        change(path)
        return Checkpoints(here.folder).restore(model)

    return call


def less(path):
    """The file less its last arrays, the header as before."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    for name in list(arrays)[-3:]:
        del arrays[name]
    np.savez(path, **arrays)


def fewer(path):
    """The file less its last arrays, and so says the header."""
    with np.load(path) as file:
        header, arrays = json.loads(str(file["header"])), [file[f"a{i}"] for i in range(len(file.files) - 1)]
    kept = len(header["variables"]) - 2
    header["dtypes"] = header["dtypes"][:kept]
    np.savez(path, header=np.array(json.dumps(header)), **{f"a{i}": array for i, array in enumerate(arrays[:kept])})


def header(content):
    def change(path):
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        np.savez(path, **arrays | {"header": np.array(content)})

    return change


def flipped(place, bits):
    """Changes a byte of the first file's entry in a zip's directory, where its flags (6) and its packing (8) are."""

    def change(path):
        content = bytearray(path.read_bytes())
        for signature, offset in ((b"PK\1\2", place + 2), (b"PK\3\4", place)):
            content[content.index(signature) + offset] ^= bits
        path.write_bytes(content)

    return change


def cut(path):
    path.write_bytes(path.read_bytes()[:1000])


LOG = "epoch,accuracy,loss\n0,0.5,1.0\n"
DAMAGED = r"All checkpoints in .* are damaged"
FILES = [
    *[
        Row(f"config.json of {content}", with_file("config.json", content), r"config\.json .*damaged.*--fresh")
        for content in ("[1]", "null", "3", "{", "", '"x"', '{"epochs_before": 3}', '{"epochs_before": [1, "x"]}')
    ],
    Row(
        "config.json of brackets in brackets",
        with_file("config.json", '{"a": ' + "[" * 50_000 + "]" * 50_000 + "}"),
        r"config\.json .*damaged.*--fresh",
    ),
    Row(
        "log.csv of another header",
        lambda here: logs.callbacks(here.folder, [{"epoch": 0.0, "loss": 1.0}]),
        r"log\.csv is damaged, it lacks val_accuracy, val_loss: .*--fresh",
    ),
    Row(
        "log.csv of a run that holds nothing out",
        lambda here: logs.callbacks(here.folder, [{"epoch": 0.0}], False, False),
    ),
    *[
        Row(f"metrics.json of {content}", finished_with(content), r"metrics\.json .*damaged")
        for content in ("[1]", "null", "{", "")
    ],
    *[
        Row(f"log.csv {name}", read_log(content), r"log\.csv .*damaged")
        for name, content in {
            "with a short row": LOG + "1,0.5\n",
            "with a long row": LOG + "1,0.5,1.0,2.0\n",
            "with a text": LOG + "1,0.5,abc\n",
            "of zeros": "\0" * 20,
            "cut in a row": LOG + "1,0.",
        }.items()
    ],
    Row("log.csv that is sound", read_log(LOG)),
    Row("log.csv of no epoch", read_log("epoch,accuracy,loss\n")),
    Row("a finished run without checkpoints", without_checkpoints, "checkpoints .*--fresh"),
    Row("checkpoint cut off", checkpoint(cut), DAMAGED),
    Row("checkpoint that lacks arrays", checkpoint(less), DAMAGED),
    Row("checkpoint with too few arrays", checkpoint(fewer), DAMAGED),
    Row("checkpoint of nothing", checkpoint(lambda path: path.write_bytes(b"")), DAMAGED),
    *[
        Row(f"checkpoint with the header {content}", checkpoint(header(content)), DAMAGED)
        for content in (
            *("{}", "[]", "null", "{", '{"dtypes": 3}', '{"dtypes": ["x"]}'),
            *(json.dumps({"dtypes": ["float32"], "seconds": 1, "variables": bad}) for bad in ([3], [[3, 4]], [["a"]])),
        )
    ],
    Row("checkpoint that says it is encrypted", checkpoint(flipped(6, 1)), DAMAGED),
    Row("checkpoint that is packed in another way", checkpoint(flipped(8, 99)), DAMAGED),
    Row("checkpoint that is sound", checkpoint(lambda path: None)),
    *[
        Row(
            f"--compare, metrics.json of {content}",
            functools.partial(
                lambda content, here: [
                    (here.folder / "metrics.json").write_text(content),
                    comparison.compare_evaluations([here.folder], here.folder),
                ],
                content,
            ),
            r"metrics\.json .*damaged|holds no evaluation",
        )
        for content in ("[1]", "null", "{", "{}")
    ],
]


@each(FILES)
def test_files_of_runs(row, here, record_property):
    check(row, here, record_property)
