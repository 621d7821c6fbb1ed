"""M different images in one pass: the other way to use a multi-input network, M times as fast and no ensemble.

All that knows of it stands here: the seats of a pass, its networks, predictions and their temperature, what a SavedModel
serves, and what an evaluation measures and says. Models, serving, evaluation and reports call functions of this room.
"""

from mixmo_keras.multiplexing import figures, serving, wording
from mixmo_keras.multiplexing.network import check, fused, warn_where_little_trained, why_not
from mixmo_keras.multiplexing.prediction import calibrate_on, predict, predict_both_with_labels, predict_passes

__all__ = [
    "calibrate_on",
    "check",
    "figures",
    "fused",
    "predict",
    "predict_both_with_labels",
    "predict_passes",
    "serving",
    "warn_where_little_trained",
    "why_not",
    "wording",
]
