"""Only kernels decay, and each layer has its share of the rate: under two replicas of TensorFlow, or on JAX."""

import contextlib

import keras
import numpy as np
import tiny

from mixmo_keras import FineTuning
from mixmo_keras.training.checkpoint_files import values_of

RATE, DECAY, CORE_RATE, LAYER_DECAY = 0.01, 2.0, 0.5, 0.25
X, Y = tiny.data(16)
scope = contextlib.nullcontext
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    scope = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope


def moved(weight_decay: float, **options):
    """The model after one step, its weights before it, and by how much each moved."""
    with scope():
        model = tiny.model(backbone=tiny.residual_backbone(), batch_repetitions=1)
        model.compile(keras.optimizers.AdamW(RATE, weight_decay=weight_decay), **options)
    before = values_of(model.trainable_weights)
    model.fit(X, Y, batch_size=16, shuffle=False, verbose=0)
    after = values_of(model.trainable_weights)
    return model, before, [now - then for now, then in zip(after, before, strict=True)]


_, _, plain = moved(0.0)
model, before, decayed = moved(DECAY, decay_kernels_only=True)
_, _, by_depth = moved(DECAY, decay_kernels_only=True, fine_tuning=FineTuning(CORE_RATE, layer_decay=LAYER_DECAY))
kinds = set()
for weight, start, *steps in zip(model.trainable_weights, before, plain, decayed, by_depth, strict=True):
    without, with_decay, with_share = steps
    is_kernel = "kernel" in weight.path
    kinds.add(is_kernel)
    expected = without - (RATE * DECAY * start if is_kernel else 0)
    np.testing.assert_allclose(with_decay, expected, atol=1e-6, err_msg=weight.path)
    share = tiny.share_by_depth(weight, model, CORE_RATE, LAYER_DECAY)
    np.testing.assert_allclose(with_share, share * with_decay, rtol=1e-3, atol=1e-6, err_msg=weight.path)
assert kinds == {True, False}
print("done")
