"""One training step against its formula; XLA, mixed precision, replicas and JAX take the same one."""

import importlib

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from gradients import gradients

from mixmo_keras import SAM
from mixmo_keras.seeds import StepSeed
from mixmo_keras.training import steps
from mixmo_keras.training.objective import members_loss

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


@pytest.mark.parametrize("num_members", [1, 2, 5])
def test_one_step_is_gradient_descent_with_l2_on_every_weight(num_members):
    l2 = 0.01
    model = start(num_members=num_members, l2=l2, compiled=dict(run_eagerly=num_members != 2))
    before = values(model)
    gradient, loss = gradients(model, X, Y)
    logs = model.fit(X, Y, batch_size=8, shuffle=False, verbose=0).history
    assert logs["loss"] == [pytest.approx(loss, rel=1e-5)]  # without the L2
    assert {weight.name for weight in model.trainable_weights} == {"kernel", "bias", "gamma", "beta"}
    assert_moved(model, [w - RATE * (g + 2 * l2 * w) for w, g in zip(before, gradient, strict=True)])


@pytest.mark.usefixtures("eagerly")
def test_frozen_weights_stay():
    model = start(l2=0.1)
    model.core.trainable = False
    model.compile(keras.optimizers.SGD(RATE))
    core, encoders = model.core.get_weights(), model.encoders.get_weights()
    model.fit(dataset(), verbose=0)
    assert tiny.equal_weights(core, model.core)
    assert not tiny.equal_weights(encoders, model.encoders.get_weights())


@pytest.mark.slow
def test_accumulated_gradients_are_of_different_draws():
    model = start(compiled=dict(optimizer=dict(gradient_accumulation_steps=2)))
    before = values(model)
    halves = [gradients(model, X[4 * step : 4 * step + 4], Y[4 * step : 4 * step + 4], step)[0] for step in (0, 1)]
    model.fit(dataset(), verbose=0)
    assert_moved(model, [w - RATE * (g + h) / 2 for w, g, h in zip(before, *halves, strict=True)])


def test_steps_are_drawn_by_number_and_progress():
    model = start(compiled=dict(run_eagerly=True))
    seen, draw = [], model.draw

    def watched(num_images, seed, progress, with_partners):
        seen.append((int(seed.step), float(progress)))
        return draw(num_images, seed, progress, with_partners)

    model.draw = watched
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


@pytest.mark.parametrize("count", [pytest.param(3, marks=pytest.mark.slow), 9])
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


def trained_in(dtype):
    model = tiny.model(backbone="tiny_4", input_shape=tiny.SHAPE, l2=3e-4, dtype=dtype)
    return model, model.fit(dataset(), epochs=2, verbose=0).history["loss"]


@pytest.fixture(scope="module")
def losses_in_float32():
    return trained_in("float32")[1]


# float16 has loss scaling besides
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains(dtype, losses_in_float32, tmp_path):
    model, losses = trained_in(dtype)
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
@pytest.mark.parametrize("sharpness", [None, SAM(0.05)])
def test_xla_takes_the_same_steps(sharpness):
    """With the same draws: TensorFlow's XLA draws by another algorithm."""
    histories = []
    for jit_compile in (False, True):
        model = tiny.model(backbone="wrn10_1", input_shape=tiny.SHAPE, l2=3e-4)
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), jit_compile=jit_compile, sharpness=sharpness)
        assert model.jit_compile == jit_compile
        drawn = model.draw(4, StepSeed(model.seed, 0))
        model.draw = lambda *_, drawn=drawn: drawn
        histories.append(model.fit(dataset(), epochs=3, verbose=0, validation_data=dataset()).history)
    for name, series in histories[0].items():
        np.testing.assert_allclose(histories[1][name], series, rtol=2e-3, err_msg=name)


@pytest.mark.slow
def test_xla_draws_what_a_step_needs():
    model = tiny.model(batch_repetitions=4, num_members=3, augmentation=None)
    x = np.arange(8, dtype="uint8")[:, None, None, None] * np.ones((1, *tiny.SHAPE), "uint8")

    @tf.function(jit_compile=True)
    def draw(step):
        return model.make_batch((tf.constant(x), tf.constant(np.arange(8) % 5)), StepSeed(model.seed, step))

    batches = [draw(tf.constant(step)) for step in (0, 0, 1)]
    for batch in batches:
        shown = np.array(batch.images)[:, :, 0, 0, 0]
        np.testing.assert_array_equal(np.sort(shown, 0), np.repeat(np.arange(8), 4)[:, None].repeat(3, 1))
        np.testing.assert_array_equal(batch.targets, shown % 5)
        np.testing.assert_allclose(tf.reduce_sum(batch.masks, 1), np.ones((32, 8, 8, 1)), rtol=1e-5)
        np.testing.assert_allclose(tf.reduce_sum(batch.loss_weights, 1), np.full(32, 3), rtol=1e-5)
    np.testing.assert_array_equal(batches[0].images, batches[1].images)
    assert not np.array_equal(batches[0].images, batches[2].images)


# -- replicas --------------------------------------------------------------------------------------------------------


@pytest.mark.slow  # test_distribution.py compares twenty steps of two replicas with those of none
@pytest.mark.parametrize("radius", [0, 0.5])
def test_replicas_train_in_step(radius, tmp_path):
    assert tiny.script("two_replicas.py", "float32", False, radius, tmp_path / "model.keras").endswith("done\n")


@pytest.mark.slow
@pytest.mark.parametrize("radius", [0, 0.05])
@pytest.mark.parametrize(("dtype", "jit_compile"), [("float32", True), ("mixed_float16", False)])
def test_replicas_train_with_xla_and_in_float16(dtype, jit_compile, radius, tmp_path):
    assert tiny.script("two_replicas.py", dtype, jit_compile, radius, tmp_path / "model.keras").endswith("done\n")


# -- JAX -------------------------------------------------------------------------------------------------------------


def jax(path, *dtypes):
    model = start(num_members=3)
    batch = model.make_batch((tf.constant(X), tf.constant(Y), tf.linspace(0.5, 1.5, 8)), StepSeed(0, 0))
    given = {name: np.array(value) for name, value in batch._asdict().items() if value is not None}
    given["sample_weight"] = given["sample_weight"].astype("float32")
    weights = {f"weight{i}": weight for i, weight in enumerate(model.get_weights())}
    np.savez(path / "given.npz", **given, **weights)
    model.multiplexed_temperature = 1.3
    multiplexed = {f"{count}": model.predict_multiplexed(X[:count]) for count in range(1, 8)}  # before averages move
    with tf.GradientTape() as tape:
        loss = members_loss(model.loss, batch, model.member_logits(batch.images, batch.masks, training=True))
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    lines = tiny.script("jax_step.py", path / "given.npz", *dtypes, backend="jax").splitlines()
    assert float(lines[0]) == pytest.approx(float(loss), abs=1e-5)
    assert lines[-1] == "done"
    with np.load(path / "given.npz.multiplexed.npz") as found:
        for count, logits in multiplexed.items():
            np.testing.assert_allclose(found[count], logits, rtol=1e-5, atol=1e-5)
    with np.load(path / "given.npz.gradients.npz") as found:
        for index, gradient in enumerate(gradients):
            np.testing.assert_allclose(found[f"arr_{index}"], gradient, rtol=1e-4, atol=1e-4)


def test_jax_computes_the_same_loss_gradient_and_answers_and_trains_without_tensorflow(tmp_path):
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
