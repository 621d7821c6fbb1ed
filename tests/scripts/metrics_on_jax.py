"""Prints every metric's result by name; to be run with KERAS_BACKEND=jax."""

import json

import keras
import metric_cases
import numpy as np

if __name__ == "__main__":
    assert keras.backend.backend() == "jax"
    printed = {}
    for name, (build, options, _) in metric_cases.ALL.items():
        metric = build(**options)
        for part in np.split(np.arange(metric_cases.N), 7):
            metric.update_state(metric_cases.LABELS[part], metric_cases.MEMBERS[part])
        printed[name] = float(metric.result())
    print(json.dumps(printed))
