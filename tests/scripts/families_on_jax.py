"""Cosub on JAX, two runs of which end alike: python families_on_jax.py FAMILY DTYPE"""

import sys

import families
import keras
import numpy as np

import mixmo_keras

assert keras.backend.backend() == "jax"
family, dtype = sys.argv[1:]
X, Y = families.data()
keras.config.set_dtype_policy(dtype)


def run():
    options = dict(num_classes=families.NUM_CLASSES, augmentation=None, l2=0.0, drop_path=0, seed=0)
    model = mixmo_keras.CoSub(families.build(family), **options)
    model.compile(keras.optimizers.SGD(0.01))
    before = model.get_weights()
    history = model.fit(X, Y, batch_size=4, shuffle=False, epochs=2, validation_data=(X, Y), verbose=0).history
    assert np.isfinite(history["loss"] + history["val_loss"]).all(), history
    moved = [not np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True)]
    assert np.mean(moved) > 0.8, moved
    return model.get_weights()


assert all(map(np.array_equal, run(), run()))
print("done")
