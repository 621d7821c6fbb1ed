"""Data-parallel training on JAX, on simulated devices: python jax_devices.py COUNT; prints its curve and weights as JSON."""

import json
import os
import sys

count = int(sys.argv[1])
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={count}"

import jax
import keras
import numpy as np
import tiny

assert len(jax.devices()) == count
if count > 1:
    keras.distribution.set_distribution(keras.distribution.DataParallel())
X, Y = tiny.data(16)
model = tiny.model(learning_rate=None, l2=0.01, augmentation="pad_crop_flip", msda="cutmix", num_members=3)
losses = []


class Watch(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        losses.append(float(logs["loss"]))


history = model.fit(X, Y, batch_size=8, epochs=3, shuffle=False, verbose=0, callbacks=[Watch()], validation_data=(X, Y))
kernel = model.trainable_variables[0].value
assert len(kernel.sharding.device_set) == count, kernel.sharding
weights = np.concatenate([np.ravel(weight) for weight in model.get_weights()])
print(json.dumps({"losses": losses, "validation": history.history["val_loss"], "weights": weights.tolist()}))
