"""Two replicas on two logical CPUs: python two_replicas.py DTYPE JIT_COMPILE RADIUS MODEL.keras"""

import sys

import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
import tiny
from gradients import gradients

from mixmo_keras import SAM
from mixmo_keras.seeds import StepSeed

X, Y = tiny.data()
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
dtype, jit_compile, radius, path = sys.argv[1], sys.argv[2] == "True", float(sys.argv[3]), sys.argv[4]
sharpness = SAM(radius) if radius else None
named = dict(backbone="wrn10_1", input_shape=tiny.SHAPE, dtype=dtype) if dtype != "float32" else {}
by_formula = dtype == "float32" and not jit_compile  # XLA draws by another algorithm
with strategy.scope():
    model = tiny.model(l2=0.01, learning_rate=None, **named)
    model.compile(keras.optimizers.SGD(0.1 if by_formula else 0.01), jit_compile=jit_compile, sharpness=sharpness)
data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)

# a step goes down the mean of the replicas' gradients, and down L2 once
if by_formula:
    one = tiny.model(l2=0.01)
    start = [np.array(w) for w in one.trainable_weights]

    def slopes(replica):
        rows = slice(4 * replica, 4 * replica + 4)
        found, _ = gradients(one, X[rows], Y[rows], replica=replica)
        return [g + 0.02 * np.array(w) for g, w in zip(found, one.trainable_weights, strict=True)]

    def uphill(replica):
        """Each replica goes uphill for its own rows."""
        found = slopes(replica)
        if radius:
            norm = np.sqrt(sum(np.square(g).sum() for g in found))
            for weight, g in zip(one.trainable_weights, found, strict=True):
                weight.assign(weight + radius * g / norm)
            found = slopes(replica)
        for weight, value in zip(one.trainable_weights, start, strict=True):
            weight.assign(value)
        return found

    model.fit(data, verbose=0)
    for w, g, h, after in zip(start, uphill(0), uphill(1), model.trainable_weights, strict=True):
        np.testing.assert_allclose(after, w - 0.1 * (g + h) / 2, rtol=1e-4, atol=1e-6)

before = [np.array(w) for w in model.trainable_weights]
history = model.fit(data, epochs=2, validation_data=data, verbose=0).history
assert len(history["loss"]) == 2 and np.isfinite(history["loss"]).all(), history
assert model.jit_compile == jit_compile
moved = [not np.array_equal(a, np.array(b)) for a, b in zip(before, model.trainable_weights, strict=True)]
assert np.mean(moved) > 0.8, moved

# replicas have the same weights and the same batch-norm averages
for variable in model.weights:
    copies = [np.array(tf.convert_to_tensor(c)) for c in strategy.experimental_local_results(variable.value)]
    assert variable.name == "noted" or (copies[0] == copies[-1]).all(), variable.path


# and draw differently
def draw():
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    batch = model.make_batch((tf.constant(X), tf.constant(Y)), StepSeed(model.seed, 0, replica))
    return batch.masks, batch.targets


masks, targets = (strategy.experimental_local_results(v) for v in strategy.run(draw))
assert not np.array_equal(masks[0], masks[1])
assert not np.array_equal(targets[0], targets[1])

# what they say together is what the saved model says alone
predicted = model.predict(data, verbose=0)
assert model.predict_members(data, verbose=0).shape == (8, 2, 5)
evaluated = model.evaluate(data, verbose=0)
model.save(path)
alone = keras.models.load_model(path)
np.testing.assert_allclose(alone.predict(X, verbose=0), predicted, rtol=1e-4, atol=1e-5)
np.testing.assert_allclose(alone.evaluate(X, Y, verbose=0), evaluated, rtol=1e-4)

# an error in one replica stops both
try:
    model.fit(tf.data.Dataset.from_tensor_slices((X, np.where(np.arange(8) == 7, 9, Y))).batch(8), verbose=0)
except ValueError as error:
    assert "to 9" in str(error), error
else:
    raise AssertionError("no error")
print("done")
