"""M different images a pass: who sits where, against a table written by hand, and what a partner can't reach."""

import keras
import numpy as np
import pytest
import tiny
from scipy.special import log_softmax

import mixmo_keras
from mixmo_keras import calibration, evaluation, multiplexing
from mixmo_keras.multiplexing import prediction
from mixmo_keras.multiplexing.seats import answers, image_of_each_seat

X, Y = tiny.data(7)

# the passes of n images, each a tuple of the images in its seats
PASSES = {
    2: [
        [(0, 0)],
        [(0, 1)],
        [(0, 1), (2, 2)],
        [(0, 1), (2, 3)],
        [(0, 1), (2, 3), (4, 4)],
        [(0, 1), (2, 3), (4, 5)],
        [(0, 1), (2, 3), (4, 5), (6, 6)],
    ],
    3: [
        [(0, 0, 0)],
        [(0, 1, 0)],
        [(0, 1, 2)],
        [(0, 1, 2), (3, 3, 3)],
        [(0, 1, 2), (3, 4, 3)],
        [(0, 1, 2), (3, 4, 5)],
        [(0, 1, 2), (3, 4, 5), (6, 6, 6)],
    ],
}
AVERAGING = {2: "probabilities", 3: "logits"}


@pytest.fixture(scope="module", params=[2, 3])
def model(request):
    return tiny.model(num_members=request.param, averaging=AVERAGING[request.param])


@pytest.fixture(scope="module")
def two():
    return tiny.model()


def by_hand(model, passes) -> dict[tuple, np.ndarray]:
    """The logits (M, K) of each pass, head by head in NumPy from the encoders' and the core's answers."""
    kernel, bias = model.heads.get_weights()
    result = {}
    for seats in passes:
        normalised = [model.normalize(X[image : image + 1].astype("float32")) for image in seats]
        pairs = zip(model.encoders.encoders, normalised, strict=True)
        mixed = sum(np.array(encoder(image, training=False)) for encoder, image in pairs)
        features = np.array(model.core(mixed, training=False))
        result[seats] = (features @ kernel + bias).reshape(len(seats), -1)
    return result


def test_who_sits_where(model):
    passes = PASSES[model.num_members]
    logits = by_hand(model, {seats for of_n in passes for seats in of_n})
    for count, of_n in enumerate(passes, 1):
        expected = []
        for image in range(count):
            own = [logits[seats][m] for seats in of_n for m, other in enumerate(seats) if other == image]
            if model.average.averaging == "logits":
                expected.append(np.mean(own, axis=0))
            else:
                expected.append(np.log(np.mean(np.exp([log_softmax(one) for one in own]), axis=0)))
        np.testing.assert_allclose(model.predict_multiplexed(X[:count]), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(  # one image fills the pass, and is answered as by the ensemble
        model.predict_multiplexed(X[:1]), model.predict(X[:1], verbose=0), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("num_members", [2, 3])
def test_seats_and_answers(num_members):
    for count in range(1, 8):
        seats = np.array(image_of_each_seat(count, num_members))
        assert seats.tolist() == [image for one in PASSES[num_members][count - 1] for image in one]
        logits = np.random.default_rng(count).normal(size=(len(seats) // num_members, num_members, 5)).astype("float32")
        expected = [logits.reshape(-1, 5)[seats == image].mean(0) for image in range(count)]
        np.testing.assert_allclose(answers(logits, count, "logits"), expected, rtol=1e-5, atol=1e-6)


def test_batches_and_copies_change_nothing(model, monkeypatch):
    import tensorflow as tf

    expected = model.predict_multiplexed(X)
    same = dict(rtol=1e-5, atol=1e-5)
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(5)
    for data in (dataset, [X[:1], X[1:5], X[5:]], tf.constant(X), X.astype("float32")):
        np.testing.assert_allclose(model.predict_multiplexed(data), expected, **same)
    np.testing.assert_allclose(model.multiplexed()(X.astype("float32")), expected, **same)
    order = np.random.default_rng(4).permutation(7)
    drawn = model.predict_multiplexed(X, seed=4)
    np.testing.assert_allclose(drawn[order], model.predict_multiplexed(X[order]), **same)
    monkeypatch.setattr(prediction, "WINDOW_BYTES", 1)  # two passes at a time
    batches = [X[:4], X[4:5], X[5:]]
    np.testing.assert_allclose(model.predict_multiplexed(batches, batch_size=4), expected, **same)


def test_encoders_that_cannot_be_joined_stay_apart():
    images = keras.Input(tiny.SHAPE)
    encoded = keras.layers.Conv2D(4, 3, activation="relu", padding="same")(images)
    core = tiny.backbone().core
    model = tiny.model(backbone=mixmo_keras.backbones.Backbone(keras.Model(images, encoded), core))
    expected = model.predict_multiplexed(X[:3])
    np.testing.assert_allclose(model.multiplexed()(X[:3].astype("float32")), expected, rtol=1e-5, atol=1e-5)


def test_filters_made_for_one_image_are_joined():
    model = mixmo_keras.MIMO("airbench8", num_classes=5, input_shape=(9, 9, 3), num_members=2, seed=0)
    images = np.random.default_rng(0).integers(0, 256, (4, 9, 9, 3)).astype("float32")
    expected = model.predict_multiplexed(images)
    np.testing.assert_allclose(model.multiplexed()(images), expected, rtol=1e-4, atol=1e-4)


def test_a_temperature_of_its_own(tmp_path):
    model = tiny.model()
    model.heads.dense.kernel.assign(10 * model.heads.dense.kernel)  # far too sure
    x, y = tiny.data(60, seed=2)
    y = np.where(np.arange(60) % 2, model.predict_multiplexed(x, seed=0).argmax(-1), y)  # half of them what it says
    raw = model.predict_multiplexed(x)
    _, labels, of_random_partners = multiplexing.predict_both_with_labels(model, [(x[:9], y[:9]), (x[9:], y[9:])])
    np.testing.assert_array_equal(labels, y)
    np.testing.assert_allclose(of_random_partners, model.predict_multiplexed(x, seed=0), rtol=1e-5, atol=1e-5)
    size = model.count_params()
    assert model.calibrate(x, y, multiplexed=False) == model.temperature
    assert model.multiplexed_temperature == 1
    model.calibrate(x, y)
    expected = calibration.fit_temperature(of_random_partners, y)
    assert model.multiplexed_temperature == pytest.approx(expected, rel=1e-4)
    assert model.multiplexed_temperature not in (1, model.temperature)
    np.testing.assert_allclose(model.predict_multiplexed(x), raw / expected, rtol=1e-3, atol=1e-4)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.multiplexed_temperature == model.multiplexed_temperature
    assert type(model).from_config(model.get_config()).multiplexed_temperature == model.multiplexed_temperature
    assert loaded.count_params() == size == sum(int(np.prod(w.shape)) for w in model.weights) - 2


@pytest.mark.filterwarnings("ignore:Members share one head", "ignore:input_repetition=1")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(num_members=1), "it has one member"),
        (dict(share_encoders=True), r"its members share encoders \(`share`\)"),
        (dict(share_heads=True), r"its members share heads \(`share`\)"),
        (dict(input_repetition=1.0), "it was trained with `input_repetition`=1"),
    ],
)
def test_networks_that_cannot(options, message):
    model = tiny.model(**options)
    for call in (
        lambda: model.predict_multiplexed(X),
        lambda: multiplexing.predict_passes(model, X[None, :2]),
        lambda: model.calibrate(X, Y, multiplexed=True),
        model.multiplexed,
        lambda: model.export("nowhere.onnx", format="onnx", multiplexed=True),
    ):
        with pytest.raises(ValueError, match=f"can't answer several images in one pass: {message}"):
            call()


def test_deep_ensembles_cannot(two):
    with pytest.raises(ValueError, match="it is several networks"):
        mixmo_keras.DeepEnsemble([two]).multiplexed()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(input_repetition=0.9), "With `input_repetition`=0.9 only 10% of the training rows"),
        (dict(input_repetition=0.5), "With `input_repetition`=0.5 only 50% of the training rows"),
        (dict(mixing=mixmo_keras.Mixing(probability=1.0, decay_start=None)), "always cut patches"),
    ],
)
def test_networks_that_learned_little_of_it(options, message):
    model = tiny.model(**options)
    for call in (
        lambda: model.predict_multiplexed(X[:2]),
        model.multiplexed,
        lambda: evaluation.evaluate(model, [(X, Y)], list("abcde"), multiplexed=True),
    ):
        with pytest.warns(UserWarning, match=message):
            call()


def test_networks_that_learned_enough_of_it():
    tiny.model(input_repetition=0.4).predict_multiplexed(X[:2])  # warnings are errors
