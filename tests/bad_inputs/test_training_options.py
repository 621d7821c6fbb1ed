"""What a training is told beside its data: SAM, averages, augmentation, masks of one's own, a classifier to begin as."""

import functools

import keras
import numpy as np
import tiny
from bad_inputs.harness import (
    INF,
    NAN,
    Row,
    anything_else,
    booleans,
    check,
    choices,
    each,
    first_quickly,
    integers,
    numbers,
)
from bad_inputs.test_training_and_answers import changed, dataset
from keras import layers

from mixmo_keras import (
    SAM,
    FineTuning,
    Lookahead,
    Mixing,
    SwapAveragedWeights,
    augmentation,
    checkpoints,
    from_classifier,
    policies,
)
from mixmo_keras.training.checkpoint_files import Position


def of(function, name, *arguments, **options):
    """A call of anything with one argument to try."""
    return lambda here, value: function(*arguments, **options | {name: value})


def compiling(name):
    """Compiles a model whose optimizer averages weights, with one argument to try."""
    return lambda here, value: here.another_model().compile(keras.optimizers.SGD(0.1, use_ema=True), **{name: value})


def uphill(radius):
    """Trains by steps of SAM."""

    def call(here):
        model = here.another_model()
        model.compile(keras.optimizers.SGD(0.01), sharpness=SAM(radius), run_eagerly=True)
        return model.fit(*here.data, batch_size=8, verbose=0)

    return call


STEPS = [
    *numbers("FineTuning", "core_rate", of(FineTuning, "core_rate"), 0.1, [0, -1, True]),
    *integers("FineTuning", "frozen_epochs", of(FineTuning, "frozen_epochs"), 2, below=-1),
    *numbers("FineTuning", "layer_decay", of(FineTuning, "layer_decay"), 0.5, [0, -1, 1.1, True]),
    *anything_else(
        "compile",
        "fine_tuning",
        compiling("fine_tuning"),
        [0.1, "frozen", True, FineTuning, {"core_rate": 0.1}],
        "`fine_tuning` must be a mixmo_keras.FineTuning or None",
    ),
    *integers("Lookahead", "every", of(Lookahead, "every"), 5, below=0),
    *numbers("Lookahead", "decay", of(Lookahead, "decay"), 0.5, [-1, 1, True]),
    *anything_else(
        "compile",
        "lookahead",
        compiling("lookahead"),
        [5, "every", True, Lookahead],
        "`lookahead` must be a mixmo_keras.Lookahead or None",
    ),
    *anything_else("compile", "rates", compiling("rates"), [64, "beta=64", ["beta"]], "`rates` must be a mapping"),
    *numbers(
        "compile",
        "rates",
        lambda here, value: compiling("rates")(here, {"beta": value}),
        64,
        [-1, True],
        also="rates.'beta'.",
    ),
    Row(
        "compile(rates, no such weight)",
        lambda here: compiling("rates")(here, {"gama": 2.0}),
        "`rates` names 'gama', but no weight that is trained has a path that ends so.*last parts are beta, .*gamma",
    ),
    *numbers("SAM", "radius", of(SAM, "radius"), 0.1, [0, -1, True]),
    *booleans("SAM", "adaptive", of(SAM, "adaptive")),
    *anything_else(
        "compile",
        "sharpness",
        compiling("sharpness"),
        [0.05, "sam", True, SAM, {"radius": 0.1}],
        "`sharpness` must be a mixmo_keras.SAM or None",
    ),
    *numbers("compile", "average_from", compiling("average_from"), 0.5, [-0.1, 1, True], none=True),
    Row(
        "compile(average_from, no average)",
        lambda here: here.another_model().compile("sgd", average_from=0.5),
        r"`average_from` \(=0.5\) needs an optimizer that averages weights",
    ),
    Row(
        "fit(SwapAveragedWeights, no average)",
        lambda here: here.another_model().fit(*here.data, verbose=0, callbacks=[SwapAveragedWeights()]),
        "needs an optimizer that averages weights",
    ),
    Row("fit(SAM, radius 1e30)", uphill(1e30), "The loss became NaN or infinite at step 1"),
    Row("fit(SAM)", uphill(0.05)),
]


def with_weights_of_nan(then):
    """A checkpoint whose weights became NaN, whoever wrote it."""

    def call(here):
        model = here.once("saved", here.another_model)
        model.build_optimizer()
        saved = checkpoints.Checkpoints(here.folder)
        saved.set_model(model)
        path = saved.save(Position(1))
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        kernel = next(name for name, array in arrays.items() if array.dtype == "float32" and array.ndim > 2)
        np.savez(path, **arrays | {kernel: arrays[kernel] * NAN})
        return then(model, path)

    return call


def repeated(make, **options):
    """Trains a model that is told that batches come repeated, on batches of a function of images and labels."""

    def call(here):
        model = here.another_model(batch_repetitions=2, already_repeated=True)
        if not options.get("eagerly", True):
            model.compile(keras.optimizers.SGD(0.01))
        return model.fit(make(*here.data), verbose=0)

    return call


def as_told(x, y):
    return dataset(np.tile(x[:4], (2, 1, 1, 1)), np.tile(y[:4], 2), batch_size=8)


NOT_REPEATED = "With `already_repeated` each batch has all its images, then all again, 2 times"
REPEATED = [
    Row("fit(repeated, batches that aren't)", repeated(lambda x, y: dataset(x, y)), NOT_REPEATED),
    Row("fit(repeated, batches that aren't, compiled)", repeated(dataset, eagerly=False), NOT_REPEATED, slow=True),
    Row("fit(repeated, batches of three)", repeated(lambda x, y: dataset(x, y * 0, batch_size=3)), NOT_REPEATED),
    Row("fit(repeated, one-hot)", repeated(lambda x, y: dataset(x, np.eye(5)[y])), NOT_REPEATED, slow=True),
    Row("fit(repeated, batches that are)", repeated(as_told)),
]
CHECKPOINTS = [
    Row(
        "restore(weights of NaN)",
        with_weights_of_nan(lambda model, path: checkpoints.Checkpoints(path.parent).restore(model)),
        "All checkpoints in .* are damaged",
    ),
    Row(
        "warm_start(weights of NaN, .npz)",
        with_weights_of_nan(checkpoints.warm_start),
        "holds NaN or infinite weights, model/0/kernel",
    ),
]


@each([*STEPS, *REPEATED, *CHECKPOINTS])
def test_steps_and_averages(row, here, record_property):
    check(row, here, record_property)


# -- augmentation --------------------------------------------------------------------------------------------------------


def augmented(make, shape=tiny.SHAPE, spoil=lambda x: x):
    """Trains under an augmentation on images of a shape."""

    def call(here):
        x, y = tiny.data(8, shape)
        model = tiny.model(backbone=tiny.backbone(shape), batch_repetitions=1, augmentation=make())
        model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
        return model.fit(dataset(spoil(x), y), verbose=0)

    return call


def broken(x):
    return changed(x, (3, 0, 0, 0), NAN, "float32")


def everything():
    return augmentation.Compose([augmentation.PadCropFlip(1), policies.TrivialAugment(), policies.RandomErasing()])


FILLED = (policies.TrivialAugment, policies.RandAugment, policies.AutoAugment, policies.RandomErasing)
DRAWN = {
    "TrivialAugment": policies.TrivialAugment,
    "AutoAugment": policies.AutoAugment,
    "RandomErasing": policies.RandomErasing,
    "Compose": everything,
    "Equalization": lambda: layers.Equalization(),
    "keras.layers.RandAugment": lambda: layers.RandAugment(value_range=(0, 255)),
}
SAME = "`augmentation` must return images of the same shape and dtype"
AUGMENTATIONS = [
    *[row for kind in FILLED for row in numbers(kind.__name__, "fill", of(kind, "fill"), 3.0, [-1, 256])],
    Row(
        "RandAugment(num_operations=10**9)",
        lambda here: policies.RandAugment(10**9),
        "`num_operations` must be an integer from 1 to 100",
    ),
    *integers("RandAugment", "num_operations", of(policies.RandAugment, "num_operations"), 2, below=0),
    *integers("RandAugment", "magnitude", of(policies.RandAugment, "magnitude"), 2, below=-1),
    Row("RandAugment(magnitude=31)", lambda here: policies.RandAugment(magnitude=31), "from 0 to 30, got 31"),
    *choices("AutoAugment", "policy", of(policies.AutoAugment, "policy")),
    *numbers("RandomErasing", "probability", of(policies.RandomErasing, "probability"), 0.5, [0, 1.1]),
    *anything_else(
        "RandomErasing",
        "scale",
        of(policies.RandomErasing, "scale"),
        [0.5, (0.5, 0.1), (0, 1), (0.1, 2), "ab", None, (NAN, 1), (0.1,)],
        "`scale` must be the least and the greatest",
    ),
    *anything_else(
        "RandomErasing",
        "ratio",
        of(policies.RandomErasing, "ratio"),
        [0.5, (2, 1), (0, 1), (1, INF), "ab", None],
        "`ratio` must be the least and the greatest",
    ),
    *anything_else(
        "Compose",
        "augmentations",
        of(augmentation.Compose, "augmentations"),
        [[], (), None, "x", 3, [3], ["pad_crop_flip"], [None], layers.RandomFlip(), [policies.TrivialAugment]],
        "`augmentations` must be a list of",
    ),
    *anything_else(
        "CutMixMo",
        "augmentation",
        lambda here, value: here.another_model(augmentation=value),
        [policies.TrivialAugment, "trivial_augment", [policies.TrivialAugment()]],
        "`augmentation` must be",
    ),
    *[
        Row(
            f"fit({name}, pixels of NaN)",
            augmented(make, spoil=broken),
            "NaN or infinite pixels",
            slow=name != "TrivialAugment",
        )
        for name, make in DRAWN.items()
    ],
    *[
        Row(
            f"fit({name}, {shape[-1]} channels)",
            augmented(make, shape),
            "one channel or three to be operated on",
            slow=(name, shape[-1]) != ("TrivialAugment", 2),
        )
        for name, make in DRAWN.items()
        if name in ("TrivialAugment", "AutoAugment", "Compose")
        for shape in ((8, 8, 2), (8, 8, 4))
    ],
    Row("fit(Compose, grey)", augmented(everything, (8, 8, 1)), slow=True),
    *[
        Row(f"fit(an augmentation that {name})", augmented(lambda function=function: function), SAME)
        for name, function in {
            "returns nothing": lambda images, seed: None,
            "cuts": lambda images, seed: images[:, :2],
            "returns floats from 0 to 1": lambda images, seed: keras.ops.cast(images, "float32") / 255,
        }.items()
    ],
]


@each(AUGMENTATIONS)
def test_augmentations(row, here, record_property):
    check(row, here, record_property)


def masked_by(function):
    def call(here):
        model = tiny.model(Mixing(function), backbone=here.backbone, batch_repetitions=1, augmentation=None)
        model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
        return model.fit(*here.data, batch_size=8, verbose=0)

    return call


MASKS = [
    Row(f"fit(a mask function that returns {name})", masked_by(function), r"A mask must be \(B, 8, 8, 1 or 4\)")
    for name, function in {
        "nothing": lambda seed, share, size: None,
        "a matrix": lambda seed, share, size: keras.ops.ones((3, 2)),
        "smaller maps": lambda seed, share, size: keras.ops.ones((8, 2, 2, 1)),
    }.items()
]


@each(MASKS)
def test_masks(row, here, record_property):
    check(row, here, record_property)


# -- a classifier to begin as --------------------------------------------------------------------------------------------


def classifier(*after, first=(8, 8, 3)):
    """Images, a convolution, and what comes after it."""
    return keras.Sequential([keras.Input(first), layers.Conv2D(4, 3), *after])


def sound(here):
    return here.once("classifier", lambda: classifier(layers.GlobalAveragePooling2D(), layers.Dense(5, "softmax")))


def beginning(name):
    return lambda here, value: from_classifier(sound(here), **{"verbose": False, name: value})


def begun_as(make):
    return lambda here: from_classifier(make(here), verbose=False)


def file_of(content, name="classifier.keras"):
    def make(here):
        path = here.folder / name
        path.write_bytes(content)
        return path

    return make


def cut(here):
    path = here.folder / "classifier.keras"
    sound(here).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    return path


POOLED = functools.partial(layers.GlobalAveragePooling2D)
EMPTY_ARCHIVE = b"PK\5\6" + bytes(18)
NONE = "is no .keras file, or a damaged one"
BEGUN = [
    *first_quickly(integers("from_classifier", "num_members", beginning("num_members"), 2, below=0, none=True)),
    *first_quickly(integers("from_classifier", "num_classes", beginning("num_classes"), 7, below=0, none=True)),
    *choices("from_classifier", "method", beginning("method")),
    *numbers("from_classifier", "encoder_noise", beginning("encoder_noise"), None, [-1]),
    *first_quickly(booleans("from_classifier", "verbose", beginning("verbose"))),
    *first_quickly(
        anything_else(
            "from_classifier",
            "normalization",
            beginning("normalization"),
            [3, "auto", (0,), (0, 0), (0, NAN), (NAN, 1)],
            "`normalization('s mean|'s std)?` must",
        )
    ),
    *first_quickly(
        anything_else(
            "from_classifier",
            "input_shape",
            beginning("input_shape"),
            [(8, 8), "x", 3, (0, 8, 3), (16, 16, 3)],
            "`input_shape` (must be|.* differs from)",
        )
    ),
    *[
        Row(
            f"from_classifier({name}={value!r})",
            functools.partial(lambda name, value, here: beginning(name)(here, value), name, value),
            f"`{name}` is what the classifier says",
        )
        for name, value in (("backbone", "wrn28_10"), ("split_at", "x"))
    ],
    *anything_else(
        "from_classifier",
        "classifier",
        lambda here, value: from_classifier(value),
        [3, None, "resnet50", "no.keras", layers.Dense(3)],
        "`classifier` must be a Keras model or the path of a .keras file",
    ),
    Row("from_classifier(text in .keras)", begun_as(file_of(b"no model")), NONE),
    Row("from_classifier(empty .keras)", begun_as(file_of(b"")), NONE),
    Row("from_classifier(.keras cut off)", begun_as(cut), NONE),
    Row("from_classifier(another archive)", begun_as(file_of(EMPTY_ARCHIVE)), "is none, "),
    Row(
        "from_classifier(not built)",
        begun_as(lambda here: keras.Sequential([layers.Conv2D(4, 3), POOLED(), layers.Dense(5)])),
        "has no input shape yet",
    ),
]


@each(BEGUN)
def test_classifiers(row, here, record_property):
    check(row, here, record_property)
