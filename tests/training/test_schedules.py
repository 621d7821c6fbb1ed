"""Learning rates at given progress, worked by hand; `test_progress_and_checks.py` has them inside `fit`."""

import keras
import numpy as np
import pytest
import tiny
from keras import ops

import mixmo_keras
from mixmo_keras.training.progress import Clock
from mixmo_keras.training.schedules import Cosine, ProgressSchedule, StepDecay, Triangle


def at(schedule, progress) -> float:
    return float(schedule.at(progress))


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0, 0.0),
        (0.25, 0.0125),  # a quarter of the one warm-up epoch
        (0.5, 0.025),
        (1, 0.05),
        (99.99, 0.05),
        (100, 0.005),
        (199.99, 0.005),
        (200, 0.0005),
        (224.99, 0.0005),
        (225, 0.00005),
        (300, 0.00005),
    ],
)
def test_step_decay_is_the_papers(epoch, expected):
    assert at(StepDecay(0.05), epoch / 300) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("epochs", "steps"), [(300, 782), (300, 1), (7, 3), (1200, 1000)])
def test_milestones_fall_between_epochs_whatever_the_rounding(epochs, steps):
    """The rate changes with the first step of the milestone's epoch, by float32 progress, in every epoch."""
    clock = Clock()
    milestones = (1, epochs // 2, epochs - 1)
    schedule = StepDecay(1.0, 0.0, [m / epochs for m in milestones], 0.5).attached(clock.progress)
    for epoch in milestones:
        for epoch_now, step, expected in ((epoch - 1, steps - 1, 0), (epoch, 0, 1)):  # the last step before, the first
            first = epoch_now * steps
            clock.reading.assign(np.array([epoch_now / epochs, first, 1 / (epochs * steps)], "float32"))
            passed = milestones.index(epoch) + expected
            assert float(schedule(first + step)) == pytest.approx(0.5**passed)


def test_cosine_by_hand():
    schedule = Cosine(2.0, warmup=0.2)
    # after warm-up: 1 + cos(π·done) at done = 0, ¼, ½, 1
    values = [at(schedule, progress) for progress in (0, 0.1, 0.2, 0.4, 0.6, 1.0)]
    np.testing.assert_allclose(values, [0, 1, 2, 1 + np.sqrt(0.5), 1, 0], atol=1e-6)


def test_triangle_by_hand():
    schedule = Triangle(2.0, start=0.2, peak=0.25, end=0.1)
    # 0.2 to 1 over the first quarter, 1 to 0.1 over the rest; before any `fit` the base
    values = [at(schedule, progress) for progress in (0, 0.125, 0.25, 0.625, 1.0, -1)]
    np.testing.assert_allclose(values, [0.4, 1.2, 2, 1.1, 0.2, 2], atol=1e-6)


def test_no_warmup_starts_at_base():
    assert at(StepDecay(0.3, warmup=0), 0) == pytest.approx(0.3)
    assert at(Cosine(0.3, warmup=0), 0) == pytest.approx(0.3)


def test_a_warmups_first_step_has_a_rate_and_no_fit_means_base():
    schedule = StepDecay(1.0, warmup=0.5).attached(lambda step: step / 4)  # 4 steps in all, 2 of warm-up
    # progress 0.125, 0.375 and 0.625 with the first milestone at 100/300
    np.testing.assert_allclose([float(schedule(step)) for step in range(3)], [0.25, 0.075, 0.1], rtol=1e-6)
    assert float(StepDecay(0.05).attached(Clock().progress)(12)) == pytest.approx(0.05)


@pytest.mark.parametrize("schedule", [StepDecay(0.1, 0.02, [0.5, 0.75], 0.2), Cosine(0.2, 0.1)])
def test_round_trip(schedule):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert type(copy) is type(schedule)
    assert copy.get_config() == schedule.get_config()
    for progress in np.linspace(0, 1, 9):
        assert at(copy, progress) == at(schedule, progress)


def test_a_schedule_serves_two_models():
    schedule = StepDecay(0.1, warmup=0)
    models = [tiny.model(learning_rate=None) for _ in range(2)]
    for model in models:
        model.compile(keras.optimizers.SGD(schedule))
    models[0].clock.reading.assign(np.array([0.5, 0, 0], "float32"))  # only the first is half done: 100/300 is past
    rates = [float(ops.convert_to_numpy(model.optimizer.learning_rate)) for model in models]
    np.testing.assert_allclose(rates, [0.01, 0.1], rtol=1e-6)


def test_a_schedule_of_no_model_has_no_progress():
    with pytest.raises(
        ValueError, match="StepDecay follows the progress of `fit`: compile a mixmo_keras model with it"
    ):
        StepDecay(1)(0)


def test_a_shape_of_ones_own_is_one_function():
    class Linear(ProgressSchedule):
        def factor(self, progress):
            return 1 - progress

    model = tiny.model(learning_rate=None)
    model.compile(keras.optimizers.SGD(Linear(0.4)))
    model.fit(*tiny.data(), batch_size=4, verbose=0)  # two steps: the clock stands at its end, 2.5/2 clipped to 1
    assert float(ops.convert_to_numpy(model.optimizer.learning_rate)) == 0
    with pytest.raises(NotImplementedError, match="ProgressSchedule must define `factor`"):
        ProgressSchedule(0.1).at(0)
    assert mixmo_keras.schedules.Cosine is Cosine
