"""All metrics of a network, and all metrics of its members' diversity, in a dictionary."""

import math

from mixmo_keras.common import arguments, class_labels
from mixmo_keras.metrics.calibration_error import (
    adaptive_calibration_error,
    classwise_calibration_error,
    expected_calibration_error,
)
from mixmo_keras.metrics.correctness import accuracy, brier_score, negative_log_likelihood, top_k_accuracy
from mixmo_keras.metrics.diversity import (
    disagreement,
    mutual_information,
    pairwise_kl,
    q_statistic,
    ratio_of_errors,
)
from mixmo_keras.metrics.ranking import area_under_risk_coverage, misclassification_detection
from mixmo_keras.metrics.shown import Column

COLUMNS = {  # of a report's table, by the name in `network_figures`
    "accuracy": Column("accuracy", "share of images that are answered rightly", True, "{:.2%}"),
    "top5": Column("top-5", "share of images whose class is among the five most probable ones", True, "{:.2%}"),
    "nll": Column(
        "NLL", "negative log-likelihood, −log of the right class's probability in nats, mean: punishes sure errors"
    ),
    "brier": Column("Brier", "squared distance of the probabilities from the right answer, 0 to 2"),
    "ece": Column(
        "ECE", "expected calibration error: by how much confidence and accuracy differ, in 15 bins of confidence"
    ),
    "adaptive_ece": Column("adaptive ECE", "the same in 15 bins of equally many images"),
    "classwise_ece": Column("class-wise ECE", "the same for the probability of each class"),
    "errors_auroc": Column("error AUROC", "how well low confidence finds errors: 0.5 is chance, 1 perfect", True),
    "errors_aupr": Column("error AUPR", "the same as average precision, which is the share of errors by chance", True),
    "errors_fpr95": Column("error FPR95", "share of errors that are accepted where 95 % of the right answers are"),
    "aurc": Column("AURC", "share of errors among the most confident images, mean over how many are answered"),
}


def network_figures(logits, labels) -> dict[str, float]:
    """Returns every metric of one network's logits, by name.

    Args:
        logits: (n, K).
        labels: (n,), (n, 1) or one-hot (n, K); or shares of the classes (n, K), by which NLL and Brier score are measured.
            The others take the class with the most.
    """
    logits = arguments.logits("logits", logits)
    labels = class_labels.integers_or_shares("labels", labels, logits.shape[1], len(logits))
    classes = class_labels.most(labels)
    detected = misclassification_detection(logits, classes)
    return {
        "accuracy": accuracy(logits, classes),
        "top5": top_k_accuracy(logits, classes),
        "nll": negative_log_likelihood(logits, labels),
        "brier": brier_score(logits, labels),
        "ece": expected_calibration_error(logits, classes),
        "adaptive_ece": adaptive_calibration_error(logits, classes),
        "classwise_ece": classwise_calibration_error(logits, classes),
        **{f"errors_{name}": value for name, value in detected.items()},
        "aurc": area_under_risk_coverage(logits, classes),
    }


def diversity_figures(member_logits, labels) -> dict[str, float]:
    """Returns every metric that compares members, by name.

    Args:
        member_logits: (n, M, K). With a single member, most metrics are NaN.
        labels: (n,), (n, 1) or one-hot (n, K).
    """
    return {
        "ratio_of_errors": ratio_of_errors(member_logits, labels),
        "disagreement": disagreement(member_logits),
        "q_statistic": q_statistic(member_logits, labels),
        "pairwise_kl": pairwise_kl(member_logits),
        "mutual_information": mutual_information(member_logits),
    }


def formatted(value: float | None, form: str) -> str:
    """A number in a number format; a dash in place of `None`."""
    return "–" if value is None else form.format(value)


def for_json(values):
    """The values with `None` in place of NaN and infinite numbers, which JSON can't hold."""
    if isinstance(values, dict):
        return {key: for_json(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [for_json(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values
