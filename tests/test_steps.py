"""One training step against its formula; XLA, mixed precision, replicas and JAX take the same one."""

import importlib

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from keras import ops

from mixmo_keras.seeds import StepSeed
from mixmo_keras.training import steps

X, Y = tiny.data()
RATE = 0.1


def dataset(batch=4):
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(batch)


def start(**options):
    """A model whose weights, biases and shifts too, are all away from zero; plain SGD."""
    compiled = options.pop("compiled", {})
    model = tiny.model(**options)
    random = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(weight + random.uniform(0.1, 0.3, weight.shape))
    model.compile(keras.optimizers.SGD(RATE, **compiled.pop("optimizer", {})), **compiled)
    return model


def values(model):
    return [np.array(weight) for weight in model.trainable_weights]


def assert_moved(model, expected):
    for weight, value in zip(model.trainable_weights, expected, strict=True):
        np.testing.assert_allclose(weight, value, rtol=1e-4, atol=1e-6, err_msg=weight.path)


def gradients(model, step=0, x=X, y=Y, replica=0):
    """Of Σ_i w_i·CE, written out in TensorFlow on the batch that the step will draw."""
    batch = model.pair(tf.constant(x), tf.constant(y), None, StepSeed(model.seed, step, replica))
    with tf.GradientTape() as tape:
        logits = model.member_logits(batch.images, batch.masks, training=True)
        entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(batch.targets, logits)
        loss = tf.reduce_mean(tf.reduce_sum(batch.weights * entropy, axis=1))
    found = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    return [np.array(gradient) for gradient in found], float(loss)


@pytest.mark.parametrize("num_members", [1, 2, 5])
def test_one_step_is_gradient_descent_with_l2_on_every_weight(num_members):
    l2 = 0.01
    model = start(num_members=num_members, l2=l2)
    before = values(model)
    gradient, loss = gradients(model)
    logs = model.fit(X, Y, batch_size=8, shuffle=False, verbose=0).history
    assert logs["loss"] == [pytest.approx(loss, rel=1e-5)]  # without the L2
    assert {weight.name for weight in model.trainable_weights} == {"kernel", "bias", "gamma", "beta"}
    assert_moved(model, [w - RATE * (g + 2 * l2 * w) for w, g in zip(before, gradient, strict=True)])


def test_batch_norm_averages_move_by_a_tenth():
    model = start()
    batch = model.pair(tf.constant(X), tf.constant(Y), None, StepSeed(model.seed, 0))
    mixed = ops.convert_to_numpy(model.mixing_block(model.encoders(model.normalize(batch.images)), batch.masks))
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    moved = {w.name: np.array(w) for w in model.core.non_trainable_weights}
    np.testing.assert_allclose(moved["moving_mean"], 0.1 * mixed.mean((0, 1, 2)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(moved["moving_variance"], 0.9 + 0.1 * mixed.var((0, 1, 2)), rtol=1e-3)


def test_frozen_weights_stay():
    model = start(l2=0.1)
    model.core.trainable = False
    model.compile(keras.optimizers.SGD(RATE))
    core, encoders = model.core.get_weights(), model.encoders.get_weights()
    model.fit(dataset(), verbose=0)
    assert tiny.equal_weights(core, model.core)
    assert not tiny.equal_weights(encoders, model.encoders.get_weights())


def test_accumulated_gradients_are_of_different_draws():
    model = start(compiled=dict(optimizer=dict(gradient_accumulation_steps=2)))
    before = values(model)
    halves = [gradients(model, step, X[4 * step : 4 * step + 4], Y[4 * step : 4 * step + 4])[0] for step in (0, 1)]
    model.fit(dataset(), verbose=0)
    assert_moved(model, [w - RATE * (g + h) / 2 for w, g, h in zip(before, *halves, strict=True)])


def test_steps_are_drawn_by_number_and_progress():
    model = start(compiled=dict(run_eagerly=True))
    seen, pair = [], model.pair

    def watched(x, y, sample_weight, seed, progress):
        seen.append((int(seed._step), float(progress)))
        return pair(x, y, sample_weight, seed, progress)

    model.pair = watched
    model.fit(dataset(), epochs=2, verbose=0)
    assert seen == [(0, 0), (1, 0.25), (2, 0.5), (3, 0.75)]
    seen.clear()
    model.fit(dataset(), epochs=1, verbose=0)  # goes on drawing, starts progress over
    assert seen == [(4, 0), (5, 0.5)]


@pytest.fixture(scope="module")
def plainly_trained():
    model = tiny.model(learning_rate=None)
    model.fit(dataset(batch=2), epochs=2, verbose=0)
    return model.get_weights()


@pytest.mark.parametrize("count", [3, 9])
def test_steps_per_execution_changes_nothing(count, plainly_trained):
    model = tiny.model(learning_rate=None)
    model.compile(steps_per_execution=count)  # of four steps an epoch
    model.fit(dataset(batch=2), epochs=2, verbose=0)
    assert tiny.equal_weights(plainly_trained, model)


def test_run_eagerly_changes_nothing(plainly_trained):
    model = tiny.model(learning_rate=None)
    model.compile(run_eagerly=True)
    model.fit(dataset(batch=2), epochs=2, verbose=0)
    for first, second in zip(plainly_trained, model.get_weights(), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)


def trained_wrn(dtype):
    model = tiny.model(backbone="wrn10_1", input_shape=tiny.SHAPE, l2=3e-4, dtype=dtype)
    return model, model.fit(dataset(), epochs=2, verbose=0).history["loss"]


@pytest.fixture(scope="module")
def losses_in_float32():
    return trained_wrn("float32")[1]


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains(dtype, losses_in_float32, tmp_path):
    model, losses = trained_wrn(dtype)
    assert {w.dtype for w in model.trainable_weights} == {"float32"}
    assert model.core.layers[1].compute_dtype == dtype[6:]
    assert model.predict(X, verbose=0).dtype == "float32"
    np.testing.assert_allclose(losses, losses_in_float32, rtol=0.1)  # the same draws, rounded
    assert (type(model.optimizer).__name__ == "LossScaleOptimizer") == (dtype == "mixed_float16")
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    assert copy.dtype_policy.name == dtype
    np.testing.assert_array_equal(copy.predict(X, verbose=0), model.predict(X, verbose=0))
    state, copied = ([np.array(v.value) for v in m.optimizer.variables] for m in (model, copy))
    assert tiny.equal_weights(state, copied)


@pytest.mark.slow
def test_xla_takes_the_same_steps():
    """With the same draws: TensorFlow's XLA draws by another algorithm."""
    histories = []
    for jit_compile in (False, True):
        model = tiny.model(backbone="wrn10_1", input_shape=tiny.SHAPE, l2=3e-4)
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), jit_compile=jit_compile)
        assert model.jit_compile == jit_compile
        drawn = model.pair(tf.constant(X[:4]), tf.constant(Y[:4]), None, StepSeed(model.seed, 0))
        model.pair = lambda *_, drawn=drawn: drawn
        histories.append(model.fit(dataset(), epochs=3, verbose=0, validation_data=dataset()).history)
    for name, series in histories[0].items():
        np.testing.assert_allclose(histories[1][name], series, rtol=2e-3, err_msg=name)


@pytest.mark.slow
def test_xla_draws_what_a_step_needs():
    model = tiny.model(batch_repetitions=4, num_members=3, augmentation=None)
    x = np.arange(8, dtype="uint8")[:, None, None, None] * np.ones((1, *tiny.SHAPE), "uint8")

    @tf.function(jit_compile=True)
    def draw(step):
        return model.pair(tf.constant(x), tf.constant(np.arange(8) % 5), None, StepSeed(model.seed, step))

    batches = [draw(tf.constant(step)) for step in (0, 0, 1)]
    for batch in batches:
        shown = np.array(batch.images)[:, :, 0, 0, 0]
        np.testing.assert_array_equal(np.sort(shown, 0), np.repeat(np.arange(8), 4)[:, None].repeat(3, 1))
        np.testing.assert_array_equal(batch.targets, shown % 5)
        np.testing.assert_allclose(tf.reduce_sum(batch.masks, 1), np.ones((32, 8, 8, 1)), rtol=1e-5)
        np.testing.assert_allclose(tf.reduce_sum(batch.weights, 1), np.full(32, 3), rtol=1e-5)
    np.testing.assert_array_equal(batches[0].images, batches[1].images)
    assert not np.array_equal(batches[0].images, batches[2].images)


# -- replicas --------------------------------------------------------------------------------------------------------

REPLICAS = """
import sys
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
import test_steps
import tiny
from mixmo_keras.seeds import StepSeed

X, Y = tiny.data()
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
dtype, jit_compile, path = sys.argv[1], sys.argv[2] == "True", sys.argv[3]
named = dict(backbone="wrn10_1", input_shape=tiny.SHAPE, dtype=dtype) if dtype != "float32" else {}
with strategy.scope():
    model = tiny.model(l2=1e-3, learning_rate=None, **named)
    model.compile(keras.optimizers.SGD(0.01), jit_compile=jit_compile)
data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
before = model.get_weights()
history = model.fit(data, epochs=2, validation_data=data, verbose=0).history
assert len(history["loss"]) == 2 and np.isfinite(history["loss"]).all(), history
assert model.jit_compile == jit_compile
moved = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights())]
assert np.mean(moved) > 0.8, moved

# replicas have the same weights and the same batch-norm averages
for variable in model.weights:
    copies = [np.array(tf.convert_to_tensor(c)) for c in strategy.experimental_local_results(variable.value)]
    assert variable.name == "incidents" or (copies[0] == copies[-1]).all(), variable.path

# and draw differently
def draw():
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    batch = model.pair(tf.constant(X), tf.constant(Y), None, StepSeed(model.seed, 0, replica))
    return batch.masks, batch.targets
masks, targets = (strategy.experimental_local_results(v) for v in strategy.run(draw))
assert not np.array_equal(masks[0], masks[1]) and not np.array_equal(targets[0], targets[1])

# what they say together is what the saved model says alone
predicted = model.predict(data, verbose=0)
assert model.predict_members(data, verbose=0).shape == (8, 2, 5)
evaluated = model.evaluate(data, verbose=0)
model.save(path)
alone = keras.models.load_model(path)
np.testing.assert_allclose(alone.predict(X, verbose=0), predicted, rtol=1e-4, atol=1e-5)
np.testing.assert_allclose(alone.evaluate(X, Y, verbose=0), evaluated, rtol=1e-4)

# a step goes down the mean of the replicas' gradients, and down L2 once
if dtype == "float32":
    one = tiny.model(l2=0.01)
    with strategy.scope():
        both = tiny.model(l2=0.01)
        both.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    halves = [test_steps.gradients(one, 0, X[4 * r : 4 * r + 4], Y[4 * r : 4 * r + 4], r)[0] for r in (0, 1)]
    start = [np.array(w) for w in one.trainable_weights]
    both.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    for w, g, h, after in zip(start, *halves, both.trainable_weights):
        np.testing.assert_allclose(after, w - 0.1 * ((g + h) / 2 + 0.02 * w), rtol=1e-4, atol=1e-6)

# an error in one replica stops both
try:
    model.fit(tf.data.Dataset.from_tensor_slices((X, np.where(np.arange(8) == 7, 9, Y))).batch(8), verbose=0)
except ValueError as error:
    assert "to 9" in str(error), error
else:
    raise AssertionError("no error")
print("done")
"""


def test_replicas_train_in_step(tmp_path):
    assert tiny.python(REPLICAS, "float32", False, tmp_path / "model.keras").endswith("done\n")


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "jit_compile"), [("float32", True), ("mixed_float16", False)])
def test_replicas_train_with_xla_and_in_float16(dtype, jit_compile, tmp_path):
    assert tiny.python(REPLICAS, dtype, jit_compile, tmp_path / "model.keras").endswith("done\n")


# -- JAX -------------------------------------------------------------------------------------------------------------

JAX = """
import sys


class NoTensorFlow:
    def find_spec(self, name, *_):
        if name.split(".")[0] == "tensorflow":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


import mixmo_keras

assert "tensorflow" not in sys.modules  # not imported where it is there ...
sys.meta_path.insert(0, NoTensorFlow())  # ... and not needed

import jax
import keras
import numpy as np
import tiny
from mixmo_keras import schedules
from mixmo_keras.models import Batch

assert keras.backend.backend() == "jax"
X, Y = tiny.data()

# two backends, one loss, and one gradient
given = np.load(sys.argv[1])
model = tiny.model(num_members=3)
model.set_weights([given[f"weight{i}"] for i in range(len(model.weights))])
batch = Batch(*(given[name] if name in given else None for name in Batch._fields))
logits = model.member_logits(batch.images, batch.masks, training=True)
print(float(model.member_loss(batch, logits)))


def loss(trainable):
    with keras.StatelessScope(state_mapping=list(zip(model.trainable_variables, trainable))):
        return model.member_loss(batch, model.member_logits(batch.images, batch.masks, training=True))


gradients = jax.grad(loss)([variable.value for variable in model.trainable_variables])
np.savez(sys.argv[1] + ".gradients.npz", *map(np.asarray, gradients))

for dtype in sys.argv[2:]:
    named = dict(backbone="wrn10_1", input_shape=tiny.SHAPE) if dtype != "float32" else {}
    model = tiny.model(l2=0.01, dtype=dtype, **named)
    model.compile(keras.optimizers.SGD(schedules.StepDecay(0.1, warmup=0, milestones=(0.6,))))
    images = X.astype("float32")
    start = [np.array(w) for w in model.trainable_weights]
    # L2 alone: rows without weight have no gradient, so that w becomes w − rate·2λ·w
    model.fit(images, Y, sample_weight=np.zeros(8), batch_size=8, verbose=0)
    for before, after in zip(start, model.trainable_weights):
        np.testing.assert_allclose(after, before * (1 - 0.1 * 2 * 0.01), rtol=1e-5)
    # then for real: two steps, of which the second has a tenth of the rate
    options = dict(sample_weight=np.ones(8), batch_size=8, verbose=0)
    history = model.fit(images, Y, epochs=2, validation_data=(images, Y), **options).history
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}, history
    assert np.isfinite(history["loss"]).all(), history
    assert all(np.abs(np.array(w) - 0.998 * v).max() > 1e-6 for v, w in zip(start, model.trainable_weights))
    assert np.isclose(float(model.optimizer.learning_rate), 0.01)
    assert int(model.step_counter.value) == 3
    logits = model.predict(images, verbose=0)
    assert np.isclose(model.evaluate(images, Y, verbose=0)[1], (logits.argmax(1) == Y).mean())
    # what the step notes comes back, from inside an epoch
    try:
        model.fit(images * np.float32("nan"), Y, **options)
    except FloatingPointError as error:
        assert "at step 4" in str(error), error
    else:
        assert dtype == "mixed_float16"  # whose loss scaling skips such a step; ReLU hides NaN from the loss
assert "tensorflow" not in sys.modules
print("done")
"""


def jax(path, *dtypes):
    model = start(num_members=3)
    batch = model.pair(tf.constant(X), tf.constant(Y), tf.linspace(0.5, 1.5, 8), StepSeed(0, 0))
    given = {name: np.array(value) for name, value in batch._asdict().items() if value is not None}
    given["sample_weight"] = given["sample_weight"].astype("float32")
    weights = {f"weight{i}": weight for i, weight in enumerate(model.get_weights())}
    np.savez(path / "given.npz", **given, **weights)
    with tf.GradientTape() as tape:
        loss = model.member_loss(batch, model.member_logits(batch.images, batch.masks, training=True))
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    lines = tiny.python(JAX, path / "given.npz", *dtypes, backend="jax").splitlines()
    assert float(lines[0]) == pytest.approx(float(loss), abs=1e-5)
    assert lines[-1] == "done"
    with np.load(path / "given.npz.gradients.npz") as found:
        for index, gradient in enumerate(gradients):
            np.testing.assert_allclose(found[f"arr_{index}"], gradient, rtol=1e-4, atol=1e-4)


def test_jax_computes_the_same_loss_and_gradient_and_trains_without_tensorflow(tmp_path):
    jax(tmp_path, "float32")


@pytest.mark.slow
def test_jax_trains_in_mixed_precision(tmp_path):
    jax(tmp_path, "mixed_bfloat16", "mixed_float16")


def test_other_backends_are_refused(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(keras.backend, "backend", lambda: "numpy")
        with pytest.raises(ImportError, match="trains on the Keras backends tensorflow and jax; Keras runs on 'numpy'"):
            importlib.reload(steps)
    importlib.reload(steps)
