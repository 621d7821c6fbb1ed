"""Prints the results of named metrics, compiled as in `evaluate`; to be run with KERAS_BACKEND=jax."""

import json
import sys

import jax
import keras
import metric_cases
import numpy as np

CHOSEN = {name: metric_cases.ALL[name] for name in sys.argv[1:]}
metrics = {name: build(**options) for name, (build, options, _) in CHOSEN.items()}


@jax.jit
def update(state, labels, logits):
    return {name: metric.stateless_update_state(state[name], labels, logits) for name, metric in metrics.items()}


@jax.jit
def results(state):
    return {name: metric.stateless_result(state[name]) for name, metric in metrics.items()}


if __name__ == "__main__":
    assert keras.backend.backend() == "jax"
    state = {name: [variable.value for variable in metric.variables] for name, metric in metrics.items()}
    for part in np.split(np.arange(metric_cases.N), 7):
        state = update(state, metric_cases.LABELS[part], metric_cases.MEMBERS[part])
    print(json.dumps({name: float(value) for name, value in results(state).items()}))
