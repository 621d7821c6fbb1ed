"""Lookahead against a recomputation in NumPy: weights and batch norm's statistics after each step."""

import keras
import numpy as np
import pytest
import tiny
from keras import ops

import mixmo_keras
from mixmo_keras import Lookahead
from mixmo_keras.training import weight_averaging
from mixmo_keras.training.checkpoint_files import values_of

X, Y = tiny.data(16)
EVERY, EPOCHS, STEPS = 3, 4, 2


def everything(model):
    return values_of([*model.trainable_variables, *weight_averaging.statistics(model)])


class Steps(keras.callbacks.Callback):
    """Notes the weights after each step."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def on_train_batch_end(self, batch, logs=None):
        self.weights.append(everything(self.model))


def compiled(lookahead, **options):
    model = tiny.model()
    model.compile(keras.optimizers.SGD(0.1), lookahead=lookahead, **options)
    return model


def fit(model, *callbacks, **options):
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks, **{"epochs": EPOCHS, **options})


def test_by_hand():
    lookahead = Lookahead(every=2, decay=0.5)
    # third of training: kept = 0.5²/27; slow = 1·kept + 2·(1 − kept)
    kept = 0.25 / 27

    def averaged(number, progress, ends=False):
        averages = lookahead.averaged(ops.array(2.0), ops.array(1.0), number, ops.array(progress), ends)
        return [float(one) for one in averages]

    assert averaged(4, 1 / 3) == pytest.approx([kept + 2 * (1 - kept)] * 2)
    assert averaged(2, 1 / 3) == [2, 2]  # the first time there is nothing to average with
    assert averaged(3, 0.5) == [2, 1]  # no second step, nor the end
    assert averaged(3, 1.0, ends=True) == [1, 1]  # the end


def test_steps_against_numpy():
    """Where nothing is averaged a step is the plain one from the same weights; where something is, it is as said."""
    model, watch = compiled(Lookahead(EVERY)), Steps()
    begin = everything(model)
    fit(model, watch)
    plain = tiny.model()
    plain.compile(keras.optimizers.SGD(0.1))
    plain.build_optimizer()
    slow = None
    for number in range(1, EPOCHS * STEPS + 1):
        before = begin if number == 1 else watch.weights[number - 2]
        for variable, value in zip(
            [*plain.trainable_variables, *weight_averaging.statistics(plain)], before, strict=True
        ):
            variable.assign(value)
        first = number % STEPS == 1
        plain.optimizer.iterations.assign(number - 1)
        plain.train_on_batch(*(values[:8] if first else values[8:] for values in (X, Y)))
        moved = everything(plain)
        if number % EVERY == 0:
            kept = 0.95**EVERY * (number / (EPOCHS * STEPS)) ** 3 if slow else 0
            slow = [kept * old + (1 - kept) * new for old, new in zip(slow or moved, moved, strict=True)]
            moved = slow
        elif number == EPOCHS * STEPS:
            moved = slow
        for value, expected in zip(watch.weights[number - 1], moved, strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)


def test_a_saved_model_goes_on_as_if_it_had_not_been_saved(tmp_path):
    whole, parts = compiled(Lookahead(EVERY)), compiled(Lookahead(EVERY))
    fit(whole)
    with pytest.raises(KeyboardInterrupt):
        fit(parts, tiny.Die(2 * STEPS))
    parts.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.lookahead == Lookahead(EVERY)
    fit(loaded, initial_epoch=2)
    for value, expected in zip(everything(loaded), everything(whole), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


def test_rates_by_name():
    """A step of SGD moves weights by their shares of the rate; those of share 0 stay."""
    models = [tiny.model(augmentation=None, learning_rate=None) for _ in range(2)]
    rates = {"beta": 4.0, "heads/dense/kernel": 0.0}
    for model, of_model in zip(models, (None, rates), strict=True):
        before = values_of(model.trainable_weights)
        model.compile(keras.optimizers.SGD(0.1), rates=of_model)
        model.train_on_batch(X, Y)
        model.moved = [now - then for now, then in zip(values_of(model.trainable_weights), before, strict=True)]
    for weight, plain, own in zip(models[0].trainable_weights, models[0].moved, models[1].moved, strict=True):
        share = 4.0 if weight.name == "beta" else 0.0 if weight.path == "heads/dense/kernel" else 1.0
        np.testing.assert_allclose(own, share * plain, rtol=1e-4, atol=1e-6)
        assert np.abs(plain).max() > 0


def test_rates_multiply_with_those_of_a_trained_core_and_are_saved(tmp_path):
    model = tiny.model()
    model.compile(keras.optimizers.SGD(0.1), rates={"beta": 4.0}, fine_tuning=mixmo_keras.FineTuning(0.5))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.rates == {"beta": 4.0}
    assert loaded.fine_tuning == mixmo_keras.FineTuning(0.5)
