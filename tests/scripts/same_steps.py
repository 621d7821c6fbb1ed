"""Twenty steps on real images with fixed draws and synchronized batch norm, alone or together: STRATEGY DEVICES

23 images a batch don't share out evenly, and the last batch to validate on has one image only.
"""

import json
import sys

import keras
import numpy as np
import tensorflow as tf
import tiny
from keras import ops

from mixmo_keras import datasets, distribution
from mixmo_keras.mixing import mixing
from mixmo_keras.mixing.batch import Draw
from mixmo_keras.seeds import StepSeed
from mixmo_keras.training.weight_averaging import SwapAveragedWeights

strategy = distribution.strategy(sys.argv[1], json.loads(sys.argv[2]))
MASK = np.zeros((1, 2, 8, 8, 1), "float32")
MASK[0, 0, 2:6, 2:7] = 1
MASK[0, 1] = 1 - MASK[0, 0]


def draw(num_images, seed, progress=0.0, with_partners=False):
    """Both members see the row's own image, under fixed masks."""
    rows = ops.repeat(ops.arange(num_images)[:, None], 2, axis=1)
    return Draw(rows, None, ops.tile(MASK, (num_images, 1, 1, 1, 1)), None, None, None)


train = datasets.load("digits", "train").take(230)
data = datasets.batches(train, 23)
with strategy.scope():
    model = tiny.model(
        input_shape=(8, 8, 1),
        num_classes=10,
        augmentation=None,
        batch_repetitions=1,
        l2=1e-3,
        synchronized_batch_norm=strategy.num_replicas_in_sync > 1,
    )
    model.draw = draw
    model.compile(keras.optimizers.SGD(0.05, 0.9, global_clipnorm=0.5, use_ema=True, ema_momentum=0.9))
curve = []


class Note(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        curve.append([float(value) for value in self.model.get_metrics_result().values()])


few = datasets.batches(train.take(41), 40)
swap = SwapAveragedWeights()
history = model.fit(data, epochs=2, verbose=0, callbacks=[Note(), swap], validation_data=few).history
seen = data.map(lambda x, y: y)
counts = []
for part in strategy.experimental_distribute_dataset(seen):
    counts += [int(v) for v in strategy.gather(part, axis=0)]
predicted = model.predict(few, verbose=0)
members = model.predict_members(few, verbose=0)
moving = [variable for variable in model.non_trainable_variables if "moving" in variable.name]
weights, statistics = (
    np.concatenate([ops.convert_to_numpy(variable).ravel() for variable in variables]).tolist()
    for variables in (model.trainable_variables, moving)
)


def own_masks():
    """What a replica draws by itself."""
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    return mixing.draw_masks(model.batching.mixing, StepSeed(model.seed, 0, replica), 8, 2, (8, 8, 1))


if sys.argv[1] == "mirrored":
    first, second = strategy.experimental_local_results(strategy.run(own_masks))
    assert not np.array_equal(first, second)
    wrong = data.map(lambda x, y: (x, tf.concat([y[:-1], [tf.constant(10, y.dtype)]], axis=0)))
    try:  # an error in one replica stops both
        model.fit(wrong, verbose=0)
    except ValueError as error:
        assert "to 10" in str(error), error
    else:
        raise AssertionError("no error")
print(
    json.dumps(
        dict(
            curve=curve,
            validation=[float(v) for v in history["val_loss"]],
            labels=np.bincount(counts, minlength=10).tolist(),
            predicted=predicted.tolist(),
            members=members.tolist(),
            statistics=statistics,
            weights=weights,
            workers=distribution.num_workers(strategy),
        )
    )
)
