"""The default loss against NumPy, and which losses `compile` takes."""

import keras
import numpy as np
import pytest
import tiny
from keras import ops

from mixmo_keras import losses
from mixmo_keras.training.losses import CrossEntropy

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(0, 3, (6, 5)).astype("float32")
LABELS = RANDOM.integers(0, 5, 6)
SOFT = RANDOM.dirichlet(np.ones(5), 6).astype("float32")


def oracle(targets, smoothing=0.0):
    if np.ndim(targets) == 1:
        targets = np.eye(5)[targets]
    targets = (1 - smoothing) * targets + smoothing / 5
    return -(targets * tiny.log_softmax(LOGITS)).sum(1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(
    ("labels", "same_as"),
    [
        (LABELS, LABELS),
        (LABELS.astype("uint8"), LABELS),
        (LABELS.astype("float32"), LABELS),
        (LABELS[:, None], LABELS),
        (np.eye(5, dtype="uint8")[LABELS], LABELS),
        (np.eye(5, dtype="float32")[LABELS], LABELS),
        (SOFT, SOFT),
    ],
    ids=["integer", "uint8", "float", "(n, 1)", "one-hot uint8", "one-hot", "soft"],
)
def test_cross_entropy(labels, same_as, smoothing):
    loss = CrossEntropy(smoothing)
    rows = losses.per_row(loss, ops.convert_to_tensor(labels), ops.convert_to_tensor(LOGITS))
    np.testing.assert_allclose(rows, oracle(same_as, smoothing), rtol=1e-5, atol=1e-6)
    assert float(loss(labels, LOGITS)) == pytest.approx(oracle(same_as, smoothing).mean(), rel=1e-5)


def test_by_hand():
    # softmax of (log 3, 0) is (¾, ¼)
    logits = np.log([[3.0, 1.0], [3.0, 1.0]]).astype("float32")
    np.testing.assert_allclose(CrossEntropy(reduction=None)(np.array([0, 1]), logits), np.log([4 / 3, 4]), rtol=1e-6)
    # ε = 0.2 over two classes: targets (0.9, 0.1)
    smoothed = CrossEntropy(0.2, reduction=None)(np.array([0]), logits[:1])
    np.testing.assert_allclose(smoothed, [0.9 * np.log(4 / 3) + 0.1 * np.log(4)], rtol=1e-6)


def test_huge_logits_stay_finite():
    assert float(CrossEntropy()(np.array([1]), np.array([[1e4, 0.0]], "float32"))) == pytest.approx(1e4)


@pytest.mark.parametrize(
    "loss",
    [
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        CrossEntropy(),
        lambda labels, logits: losses.CrossEntropy().call(labels, logits),
    ],
    ids=["sparse", "ours", "function"],
)
def test_per_row_of_any_keras_loss(loss):
    rows = losses.per_row(loss, ops.convert_to_tensor(LABELS), ops.convert_to_tensor(LOGITS))
    np.testing.assert_allclose(rows, oracle(LABELS), rtol=1e-5)


def test_per_row_of_one_hot_losses():
    for loss in (
        keras.losses.CategoricalCrossentropy(from_logits=True),
        keras.losses.CategoricalFocalCrossentropy(from_logits=True),
    ):
        targets = ops.convert_to_tensor(np.eye(5, dtype="float32")[LABELS])
        assert losses.per_row(loss, targets, ops.convert_to_tensor(LOGITS)).shape == (6,)


@pytest.mark.parametrize(
    ("loss", "shape"),
    [
        (lambda labels, logits: logits, r"\(6, 5\)"),
        (lambda labels, logits: ops.mean(logits), r"\(\)"),
    ],
)
def test_more_or_less_than_one_value_a_row(loss, shape):
    with pytest.raises(ValueError, match=f"must return one value a row.*returned shape {shape}"):
        losses.per_row(loss, ops.convert_to_tensor(LABELS), ops.convert_to_tensor(LOGITS))


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("sparse_categorical_crossentropy", "returns logits and sparse_categorical_crossentropy expects probabilities"),
        ("categorical_crossentropy", "from_logits=True"),
        ("categorical_focal_crossentropy", "from_logits=True"),
        (keras.losses.KLDivergence(), "kl_divergence expects probabilities: .* or one that takes logits"),
        (
            keras.losses.SparseCategoricalCrossentropy(),
            "expects probabilities: pass the loss object with from_logits=True",
        ),
        (
            keras.losses.CategoricalGeneralizedCrossEntropy(),
            "categorical_generalized_cross_entropy expects probabilities",
        ),
        ("hinge", r"hinge is of one output and classes -1 and 1; keras.losses.CategoricalHinge\(\) is the margin"),
        (keras.losses.SquaredHinge(), "^squared_hinge is of one output .* Leave `loss` out for the cross-entropy"),
        (keras.losses.Dice(axis=-1), "dice compares the areas of probabilities in a segmented image. Leave `loss` out"),
        (keras.losses.tversky, "tversky compares the areas"),
        (keras.losses.Circle(), "circle compares embeddings, not classes"),
        ("ctc", "ctc is of sequences"),
        (CrossEntropy(reduction="sum"), "reduction='sum_over_batch_size', the mean over rows, got 'sum'"),
        ("no such loss", "Could not interpret loss identifier"),
    ],
)
def test_losses_that_do_not_fit_are_refused(loss, message):
    with pytest.raises(ValueError, match=message):
        tiny.model().compile("sgd", loss=loss)


def test_round_trip():
    loss = CrossEntropy(0.1, name="mine")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert copy.get_config() == loss.get_config()
    assert float(copy(LABELS, LOGITS)) == float(loss(LABELS, LOGITS))


@pytest.mark.parametrize(
    "loss", ["mean_squared_error", keras.losses.BinaryCrossentropy(from_logits=True), keras.losses.Huber()]
)
def test_losses_of_other_tasks_are_warned_of(loss):
    model = tiny.model()
    with pytest.warns(UserWarning, match="is a loss of another task.*Leave `loss` out for its cross-entropy"):
        model.compile(loss=loss)


def test_two_decays_of_weights_are_warned_of():
    with pytest.warns(UserWarning, match=r"weight_decay=0.004\) and so does the model's L2 \(l2=0.001\)"):
        tiny.model(l2=1e-3).compile(keras.optimizers.AdamW(1e-3))
    tiny.model(l2=0.0).compile(keras.optimizers.AdamW(1e-3))


@pytest.mark.parametrize(
    "callback", [keras.callbacks.ReduceLROnPlateau(), keras.callbacks.LearningRateScheduler(lambda epoch: 0.1)]
)
def test_callbacks_that_would_set_a_scheduled_rate_are_refused_at_once(callback):
    x, y = tiny.data()
    with pytest.raises(
        ValueError, match=f"{type(callback).__name__} sets the learning rate, which follows the schedule Step"
    ):
        tiny.model(learning_rate=None).fit(x, y, callbacks=[callback], verbose=0)


def test_every_label_above_0_is_a_1_by_hand():
    """A mixed label (0.7, 0.3, 0) is (1, 1, 0); logits 0 cost ln 2 a class, and a logit of ln 3 is a probability of 3/4."""
    loss = losses.SigmoidCrossEntropy(multi_hot=True)
    mixed, logits = np.array([[0.7, 0.3, 0.0]], "float32"), np.array([[np.log(3), 0.0, np.log(3)]], "float32")
    expected = (-np.log(3 / 4) - np.log(1 / 2) - np.log(1 / 4)) / 3
    np.testing.assert_allclose(loss.call(mixed, ops.convert_to_tensor(logits)), [expected], rtol=1e-6)
    plain = losses.SigmoidCrossEntropy()
    whole = ops.convert_to_tensor(LOGITS)
    np.testing.assert_allclose(loss.call(LABELS, whole), plain.call(LABELS, whole), rtol=1e-6)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    np.testing.assert_array_equal(again.call(SOFT, whole), loss.call(SOFT, whole))
