"""The step on JAX, without TensorFlow: python jax_step.py GIVEN.npz DTYPE ..."""

import sys


class NoTensorFlow:
    def find_spec(self, name, *_):
        if name.split(".")[0] == "tensorflow":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


assert "tensorflow" not in sys.modules  # not imported where it is there ...
sys.meta_path.insert(0, NoTensorFlow())  # ... and not needed

import jax
import keras
import numpy as np
import tiny

from mixmo_keras import SAM, schedules
from mixmo_keras.mixing.batch import Batch
from mixmo_keras.seeds import StepSeed
from mixmo_keras.training.objective import members_loss

assert keras.backend.backend() == "jax"
X, Y = tiny.data()

# two backends, one loss, and one gradient
given = np.load(sys.argv[1])
model = tiny.model(num_members=3)
model.set_weights([given[f"weight{i}"] for i in range(len(model.weights))])
model.multiplexed_temperature = 1.3
several = {f"{count}": model.predict_multiplexed(X[:count]) for count in range(1, 8)}  # three images a pass
np.savez(sys.argv[1] + ".multiplexed.npz", **several)
batch = Batch(*(given.get(name, None) for name in Batch._fields))


def loss(trainable):
    with keras.StatelessScope(state_mapping=list(zip(model.trainable_variables, trainable, strict=True))):
        return members_loss(model.loss, batch, model.member_logits(batch.images, batch.masks, training=True))


value, gradients = jax.jit(jax.value_and_grad(loss))([variable.value for variable in model.trainable_variables])
print(float(value))
np.savez(sys.argv[1] + ".gradients.npz", *map(np.asarray, gradients))

for dtype in sys.argv[2:]:
    named = dict(backbone="wrn10_1", input_shape=tiny.SHAPE) if dtype != "float32" else {}
    model = tiny.model(l2=0.01, dtype=dtype, **named)
    model.compile(keras.optimizers.SGD(schedules.StepDecay(0.1, warmup=0, milestones=(0.6,))))
    images = X.astype("float32")
    start = [np.array(w) for w in model.trainable_weights]
    # L2 alone: rows without weight have no gradient, so that w becomes w − rate·2λ·w
    model.fit(images, Y, sample_weight=np.zeros(8), batch_size=8, verbose=0)
    for before, after in zip(start, model.trainable_weights, strict=True):
        np.testing.assert_allclose(after, before * (1 - 0.1 * 2 * 0.01), rtol=1e-5)
    # then for real: two steps, of which the second has a tenth of the rate
    options = dict(sample_weight=np.ones(8), batch_size=8, verbose=0)
    history = model.fit(images, Y, epochs=2, validation_data=(images, Y), **options).history
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}, history
    assert np.isfinite(history["loss"]).all(), history
    assert all(
        np.abs(np.array(w) - 0.998 * v).max() > 1e-6 for v, w in zip(start, model.trainable_weights, strict=True)
    )
    assert np.isclose(float(model.optimizer.learning_rate), 0.01)
    assert int(model.step_counter.value) == 3
    logits = model.predict(images, verbose=0)
    assert np.isclose(model.evaluate(images, Y, verbose=0)[1], (logits.argmax(1) == Y).mean())
    # what the step notes comes back, from inside an epoch
    try:
        model.fit(images * 0 + np.float32(1e38), Y, **options)  # finite, but no convolution of it is
    except FloatingPointError as error:
        assert "at step 4" in str(error), error
    else:
        assert dtype == "mixed_float16"  # whose loss scaling skips such a step; ReLU hides NaN from the loss

# sharpness: one step against two gradients written out; what layers add to the loss is in both
ball = keras.layers.ActivityRegularization(l2=0.1)
model = tiny.model(l2=0.01, num_members=1, backbone=tiny.backbone())
model.core = keras.Sequential([model.core, ball])
model.compile(keras.optimizers.SGD(0.1), sharpness=SAM(0.5))
before = [jax.numpy.array(w.value) for w in model.trainable_variables]
seen = StepSeed(model.seed, 0)
batch = model.make_batch((jax.numpy.array(X), jax.numpy.array(Y)), seen)


def minimised(trainable):
    with keras.StatelessScope(state_mapping=list(zip(model.trainable_variables, trainable, strict=True))):
        features = model.core.layers[0](model.encoders(model.normalize(batch.images))[:, 0], training=True)
        logits = model.heads(features)[:, 0]
        entropy = -jax.numpy.mean(jax.nn.log_softmax(logits)[np.arange(len(logits)), batch.targets[:, 0]])
        return entropy + 0.1 * (features**2).sum() / len(logits) + 0.01 * sum((w**2).sum() for w in trainable)


minimised_slope = jax.jit(jax.grad(minimised))
slope = minimised_slope(before)
norm = np.sqrt(sum((np.asarray(g) ** 2).sum() for g in slope))
uphill = minimised_slope([w + 0.5 * g / norm for w, g in zip(before, slope, strict=True)])
model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
for w, g, after in zip(before, uphill, model.trainable_variables, strict=True):
    np.testing.assert_allclose(np.asarray(after.value), w - 0.1 * g, rtol=1e-4, atol=1e-6, err_msg=after.path)
assert "tensorflow" not in sys.modules
print("done")
