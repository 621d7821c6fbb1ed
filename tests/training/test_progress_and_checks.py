"""`fit` tells the step how far training is; the step tells `fit` what is wrong."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from keras import ops

from mixmo_keras import schedules
from mixmo_keras.tasks import Classification
from mixmo_keras.training.incidents import _IMAGE, _LABEL, _LOSS, Incidents
from mixmo_keras.training.progress import Clock

X, Y = tiny.data()
SCHEDULE = schedules.StepDecay(1e-3, warmup=0.25, milestones=(0.5, 0.75), rate=0.1)


def dataset(x=X, y=Y, known=True):
    """Two images a batch; of a length `fit` can't know, if asked for."""
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(2)
    return batches if known else batches.filter(lambda x, y: True)


class Record(keras.callbacks.Callback):
    """Progress, learning rate and epoch of every step, read before it."""

    def __init__(self):
        super().__init__()
        self.progress, self.rates, self.epochs = [], [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.progress.append(float(self.model.clock.progress(self.model.step_counter.value)))
        self.rates.append(float(ops.convert_to_numpy(self.model.optimizer.learning_rate)))
        self.epochs.append(int(self.model.clock.epoch))


def recorded(model, data=None, **options):
    record = Record()
    data = dataset() if data is None else data
    model.fit(data, verbose=0, callbacks=[record], **options)
    return record


def scheduled(**options):
    model = tiny.model(learning_rate=None, **options)
    model.compile(keras.optimizers.SGD(SCHEDULE))
    return model


@pytest.fixture(scope="module")
def network():
    """For what raises or warns and leaves the model usable: traced once."""
    return scheduled()


def test_progress_and_rate_follow_the_epochs(network):
    record = recorded(network, epochs=3)
    np.testing.assert_allclose(record.progress, np.arange(12) / 12, atol=1e-6)
    # in the middle of each step: warm-up over the first three, ×0.1 from the seventh, ×0.01 from the tenth
    by_hand = [1 / 6, 1 / 2, 5 / 6, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01]
    np.testing.assert_allclose(record.rates, np.array(by_hand) * 1e-3, rtol=1e-5)


def test_a_second_fit_starts_over(network):
    record = recorded(network, epochs=1)
    np.testing.assert_allclose(record.progress, np.arange(4) / 4, atol=1e-6)


def test_initial_epoch(network):
    record = recorded(network, epochs=3, initial_epoch=1)
    np.testing.assert_allclose(record.progress, np.arange(4, 12) / 12, atol=1e-6)


def test_the_step_knows_the_epoch(network):
    assert recorded(network, epochs=4, initial_epoch=2).epochs == [2] * 4 + [3] * 4


def test_a_clock_of_an_earlier_file_counts_no_epochs():
    clock = Clock()
    clock.epoch.assign(7)
    clock.load_own_variables({"0": np.array([0.5, 4, 0.125], "float32")})
    assert float(clock.progress(4)) == 0.5
    assert int(clock.epoch) == 7  # `fit` sets it


def test_steps_per_epoch(network):
    record = recorded(network, dataset().repeat(), epochs=2, steps_per_epoch=3)
    np.testing.assert_allclose(record.progress, np.arange(6) / 6, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # Keras' way of seeing the end
def test_an_unknown_length_is_learnt_in_the_first_epoch(network):
    record = recorded(network, dataset(known=False), epochs=3)
    # the first epoch stands at its middle, so that a warm-up has a rate; each asks for one batch more than there are
    by_hand = [*[1 / 6] * 5, *np.arange(4, 9) / 12, *np.arange(8, 13) / 12]
    np.testing.assert_allclose(record.progress, by_hand, atol=1e-6)


@pytest.mark.usefixtures("eagerly")
def test_arrays_and_validation(network):
    record = Record()
    options = dict(batch_size=3, epochs=2, validation_split=0.25, validation_batch_size=1)
    network.fit(X, Y, verbose=0, callbacks=[record], **options)  # six images: two steps an epoch
    np.testing.assert_allclose(record.progress, np.arange(4) / 4, atol=1e-6)


def test_accumulated_gradients_count_steps():
    model = tiny.model(learning_rate=None)
    model.compile(keras.optimizers.SGD(SCHEDULE, gradient_accumulation_steps=2))
    record = recorded(model, epochs=1)
    np.testing.assert_allclose(record.progress, np.arange(4) / 4, atol=1e-6)
    assert int(model.optimizer.iterations) == 2  # updates


@pytest.mark.usefixtures("eagerly")
def test_loss_scaling_has_the_same_progress():
    model = tiny.model(learning_rate=None, backbone="wrn10_1", input_shape=tiny.SHAPE, dtype="mixed_float16")
    model.compile(keras.optimizers.SGD(SCHEDULE))
    assert type(model.optimizer).__name__ == "LossScaleOptimizer"
    record = recorded(model, epochs=1)
    np.testing.assert_allclose(record.progress, np.arange(4) / 4, atol=1e-6)
    assert len(set(record.rates)) == 4


def test_before_any_fit_there_is_no_warmup_and_the_mask_has_its_probability():
    assert float(Clock().progress(5)) == -1
    model = scheduled()
    before = model.get_weights()
    model.train_on_batch(X, Y)
    moved = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert np.mean(moved) > 0.5
    assert float(ops.convert_to_numpy(model.optimizer.learning_rate)) == pytest.approx(1e-3)


# -- what the step notes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("noted", "kind", "expected"),
    [
        (dict(loss=1.0), _LOSS, None),
        (dict(loss=np.nan), _LOSS, (7, 0)),
        (dict(loss=-np.inf), _LOSS, (7, 0)),
        (dict(labels=[0, 4]), _LABEL, None),
        (dict(labels=[[0], [4]]), _LABEL, None),
        (dict(labels=[1, 5]), _LABEL, (1, 5)),
        (dict(labels=[-1, 3]), _LABEL, (-1, 3)),
        (dict(labels=[0.5, 3]), _LABEL, (0.5, 3)),
        (dict(labels=[np.nan, 3]), _LABEL, (np.nan, np.nan)),
        (dict(images=[0.0, 255.0]), _IMAGE, None),
        (dict(images=[3, 4]), _IMAGE, None),
        (dict(images=[0.0, 1.0]), _IMAGE, (0, 1)),
        (dict(images=[-1.0, 200.0]), _IMAGE, (-1, 200)),
        (dict(images=[-0.1, 255.0]), _IMAGE, None),
        (dict(images=[0.0, 0.0]), _IMAGE, None),
        (dict(images=[0.0, 256.0]), _IMAGE, (0, 256)),
        (dict(images=np.array([0, 255], "uint8")), _IMAGE, None),
    ],
)
def test_notes(noted, kind, expected):
    incidents = Incidents()
    noted = {name: ops.convert_to_tensor(np.asarray(value)) for name, value in noted.items()}
    incidents.note(7, Classification(5), **noted)
    incidents.note(8, Classification(5), loss=ops.convert_to_tensor(np.float32(1)))  # what was noted stays
    if expected is None:
        assert incidents.incident(kind) is None
    else:
        np.testing.assert_allclose(incidents.incident(kind), expected, rtol=1e-6)
    assert all(incidents.incident(other) is None for other in {_LOSS, _LABEL, _IMAGE} - {kind})
    incidents.clear()
    assert incidents.incident(kind) is None


def test_the_first_incident_stays():
    incidents = Incidents()
    for step in (3, 4):
        incidents.note(step, Classification(5), loss=ops.convert_to_tensor(np.nan))
    assert incidents.incident(_LOSS) == (3, 0)


# -- what the user sees ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (Y + 5, "from 0 to 4 for num_classes=5; the data holds labels from 5 to 9"),
        (Y - 1, "the data holds labels from -1 to 3"),
        ((Y + 5)[:, None].astype("uint8"), "the data holds labels from 5 to 9"),
        (Y + 0.5, "Labels must be integers .* from 0.5 to 4.5"),
        (np.full(8, np.nan), "from nan to nan"),
    ],
)
def test_labels_in_arrays_are_checked_before_the_first_step(network, labels, message):
    for call in (network.fit, network.evaluate):
        before = network.get_weights()
        with pytest.raises(ValueError, match=message):
            call(X, labels, verbose=0)
        assert tiny.equal_weights(before, network)


@pytest.mark.parametrize("late", [False, True], ids=["first batch", "last batch"])
def test_labels_in_a_dataset_are_checked_by_the_step(network, late):
    bad = dataset(y=np.where(np.arange(8) == (7 if late else 0), 17, Y))
    for call in (network.fit, network.evaluate):
        with pytest.raises(ValueError, match=r"Labels must be integers from 0 to 4.* to 17"):
            call(bad, verbose=0)
    network.evaluate(dataset(), verbose=0)  # and the error is not repeated for good data


def test_labels_of_the_validation_data(network):
    with pytest.raises(ValueError, match="labels from 5 to 9"):
        network.fit(dataset(), validation_data=(X, Y + 5), verbose=0)
    with pytest.raises(ValueError, match="labels from"):
        network.fit(dataset(), validation_data=dataset(y=Y + 5), verbose=0)


def empty(known: bool):
    return dataset(known=known).take(0) if known else dataset(known=False).filter(lambda x, y: False)


@pytest.mark.parametrize(
    ("data", "fit_message", "evaluate_message"),
    [
        (
            (X[:0], Y[:0]),
            r"The dataset is empty: `fit` got images of shape \(0, 8, 8, 3\)",
            "is empty: `evaluate` got images",
        ),
        ((empty(True),), "The dataset is empty: `fit` got a tf.data.Dataset of no batches", "is empty: `evaluate` got"),
        ((empty(False),), "training dataset is empty: `fit` saw no batch in epoch 1", "empty: `evaluate` saw no batch"),
    ],
    ids=["arrays", "dataset", "dataset of unknown length"],
)
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_empty_data(network, data, fit_message, evaluate_message):
    with pytest.raises(ValueError, match=fit_message):
        network.fit(*data, verbose=0)
    with pytest.raises(ValueError, match=evaluate_message):
        network.evaluate(*data, verbose=0)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_empty_validation_data(network):
    for data in ((X[:0], Y[:0]), empty(True)):
        with pytest.raises(ValueError, match="The validation dataset is empty: `fit` got"):
            network.fit(dataset(), validation_data=data, verbose=0)
    with pytest.raises(ValueError, match="dataset to evaluate on is empty"):
        network.fit(dataset(), validation_data=empty(False), verbose=0)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("scale", [1 / 255, 2.0])
def test_odd_pixels_warn_once_in_fit_and_in_evaluate(network, scale):
    odd = dataset(X * np.float32(scale))
    message = r"expects raw pixels, 0 to 255, .* values run from .* or `normalization=None` to turn normalisation off"
    for call, options in ((network.fit, dict(epochs=2, validation_data=odd)), (network.evaluate, {})):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call(odd, verbose=0, **options)
        ours = [str(warning.message) for warning in caught if "raw pixels" in str(warning.message)]
        assert len(ours) == 1
        with pytest.warns(UserWarning, match=message):
            call(odd, verbose=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*raw pixels")
        network.evaluate(dataset(), verbose=0)  # forgotten
        network.fit(dataset(), verbose=0)
        network.evaluate(dataset(X * 0), verbose=0)  # a black batch
        network.evaluate(dataset(X * np.float32(1.0000001)), verbose=0)  # what resizing overshoots by


@pytest.mark.usefixtures("eagerly")
def test_any_pixels_will_do_without_normalization():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*raw pixels")
        tiny.model(normalization=None, augmentation=None).fit(dataset(X / np.float32(255) - 0.5), verbose=0)


def test_a_loss_gone_nan_stops_training_and_names_the_step():
    bad = X.astype("float32")
    bad[2] = 1e38  # in the second batch: finite, but no convolution of it is
    model = tiny.model(normalization=None, augmentation=None, batch_repetitions=1)
    with pytest.raises(FloatingPointError, match=r"loss became NaN or infinite at step 2 \(learning rate now 0.1\)"):
        model.fit(dataset(bad), verbose=0)


def test_a_rate_too_high_stops_training():
    # on CPUs ReLU makes 0 of NaN: the loss alone would stay finite while weights are lost
    model = tiny.model(learning_rate=1e30)
    with pytest.raises(FloatingPointError, match="gradient clipping help"):
        model.fit(dataset(), epochs=5, verbose=0)


def test_a_callback_list_is_refused(network):
    callbacks = keras.callbacks.CallbackList([], model=network)
    for call in (network.fit, network.evaluate):
        with pytest.raises(ValueError, match=r"`callbacks` must be a list of callbacks, .* got a CallbackList"):
            call(X, Y, verbose=0, callbacks=callbacks)


def test_one_callback_needs_no_list(network):
    record = Record()
    network.fit(dataset(), verbose=0, callbacks=record)
    assert len(record.progress) == 4
