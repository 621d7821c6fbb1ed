"""Searches, pilots, pictures, reports, and datasets of one's own, called from Python."""

import functools

import tiny
from bad_inputs.harness import NAN, Row, anything_else, booleans, check, choices, each, integers, numbers, would_begin
from bad_inputs.test_exports_and_clients import picture
from matplotlib.figure import Figure

import mixmo_keras
from mixmo_keras import corruptions, datasets, pilot, plots, report, search, tasks


def of(function, name, *arguments, **options):
    """A call of anything with one argument to try."""
    return lambda here, value: function(*arguments, **options | {name: value})


def space(name):
    return of(search.Space, name)


def backbone(width):
    return tiny.backbone((8, 8, 1), width)


HYPERMODEL = functools.partial(search.MixMoHyperModel, backbone, 10, (8, 8, 1), search.Space(widths=(1,)))
CHOICES = "`{}` must be a tuple of values"


def tuning(name):
    """A search with one argument to try."""

    def call(here, value):
        options = dict(hypermodel=here.once("hypermodel", HYPERMODEL), kind="random", folder=here.folder / "search") | {
            name: value
        }
        return search.tuner(**options)

    return call


SEARCHES = [
    *[
        row
        for name in ("num_members", "widths", "weight_roots", "alphas", "masks", "l2")
        for row in anything_else("Space", name, space(name), [2, "12", None], CHOICES.format(name))
    ],
    *[
        row
        for name in ("num_members", "widths")
        for row in anything_else("Space", name, space(name), [()], "there is nothing to choose from")
    ],
    *[
        row
        for name in ("num_members", "widths", "batch_repetitions")
        for row in anything_else(
            "Space", name, space(name), [(0,), (1.5,), ("x",), (True,)], f"`{name}` must be an int"
        )
    ],
    *[
        row
        for name in ("weight_roots", "alphas")
        for row in anything_else("Space", name, space(name), [(0,), (NAN,), ("x",)], f"`{name}` must be a positive")
    ],
    *anything_else("Space", "probabilities", space("probabilities"), [(2,), (-1,), ("x",)], "`probabilities` must be"),
    *anything_else("Space", "masks", space("masks"), [("nonsense",), (3,)], "`masks` must be one of"),
    *anything_else(
        "Space", "learning_rates", space("learning_rates"), [(1,), (0.1, 0.01)], "the least and the greatest value"
    ),
    *anything_else("Space", "weight_roots", space("weight_roots"), [(2, 2)], "`weight_roots` must be different"),
    *anything_else(
        "MixMoHyperModel",
        "backbone",
        lambda here, value: search.MixMoHyperModel(value, 10, (8, 8, 1)),
        [3, None, "wrn28_10"],
        "`backbone` must be a function of the width",
    ),
    *anything_else(
        "MixMoHyperModel", "space", of(HYPERMODEL.func, "space", backbone, 10, (8, 8, 1)), [3, {}], "`space`"
    ),
    *anything_else("MixMoHyperModel", "schedule", of(HYPERMODEL, "schedule"), [3, "cosine"], "`schedule` must be a"),
    *integers("MixMoHyperModel", "rows", of(HYPERMODEL, "rows"), 4, below=0),
    *integers("MixMoHyperModel", "seed", of(HYPERMODEL, "seed"), 4, below=-1),
    *numbers("MixMoHyperModel", "max_flops", of(HYPERMODEL, "max_flops"), None, [0, -1], none=True),
    Row("MixMoHyperModel(max_flops=1)", lambda here: HYPERMODEL(max_flops=1), "No width is within the limits"),
    *anything_else(
        "tuner", "hypermodel", tuning("hypermodel"), [3, None], "`hypermodel` must be a search.MixMoHyperMo"
    ),
    *anything_else("tuner", "folder", tuning("folder"), [3, None], "`folder` must be the path of a folder"),
    *choices("tuner", "kind", tuning("kind")),
    *choices("tuner", "objective", tuning("objective")),
    *integers("tuner", "max_trials", tuning("max_trials"), 3, below=0, none=True),
    *integers("tuner", "seed", tuning("seed"), 3, below=-1),
    *booleans("tuner", "fresh", tuning("fresh")),
    *[
        row
        for name in ("table", "pareto")
        for row in choices(name, "objective", of(getattr(search, name), "objective", []))
    ],
]


@each(SEARCHES)
def test_searches(row, here, record_property):
    check(row, here, record_property)


def piloting(name):
    """A pilot with one argument to try."""

    def call(here, value):
        images = here.once("digits", lambda: datasets.load("digits", "train").take(64))
        options = dict(backbone=backbone, train=images, validation=images, widths=(2,), report=would_begin)
        return pilot.run(**options | {name: value})

    return call


PILOTS = [
    *anything_else("pilot.run", "backbone", piloting("backbone"), [3, None, "wrn"], "`backbone` must be a function"),
    *anything_else("pilot.run", "train", piloting("train"), [3, None], "`dataset` must be a tf.data.Dataset"),
    *anything_else("pilot.run", "widths", piloting("widths"), [2, None], "`widths` must be a list of integers"),
    *anything_else("pilot.run", "widths", piloting("widths"), [(0,), "x", (1.5,)], "`widths` must be an integer"),
    *anything_else("pilot.run", "widths", piloting("widths"), [()], "A pilot needs a width"),
    *anything_else("pilot.run", "seeds", piloting("seeds"), [3, None], "`seeds` must be a list of integers"),
    *anything_else("pilot.run", "seeds", piloting("seeds"), [(-1,), ("x",)], "`seeds` must be an integer"),
    *anything_else("pilot.run", "seeds", piloting("seeds"), [(0, 0)], "`seeds` must be different"),
    *anything_else("pilot.run", "folder", piloting("folder"), [3, []], "`folder` must be the path of a folder"),
    *anything_else("pilot.run", "epochs", piloting("epochs"), [0, 1.5, "x", None], "`epochs` must be an integer"),
    *anything_else("pilot.run", "rows", piloting("rows"), [0, 1.5, "x", 33, 6000], "`rows` .*must|takes 3000 images"),
    *booleans("pilot.run", "fresh", piloting("fresh")),
]


@each(PILOTS)
def test_pilots(row, here, record_property):
    check(row, here, record_property)


FIGURE = Figure()
PICTURES = [
    *anything_else(
        "save", "figure", lambda here, value: plots.save(value, here.folder / "a.png"), [3, None], "`figure`"
    ),
    *anything_else("save", "path", lambda here, value: plots.save(FIGURE, value), [3, None], "`path` must be the path"),
    *numbers("save", "dpi", lambda here, value: plots.save(FIGURE, here.folder / "a.png", value), None, [0, -1]),
    *anything_else("report.write", "evaluation", lambda here, value: report.write(value, "x"), [3, {}], "`evaluation`"),
    *anything_else("report.page", "evaluation", lambda here, value: report.page(value), [3, {}, None], "`evaluation`"),
    *anything_else(
        "corrupted_batches",
        "names",
        lambda here, value: next(corruptions.corrupted_batches([here.data], value)),
        ["fog", 3, [], ["nonsense"]],
        "`names?` must",
    ),
    *anything_else(
        "corrupted_batches",
        "seed",
        lambda here, value: next(corruptions.corrupted_batches([here.data], ["contrast"], value)),
        [-1, "x", None],
        "`seed` must be an integer",
    ),
]


@each(PICTURES)
def test_pictures_and_reports(row, here, record_property):
    check(row, here, record_property)


INFO = functools.partial(datasets.Info, name="mine", image_shape=(8, 8, 3), class_names=("a", "b"))
SOURCE = functools.partial(datasets.tensorflow_dataset, name="mine")
OWN = [
    *anything_else("Info", "name", of(INFO, "name"), [3, None], "`name` must be a text"),
    *anything_else(
        "Info", "image_shape", of(INFO, "image_shape"), [(8, 8), 3, "x", (0, 8, 3)], "`image_shape` must be"
    ),
    *anything_else(
        "Info", "class_names", of(INFO, "class_names"), ["ab", 3, [1, 2], None], "`class_names` must be a list"
    ),
    *anything_else("Info", "task", of(INFO, "task"), [3, "regression", tasks.Regression], "`task` must be a task of"),
    *anything_else("tensorflow_dataset", "name", of(SOURCE, "name"), [3, None], "`name` must be a text"),
    *anything_else(
        "tensorflow_dataset", "splits", of(SOURCE, "splits"), [3, None, {"train": 3}, {"a": "b"}], "`splits` must be"
    ),
    *anything_else("tensorflow_dataset", "size", of(SOURCE, "size"), [3, (8,), (0, 8), "x"], "`size` must be"),
    *integers("tensorflow_dataset", "border", of(SOURCE, "border"), 1, below=-1),
    *anything_else("tensorflow_dataset", "labels", of(SOURCE, "labels"), [3, []], "`labels` must be a text or None"),
    *anything_else("Source", "info", of(datasets.Source, "info", load=len), [3, None], "`info` must be a function"),
    *anything_else("Source", "load", of(datasets.Source, "load", len), [3, None], "`load` must be a function"),
    *anything_else("Source", "at_size", of(datasets.Source, "at_size", len, len), [3], "`at_size` must be a function"),
    *choices("load_right", "split", lambda here, value: datasets.load_right("digits", value)),
    *anything_else(
        "steps_per_epoch",
        "dataset",
        of(datasets.steps_per_epoch, "dataset", batch_size=4),
        [3, tiny.data(4)[0]],
        "`data",
    ),
    Row("load_corrupted(no such severity)", lambda here: datasets.load_corrupted("cifar10", "fog", 6), "severity 6"),
    *anything_else(
        "export",
        "model",
        lambda here, value: mixmo_keras.export.export(value, here.folder),
        [3, None],
        "`model` must be a MixMo",
    ),
    *anything_else(
        "load_reference_checkpoint",
        "path",
        lambda here, value: mixmo_keras.load_reference_checkpoint(value),
        [3, None, ["a"]],
        "`path` must be the path of a file",
    ),
    Row(
        "load_reference_checkpoint(nothing there)",
        lambda here: mixmo_keras.load_reference_checkpoint(here.folder / "no.ckpt"),
        "no.ckpt",
    ),
    *anything_else(
        "save_reference_checkpoint",
        "model",
        lambda here, value: mixmo_keras.save_reference_checkpoint(value, here.folder / "a.ckpt"),
        [3, None],
        "`model` must be a MixMo",
    ),
    *anything_else(
        "save_reference_checkpoint",
        "path",
        lambda here, value: mixmo_keras.save_reference_checkpoint(here.model, value),
        [3, None],
        "`path` must be the path of a file",
    ),
    Row(
        "load_reference_checkpoint(a picture)",
        lambda here: mixmo_keras.load_reference_checkpoint(picture(here)),
        "is damaged|not a checkpoint|pip install",
        (ValueError, ImportError),  # where PyTorch is missing, that is said
    ),
]


@each(OWN)
def test_datasets_and_files(row, here, record_property):
    check(row, here, record_property)
