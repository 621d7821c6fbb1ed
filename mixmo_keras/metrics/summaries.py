"""All metrics of a network, and all metrics of its members' diversity, in a dictionary."""

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


def network_figures(logits, labels) -> dict[str, float]:
    """Returns every metric of one network's logits, by name.

    Args:
        logits: (n, K).
        labels: (n,), (n, 1) or one-hot (n, K).
    """
    detected = misclassification_detection(logits, labels)
    return {
        "accuracy": accuracy(logits, labels),
        "top5": top_k_accuracy(logits, labels),
        "nll": negative_log_likelihood(logits, labels),
        "brier": brier_score(logits, labels),
        "ece": expected_calibration_error(logits, labels),
        "adaptive_ece": adaptive_calibration_error(logits, labels),
        "classwise_ece": classwise_calibration_error(logits, labels),
        **{f"errors_{name}": value for name, value in detected.items()},
        "aurc": area_under_risk_coverage(logits, labels),
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
