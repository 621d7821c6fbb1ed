"""Under two replicas the core is frozen, and has its share of the rate, as on one device; with loss scaling too."""

import contextlib

import keras
import numpy as np
import tensorflow as tf
import tiny

from mixmo_keras import SAM, FineTuning
from mixmo_keras.training.checkpoint_files import values_of

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
X, Y = tiny.data(16)
OPTIMIZERS = (
    lambda: keras.optimizers.SGD(0.1, 0.9, nesterov=True),
    lambda: keras.optimizers.AdamW(1e-3, weight_decay=10.0),  # of which a wrong share shows
)
replicas = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope


def built(scope, optimizer, **options):
    with scope():
        model = tiny.model(batch_repetitions=1)
        model.compile(optimizer(), **options)
    return model


def of_core(model):
    return values_of(model.core.trainable_weights)


def fit(model, **options):
    model.fit(X, Y, **dict(batch_size=8, shuffle=False, verbose=0) | options)


def assert_frozen_then_free(scope, optimizer, **options):
    model = built(scope, optimizer, fine_tuning=FineTuning(0.3, 1), **options)
    core, heads = model.core.get_weights(), model.heads.get_weights()
    fit(model)
    assert tiny.equal_weights(core, model.core.get_weights())
    assert not tiny.equal_weights(heads, model.heads.get_weights())
    fit(model, initial_epoch=1, epochs=2)
    assert not tiny.equal_weights(core, model.core.get_weights())


for optimizer in OPTIMIZERS:
    assert_frozen_then_free(replicas, optimizer, sharpness=SAM(0.05) if optimizer is OPTIMIZERS[0] else None)
    start, moved = of_core(built(replicas, optimizer)), []
    for share in (FineTuning(0.3), None):
        model = built(replicas, optimizer, fine_tuning=share)
        fit(model, batch_size=16)  # one step
        moved.append([after - before for after, before in zip(of_core(model), start, strict=True)])
    for some, whole in zip(*moved, strict=True):
        np.testing.assert_allclose(some, 0.3 * whole, rtol=1e-3, atol=1e-6)
keras.config.set_dtype_policy("mixed_float16")
assert_frozen_then_free(contextlib.nullcontext, OPTIMIZERS[0])
print("done")
