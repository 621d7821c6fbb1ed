"""Parts that models are made of and judged by: backbones, layers, schedules, losses, streamed metrics, uncertainty."""

import functools

import keras
import numpy as np
import tensorflow as tf
from bad_inputs.harness import INF, NAN, Row, anything_else, booleans, check, choices, each, integers, numbers
from bad_inputs.test_figures import LABELS, LOGITS, MEMBERS

import mixmo_keras
from mixmo_keras import backbones, losses, masks, metrics, precision, schedules, uncertainty
from mixmo_keras.networks.backbones import (
    convnext,
    deit3,
    pit,
    preact_resnet,
    regnet,
    regnety,
    resnet,
    split,
    swin,
    vit,
    wide_resnet,
    xcit,
)


def of(function, name, *arguments, **options):
    """A call of anything with one argument to try."""
    return lambda here, value: function(*arguments, **options | {name: value})


SHAPES = [(8, 8), "x", 3, (0, 8, 3), (8.5, 8, 3), None]
NETWORKS = {
    "wide_resnet": functools.partial(wide_resnet, depth=10, width=1, input_shape=(8, 8, 3)),
    "preact_resnet": functools.partial(preact_resnet, input_shape=(16, 16, 3)),
    "resnet": functools.partial(resnet, input_shape=(32, 32, 3)),
    "vit": functools.partial(vit, depth=1, input_shape=(8, 8, 3)),
    "deit3": functools.partial(deit3, depth=1, patch=4, input_shape=(8, 8, 3)),
    "convnext": functools.partial(convnext, input_shape=(32, 32, 3)),
    "swin": functools.partial(swin, input_shape=(32, 32, 3)),
    "regnety": functools.partial(regnety, input_shape=(8, 8, 3)),
    "regnet": functools.partial(regnet, w0=8, wa=1.5, wm=2.0, depth=2, group_width=8, input_shape=(8, 8, 3)),
    "pit": functools.partial(pit, input_shape=(32, 32, 3)),
    "xcit": functools.partial(xcit, input_shape=(16, 16, 3)),
}
WITHOUT_DEPTH = ("convnext", "swin", "regnety", "pit")
BACKBONES = [
    *[
        row
        for name, build in NETWORKS.items()
        for row in [
            *anything_else(name, "input_shape", of(build, "input_shape"), SHAPES, "`input_shape` must be"),
            *anything_else(name, "seed", of(build, "seed"), ["x", 1.5, NAN], "`seed` must be an integer"),
            *numbers(name, "drop_path", of(build, "drop_path"), None, [-1, 1]),
            *(
                []
                if name in WITHOUT_DEPTH
                else anything_else(
                    name,
                    "depth",
                    of(build, "depth"),
                    [0, -1, 1.5, "10", True, NAN],
                    "`depth` must be (an integer|one of|6)",
                )
            ),
        ]
    ],
    *[
        row
        for name, option in (
            *((name, "size") for name in ("deit3", "convnext", "swin", "pit", "xcit")),
            ("regnety", "flops"),
        )
        for row in choices(name, option, of(NETWORKS[name], option))
    ],
    *[
        row
        for name, option, wrong in (
            *((name, "depths", (1, 2, "x", 1)) for name in ("convnext", "swin", "pit")),
            ("convnext", "widths", (0, 1, 1, 1)),
            ("swin", "heads", (1, 1, 1, 0)),
        )
        for row in anything_else(
            name, option, of(NETWORKS[name], option), [3, (1,), "1234", wrong], f"`{option}` must be"
        )
    ],
    *[
        row
        for name, option in (
            ("pit", "patch"),
            ("pit", "stride"),
            ("pit", "head_width"),
            ("swin", "window"),
            ("swin", "width"),
        )
        for row in anything_else(
            name, option, of(NETWORKS[name], option), [0, 1.5, "4"], f"`{option}` must be an integer of at least 1"
        )
    ],
    *numbers("convnext", "layer_scale", of(NETWORKS["convnext"], "layer_scale"), None, [0, -1], none=True),
    *numbers("xcit", "layer_scale", of(NETWORKS["xcit"], "layer_scale"), None, [0, -1], none=True),
    *[
        Row(f"{name}({text})", lambda here, name=name, options=options: NETWORKS[name](**options), pattern)
        for name, text, options, pattern in [
            ("convnext", "images of 40", dict(input_shape=(40, 32, 3)), r"8 times `patch` \(=4\) must divide .* 40×32"),
            (
                "convnext",
                "patch of 3",
                dict(patch=3),
                r"8 times `patch` \(=3\) must divide the images' height and width, 32×32",
            ),
            ("swin", "images of 30", dict(input_shape=(30, 30, 3)), r"8 times `patch` \(=4\) must divide"),
            (
                "swin",
                "a map of 11",
                dict(input_shape=(352, 352, 3), depths=(1, 1, 1, 1), width=4, heads=(1, 1, 1, 1)),
                "no window of 2 to 7 places divides a map of 11",
            ),
            (
                "swin",
                "five heads",
                dict(heads=(5, 6, 12, 24)),
                r"`heads` \(=5\) must divide the 96 channels of stage 1",
            ),
            ("deit3", "images of 10", dict(input_shape=(10, 8, 3)), r"`patch` \(=4\) must divide"),
            ("pit", "images of 30", dict(input_shape=(30, 30, 3)), r"plus multiples of `stride` \(=8\).*Pass another"),
            ("pit", "images smaller than a patch", dict(input_shape=(8, 8, 3)), r"must be `patch` \(=16\) plus"),
            ("pit", "heads that triple", dict(heads=(1, 3, 9)), "`heads` must double from stage to stage"),
            ("xcit", "patch of 5", dict(patch=5), "`patch` must be one of 4, 8, 16, got 5"),
            ("xcit", "images of 20", dict(input_shape=(20, 16, 3)), r"`patch` \(=16\) must divide"),
            ("xcit", "width of 12", dict(width=12), r"`width` \(=12\) must be a multiple of 8 and of `heads` \(=8\)"),
            (
                "xcit",
                "five heads, of xcit",
                dict(heads=5),
                r"`width` \(=384\) must be a multiple of 8 and of `heads` \(=5\)",
            ),
            ("regnet", "w0 of 12", dict(w0=12), "`w0` must be a multiple of 8, got 12"),
            ("regnet", "w0 of 0", dict(w0=0), "`w0` must be an integer of at least 8"),
            ("regnet", "wa of -1", dict(wa=-1), "`wa` must be a number of at least 0"),
            ("regnet", "wm of 1", dict(wm=1), "`wm` must be a number greater than 1"),
            ("regnet", "groups of 0", dict(group_width=0), "`group_width` must be an integer of at least 1"),
        ]
    ],
    *[
        Row(f"get({name})", lambda here, name=name: backbones.get(name, None, 0), pattern)
        for name, pattern in [
            ("convnext_huge", "`size` must be one of atto, femto, pico, nano, tiny, small, base, large, got 'huge'"),
            ("swin_large", "`size` must be one of tiny, small, base, got 'large'"),
            ("regnety_5gf", "`flops` must be one of 200mf, .*, 32gf, got '5gf'"),
            ("pit_medium", "`size` must be one of tiny, extra_small, small, base, got 'medium'"),
            ("xcit_giant12_16", "`size` must be one of nano, tiny, small, medium, large, got 'giant'"),
            ("deit3_giant16", "`size` must be one of tiny, small, medium, base, large, huge, got 'giant'"),
            ("xcit_small12", "Unknown backbone: 'xcit_small12'. Known names: .*xcit_<size><depth>_<patch>"),
        ]
    ],
    *anything_else(
        "wide_resnet", "width", of(NETWORKS["wide_resnet"], "width"), [0, 1.5, "2", None], "`width` must be an integer"
    ),
    *choices("wide_resnet", "stride_on", of(NETWORKS["wide_resnet"], "stride_on")),
    *choices("vit", "size", of(NETWORKS["vit"], "size")),
    *choices("vit", "pool", of(NETWORKS["vit"], "pool")),
    *choices("vit", "initialization", of(NETWORKS["vit"], "initialization")),
    *numbers("vit", "layer_scale", of(NETWORKS["vit"], "layer_scale"), None, [0, -1], none=True),
    *anything_else("vit", "patch", of(NETWORKS["vit"], "patch"), [0, 1.5, "4", 3, 16], "`patch` .*must"),
    *anything_else(
        "split",
        "model",
        lambda here, value: split(value),
        [3, None, "wrn28_10", keras.layers.Dense(3)],
        "must be a functional or Sequential Keras model",
    ),
    *anything_else(
        "split",
        "at",
        lambda here, value: split(here.once("network", network), value),
        ["nonsense", 3, "", ["first"], "last"],
        "has no layer|must name a layer whose output is a map",
    ),
    *[
        Row(f"Backbone({name})", lambda here, make=make: backbones.Backbone(*make(here.backbone)), pattern)
        for name, make, pattern in [
            ("3, 3", lambda _: (3, 3), "`encoder` must be a built keras.Model"),
            ("encoder, None", lambda sound: (sound.encoder, None), "`core` must be a built keras.Model"),
            ("swapped", lambda sound: (sound.core, sound.encoder), r"must be a map \(B, h, w, c\)"),
            ("encoder twice", lambda sound: (sound.encoder, sound.encoder), "fit the core's input"),
            ("stddev of -1", lambda sound: (sound.encoder, sound.core, -1), "`head_stddev` must be a positive"),
            ("preprocessing of 3", lambda sound: (sound.encoder, sound.core, None, 3), "`preprocessing` must be"),
        ]
    ],
    *integers("airbench", "width", lambda here, value: backbones.airbench(value), 8, below=0),
    *anything_else(
        "efficientnet_lite",
        "version",
        lambda here, value: backbones.efficientnet_lite(value),
        [3, -1, 0.5, "0"],
        "`version` must be",
    ),
    *anything_else(
        "precision.choose",
        "backbone",
        lambda here, value: precision.choose(value),
        ["wrn", 3, None],
        "Unknown backbone|`backbone` must be",
    ),
    *choices("masks.get", "mask", lambda here, value: masks.get(value)),
]


def network():
    layers = keras.layers
    first = layers.Conv2D(4, 3, name="first")
    return keras.Sequential(
        [keras.Input((8, 8, 3)), first, layers.GlobalAveragePooling2D(), layers.Dense(5, name="last")]
    )


@each(BACKBONES)
def test_backbones(row, here, record_property):
    check(row, here, record_property)


def method(function, name):
    return lambda here, value: function(here.backbone, num_classes=5, seed=1, **{name: value})


COSUB, LINEAR = mixmo_keras.CoSub, mixmo_keras.LinearMixMo
MIMO, SINGLE = mixmo_keras.MIMO, mixmo_keras.SingleNetwork
FEATURES = np.ones((2, 2, 4, 4, 3), "float32")
PARTS = [
    *numbers("CoSub", "co_training", method(COSUB, "co_training"), None, [0, 2])[:-1],
    *choices("CoSub", "teaching", method(COSUB, "teaching")),
    *numbers("LinearMixMo", "alpha", method(LINEAR, "alpha"), None, [0, -1], none=True),
    *integers("LinearMixMo", "num_members", method(LINEAR, "num_members"), 2, below=0)[:-1],
    *numbers("MIMO", "input_repetition", method(MIMO, "input_repetition"), None, [-1, 2]),
    *integers("SingleNetwork", "batch_repetitions", method(SINGLE, "batch_repetitions"), 2, below=0)[:-1],
    *anything_else(
        "SingleNetwork", "num_members", method(SINGLE, "num_members"), [2, 1], "has no meaning here: a single network"
    ),
    *[
        Row(f"{kind.__name__}({name})", functools.partial(lambda call, here: call(here, 0.5), method(kind, name)), name)
        for kind, name in [(LINEAR, "mask"), (LINEAR, "probability"), (MIMO, "alpha"), (SINGLE, "weight_root")]
    ],
    Row(
        "MixingBlock(features of two axes)",
        lambda here: mixmo_keras.MixingBlock()(FEATURES[0, 0, 0]),
        r"`features` must be \(B, M, h, w, c\)",
    ),
    *[
        Row(
            f"MixingBlock(masks {shape})",
            functools.partial(
                lambda shape, here: mixmo_keras.MixingBlock()(FEATURES, np.ones(shape, "float32")), shape
            ),
            r"`masks` must be \(B, M, h, w, 1 or c\)",
        )
        for shape in [(2, 3, 4, 4, 1), (2, 2, 5, 5, 1), (2, 2, 4, 4)]
    ],
    *[
        Row(f"MultiHead(features {shape})", lambda here, s=shape: mixmo_keras.MultiHead(2, 5)(np.ones(s)), r"\(B, F\)")
        for shape in [(3,), (3, 2, 2, 2)]
    ],
    Row(
        "MultiEncoder(images of three members for two)",
        lambda here: mixmo_keras.MultiEncoder(here.backbone.encoder, 2)(np.ones((1, 3, 8, 8, 3), "float32")),
        "`images` must be",
    ),
    *anything_else(
        "Published", "schedule", of(schedules.Published, "schedule", rate=0.1), [3, None, "x"], "`schedule`"
    ),
    *numbers("Published", "rate", of(schedules.Published, "rate", schedules.Cosine), 0.1, [0, -1]),
    *numbers(
        "Published.of",
        "images_a_step",
        lambda here, value: schedules.Published(schedules.Cosine, 0.1).of(value),
        64.0,
        [0, -1],
    ),
    *numbers("SigmoidCrossEntropy", "label_smoothing", of(losses.SigmoidCrossEntropy, "label_smoothing"), 0.1, [-1, 1]),
    *numbers("Cosine", "warmup", of(schedules.Cosine, "warmup", 0.1), 0.5, [-1, 1]),
]


@each(PARTS)
def test_methods_layers_and_schedules(row, here, record_property):
    check(row, here, record_property)


# -- metrics batch by batch ----------------------------------------------------------------------------------------------

STREAMED = {
    name: getattr(metrics, name)
    for name in (
        *("Accuracy", "AdaptiveCalibrationError", "AreaUnderRiskCoverage", "BrierScore", "ErrorAUPR", "ErrorAUROC"),
        *("ErrorFPR95", "ExpectedCalibrationError", "NegativeLogLikelihood", "TopKAccuracy"),
    )
}
STREAMED["ClasswiseCalibrationError"] = functools.partial(metrics.ClasswiseCalibrationError, 5)
OF_MEMBERS = {"MutualInformation": metrics.MutualInformation} | {
    name: functools.partial(getattr(metrics, name), 2)
    for name in ("Disagreement", "PairwiseKL", "QStatistic", "RatioOfErrors")
}
# labels, a function of logits, and the message
BATCHES = {
    "labels of -1": (LABELS - 1, lambda logits: logits, "`y_true` must be integers from 0 to 4, got -1"),
    "labels of K": (LABELS + 1, lambda logits: logits, "`y_true` must be integers from 0 to 4, got 5"),
    "logits of NaN": (LABELS, lambda logits: logits * NAN, "`y_pred` must be finite"),
    "too few labels": (LABELS[:3], lambda logits: logits, "`y_true` must be one for each image"),
    "logits of one axis": (LABELS, lambda logits: logits.reshape(-1), "`y_pred` must be numbers"),
}


def updated(make, labels, logits, tensors: bool):
    """The result after a batch of arrays, or of tensors in a graph as in `evaluate`, which must be NaN."""

    def call(here):
        metric = make()
        if not tensors:
            metric.update_state(labels, logits)
            return metric.result()
        tf.function(metric.update_state)(tf.constant(labels), tf.constant(logits, "float32"))
        assert np.isnan(metric.result())

    return call


def of_metrics():
    for made, sound in ((STREAMED, LOGITS), (OF_MEMBERS, MEMBERS)):
        for name, make in made.items():
            for kind, (labels, spoil, pattern) in BATCHES.items():
                yield Row(f"{name}({kind})", updated(make, labels, spoil(sound), False), pattern)
                if kind in ("labels of -1", "labels of K", "logits of NaN"):
                    quick = name in ("AreaUnderRiskCoverage", "ExpectedCalibrationError", "Disagreement")
                    yield Row(f"{name}({kind}, tensors)", updated(make, labels, spoil(sound), True), slow=not quick)


@each(of_metrics())
def test_metrics(row, here, record_property):
    check(row, here, record_property)


def asked(function, values):
    return lambda here: function(values)


BAD = {
    "of NaN": lambda logits: logits * NAN,
    "of infinity": lambda logits: logits * INF,
    "of one axis": lambda logits: logits.reshape(-1),
    "of no image": lambda logits: logits[:0],
    "that are texts": lambda logits: logits.astype(str),
}
UNSURE = [
    *[
        Row(f"uncertainty.{name}(logits {kind})", asked(getattr(uncertainty, name), spoil(LOGITS)), "`logits` must be")
        for name in ("predictive_entropy", "one_minus_confidence", "energy")
        for kind, spoil in {**BAD, "of members": lambda _: MEMBERS, "None": lambda _: None}.items()
    ],
    *[
        Row(
            f"uncertainty.mutual_information(logits {kind})",
            asked(uncertainty.mutual_information, spoil(MEMBERS)),
            "`member_logits` must be",
        )
        for kind, spoil in {**BAD, "of a network": lambda _: LOGITS}.items()
    ],
    *[
        Row(
            f"uncertainty.scores(logits {kind})",
            lambda here, spoil=spoil: uncertainty.scores(spoil(MEMBERS), here.model.average),
            "`member_logits` must be",
        )
        for kind, spoil in BAD.items()
    ],
    Row(
        "uncertainty.energy(a tensor of members)",
        lambda here: uncertainty.energy(tf.constant(MEMBERS)),
        r"`logits` must be \(n, K\), got shape",
    ),
    Row("uncertainty.scores(sound)", lambda here: uncertainty.scores(MEMBERS, here.model.average)),
]
# what is known of a metric before it sees anything
OPTIONS = [
    *integers("AdaptiveCalibrationError", "num_bins", of(metrics.AdaptiveCalibrationError, "num_bins"), 5, below=0),
    *[
        row
        for name in ("AreaUnderRiskCoverage", "ErrorAUPR", "ErrorFPR95")
        for row in integers(name, "capacity", of(getattr(metrics, name), "capacity"), 5, below=0)
    ],
    *[
        row
        for name in ("PairwiseKL", "QStatistic", "RatioOfErrors")
        for row in integers(name, "num_members", of(getattr(metrics, name), "num_members"), 2, below=1)
    ],
    *[
        row
        for name in ("BrierScore", "NegativeLogLikelihood")
        for row in anything_else(name, "of", of(getattr(metrics, name), "of"), ["nobody", -1, 1.5], "`of` must be")
    ],
    *booleans("CoSub", "share_heads", method(COSUB, "share_heads")),
]


@each([*UNSURE, *OPTIONS])
def test_uncertainty_and_options(row, here, record_property):
    check(row, here, record_property)
