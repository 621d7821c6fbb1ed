"""An error, or Ctrl-C, at any point of `fit` and `evaluate`: what follows is as in a model that never had the accident."""

import keras
import numpy as np
import pytest
import tiny

from mixmo_keras import FineTuning
from mixmo_keras.training.checkpoint_files import Position, values_of
from mixmo_keras.training.checkpoints import Checkpoints
from mixmo_keras.training.weight_averaging import SwapAveragedWeights

X, Y = tiny.data()
POINTS = (
    *("on_train_begin", "on_epoch_begin", "on_train_batch_begin", "on_train_batch_end"),
    *("on_test_begin", "on_test_batch_begin", "on_test_batch_end", "on_test_end"),
    *("on_epoch_end", "on_train_end"),
)


class Accident(keras.callbacks.Callback):
    """Raises where a callback's method is called, and notes the weights that were trained so far."""

    def __init__(self, point: str, error: type[BaseException]):
        super().__init__()
        self.trained: list[np.ndarray] | None = None
        self._error = error
        setattr(self, point, self._raise)

    def on_train_batch_end(self, batch, logs=None):
        self.trained = values_of(what_trains(self.model))

    def _raise(self, *_, **__):
        if self.trained is None:
            self.trained = values_of(what_trains(self.model))
        raise self._error


def compiled(run_eagerly=True, use_ema=True):
    model = tiny.model(augmentation=None)
    optimizer = keras.optimizers.SGD(0.1, 0.9, use_ema=use_ema, ema_momentum=0.5)
    model.compile(optimizer, fine_tuning=FineTuning(0.5, frozen_epochs=1), run_eagerly=run_eagerly)
    model.build_optimizer()
    return model


def what_trains(model) -> list:
    """The variables that an accident may have changed: of the steps that were taken before it."""
    own = {id(variable) for layer in (model.clock, model.incidents) for variable in layer.variables}
    return [one for one in (*model.variables, *model.optimizer.variables) if id(one) not in own]


def follow(model) -> list:
    """What becomes of a model: figures of a step, of a `fit` with other validation data, and of `evaluate`."""
    step = model.train_on_batch(X[:4], Y[:4])
    history = model.fit(X, Y, batch_size=8, validation_data=(X[:3], Y[:3]), shuffle=False, verbose=0).history
    return [step, history, model.evaluate(X, Y, verbose=0), *values_of(what_trains(model))]


@pytest.mark.parametrize("error", [KeyboardInterrupt, pytest.param(OSError, marks=pytest.mark.slow)])
@pytest.mark.parametrize("point", POINTS)
def test_what_follows_an_accident_is_what_a_model_without_it_does(point, error, tmp_path):
    model = compiled()
    start = values_of(what_trains(model))
    accident, checkpoints = Accident(point, error), Checkpoints(tmp_path)
    callbacks = [SwapAveragedWeights(), accident, checkpoints]
    with pytest.raises(error):
        model.fit(X, Y, batch_size=4, epochs=2, validation_data=(X, Y), verbose=0, callbacks=callbacks)
    assert not model.core_frozen
    assert model.steps_to_skip == 0
    seconds = checkpoints.seconds
    if point != "on_train_end":  # the weights that train, and not their average
        assert tiny.equal_weights(accident.trained, values_of(what_trains(model)))
    for variable, value in zip(what_trains(model), start, strict=True):
        variable.assign(value)
    for ours, theirs in zip(follow(model), follow(compiled()), strict=True):
        np.testing.assert_equal(ours, theirs)
    assert checkpoints.seconds == seconds  # its clock stands still


def test_a_core_that_was_frozen_trains_again():
    models = [compiled(run_eagerly=False, use_ema=False) for _ in range(2)]
    start = values_of(what_trains(models[0]))
    with pytest.raises(KeyboardInterrupt):
        models[0].fit(X, Y, batch_size=4, verbose=0, callbacks=[tiny.Die(1)])
    for variable, value in zip(what_trains(models[0]), start, strict=True):
        variable.assign(value)
    for model in models:
        model.compile(keras.optimizers.SGD(0.1))  # without fine-tuning
        model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    assert tiny.equal_weights(*models)


@pytest.mark.usefixtures("eagerly")
def test_averaged_weights_leave_the_model_where_evaluation_fails():
    model = compiled()
    model.fit(X, Y, verbose=0, callbacks=[SwapAveragedWeights()])
    for weight in model.trainable_weights:
        weight.assign(weight + 1)
    before = values_of(model.weights)
    with pytest.raises(KeyboardInterrupt):
        model.evaluate(X, Y, verbose=0, callbacks=[SwapAveragedWeights(), Accident("on_test_end", KeyboardInterrupt)])
    assert tiny.equal_weights(before, values_of(model.weights))


@pytest.mark.usefixtures("eagerly")
def test_averaged_weights_stay_where_training_had_ended():
    models = [compiled() for _ in range(2)]
    models[0].fit(X, Y, verbose=0, shuffle=False, callbacks=[SwapAveragedWeights()])
    callbacks = [Accident("on_train_end", KeyboardInterrupt), SwapAveragedWeights()]
    with pytest.raises(KeyboardInterrupt):
        models[1].fit(X, Y, verbose=0, shuffle=False, callbacks=callbacks)
    weights = [[weight.numpy() for weight in model.trainable_weights] for model in models]
    assert tiny.equal_weights(*weights)


@pytest.mark.usefixtures("eagerly")
def test_a_restored_position_outlasts_an_accident_before_its_first_step(tmp_path):
    def begun(folder):
        model = compiled(use_ema=False)
        with pytest.raises(KeyboardInterrupt):
            fit(model, [Checkpoints(folder, every_steps=1), tiny.Die(3)])
        model, checkpoints = compiled(use_ema=False), Checkpoints(folder, every_steps=1)
        assert checkpoints.restore(model) == Position(1, 1)
        return model, checkpoints

    def fit(model, callbacks, epoch=0):
        data = dict(batch_size=4, epochs=2, initial_epoch=epoch, shuffle=False, verbose=0)
        return model.fit(X, Y, callbacks=callbacks, **data).history

    model, checkpoints = begun(tmp_path / "a")
    history = fit(model, [checkpoints], epoch=1)
    other, checkpoints = begun(tmp_path / "b")
    with pytest.raises(ValueError, match="batch_size"):
        other.fit(X, Y, batch_size=0)
    with pytest.raises(KeyboardInterrupt):
        fit(other, [checkpoints, Accident("on_train_batch_begin", KeyboardInterrupt)], epoch=1)
    assert other.steps_to_skip == 1
    assert fit(other, [checkpoints], epoch=1) == history
    assert tiny.equal_weights(model, other)


@pytest.mark.usefixtures("eagerly")
def test_what_was_noted_of_bad_data_is_forgotten():
    model = compiled()
    accident = Accident("on_train_batch_end", KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, verbose=0, callbacks=[accident])
    assert not model.incidents.noted.numpy().any()


@pytest.mark.usefixtures("eagerly")
def test_the_epoch_of_a_backup_is_not_that_of_later_trainings(tmp_path):
    model = compiled(use_ema=False)
    backup = keras.callbacks.BackupAndRestore(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, batch_size=4, epochs=3, verbose=0, callbacks=[backup, tiny.Die(3)])
    model.fit(X, Y, batch_size=4, epochs=3, verbose=0, callbacks=[keras.callbacks.BackupAndRestore(tmp_path)])
    assert len(model.fit(X, Y, batch_size=4, epochs=2, verbose=0).history["loss"]) == 2
