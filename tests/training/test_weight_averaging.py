"""Averaged weights: what is in the model and when, against a recomputation in NumPy, with batch norm's statistics."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

import mixmo_keras
from mixmo_keras.experiments import logs
from mixmo_keras.training import weight_averaging
from mixmo_keras.training.checkpoint_files import values_of

X, Y = tiny.data(40)
EPOCHS, STEPS, MOMENTUM = 3, 5, 0.8


def trained(model):
    """All that training changes: the trainable weights, then batch norm's statistics."""
    statistics = [variable for variable in model.non_trainable_variables if variable.name.startswith("moving")]
    assert len(statistics) == 2
    return [*model.trainable_variables, *statistics]


class Watch(keras.callbacks.Callback):
    """Notes the weights after every step, when an epoch begins, and in validation. Behind the callback that swaps."""

    def __init__(self):
        super().__init__()
        self.steps, self.begun, self.validated, self.ended = [], [], [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.begun.append(values_of(trained(self.model)))

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(values_of(trained(self.model)))

    def on_test_batch_end(self, batch, logs=None):
        self.validated.append(values_of(trained(self.model)))

    def on_epoch_end(self, epoch, logs=None):
        self.ended.append(values_of(trained(self.model)))


def compiled(**options):
    model = tiny.model(learning_rate=None)
    model.compile(keras.optimizers.SGD(0.1, 0.9, use_ema=True, ema_momentum=MOMENTUM, **options))
    return model


def fit(model, *callbacks, epochs=EPOCHS):
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    return model.fit(
        data, epochs=epochs, validation_data=(X, Y), validation_batch_size=40, verbose=0, callbacks=callbacks
    )


def averages(steps, accumulation=1):
    """After every step, w̄ ← m·w̄ + (1 − m)·w, which begins with the weights until the first update is done."""
    average: list[np.ndarray] = []
    for number, weights in enumerate(steps):
        momentum = MOMENTUM if number >= accumulation else 0.0
        now = [weight.astype("float64") for weight in weights]
        pairs = zip(average or now, now, strict=True)
        average = [momentum * before + (1 - momentum) * after for before, after in pairs]
        yield average


def assert_close(values, expected):
    for value, one in zip(values, expected, strict=True):
        np.testing.assert_allclose(value, one, rtol=1e-5, atol=1e-6)


_ACCUMULATED = pytest.param(dict(gradient_accumulation_steps=2), marks=pytest.mark.slow)


@pytest.mark.parametrize("options", [{}, _ACCUMULATED])
def test_weights_and_statistics_against_numpy(options, tmp_path):
    model, watch = compiled(**options), Watch()
    writers = logs.callbacks(tmp_path, [], moving_average=True)  # as a recipe has them, best.keras among them
    history = fit(model, *writers[:-1], watch, writers[-1]).history
    model.save(tmp_path / "last.keras")

    expected = list(averages(watch.steps, options.get("gradient_accumulation_steps", 1)))[STEPS - 1 :: STEPS]
    for epoch in range(EPOCHS):
        assert_close(watch.validated[epoch], expected[epoch])
        assert tiny.equal_weights(watch.ended[epoch], watch.validated[epoch])
        if epoch:  # training went on from the weights as they were, to the last bit
            assert tiny.equal_weights(watch.begun[epoch], watch.steps[STEPS * epoch - 1])
    assert tiny.equal_weights(values_of(trained(model)), watch.ended[-1])

    # statistics as they are belong to other weights: they differ from the averages, and the predictions by far more
    *_, mean, variance = watch.steps[-1]
    *_, mean_of_average, variance_of_average = watch.ended[-1]
    assert np.abs(mean - mean_of_average).max() > 1e-2
    assert np.abs(variance - variance_of_average).max() > 1e-2

    best = int(np.argmax(history["val_accuracy"]))
    for name, epoch in (("last", EPOCHS - 1), ("best", best)):
        loaded = keras.models.load_model(tmp_path / f"{name}.keras")
        assert tiny.equal_weights(values_of(trained(loaded)), watch.ended[epoch])
        loss, accuracy = loaded.evaluate(X, Y, batch_size=40, verbose=0)
        assert (loss, accuracy) == pytest.approx((history["val_loss"][epoch], history["val_accuracy"][epoch]), rel=1e-5)
        # the optimizer's averages came with it, those of the statistics too
        assert len(loaded.optimizer.variables) == len(model.optimizer.variables)
    named = [variable for variable in model.optimizer.variables if variable.name == "statistic_average"]
    assert_close(values_of(named), expected[-1][-2:])


@pytest.mark.slow  # why there is a callback of our own; what it does is tested above
def test_what_keras_leaves_out():
    """The same run with Keras' callback: the same averaged weights, with the statistics of those that train."""
    ours, keras_own = compiled(), compiled()
    losses = [
        fit(model, callback).history["val_loss"]
        for model, callback in (
            (ours, mixmo_keras.SwapAveragedWeights()),
            (keras_own, keras.callbacks.SwapEMAWeights(swap_on_epoch=True)),
        )
    ]
    assert_close(values_of(ours.trainable_variables), values_of(keras_own.trainable_variables))
    moving = [values_of(trained(model))[-2:] for model in (ours, keras_own)]
    assert min(np.abs(a - b).max() for a, b in zip(*moving, strict=True)) > 1e-2
    assert np.abs(np.subtract(*losses)).max() > 1e-3
    predicted = [model.predict(X, verbose=0) for model in (ours, keras_own)]
    assert np.abs(predicted[0] - predicted[1]).max() > 1e-2


class Stop(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch == 1


@pytest.mark.slow
def test_a_run_that_is_stopped_early_ends_with_the_averages():
    model, watch = compiled(), Watch()
    fit(model, mixmo_keras.SwapAveragedWeights(), watch, Stop(), epochs=9)
    assert len(watch.ended) == 2
    assert tiny.equal_weights(values_of(trained(model)), watch.ended[-1])
    # and a second `fit` goes on from them
    again = Watch()
    fit(model, mixmo_keras.SwapAveragedWeights(), again, epochs=1)
    assert tiny.equal_weights(again.begun[0], watch.ended[-1])


def test_evaluation_outside_of_fit():
    model = compiled()
    swap = mixmo_keras.SwapAveragedWeights()
    before = model.get_weights()
    model.evaluate(X, Y, verbose=0, callbacks=[swap])  # nothing is averaged yet
    assert tiny.equal_weights(before, model)


def test_without_averages_nothing_is_kept_and_the_callback_says_so():
    model = tiny.model()
    model.build_optimizer()
    assert not [variable for variable in model.optimizer.variables if variable.name == "statistic_average"]
    with pytest.raises(ValueError, match="SwapAveragedWeights needs an optimizer that averages weights"):
        fit(model, mixmo_keras.SwapAveragedWeights())
    with pytest.raises(ValueError, match="needs an optimizer that averages weights"):
        model.evaluate(X, Y, verbose=0, callbacks=[mixmo_keras.SwapAveragedWeights()])


# float16 has an optimizer within its optimizer, bfloat16 has not
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)])
def test_in_mixed_precision(dtype, tmp_path):
    model = mixmo_keras.CutMixMo(
        "tiny_4", num_classes=5, input_shape=tiny.SHAPE, augmentation=None, seed=0, dtype=dtype
    )
    model.compile(keras.optimizers.SGD(0.01, use_ema=True, ema_momentum=MOMENTUM))
    model.fit(
        X, Y, batch_size=8, epochs=2, validation_data=(X, Y), verbose=0, callbacks=[mixmo_keras.SwapAveragedWeights()]
    )
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    model.save(tmp_path / "model.keras")
    assert tiny.equal_weights(keras.models.load_model(tmp_path / "model.keras"), model)


@pytest.mark.slow
def test_the_mean_since_a_share_of_training(tmp_path):
    """After 0.4 of fifteen steps: before, the average is the weights as they are."""
    model, watch = tiny.model(learning_rate=None), Watch()
    model.compile(keras.optimizers.SGD(0.1, 0.9, use_ema=True), average_from=0.4)
    fit(model, mixmo_keras.SwapAveragedWeights(), watch)
    assert_close(watch.ended[0], watch.steps[STEPS - 1])
    for epoch in (1, 2):
        averaged = [np.mean(of_steps, axis=0) for of_steps in zip(*watch.steps[6 : STEPS * (epoch + 1)], strict=True)]
        assert_close(watch.ended[epoch], averaged)
    assert model.optimizer.ema_momentum == keras.optimizers.SGD(use_ema=True).ema_momentum  # its own again
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    assert copy.average_from == 0.4
    assert tiny.equal_weights(copy, model)


def test_replicas_that_update_in_turn_leave_the_optimizer_its_own_momentum():
    model = tiny.model()
    model.compile(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9), average_from=0.5)
    first, second = (weight_averaging.averaging_by(model, momentum) for momentum in (0.1, 0.2))
    first.__enter__()
    second.__enter__()  # while the first replica waits for the second one's gradients
    assert model.optimizer.ema_momentum == 0.2
    first.__exit__(None, None, None)
    assert model.optimizer.ema_momentum == 0.2
    second.__exit__(None, None, None)
    assert model.optimizer.ema_momentum == 0.9


@pytest.mark.slow
def test_the_mean_under_two_replicas():
    assert tiny.script("mean_under_replicas.py").endswith("done\n")


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # Keras' way of seeing the end
def test_the_mean_is_of_the_steps_that_this_optimizer_averaged():
    """Begun behind `average_from`, and in an epoch of unknown length."""
    model, watch = tiny.model(learning_rate=None), Watch()
    model.compile(keras.optimizers.SGD(0.1, 0.9, use_ema=True), average_from=0.5)
    swap = mixmo_keras.SwapAveragedWeights()
    model.fit(X, Y, batch_size=8, shuffle=False, initial_epoch=8, epochs=9, verbose=0, callbacks=[swap, watch])
    assert_close(watch.ended[0], [np.mean(values, axis=0) for values in zip(*watch.steps, strict=True)])
    unknown, again = (
        tf.data.Dataset.from_generator(
            lambda: ((X[8 * i : 8 * i + 8], Y[8 * i : 8 * i + 8]) for i in range(STEPS)),
            output_signature=(tf.TensorSpec((8, *tiny.SHAPE), "uint8"), tf.TensorSpec((8,), "int64")),
        ),
        Watch(),
    )
    model.compile(keras.optimizers.SGD(0.1, 0.9, use_ema=True), average_from=0.5)
    model.fit(unknown, epochs=1, verbose=0, callbacks=[swap, again])
    assert_close(again.ended[0], [np.mean(values, axis=0) for values in zip(*again.steps, strict=True)])
