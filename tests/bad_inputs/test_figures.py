"""What metrics, calibration and measures of uncertainty are given."""

import functools

import numpy as np
import tensorflow as tf
from bad_inputs.harness import INF, NAN, Row, anything_else, check, choices, each, integers, numbers

from mixmo_keras import calibration, corruptions, metrics
from mixmo_keras.evaluation import label_issues
from mixmo_keras.multiplexing.figures import partner_figures

random = np.random.default_rng(0)
MEMBERS = random.normal(size=(8, 2, 5))
LOGITS, LABELS = MEMBERS[:, 0], np.arange(8) % 5
ONE_HOT = np.eye(5)[LABELS]


def changed(array, place, value):
    """A copy with another value in one place, in float64."""
    array = np.array(array, "float64")
    array[place] = value
    return array


OF_NETWORK = {
    name: getattr(metrics, name)
    for name in (
        *("accuracy", "top_k_accuracy", "negative_log_likelihood", "brier_score", "expected_calibration_error"),
        *("adaptive_calibration_error", "classwise_calibration_error", "area_under_risk_coverage", "reliability"),
        *("misclassification_detection", "network_figures", "confidence_and_right", "risk_coverage"),
    )
} | {
    "fit_temperature": calibration.fit_temperature,
    "fit_temperature_under_noise": calibration.fit_temperature_under_noise,
    "calibrated_negative_log_likelihood": calibration.calibrated_negative_log_likelihood,
    "ConformalSets.fit": calibration.ConformalSets.fit,
}
OF_MEMBERS = {name: getattr(metrics, name) for name in ("ratio_of_errors", "q_statistic", "diversity_figures")}
OF_MEMBERS["fit_member_temperature"] = calibration.fit_member_temperature
WITHOUT_LABELS = {name: getattr(metrics, name) for name in ("disagreement", "pairwise_kl", "mutual_information")}

BAD_LABELS = {
    "of -1": (changed(LABELS, 3, -1), "`labels` must be integers from 0 to 4, got -1"),
    "of K": (changed(LABELS, 3, 5), "`labels` must be integers from 0 to 4, got 5"),
    "of 0.5": (changed(LABELS, 3, 0.5), "`labels` must be integers from 0 to 4, got 0.5"),
    "of NaN": (changed(LABELS, 3, NAN), "`labels` must be integers from 0 to 4, got nan"),
    "too few": (LABELS[:-1], "`labels` must be one for each image, got 7 labels for 8 images"),
    "too many": (np.tile(LABELS, 2), "`labels` must be one for each image, got 16 labels for 8 images"),
    "one-hot, two of a row": (changed(ONE_HOT, (3, 0), 1), "`labels` must be .*not one-hot"),
    "one-hot of another K": (ONE_HOT[:, :3], "`labels` must be integers"),
    "of three axes": (LABELS[:, None, None], "`labels` must be integers"),
    "that are names": (np.array(["cat"] * 8), "`labels` must be integers"),
}
BAD_LOGITS = {
    "of NaN": (NAN, "`(member_)?logits` must be finite, got NaN or infinite ones for 1 of 8 images"),
    "of infinity": (INF, "`(member_)?logits` must be finite, got NaN or infinite ones for 1 of 8 images"),
}


def calling(function, *arguments):
    return lambda here: function(*arguments)


def of_figures():
    for functions, logits in ((OF_NETWORK, LOGITS), (OF_MEMBERS, MEMBERS)):
        for name, function in functions.items():
            for kind, (labels, pattern) in BAD_LABELS.items():
                yield Row(f"{name}(labels {kind})", calling(function, logits, labels), pattern)
            yield Row(f"{name}(labels (n, 1))", calling(function, logits, LABELS[:, None]))
            yield Row(f"{name}(labels one-hot)", calling(function, logits, ONE_HOT))
    all_of_them = [*((OF_NETWORK, LOGITS, LABELS), (OF_MEMBERS, MEMBERS, LABELS), (WITHOUT_LABELS, MEMBERS))]
    for functions, logits, *labels in all_of_them:
        for name, function in functions.items():
            for kind, (value, pattern) in BAD_LOGITS.items():
                place = (3,) + (0,) * (logits.ndim - 1)
                yield Row(f"{name}(logits {kind})", calling(function, changed(logits, place, value), *labels), pattern)
            must = "`(member_)?logits` must be numbers"
            yield Row(f"{name}(logits without an axis)", calling(function, logits[0], *labels), must)
            yield Row(f"{name}(no image)", calling(function, logits[:0], *[part[:0] for part in labels]), must)
            yield Row(f"{name}(logits that are texts)", calling(function, logits.astype(str), *labels), must)


@each(of_figures())
def test_figures(row, here, record_property):
    check(row, here, record_property)


def test_labels_n_1_give_the_figures_of_labels_n():
    for functions, logits in ((OF_NETWORK, LOGITS), (OF_MEMBERS, MEMBERS)):
        for function in functions.values():
            np.testing.assert_equal(function(logits, LABELS[:, None]), function(logits, LABELS))


def option(function, name, *arguments):
    return lambda here, value: function(*arguments, **{name: value})


NETWORK = (LOGITS, LABELS)
CONFORMAL = calibration.ConformalSets.fit
IMAGES = np.zeros((2, 8, 8, 3), "uint8")
OPTIONS = [
    *[
        row
        for name in (
            "expected_calibration_error",
            "adaptive_calibration_error",
            "classwise_calibration_error",
            "reliability",
        )
        for row in integers(name, "num_bins", option(OF_NETWORK[name], "num_bins", *NETWORK), 5, below=0)
    ],
    *[
        Row(
            f"{name}(num_bins={value})",
            functools.partial(lambda name, value, here: OF_NETWORK[name](*NETWORK, num_bins=value), name, value),
            "`num_bins` must be an integer from 1 to 1000" if value > 1000 else "",
        )
        for name in (
            "expected_calibration_error",
            "adaptive_calibration_error",
            "classwise_calibration_error",
            "reliability",
        )
        for value in (1000, 1001, 10**9)
    ],
    *integers("top_k_accuracy", "k", option(metrics.top_k_accuracy, "k", *NETWORK), 2, below=0),
    *integers("NLL_c", "seed", option(calibration.calibrated_negative_log_likelihood, "seed", *NETWORK), 2, below=-1),
    *numbers("ConformalSets.fit", "coverage", option(CONFORMAL, "coverage", *NETWORK), 0.9, [0, 1, -1, 2]),
    *choices("ConformalSets", "method", lambda here, value: calibration.ConformalSets(value, 0.9, 0.5)),
    *numbers("ConformalSets", "coverage", lambda here, value: calibration.ConformalSets("thr", value, 1), 0.9, [0, 1]),
    *anything_else(
        "ConformalSets",
        "threshold",
        lambda here, value: calibration.ConformalSets("thr", 0.9, value),
        [NAN, -INF, "0.5", None],
        "`threshold` must be a finite number, or infinity",
    ),
    Row("ConformalSets(threshold=inf)", lambda here: calibration.ConformalSets("thr", 0.9, INF)),
    *choices("ConformalSets.fit", "method", option(CONFORMAL, "method", *NETWORK)),
    *integers("ConformalSets.fit", "seed", option(CONFORMAL, "seed", *NETWORK), 2, below=-1),
    *numbers(
        "under_noise",
        "label_noise",
        option(calibration.fit_temperature_under_noise, "label_noise", *NETWORK),
        0.1,
        [-1, 1],
        none=True,
    ),
    Row(
        "detection(scores of NaN)",
        lambda here: metrics.detection([NAN, 1.0], [True, False]),
        "`scores` must be finite, got nan",
    ),
    Row("detection(lengths)", lambda here: metrics.detection([1.0], [True, False]), "`scores` and `positives` must be"),
    Row("detection(nothing)", lambda here: metrics.detection([], []), "`scores` and `positives` must be"),
    Row("detection(positives of 2)", lambda here: metrics.detection([1.0, 2.0], [2, 0]), "`positives` must be"),
    Row(
        "label_issues.rank(labels)",
        lambda here: label_issues.rank(MEMBERS, LOGITS, LABELS - 1),
        "`labels` must be integers",
    ),
    Row(
        "label_issues.rank(NaN)",
        lambda here: label_issues.rank(MEMBERS * NAN, LOGITS, LABELS),
        "`member_logits` must be finite",
    ),
    Row(
        "label_issues.rank(logits NaN)",
        lambda here: label_issues.rank(MEMBERS, LOGITS * NAN, LABELS),
        "`logits` must be finite",
    ),
    *integers("corrupt", "severity", option(corruptions.corrupt, "severity", IMAGES, "contrast"), 2, below=0),
    *choices("corrupt", "name", lambda here, value: corruptions.corrupt(IMAGES, value, 1)),
    Row("corrupt(one image)", lambda here: corruptions.corrupt(IMAGES[0], "contrast", 1), "`images` must be"),
    Row(
        "corrupt(images of NaN)", lambda here: corruptions.corrupt(IMAGES * NAN, "contrast", 1), "`images` must be|NaN"
    ),
    Row(
        "corrupt(images in [0, 1] of -1)",
        lambda here: corruptions.corrupt(IMAGES - 1.0, "contrast", 1),
        "`images` must be",
    ),
    Row("corrupt(saturate, grey)", lambda here: corruptions.corrupt(IMAGES[..., :1], "saturate", 1), "three channels"),
    *anything_else(
        "sets",
        "seed",
        lambda here, value: CONFORMAL(*NETWORK).sets(LOGITS, seed=value),
        [-1, "a", 1.5],
        "`seed` must be",
    ),
    Row("sets(NaN)", lambda here: CONFORMAL(*NETWORK).sets(LOGITS * NAN), "`logits` must be finite"),
]


@each(OPTIONS)
def test_options(row, here, record_property):
    check(row, here, record_property)


def updating(metric, labels=LABELS, logits=LOGITS, weights=None):
    """A Keras metric that gets tensors with values, as `m.update_state(y, model(x))` has them."""

    def call(here):
        tensors = (tf.convert_to_tensor(values) for values in (labels, logits))
        metric().update_state(*tensors, sample_weight=weights)

    return call


def of_label(value, dtype="float32"):
    labels = LABELS.astype(dtype)
    labels[1] = value
    return labels


SHARES = 0.9 * ONE_HOT + 0.02
COUNT = len(LABELS)
METRICS = {"Accuracy": metrics.Accuracy, "AURC": metrics.AreaUnderRiskCoverage}  # a mean, and one that keeps all rows
WRONG_LABELS = {
    "labels of 0.5": (of_label(0.5), "`y_true` must be integers from 0"),
    "labels of NaN": (of_label(NAN), "`y_true` must be integers from 0"),
    "labels of -1": (of_label(-1, "int64"), "`y_true` must be integers from 0"),
    "a label for all": (LABELS[:1], f"`y_true` must be one for each image, got 1.* for {COUNT} images"),
    "one-hot of NaN": (ONE_HOT * NAN, "`y_true` must be classes or rows of their shares"),
}
WRONG_WEIGHTS = {
    "weights of -1": (np.full(COUNT, -1.0), "`sample_weight` must be finite numbers of at least 0"),
    "weights of NaN": (np.full(COUNT, NAN), "`sample_weight` must be finite numbers of at least 0"),
    "3 weights": (np.ones(3), f"`sample_weight` must be one for each image, got 3 for {COUNT} images"),
}
TENSORS = [
    Row(f"{name}.update_state(tensors, {kind})", updating(metric, **{argument: value}), pattern)
    for name, metric in METRICS.items()
    for argument, wrong in (("labels", WRONG_LABELS), ("weights", WRONG_WEIGHTS))
    for kind, (value, pattern) in wrong.items()
]
TENSORS += [
    Row(
        "Accuracy.update_state(tensors, NaN logits)",
        updating(metrics.Accuracy, logits=LOGITS * NAN),
        "`y_pred` must be fin",
    ),
    Row("Accuracy.update_state(tensors, shares)", updating(metrics.Accuracy, labels=SHARES)),
    Row("Accuracy.update_state(tensors, a weight for all)", updating(metrics.Accuracy, weights=2.0)),
    Row(
        "Accuracy.update_state(NumPy labels of 0.5, tensor)",
        lambda here: metrics.Accuracy().update_state(of_label(0.5), tf.constant(LOGITS)),
        "`y_true` must be integers from 0",
    ),
    Row(
        "Accuracy.update_state(in a graph, 3 weights)",
        lambda here: tf.function(metrics.Accuracy().update_state)(tf.constant(LABELS), tf.constant(LOGITS), tf.ones(3)),
        "`sample_weight` must be one for each image, got 3",
    ),
]


@each(TENSORS)
def test_tensors(row, here, record_property):
    check(row, here, record_property)


def evaluating(here, **options):
    from mixmo_keras import evaluation

    defaults = dict(test=[here.data], class_names=list("abcde"))
    return evaluation.evaluate(here.model, **defaults | options)


def with_data(change):
    return lambda here: evaluating(here, test=[change(*here.data)])


EVALUATION = [
    Row("evaluate(labels of -1)", with_data(lambda x, y: (x, y - 1)), "`labels` must be integers from 0 to 4"),
    Row("evaluate(NaN pixels)", with_data(lambda x, y: (x * NAN, y)), "NaN or infinite pixels"),
    Row("evaluate(grey)", with_data(lambda x, y: (x[..., :1], y)), r"Images must be \(n, 8, 8, 3\)"),
    Row("evaluate(images alone)", with_data(lambda x, y: x), "Batches must be"),
    Row("evaluate(no batch)", lambda here: evaluating(here, test=[]), "dataset is empty"),
    Row("evaluate(None)", lambda here: evaluating(here, test=None), "must be"),
    Row("evaluate(temperature without validation)", lambda here: evaluating(here, temperature=True), "validation"),
    Row("evaluate(4 names)", lambda here: evaluating(here, class_names=list("abcd")), "4 classes, the model 5"),
    Row(
        "evaluate(names that are numbers)",
        lambda here: evaluating(here, class_names=[0, 1, 2, 3, 4]),
        "`class_names` must be",
    ),
    Row(
        "evaluate(test_names of some)",
        lambda here: evaluating(here, test_names=["a.png"]),
        "`test_names` must be one for each image, got 1 for 8 images",
    ),
    Row("evaluate(one text as test_names)", lambda here: evaluating(here, test_names="a.png"), "`test_names` must be"),
    Row(
        "evaluate(labelled_names of some)",
        lambda here: evaluating(here, labelled=[here.data], labelled_names=["a.png"]),
        "`labelled_names` must be one for each image, got 1 for 8 images",
    ),
    Row(
        "evaluate(labelled_names without images)",
        lambda here: evaluating(here, labelled_names=["a.png"]),
        "`labelled_names` are those of `labelled` images",
    ),
    Row("evaluate(one text as names)", lambda here: evaluating(here, class_names="abcde"), "`class_names` must be"),
    *anything_else(
        "evaluate",
        "coverage",
        lambda here, value: evaluating(here, coverage=value, validation=[here.data]),
        [0, 1, NAN, "x"],
        "`coverage`",
    ),
    *anything_else(
        "partner_figures",
        "num_partners",
        lambda here, value: partner_figures(here.model, *here.data, num_partners=value),
        [0, 1.5, "2", 10**9],
        "`num_partners` must be an integer from 1 to 1000",
    ),
    *anything_else(
        "evaluate",
        "num_disagreements",
        lambda here, value: evaluating(here, num_disagreements=value),
        [0, 1.5, "2", 10**9],
        "`num_disagreements` must be",
    ),
    *anything_else(
        "evaluate",
        "multiplexed",
        lambda here, value: evaluating(here, multiplexed=value),
        [1, "yes"],
        "`multiplexed` must be",
    ),
    *anything_else(
        "evaluate",
        "temperature",
        lambda here, value: evaluating(here, temperature=value),
        ["yes", 1],
        "`temperature` must be",
    ),
]


@each(EVALUATION)
def test_evaluation(row, here, record_property):
    check(row, here, record_property)
