"""Stochastic depth and cosub: by hand, by a NumPy oracle, and in training."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from keras import ops

import mixmo_keras
from mixmo_keras import losses
from mixmo_keras.seeds import StepSeed
from mixmo_keras.training.co_training import TEACHING, CoTraining
from mixmo_keras.training.objective import objective

X, Y = tiny.data()
RANDOM = np.random.default_rng(0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def binary(targets, logits):
    return -(targets * np.log(sigmoid(logits)) + (1 - targets) * np.log(1 - sigmoid(logits))).mean(-1)


def softmax(logits):
    return np.exp(tiny.log_softmax(logits))


@pytest.mark.parametrize("weight", [0.5, 0.3, 1.0])
@pytest.mark.parametrize("teaching", TEACHING)
def test_loss_is_the_papers(teaching, weight):
    z1, z2 = RANDOM.normal(size=(2, 6, 5))
    y = np.eye(5)[RANDOM.integers(0, 5, 6)]
    if teaching == "softmax":
        loss, answer = (lambda z, targets: -(targets * tiny.log_softmax(z)).sum(-1)), softmax
        of_labels = losses.CrossEntropy()
    else:
        loss, answer = (lambda z, targets: binary(targets, z)), sigmoid
        of_labels = losses.SigmoidCrossEntropy()
    expected = weight * 0.5 * (loss(z1, y) + loss(z2, y))
    expected = expected + (1 - weight) * 0.5 * (loss(z1, answer(z2)) + loss(z2, answer(z1)))
    logits = np.concatenate([z1, z2]).astype("float32")
    values = losses.per_row(of_labels, np.concatenate([y, y]).astype("float32"), ops.convert_to_tensor(logits))
    of_rows = ops.convert_to_numpy(CoTraining(weight, teaching).values(values, ops.convert_to_tensor(logits)))
    np.testing.assert_allclose(of_rows.reshape(2, 6).mean(0), expected, rtol=1e-5, atol=1e-6)


def test_by_hand():
    """z1 = (0, 0), z2 = (log 3, 0), y = 0: ℓ(z1, y) = log 2, ℓ(z2, y) = log 4/3; they teach (3/4, 1/4) and (1/2, 1/2)."""
    logits = np.array([[0, 0], [np.log(3), 0]], "float32")
    of_labels = np.log([2, 4 / 3]).astype("float32")
    taught1, taught2 = np.log(2), -0.5 * np.log(3 / 4) - 0.5 * np.log(1 / 4)
    expected = 0.25 * (of_labels.sum() + taught1 + taught2)  # four terms of weight ¼
    values = CoTraining(0.5).values(ops.convert_to_tensor(of_labels), ops.convert_to_tensor(logits))
    assert float(ops.mean(values)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("teaching", TEACHING)
def test_no_gradient_flows_into_the_teacher(teaching):
    student, teacher = np.array([[0.3, -0.2]], "float32"), np.array([[1.0, -0.5]], "float32")
    # both learn from each other at once: the gradient by hand is that of the student's side alone
    logits = tf.Variable(np.concatenate([student, teacher]))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(CoTraining(1e-9, teaching).values(tf.zeros(2), logits))
    answer = softmax if teaching == "softmax" else sigmoid
    difference = answer(student) - answer(teacher)
    scale = 0.5 if teaching == "softmax" else 0.25  # the mean over two classes
    np.testing.assert_allclose(
        tape.gradient(loss, logits), scale * np.concatenate([difference, -difference]), rtol=1e-4
    )


# -- models ------------------------------------------------------------------------------------------------------------

WRN = dict(backbone="wrn10_1", input_shape=tiny.SHAPE, num_classes=tiny.NUM_CLASSES, augmentation=None, seed=0)


@pytest.mark.parametrize("build", [mixmo_keras.CoSub, mixmo_keras.CutMixMo])
def test_a_step_goes_down_the_oracles_loss(build):
    options = dict(co_training=0.4, drop_path=0.5, batch_repetitions=1, l2=0.0)
    model = build(**WRN, **options)
    model.compile(keras.optimizers.SGD(0.1))
    seed = StepSeed(model.seed, 0)
    batch = model.make_batch((tf.constant(X), tf.constant(Y)), seed)
    logits = objective(model, batch, seed).logits
    members = model.num_members
    assert logits.shape == (16, members, tiny.NUM_CLASSES)
    first, second = np.split(np.asarray(logits, "float64"), 2)
    assert not np.allclose(first, second)  # two submodels
    labels, of_second = np.split(np.asarray(batch.labels), 2)
    np.testing.assert_array_equal(labels, of_second)
    targets = np.eye(tiny.NUM_CLASSES)[labels]

    def entropy(z, q):
        return -(q * tiny.log_softmax(z)).sum(-1)

    values = 0.4 * 0.5 * (entropy(first, targets) + entropy(second, targets))
    values = values + 0.6 * 0.5 * (entropy(first, softmax(second)) + entropy(second, softmax(first)))
    expected = (values * np.asarray(batch.loss_weights)[:8]).sum(1).mean()
    logs = model.fit(X, Y, batch_size=8, shuffle=False, verbose=0).history
    assert logs["loss"][0] == pytest.approx(expected, rel=1e-4)
    assert logs["accuracy"][0] == pytest.approx(np.mean([(z.argmax(-1) == labels).mean() for z in (first, second)]))


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    "options",
    [
        dict(teaching="sigmoid", sample_weight=True),
        pytest.param(dict(msda="cutmix", efficient_drop_path=True), marks=pytest.mark.slow),
        *(pytest.param({name: True}, marks=pytest.mark.slow) for name in ("sample_weight", "efficient_drop_path")),
    ],
)
def test_trains_saves_loads_and_predicts_with_the_whole_network(options, tmp_path):
    weighted = {"sample_weight": np.linspace(0.5, 1, 8)} if options.pop("sample_weight", False) else {}
    model = mixmo_keras.CoSub(**WRN, drop_path=0.3, **options)
    history = model.fit(X, Y, batch_size=4, verbose=0, validation_data=(X, Y), **weighted).history
    assert np.isfinite(history["loss"] + history["val_loss"]).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.co_training == model.co_training
    assert isinstance(loaded.loss, type(model.loss))
    assert np.array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    np.testing.assert_allclose(model.fused().predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("efficient", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_runs_repeat(efficient, jit_compile):
    weights = []
    for _ in range(2):
        model = mixmo_keras.CoSub(**WRN, drop_path=0.3, efficient_drop_path=efficient)
        model.compile(jit_compile=jit_compile, run_eagerly=not jit_compile)
        model.fit(X, Y, batch_size=4, shuffle=False, verbose=0)
        weights.append(model.get_weights())
    assert tiny.equal_weights(*weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(drop_path=0.0), "`co_training` needs a network whose two passes differ"),
        (dict(co_training=None, teaching="sigmoid"), "`teaching` .* has no meaning without `co_training`"),
        (dict(backbone=tiny.backbone(), input_shape=None), "`drop_path` .* is for a named backbone"),
        (
            dict(backbone=tiny.backbone(), input_shape=None, drop_path=0, efficient_drop_path=True),
            "`efficient` .* has no meaning without a rate",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        mixmo_keras.CoSub(**{**WRN, **options})
