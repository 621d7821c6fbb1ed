"""Every Keras metric beside the function of whole arrays that it must equal, and data for both: also for scripts."""

import numpy as np
from scipy.special import logsumexp

from mixmo_keras import metrics

RANDOM = np.random.default_rng(0)
N, M, K = 203, 3, 5
LABELS = RANDOM.integers(0, K, N)
MEMBERS = (RANDOM.normal(size=(N, M, K)) + 1.2 * np.eye(K)[LABELS][:, None]).astype("float32")
WEIGHTS = np.ones(N, "float32")
WEIGHTS[::7] = 0  # as replicas mark rows that only fill up


def pooled(members, averaging="logits"):
    if averaging == "logits":
        return members.mean(1)
    return logsumexp(members - logsumexp(members, axis=-1, keepdims=True), axis=1)


# metric: (its class, how it is built, the function of logits (n, K) that it must equal)
OF_NETWORKS = {
    "accuracy": (metrics.Accuracy, {}, metrics.accuracy),
    "top 2": (metrics.TopKAccuracy, dict(k=2), lambda logits, labels: metrics.top_k_accuracy(logits, labels, 2)),
    "nll": (metrics.NegativeLogLikelihood, {}, metrics.negative_log_likelihood),
    "brier": (metrics.BrierScore, {}, metrics.brier_score),
    "ece": (metrics.ExpectedCalibrationError, {}, metrics.expected_calibration_error),
    "class-wise ece": (metrics.ClasswiseCalibrationError, dict(num_classes=K), metrics.classwise_calibration_error),
    "adaptive ece": (metrics.AdaptiveCalibrationError, dict(capacity=700), metrics.adaptive_calibration_error),
    "auroc": (metrics.ErrorAUROC, dict(capacity=700), lambda *a: metrics.misclassification_detection(*a)["auroc"]),
    "aupr": (metrics.ErrorAUPR, dict(capacity=700), lambda *a: metrics.misclassification_detection(*a)["aupr"]),
    "fpr95": (metrics.ErrorFPR95, dict(capacity=700), lambda *a: metrics.misclassification_detection(*a)["fpr95"]),
    "aurc": (metrics.AreaUnderRiskCoverage, dict(capacity=700), metrics.area_under_risk_coverage),
}
OF_MEMBERS = {
    "ratio of errors": (metrics.RatioOfErrors, dict(num_members=M), metrics.ratio_of_errors),
    "q": (metrics.QStatistic, dict(num_members=M), metrics.q_statistic),
    "disagreement": (metrics.Disagreement, dict(num_members=M), lambda members, labels: metrics.disagreement(members)),
    "kl": (metrics.PairwiseKL, dict(num_members=M), lambda members, labels: metrics.pairwise_kl(members)),
    "mi": (metrics.MutualInformation, {}, lambda members, labels: metrics.mutual_information(members)),
}
ALL = {**OF_NETWORKS, **OF_MEMBERS}
