"""Metrics of ensembles, each as a function of whole arrays and as a Keras metric that is updated batch by batch.

Functions take arrays and give Python floats: `logits` (n, K) of the ensemble or of one member, `member_logits` (n, M, K),
and `labels` (n,), (n, 1) or one-hot (n, K). Logits need not be normalised: what counts is their softmax. Undefined metrics
(no error to detect, a single member's diversity) are NaN. `definitions` says how a metric is defined, once for both.
"""

from mixmo_keras.metrics.calibration_error import (
    AdaptiveCalibrationError,
    ClasswiseCalibrationError,
    ExpectedCalibrationError,
    adaptive_calibration_error,
    classwise_calibration_error,
    expected_calibration_error,
    reliability,
)
from mixmo_keras.metrics.correctness import (
    Accuracy,
    BrierScore,
    NegativeLogLikelihood,
    TopKAccuracy,
    accuracy,
    brier_score,
    negative_log_likelihood,
    top_k_accuracy,
)
from mixmo_keras.metrics.diversity import (
    Disagreement,
    MutualInformation,
    PairwiseKL,
    QStatistic,
    RatioOfErrors,
    disagreement,
    mutual_information,
    pairwise_kl,
    q_statistic,
    ratio_of_errors,
)
from mixmo_keras.metrics.ranking import (
    AreaUnderRiskCoverage,
    ErrorAUPR,
    ErrorAUROC,
    ErrorFPR95,
    area_under_risk_coverage,
    confidence_and_right,
    detection,
    misclassification_detection,
    risk_coverage,
)
from mixmo_keras.metrics.summaries import diversity_figures, network_figures

__all__ = [
    "Accuracy",
    "AdaptiveCalibrationError",
    "AreaUnderRiskCoverage",
    "BrierScore",
    "ClasswiseCalibrationError",
    "Disagreement",
    "ErrorAUPR",
    "ErrorAUROC",
    "ErrorFPR95",
    "ExpectedCalibrationError",
    "MutualInformation",
    "NegativeLogLikelihood",
    "PairwiseKL",
    "QStatistic",
    "RatioOfErrors",
    "TopKAccuracy",
    "accuracy",
    "adaptive_calibration_error",
    "area_under_risk_coverage",
    "brier_score",
    "classwise_calibration_error",
    "confidence_and_right",
    "detection",
    "disagreement",
    "diversity_figures",
    "expected_calibration_error",
    "misclassification_detection",
    "mutual_information",
    "negative_log_likelihood",
    "network_figures",
    "pairwise_kl",
    "q_statistic",
    "ratio_of_errors",
    "reliability",
    "risk_coverage",
    "top_k_accuracy",
]
