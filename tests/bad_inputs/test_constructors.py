"""Arguments of what is constructed: models, settings, layers, losses, schedules, metrics, callbacks."""

import functools

import keras
from bad_inputs.harness import INF, NAN, Row, anything_else, booleans, check, choices, each, integers, numbers

import mixmo_keras
from mixmo_keras import (
    Batching,
    CoTraining,
    DropPath,
    Mixing,
    augmentation,
    checkpoints,
    losses,
    metrics,
    schedules,
    tasks,
)
from mixmo_keras.networks import layers, stochastic_depth
from mixmo_keras.networks.member_average import MemberAverage
from mixmo_keras.networks.temperature import Temperature


def model(name, function=mixmo_keras.CutMixMo, **options):
    """A call of a method with one argument to try."""
    defaults = dict(num_classes=5, seed=1, batch_repetitions=2) | options
    return lambda here, value: function(here.backbone, **defaults | {name: value})


def of(function, name, *arguments, **options):
    """A call of anything with one argument to try."""
    return lambda here, value: function(*arguments, **options | {name: value})


def expert(name):
    """A call of `MixMo` itself, which has settings as objects."""
    return lambda here, value: mixmo_keras.MixMo(here.backbone, 5, seed=1, **{name: value})


def named(here, value):
    return mixmo_keras.CutMixMo("tiny_4", num_classes=5, input_shape=value)


def channels_first(here):
    """What Keras does all the time where an old keras.json says so."""
    backbone = here.backbone
    keras.config.set_image_data_format("channels_first")
    try:
        return mixmo_keras.CutMixMo(backbone, num_classes=5)
    finally:
        keras.config.set_image_data_format("channels_last")


CUT = "CutMixMo"
MODEL = [
    Row(
        "CutMixMo where Keras is set to channels_first", channels_first, "channels last; Keras is set to channels_first"
    ),
    *integers(CUT, "num_members", model("num_members"), 2, below=0),
    *integers(CUT, "num_classes", model("num_classes"), 5, below=1, none=True),
    *integers(CUT, "batch_repetitions", model("batch_repetitions"), 2, below=0),
    *integers(CUT, "seed", model("seed"), 3, none=True),
    *anything_else(CUT, "seed", model("seed"), ["abc"], "`seed` must be an integer, got 'abc'"),
    *numbers(CUT, "probability", model("probability"), 0.5, [-0.1, 1.1]),
    *numbers(CUT, "decay_start", model("decay_start"), 0.5, [-0.1, 1.0], none=True),
    *numbers(CUT, "alpha", model("alpha"), 2.0, [0, -1], none=True),
    *numbers(CUT, "weight_root", model("weight_root"), 3.0, [0, -1], none=True),
    *numbers(CUT, "input_repetition", model("input_repetition"), 0.5, [-0.1, 1.5]),
    *numbers(CUT, "repetition_decay", model("repetition_decay"), 0.5, [-0.1, 1.5]),
    *numbers(CUT, "l2", model("l2"), 0.1, [-1e-4]),
    *numbers(CUT, "temperature", model("temperature"), 2.0, [0, -1]),
    *numbers(CUT, "multiplexed_temperature", model("multiplexed_temperature"), 2.0, [0], also="temperature"),
    *numbers(CUT, "drop_path", model("drop_path"), 0.0, [1, -0.5]),
    *numbers(CUT, "co_training", model("co_training"), None, [0, 2], none=True),
    *numbers(CUT, "encoder_noise", model("encoder_noise"), None, [-1], none=True),
    *booleans(CUT, "already_repeated", model("already_repeated")),
    *booleans(CUT, "shared_augmentation", model("shared_augmentation")),
    *booleans(CUT, "synchronized_batch_norm", model("synchronized_batch_norm")),
    *booleans(CUT, "l2_normalization", model("l2_normalization")),
    *booleans(CUT, "drop_path_ramp", model("drop_path_ramp")),
    *booleans(CUT, "efficient_drop_path", model("efficient_drop_path")),
    *booleans(CUT, "unmixing", model("unmixing"), "`unmixing` must be True, False or"),
    *booleans(CUT, "share_encoders", model("share_encoders")),
    *booleans(CUT, "share_heads", model("share_heads")),
    *choices(CUT, "averaging", model("averaging"), none=True),
    *choices(CUT, "temperature_applies_to", model("temperature_applies_to")),
    *choices(CUT, "mask", model("mask")),
    *choices(CUT, "msda", model("msda"), none=True),
    *choices("MIMO", "settings", lambda here, value: mixmo_keras.MIMO(here.backbone, settings=value, num_classes=5)),
    *anything_else(
        CUT, "augmentation", model("augmentation"), ["nonsense", 3, [], keras.layers.ReLU()], "`augmentation` must be"
    ),
    *anything_else(CUT, "schedule", model("schedule"), [0.1, "cosine", []], "`schedule` must be"),
    *anything_else(CUT, "dtype", model("dtype"), ["float99", 3], "dtype|policy"),
    *anything_else(CUT, "name", model("name"), [3, ["a"]], "`name` must be"),
    *anything_else(
        CUT,
        "normalization",
        model("normalization"),
        [
            (NAN, 1.0),
            (0.5, NAN),
            (0.5, INF),
            (127.5, 127.5),
            (0.5, 0.0),
            (0.5, -1),
            0.5,
            "cifar",
            (0.5,),
            ((0.5, 0.5), 0.5),
        ],
        "`normalization('s mean|'s std)?` must",
    ),
    *anything_else("MixMo", "batching", expert("batching"), [3, {}, None], "`batching` must be a mixmo_keras.Batching"),
    *anything_else(
        "MixMo", "co_training", expert("co_training"), [0.5, {}], "`co_training` must be a mixmo_keras.CoTraining"
    ),
    *anything_else("MixMo", "l2", expert("l2"), [0.5, None, {}], "`l2` must be a mixmo_keras.L2"),
    *anything_else("MixMo", "share", expert("share"), ["nonsense", 3, True], "`share` must be"),
    *anything_else("MixMo", "drop_path", expert("drop_path"), ["x", None], "`drop_path` must be"),
    *anything_else(
        CUT, "input_shape", named, [(8, 8), "abc", (0, 8, 3), (8.5, 8, 3), 8, (8, 8, 3, 1)], "`input_shape` must be"
    ),
    *anything_else(
        CUT,
        "backbone",
        lambda here, value: mixmo_keras.CutMixMo(value, num_classes=5),
        ["nonsense", "wrn28_x", "wrn", "", 3, None, keras.layers.ReLU()],
        "backbone",
    ),
    Row("CutMixMo(unknown=1)", lambda here: mixmo_keras.CutMixMo(here.backbone, unknown=1), "unknown"),
    Row("DeepEnsemble([])", lambda here: mixmo_keras.DeepEnsemble([]), "`models` is empty"),
    Row("DeepEnsemble(3)", lambda here: mixmo_keras.DeepEnsemble(3), "`models` must be"),
    Row("DeepEnsemble([3])", lambda here: mixmo_keras.DeepEnsemble([3]), "`models` must be models of mixmo_keras"),
    Row("DeepEnsemble(twice)", lambda here: mixmo_keras.DeepEnsemble([here.model] * 2), "a model twice"),
]


@each(MODEL)
def test_models(row, here, record_property):
    check(row, here, record_property)


SETTINGS = [
    *integers("Batching", "batch_repetitions", of(Batching, "repetitions"), 2, below=0),
    *anything_else(
        "Batching", "mixing", of(Batching, "mixing"), ["cutmix", 3], "`mixing` must be a mixmo_keras.Mixing or None"
    ),
    *numbers("MSDA", "probability", of(mixmo_keras.MSDA, "probability"), 0.5, [0, 2]),
    *numbers("MSDA", "alpha", of(mixmo_keras.MSDA, "alpha"), 0.5, [0, -1]),
    *choices("MSDA", "method", of(mixmo_keras.MSDA, "method")),
    *numbers("L2", "l2", of(mixmo_keras.L2, "rate"), 0.5, [-1]),
    *numbers("DropPath", "drop_path", of(DropPath, "rate"), 0.5, [-1, 1]),
    *booleans("DropPath", "drop_path_ramp", of(DropPath, "ramp", 0.5)),
    *numbers("CoTraining", "co_training", of(CoTraining, "label_share"), 0.5, [0, 2]),
    *choices("CoTraining", "teaching", of(CoTraining, "teaching")),
    *anything_else("Mixing", "mask", of(Mixing, "mask"), ["nonsense", 3, None], "`mask` must be"),
    Row("Mixing(linear, probability)", lambda here: Mixing("linear", probability=0.3), "no meaning for mask='linear'"),
]


@each(SETTINGS)
def test_settings(row, here, record_property):
    check(row, here, record_property)


PAD, CROP = augmentation.PadCropFlip, augmentation.RandomResizedCrop
HEAD = functools.partial(layers.MultiHead, num_members=2, num_outputs=5)


def encoders(name):
    return lambda here, value: layers.MultiEncoder(**{"encoder": here.backbone.encoder, "num_members": 2, name: value})


LAYERS = [
    *integers("PadCropFlip", "padding", of(PAD, "padding"), 2, below=-1),
    *booleans("PadCropFlip", "flip", of(PAD, "flip")),
    *choices("PadCropFlip", "padding_mode", of(PAD, "padding_mode")),
    *booleans("PadCropFlip", "alternating", of(PAD, "alternating")),
    Row("PadCropFlip(alternating, no flip)", lambda here: PAD(flip=False, alternating=True), "it needs flip=True"),
    *anything_else(
        "RandomResizedCrop",
        "scale",
        of(CROP, "scale"),
        [0.5, (0.5, 0.1), (0, 1), (0.5, 2), "ab", (NAN, 1)],
        "`scale` must be",
    ),
    *anything_else("RandomResizedCrop", "ratio", of(CROP, "ratio"), [1.0, (2, 1), (0, 1), None], "`ratio` must be"),
    *integers("Classification", "num_classes", of(tasks.Classification, "num_classes"), 5, below=1),
    *integers("MultiHead", "num_members", of(HEAD, "num_members"), 2, below=0),
    *integers("MultiHead", "num_outputs", of(HEAD, "num_outputs"), 5, below=0),
    *booleans("MultiHead", "shared", of(HEAD, "shared")),
    *integers("MultiEncoder", "num_members", encoders("num_members"), 2, below=0),
    *booleans("MultiEncoder", "shared", encoders("shared")),
    *anything_else("MultiEncoder", "seed", encoders("seed"), [0.5], "`seed` must be an integer"),
    *anything_else("MultiEncoder", "encoder", encoders("encoder"), [3, None, "wrn"], "`encoder` must be"),
    *numbers("StochasticDepth", "rate", of(mixmo_keras.StochasticDepth, "rate"), 0.5, [-1, 1]),
    *numbers("TakeRows", "rate", of(stochastic_depth.TakeRows, "rate"), 0.5, [-1, 1]),
    *numbers("Temperature", "temperature", of(Temperature, "temperature"), 0.5, [-1, 0]),
    *choices("MemberAverage", "averaging", of(MemberAverage, "averaging")),
    *numbers("CrossEntropy", "label_smoothing", of(losses.CrossEntropy, "label_smoothing"), 0.5, [-1, 1]),
    *numbers("StepDecay", "base", of(schedules.StepDecay, "base"), 0.5, [-1, 0]),
    *numbers("StepDecay", "warmup", of(schedules.StepDecay, "warmup", 0.1), 0.5, [-1, 1]),
    *numbers("StepDecay", "rate", of(schedules.StepDecay, "rate", 0.1), 0.5, [0, 2]),
    *anything_else(
        "StepDecay",
        "milestones",
        of(schedules.StepDecay, "milestones", 0.1),
        [0.5, "ab", (0.5, 0.1), (NAN,), (0,), (2,), None],
        "`milestones` must be",
    ),
    *numbers("Cosine", "base", of(schedules.Cosine, "base"), 0.5, [-1, 0]),
    *numbers("Triangle", "start", of(schedules.Triangle, "start", 0.1), 0.5, [-1, 2]),
    *numbers("Triangle", "peak", of(schedules.Triangle, "peak", 0.1), 0.5, [0, 1]),
    *numbers("Triangle", "end", of(schedules.Triangle, "end", 0.1), 0.5, [-1, 2]),
]


@each(LAYERS)
def test_layers_losses_and_schedules(row, here, record_property):
    check(row, here, record_property)


def saver(name):
    return lambda here, value: checkpoints.Checkpoints(here.folder, **{name: value})


CALLBACKS = [
    *integers("Checkpoints", "every_steps", saver("every_steps"), 2, below=0, none=True),
    *integers("Checkpoints", "keep", saver("keep"), 2, below=0),
    *anything_else(
        "Checkpoints", "folder", of(checkpoints.Checkpoints, "folder"), [3, None, ["a"]], "`folder` must be"
    ),
    *integers("ExpectedCalibrationError", "num_bins", of(metrics.ExpectedCalibrationError, "num_bins"), 5, below=0),
    *[
        Row(
            f"{kind.__name__}({name}=10**9)",
            functools.partial(lambda kind, name, here: kind(**{name: 10**9}), kind, name),
            f"`{name}` must be an integer from 1 to 1000",
        )
        for kind, name in [
            *[(kind, "num_bins") for kind in (metrics.ExpectedCalibrationError, metrics.AdaptiveCalibrationError)],
            *[(kind, "capacity") for kind in (metrics.AdaptiveCalibrationError, metrics.ErrorAUROC)],
            (mixmo_keras.CutMixMo, "num_members"),
        ]
    ],
    *integers(
        "ClasswiseCalibrationError", "num_classes", of(metrics.ClasswiseCalibrationError, "num_classes"), 5, below=0
    ),
    *integers("ErrorAUROC", "capacity", of(metrics.ErrorAUROC, "capacity"), 5, below=0),
    *integers("TopKAccuracy", "k", of(metrics.TopKAccuracy, "k"), 5, below=0),
    *integers("Disagreement", "num_members", of(metrics.Disagreement, "num_members"), 2, below=1),
    *choices("Accuracy", "averaging", of(metrics.Accuracy, "averaging")),
    *anything_else("Accuracy", "of", of(metrics.Accuracy, "of"), ["nobody", -1, 1.5, None], "`of` must be"),
]


def warned(name, call, pattern):
    return Row(name, call, warns=pattern)


DEGENERATE = [  # taken, with a warning
    warned(
        "CutMixMo(num_members=1)",
        lambda here: model("num_members")(here, 1),
        "One member has nobody to mix with",
    ),
    warned(
        "CutMixMo(input_repetition=1)",
        lambda here: model("input_repetition")(here, 1.0),
        "always shows the same image to all members",
    ),
    warned("CutMixMo(share_heads)", lambda here: model("share_heads")(here, True), "Members share one head"),
    warned(
        "Mixing(linear, equal ratios, a root)",
        lambda here: Mixing("linear", alpha=None, weight_root=3.0),
        "`weight_root` changes nothing",
    ),
    warned(
        "compile(weight_decay beside L2)",
        lambda here: model("l2")(here, 0.1).compile(keras.optimizers.SGD(0.1, weight_decay=0.1)),
        "decays weights .* and so does the model's L2",
    ),
    warned(
        "compile(loss of another task)",
        lambda here: here.another_model().compile(loss="mean_squared_error"),
        "mean_squared_error is a loss of another task",
    ),
    warned(
        "fit(pixels from 0 to 1)",
        lambda here: here.another_model().fit(here.data[0] / 255.0, here.data[1], batch_size=8, verbose=0),
        "The model expects raw pixels, 0 to 255",
    ),
    warned(
        "predict_multiplexed(input_repetition=0.9)",
        lambda here: here.another_model(input_repetition=0.9).predict_multiplexed(here.data[0]),
        "only 10% of the training rows showed members different images",
    ),
]


@each(DEGENERATE)
def test_degenerate_settings(row, here, record_property):
    check(row, here, record_property)


@each(CALLBACKS)
def test_callbacks_and_metrics(row, here, record_property):
    check(row, here, record_property)
