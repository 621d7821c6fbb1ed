"""Under two replicas the mean of late weights is that of the steps, and the optimizer keeps its own momentum."""

import keras
import numpy as np
import tensorflow as tf
import tiny

from mixmo_keras import SwapAveragedWeights
from mixmo_keras.training.checkpoint_files import values_of

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
X, Y = tiny.data(16)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = tiny.model(batch_repetitions=1)
    model.compile(keras.optimizers.SGD(0.1, 0.9, use_ema=True, ema_momentum=0.97), average_from=0.5)
after_each = []


class Note(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        after_each.append(values_of(self.model.trainable_weights))


model.fit(X, Y, batch_size=4, shuffle=False, verbose=0, callbacks=[Note(), SwapAveragedWeights()])
assert len(after_each) == 4
for index, weight in enumerate(model.trainable_weights):  # the averages are in the model now
    expected = np.mean([weights[index] for weights in after_each[2:]], axis=0)
    np.testing.assert_allclose(np.array(weight), expected, rtol=1e-5, atol=1e-6)
assert model.optimizer.ema_momentum == 0.97, model.optimizer.ema_momentum
print("done")
