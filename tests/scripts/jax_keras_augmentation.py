"""Trains with Keras' augmentation layers on JAX, twice, and prints whether the weights are the same and finite."""

import keras
import numpy as np
import tiny
from keras import layers

weights = []
for seed in (1, 2):
    steps = [
        layers.RandomFlip(seed=seed),
        layers.RandomRotation(0.1, seed=seed),
        layers.RandAugment(num_ops=1, seed=seed),
    ]
    model = tiny.model(augmentation=keras.Sequential(steps))
    images, labels = tiny.data(8)
    model.fit(images, labels, batch_size=4, shuffle=False, epochs=1, verbose=0)
    weights.append(model.get_weights())
print(keras.backend.backend(), tiny.equal_weights(*weights), all(np.isfinite(one).all() for one in weights[0]))
