"""What labels and regressions compute: losses against NumPy, mixing, weights, standardised targets."""

import keras
import numpy as np
import pytest
import tiny
from every_task import X, model
from keras import ops
from scipy import stats

from mixmo_keras import tasks
from mixmo_keras.networks.gaussians import GaussianHead, GaussianMixture

RANDOM = np.random.default_rng(0)


# -- labels --------------------------------------------------------------------------------------------------------------


def test_the_loss_of_labels_with_positive_weights():
    logits = RANDOM.normal(0, 2, (6, 3)).astype("float32")
    targets = RANDOM.random((6, 3)).astype("float32")
    sigmoid = 1 / (1 + np.exp(-logits.astype("float64")))
    weights = np.array([1.0, 2.0, 5.0])
    expected = -(weights * targets * np.log(sigmoid) + (1 - targets) * np.log(1 - sigmoid)).mean(-1)
    loss = tasks.MultiLabel(3, positive_weight=weights).loss()
    np.testing.assert_allclose(loss.call(targets, ops.convert_to_tensor(logits)), expected, rtol=1e-5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.positive_weight == (1.0, 2.0, 5.0)


def test_labels_of_mixed_images_follow_the_visible_share():
    own, partners = (ops.convert_to_tensor(RANDOM.random((2, 3, 4)), "float32") for _ in range(2))
    shares = ops.convert_to_tensor(RANDOM.random((2, 3)), "float32")
    mixed = tasks.MultiLabel(4).mix(own, partners, shares)
    expected = shares[..., None] * own + (1 - shares[..., None]) * partners
    np.testing.assert_allclose(mixed, expected, rtol=1e-6)


@pytest.mark.parametrize("msda", ["cutmix", "mixup"])
def test_labels_are_mixed_in_a_step(msda):
    y = (RANDOM.random((len(X), 2)) < 0.5).astype("int32")
    made = model(tasks.MultiLabel(2), msda=msda)
    assert np.isfinite(made.fit(X, y, verbose=0).history["loss"][0])


def test_a_class_weight_is_for_one_label():
    y = np.arange(len(X)) % 2
    made = model(tasks.Binary(), learning_rate=1e-6, num_members=1)
    plain, weighted = (
        made.fit(X, y, batch_size=24, class_weight=weight, verbose=0).history["loss"][0]
        for weight in (None, {0: 3, 1: 3})
    )
    assert weighted == pytest.approx(3 * plain, rel=1e-3)


def test_thresholds_decide_which_labels_hold():
    made = model(tasks.MultiLabel(2))
    made.average.thresholds = [0.0, 1.0]
    np.testing.assert_array_equal(made.answers(X)["labels"], np.tile([True, False], (len(X), 1)))


def test_a_temperature_for_each_label(tmp_path):
    random = np.random.default_rng(0)
    right = random.normal(0, 2, (20_000, 1, 2)).astype("float32")
    targets = (random.random((20_000, 2)) < 1 / (1 + np.exp(-right[:, 0]))).astype("float32")
    told = np.array([3.0, 0.5])  # times as far from zero as they should be
    made = model(tasks.MultiLabel(2, temperature_by_label=True), num_members=1)
    assert made.calibrate_on(right * told, targets) == 1
    np.testing.assert_allclose(made.average.label_temperatures, told, rtol=0.05)
    np.testing.assert_allclose(made.pooled(right[:5] * told), right[:5, 0], rtol=0.06)
    made.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.answers(X)["probabilities"], made.answers(X)["probabilities"])
    assert loaded.task.temperature_by_label
    loaded.average.load_own_variables({"0": 2.0, "1": [0.3, 0.4]})  # of a file before there were such temperatures
    np.testing.assert_allclose(loaded.average.thresholds, [0.3, 0.4])


def test_a_label_that_never_holds_is_warned_of():
    y = np.zeros((len(X), 2), int)
    y[:10, 0] = 1
    with pytest.warns(UserWarning, match="Label 'dog' never holds in the training data"):
        model(tasks.MultiLabel(["cat", "dog"])).fit(X, y, verbose=0)


# -- numbers -------------------------------------------------------------------------------------------------------------


def outputs(n: int = 5, num_targets: int = 2):
    return np.stack([RANDOM.normal(0, 2, (n, num_targets)), RANDOM.uniform(0.3, 4, (n, num_targets))], -1).astype(
        "float32"
    )


def test_the_loss_of_gaussians():
    predicted, y = outputs(), RANDOM.normal(0, 2, (5, 2))
    mean, deviation = predicted[..., 0], np.sqrt(predicted[..., 1])
    nll = -stats.norm.logpdf(y, mean, deviation)
    loss = tasks.GaussianNegativeLogLikelihood()
    np.testing.assert_allclose(loss.call(y, ops.convert_to_tensor(predicted)), nll.mean(-1), rtol=1e-5)
    weighted = tasks.GaussianNegativeLogLikelihood(beta=0.5)
    weighted.deviation = np.array([2.0, 0.5], "float32")
    expected = (nll * (deviation / [2.0, 0.5])).mean(-1)  # σ^(2β) of standardised targets
    np.testing.assert_allclose(weighted.call(y, ops.convert_to_tensor(predicted)), expected, rtol=1e-5)
    squared = tasks.SquaredError()
    np.testing.assert_allclose(squared.call(y, ops.convert_to_tensor(predicted)), ((y - mean) ** 2).mean(-1), rtol=1e-5)


def test_a_mixture_is_pooled_by_its_moments():
    members = outputs(12).reshape(4, 3, 2, 2)
    layer = GaussianMixture(2, temperature=2.0)
    mean, aleatoric, epistemic = np.moveaxis(ops.convert_to_numpy(layer(members)), -1, 0)
    np.testing.assert_allclose(mean, members[..., 0].mean(1), rtol=1e-5)
    np.testing.assert_allclose(aleatoric, 4 * members[..., 1].mean(1), rtol=1e-5)
    np.testing.assert_allclose(epistemic, 4 * members[..., 0].var(1), rtol=1e-4, atol=1e-5)
    layer.width = [1.0, 2.0]
    lower, upper = layer.interval(layer(members))
    np.testing.assert_allclose((upper - lower) / 2, [1.0, 2.0] * np.sqrt(aleatoric + epistemic), rtol=1e-4)


def test_heads_give_the_targets_units():
    head = GaussianHead(3, 2)
    features = RANDOM.normal(0, 1, (4, 5)).astype("float32")
    before = ops.convert_to_numpy(head(features))
    head.standardize([10.0, -1.0], [100.0, 0.1])
    after = ops.convert_to_numpy(head(features))
    np.testing.assert_allclose(after[..., 0], [10.0, -1.0] + np.array([100.0, 0.1]) * before[..., 0], rtol=1e-5)
    np.testing.assert_allclose(after[..., 1], np.array([1e4, 0.01]) * before[..., 1], rtol=1e-5)


@pytest.mark.slow
def test_training_does_not_depend_on_the_units():
    y = RANDOM.normal(0, 1, (len(X), 1))
    found = []
    for scale, shift in ((1, 0), (1000, 50)):
        for beta in (0.0, 0.5):
            made = model(tasks.Regression(1, beta=beta))
            made.fit(X, y * scale + shift, batch_size=8, shuffle=False, verbose=0)
            assert made.heads.deviation.numpy()[0] == pytest.approx(scale * y.std(), rel=1e-4)
            mean, aleatoric, _ = np.moveaxis(made.predict(X, verbose=0), -1, 0)
            found.append(((mean - shift) / scale, aleatoric / scale**2))
    for one, other in ((0, 2), (1, 3)):
        for ours, theirs in zip(found[one], found[other], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-3)


def test_targets_of_a_dataset_are_looked_at_once():
    import tensorflow as tf

    y = RANDOM.normal(7, 3, (len(X), 2)).astype("float32")
    made = model(tasks.Regression(2))
    made.fit(tf.data.Dataset.from_tensor_slices((X, y)).batch(8), verbose=0)
    np.testing.assert_allclose(made.heads.mean.numpy(), y.mean(0), rtol=1e-5)
    made.fit(X, y + 100, verbose=0)  # further training keeps what is known
    np.testing.assert_allclose(made.heads.mean.numpy(), y.mean(0), rtol=1e-5)
    given = model(tasks.Regression(2, mean=[1, 2], deviation=3))
    given.train_on_batch(X, y)
    np.testing.assert_array_equal(given.heads.deviation.numpy(), [3, 3])


def test_members_learn_a_number():
    """The brightness of an image: a smaller error than that of the mean."""
    images = np.tile(np.random.default_rng(0).integers(0, 256, (64, 1, 1, 1)), (1, *tiny.SHAPE)).astype("uint8")
    y = images[:, 0, 0, 0] / 10.0
    made = model(tasks.Regression(["brightness"]), learning_rate=0.003, mixing=None, input_repetition=0.5)
    made.fit(images, y, batch_size=16, epochs=50, verbose=0)
    made.calibrate(images, y)
    figures = made.figures(images, y)["ensemble"]
    assert figures["rmse"] < 0.5 * y.std()
    assert figures["coverage"] >= 0.9
