"""M different images in one pass: the other way to use a multi-input network, M times as fast and no ensemble.

All that knows of it stands here: the seats of a pass, the networks, predictions and their temperature. A model reaches it by
methods that call these functions, serving by `signatures`, evaluation by `figures`.
"""

from mixmo_keras.multiplexing.network import check, fused, warn_where_little_trained, why_not
from mixmo_keras.multiplexing.prediction import calibrate_on, predict, predict_both_with_labels, predict_passes

__all__ = [
    "calibrate_on",
    "check",
    "fused",
    "predict",
    "predict_both_with_labels",
    "predict_passes",
    "warn_where_little_trained",
    "why_not",
]
