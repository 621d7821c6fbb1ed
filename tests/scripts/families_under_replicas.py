"""Cosub on two replicas, each compiled by XLA, whose submodels differ: python families_under_replicas.py FAMILY DTYPE"""

import sys

import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import families
import keras
import numpy as np

import mixmo_keras
from mixmo_keras import seeds
from mixmo_keras.seeds import StepSeed

family, dtype = sys.argv[1:]
X, Y = families.data()
X[4:], Y[4:] = X[:4], Y[:4]  # both replicas see the same rows
keras.config.set_dtype_policy(dtype)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    options = dict(num_classes=families.NUM_CLASSES, augmentation=None, l2=0.0, drop_path=0, seed=0)
    model = mixmo_keras.CoSub(families.build(family), **options)
    model.compile(keras.optimizers.SGD(0.01), jit_compile=True)


@tf.function
def features():
    def of_replica(images):
        with seeds.drawing(StepSeed(0, 0, seeds.replica()[0])):
            return tf.cast(model.core(model.encoders(images)[:, 0], training=True), "float32")

    images = tf.random.stateless_uniform((4, *families.SHAPE), seed=(0, 0))
    return strategy.run(of_replica, args=(images,))


first, second = (part.numpy() for part in strategy.experimental_local_results(features()))
assert np.abs(first - second).max() > 1e-3, "two replicas draw alike"

before = [np.array(weight) for weight in model.trainable_weights]
data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
history = model.fit(data, epochs=2, validation_data=data, verbose=0).history
assert np.isfinite(history["loss"] + history["val_loss"]).all(), history
assert model.jit_compile
moved = [not np.array_equal(old, np.array(new)) for old, new in zip(before, model.trainable_weights, strict=True)]
assert np.mean(moved) > 0.8, moved
print("done")
