"""Prints the results of named metrics, of all images and of the first 40, under two replicas and with rows left out."""

import json
import sys

import metric_cases
import tensorflow as tf

from mixmo_keras import distribution

CHOSEN = {name: metric_cases.ALL[name] for name in sys.argv[1:]}
strategy = distribution.strategy("mirrored", 2)
with strategy.scope():
    metrics = {name: build(**options) for name, (build, options, _) in CHOSEN.items()}


@tf.function(reduce_retracing=True)
def update(labels, logits, weights):
    def of_replica(*batch):
        for metric in metrics.values():
            metric.update_state(*batch)

    strategy.run(of_replica, (labels, logits, weights))


if __name__ == "__main__":
    data = tf.data.Dataset.from_tensor_slices((metric_cases.LABELS, metric_cases.MEMBERS, metric_cases.WEIGHTS)).batch(
        40
    )
    printed: dict[str, list[float]] = {name: [] for name in metrics}
    for batches in (data, data.take(1)):
        for metric in metrics.values():
            metric.reset_state()
        for batch in strategy.experimental_distribute_dataset(batches):
            update(*batch)
        for name, metric in metrics.items():
            printed[name].append(float(metric.result()))
    print(json.dumps(printed))
