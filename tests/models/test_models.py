"""A MixMo model as its user sees it: batches, losses and predictions against NumPy; Keras' options; saving; bad input."""

import json
import warnings

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from keras import ops

import mixmo_keras
from mixmo_keras import losses
from mixmo_keras.mixing.augmentation import PadCropFlip
from mixmo_keras.mixing.batch import Batch
from mixmo_keras.mixing.mixing import Mixing
from mixmo_keras.seeds import StepSeed
from mixmo_keras.training.objective import members_loss, objective

X, Y = tiny.data()
ONE_HOT = np.eye(tiny.NUM_CLASSES, dtype="float32")[Y]
MEMBERS = [1, 2, 3, 5]


def dataset(*arrays, batch=4):
    return tf.data.Dataset.from_tensor_slices(arrays or (X, Y)).batch(batch)


def make_batch(model, x=X, y=Y, sample_weight=None, step=0) -> Batch:
    """The batch of one step as NumPy arrays."""
    parts = [None if part is None else ops.convert_to_tensor(part) for part in (x, y, sample_weight)]
    batch = model.make_batch(tuple(parts), StepSeed(model.seed, step))
    return Batch(*(None if value is None else ops.convert_to_numpy(value) for value in batch))


def tensors(batch: Batch) -> Batch:
    return Batch(*(None if value is None else ops.convert_to_tensor(value) for value in batch))


def loss_oracle(batch: Batch, logits, smoothing=0.0):
    """Σ over members of w·CE, mean over rows."""
    targets = batch.targets if batch.targets.ndim == 3 else np.eye(tiny.NUM_CLASSES)[batch.targets]
    targets = (1 - smoothing) * targets + smoothing / tiny.NUM_CLASSES
    entropy = -(targets * tiny.log_softmax(logits)).sum(-1)
    weights = batch.loss_weights if batch.sample_weight is None else batch.loss_weights * batch.sample_weight
    return (weights * entropy).sum(1).mean(0)


# -- a step's batch ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_members", MEMBERS)
@pytest.mark.parametrize("repetitions", [1, 3])
def test_every_member_sees_every_row_once_in_its_own_order(num_members, repetitions):
    x = np.arange(8, dtype="uint8")[:, None, None, None] * np.ones((1, *tiny.SHAPE), "uint8")  # an image is its number
    model = tiny.model(num_members=num_members, batch_repetitions=repetitions, augmentation=None)
    batch = make_batch(model, x, np.arange(8) % 5, np.arange(8) / 10)
    rows = 8 * repetitions
    assert batch.images.shape == (rows, num_members, *tiny.SHAPE)
    assert batch.loss_weights.shape == batch.targets.shape == batch.sample_weight.shape == (rows, num_members)
    shown = batch.images[:, :, 0, 0, 0]
    for member in range(num_members):
        np.testing.assert_array_equal(np.sort(shown[:, member]), np.sort(np.tile(np.arange(8), repetitions)))
    # labels and sample weights go with their images
    np.testing.assert_array_equal(batch.targets, shown % 5)
    np.testing.assert_allclose(batch.sample_weight, shown / 10, rtol=1e-6)
    # and the partners differ: two orders agree in one row of eight by chance
    for member in range(1, num_members):
        assert (shown[:, member] != shown[:, member - 1]).sum() > rows / 3
    assert not np.array_equal(shown, make_batch(model, x, step=1).images[:, :, 0, 0, 0])
    if num_members == 1:
        assert batch.masks is None
    else:
        assert batch.masks.shape == (rows, num_members, 8, 8, 1)
        np.testing.assert_allclose(batch.masks.sum(1), 1, rtol=1e-5)
        np.testing.assert_allclose(batch.loss_weights.sum(1), num_members, rtol=1e-5)
        ratios = batch.masks.mean((2, 3, 4))
        expected = num_members * np.cbrt(ratios) / np.cbrt(ratios).sum(1, keepdims=True)
        np.testing.assert_allclose(batch.loss_weights, expected, rtol=1e-4, atol=1e-5)


# -- its loss ----------------------------------------------------------------------------------------------------------


def test_the_loss_by_hand():
    model = tiny.model(num_classes=2)
    # probabilities of the true classes ½ and ¼, weights 1.5 and 0.5; the second row weighs nothing
    logits = ops.convert_to_tensor([[[0.0, 0.0], [0.0, np.log(3)]]] * 2)
    targets, weights = np.array([[0, 0]] * 2), np.array([[1.5, 0.5]] * 2, "float32")
    batch = tensors(Batch(None, targets, targets, np.array([[1, 1], [0, 0]], "float32"), None, weights))
    assert float(members_loss(model.loss, batch, logits)) == pytest.approx((1.5 * np.log(2) + 0.5 * np.log(4)) / 2)


def test_swapping_members_swaps_everything_and_keeps_the_loss():
    model = tiny.model(num_members=3)
    batch = make_batch(model)
    order = [2, 0, 1]
    swapped = Batch(*(None if value is None else value[:, order] for value in batch))
    np.testing.assert_allclose(ops.mean(swapped.masks, (2, 3, 4)), batch.masks.mean((2, 3, 4))[:, order], rtol=1e-6)
    logits = model.member_logits(batch.images, batch.masks)
    # the members' networks swap too: encoder and head m are those of order[m]
    other = tiny.model(num_members=3)
    other.set_weights(model.get_weights())
    for encoder, source in zip(other.encoders.encoders, order, strict=True):
        encoder.set_weights(model.encoders.encoders[source].get_weights())
    kernel, bias = model.heads.get_weights()
    kernel, bias = kernel.reshape(-1, 3, 5)[:, order].reshape(-1, 15), bias.reshape(3, 5)[order].reshape(-1)
    other.heads.set_weights([kernel, bias])
    swapped_logits = other.member_logits(swapped.images, swapped.masks)
    np.testing.assert_allclose(swapped_logits, ops.convert_to_numpy(logits)[:, order], rtol=1e-4, atol=1e-5)
    losses_of_both = [
        float(members_loss(m.loss, tensors(b), z))
        for m, b, z in ((model, batch, logits), (other, swapped, swapped_logits))
    ]
    assert losses_of_both[0] == pytest.approx(losses_of_both[1], rel=1e-5)


def results(labels, run_eagerly=True):
    """Weights after an epoch, its logs and an evaluation's."""
    model = tiny.model()
    model.run_eagerly = run_eagerly
    logs = model.fit(dataset(X, labels), verbose=0).history
    return model.get_weights(), [*logs["loss"], *logs["accuracy"], *model.evaluate(X, labels, verbose=0)]


@pytest.fixture(scope="module")
def results_of_integers():
    return results(Y)


@pytest.mark.parametrize(
    ("labels", "run_eagerly"),
    [
        (Y[:, None], True),
        pytest.param(Y.astype("uint8"), True, marks=pytest.mark.slow),
        pytest.param(Y.astype("float32"), True, marks=pytest.mark.slow),
        (ONE_HOT, True),
        (ONE_HOT.astype("uint8"), False),  # which converts most, in a graph
    ],
    ids=["(n, 1)", "uint8", "float", "one-hot", "one-hot uint8"],
)
def test_all_forms_of_labels_train_alike(labels, run_eagerly, results_of_integers):
    weights, logs = results(labels, run_eagerly)
    np.testing.assert_allclose(logs, results_of_integers[1], rtol=1e-5)
    for first, second in zip(weights, results_of_integers[0], strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-7)


@pytest.mark.usefixtures("eagerly")
def test_rows_of_weight_zero_have_no_say():
    weight = np.array([1, 1, 0, 1, 0, 1, 1, 0], "float32")
    other = np.where(weight > 0, Y, (Y + 1) % 5)
    models = [tiny.model(), tiny.model()]
    for model, labels in zip(models, (Y, other), strict=True):
        model.fit(dataset(X, labels, weight), verbose=0)
    assert tiny.equal_weights(*models)
    evaluated = [
        model.evaluate(X, labels, sample_weight=weight, verbose=0)[0]
        for model, labels in zip(models, (Y, other), strict=True)
    ]
    assert evaluated[0] == evaluated[1]


@pytest.mark.usefixtures("eagerly")
def test_class_weight_is_a_sample_weight():
    class_weight = {label: 0.5 + label for label in range(5)}
    first, second = tiny.model(), tiny.model()
    first.fit(X, Y, batch_size=4, shuffle=False, class_weight=class_weight, verbose=0)
    second.fit(X, Y, batch_size=4, shuffle=False, sample_weight=0.5 + Y, verbose=0)
    assert tiny.equal_weights(first, second)
    third = tiny.model()
    third.fit(X, Y, batch_size=4, shuffle=False, verbose=0)
    assert not tiny.equal_weights(first, third)


# -- predictions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_members", "averaging"),
    [
        (3, "probabilities"),
        (1, "logits"),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((3, "logits"), (1, "probabilities"))),
    ],
)
def test_evaluate_predict_and_predict_members_agree(averaging, num_members):
    model = tiny.model(num_members=num_members, averaging=averaging)
    batch = make_batch(model)
    model.member_logits(batch.images, batch.masks, training=True)  # moves batch norm's averages
    members = model.predict_members(X, batch_size=3, verbose=0)
    assert members.shape == (8, num_members, 5)
    assert members.dtype == "float32"
    logits = members.mean(1) if averaging == "logits" else np.log(np.exp(tiny.log_softmax(members)).mean(1))
    predicted = model.predict(X, batch_size=3, verbose=0)
    np.testing.assert_allclose(predicted, logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model(X), predicted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.member_logits(X), members, rtol=1e-5, atol=1e-6)
    expected = [-tiny.log_softmax(predicted)[np.arange(8), Y].mean(), (predicted.argmax(1) == Y).mean()]
    np.testing.assert_allclose(model.evaluate(X, Y, batch_size=3, verbose=0), expected, rtol=1e-5)
    np.testing.assert_allclose(model.evaluate(dataset(batch=3), verbose=0), expected, rtol=1e-5)


@pytest.mark.usefixtures("eagerly")
def test_training_logs_are_the_members():
    model = tiny.model(num_members=3, learning_rate=0.0)
    model.core.trainable = False  # batch norm as at inference: the log can be computed afterwards
    model.compile(keras.optimizers.SGD(0.0))
    logs = model.fit(dataset(), verbose=0).history
    values, right = [], []
    for step in range(2):
        batch = make_batch(model, X[4 * step : 4 * step + 4], Y[4 * step : 4 * step + 4], step=step)
        logits = ops.convert_to_numpy(model.member_logits(batch.images, batch.masks, training=True))
        values.append(loss_oracle(batch, logits))
        right.append((logits.argmax(-1) == batch.labels).mean())
    assert logs["loss"] == [pytest.approx(np.mean(values), rel=1e-5)]
    assert logs["accuracy"] == [pytest.approx(np.mean(right))]


@pytest.mark.parametrize(
    ("normalization", "mean", "std"),
    [
        ("auto", (0.4914, 0.4824, 0.4467), (0.2023, 0.1994, 0.2010)),
        ((0.5, 0.25), 0.5, 0.25),
        (((0.1, 0.2, 0.3), 0.5), (0.1, 0.2, 0.3), 0.5),
        ((np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.6, 0.7])), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)),
    ],
)
def test_normalization(normalization, mean, std):
    model = tiny.model(normalization=normalization)
    np.testing.assert_allclose(model.normalize(X), (X / 255 - np.array(mean)) / np.array(std), rtol=1e-4, atol=1e-5)
    again = mixmo_keras.MixMo.from_config(json.loads(json.dumps(keras.saving.serialize_keras_object(model)))["config"])
    np.testing.assert_array_equal(again.normalize(X), model.normalize(X))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "float16"])
def test_pixels_of_any_type_predict_alike(dtype):
    model = tiny.model()
    np.testing.assert_allclose(
        model.predict(X.astype(dtype), verbose=0), model.predict(X, verbose=0), rtol=1e-4, atol=1e-5
    )


# -- seeds -------------------------------------------------------------------------------------------------------------


def wrn(seed):
    return tiny.model(backbone="wrn10_1", input_shape=tiny.SHAPE, seed=seed)


def test_a_seed_decides_every_initial_weight():
    same, again, other, random = (wrn(seed) for seed in (1, 1, 2, None))
    assert tiny.equal_weights(same, again)
    for kernels in zip(*(model.trainable_weights for model in (same, other, random)), strict=True):
        if kernels[0].name == "kernel":
            assert len({np.asarray(kernel).tobytes() for kernel in kernels}) == 3


def test_a_seed_decides_training_bit_for_bit():
    first, again, other = (tiny.model(seed=seed) for seed in (1, 1, 2))
    other.set_weights(first.get_weights())  # other draws, from the same start
    for model in (first, again, other):
        model.fit(dataset(), epochs=2, verbose=0)
    assert tiny.equal_weights(first, again)
    assert not tiny.equal_weights(first, other)


def test_a_random_seed_is_written_down():
    model = tiny.model(seed=None)
    copy = mixmo_keras.MixMo.from_config(model.get_config())
    assert copy.seed == model.seed
    assert tiny.equal_weights(copy.encoders.get_weights(), model.encoders.get_weights())


def test_keras_random_state_is_left_alone():
    draws = []
    for build in (False, True):
        keras.utils.set_random_seed(0)
        if build:
            tiny.model()
        draws.append(np.random.rand())
    assert draws[0] == draws[1]


# -- saving ------------------------------------------------------------------------------------------------------------


def compiled_with(name):
    model = tiny.model(learning_rate=None, augmentation=PadCropFlip(1, flip=False), mixing=Mixing("linear", alpha=1.0))
    if name == "adam":
        metrics = ["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2")]
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss, metrics, weighted_metrics=["accuracy"])
    elif name == "smoothing":
        model.compile(loss=losses.CrossEntropy(0.1))
    return model


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    "how", ["default", *(pytest.param(how, marks=pytest.mark.slow) for how in ("adam", "smoothing"))]
)
def test_a_saved_model_goes_on_as_if_it_had_not_been_saved(tmp_path, how, request):
    if how != "default":
        request.getfixturevalue("eagerly")
    model = compiled_with(how)
    model.fit(dataset(), epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    assert type(copy) is type(model)
    np.testing.assert_array_equal(copy.predict(X, verbose=0), model.predict(X, verbose=0))
    np.testing.assert_array_equal(copy.predict_members(X, verbose=0), model.predict_members(X, verbose=0))
    state, copied = ([np.asarray(v.value) for v in m.optimizer.variables] for m in (model, copy))
    assert tiny.equal_weights(state, copied)
    assert copy.batching.mixing == model.batching.mixing
    assert copy.augment.get_config() == model.augment.get_config()
    assert copy.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)
    for network in (model, copy):
        network.fit(dataset(), epochs=3, initial_epoch=1, verbose=0)
    assert tiny.equal_weights(model, copy)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")  # weights come without its state
def test_weights_and_configuration(tmp_path):
    model = tiny.model(num_members=3, seed=1)
    model.fit(dataset(), verbose=0)
    model.save_weights(tmp_path / "model.weights.h5")
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))["config"]
    for _ in range(2):  # a configuration may be used again
        copy = mixmo_keras.MixMo.from_config(config)
    assert not tiny.equal_weights(copy, model)
    copy.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(copy.predict(X, verbose=0), model.predict(X, verbose=0))
    assert keras.models.model_from_json(model.to_json()).count_params() == model.count_params()


@pytest.mark.filterwarnings("ignore:Skipping")
def test_weights_of_another_number_of_members_are_refused(tmp_path):
    tiny.model(num_members=2).save_weights(tmp_path / "two.weights.h5")
    with pytest.raises(ValueError, match="could not be loaded"):
        tiny.model(num_members=3).load_weights(tmp_path / "two.weights.h5")


# -- Keras' options ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_any_optimizer_loss_and_metrics():
    model = tiny.model()
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2")],
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="weighted")],
    )
    weight = np.array([1, 0, 0, 0, 1, 1, 1, 1], "float32")
    history = model.fit(dataset(X, Y, weight), validation_data=(X, Y, weight), verbose=0).history
    names = {"loss", "accuracy", "top2", "weighted"}
    assert set(history) == names | {f"val_{name}" for name in names}
    logits = model.predict(X, verbose=0)
    right = logits.argmax(1) == Y
    top2 = (np.argsort(-logits, 1)[:, :2] == Y[:, None]).any(1)
    logs = model.evaluate(X, Y, sample_weight=weight, return_dict=True, verbose=0)
    assert logs["accuracy"] == pytest.approx(right.mean())
    assert logs["top2"] == pytest.approx(top2.mean())
    assert logs["weighted"] == pytest.approx((weight * right).sum() / weight.sum())
    assert logs["loss"] == pytest.approx(-(weight * tiny.log_softmax(logits)[np.arange(8), Y]).mean(), rel=1e-5)


@pytest.mark.usefixtures("eagerly")
def test_no_metrics():
    model = tiny.model()
    model.compile("sgd", metrics=None)
    assert set(model.fit(dataset(), verbose=0).history) == {"loss"}


@pytest.mark.usefixtures("eagerly")
def test_arrays_and_datasets_train_alike():
    first, second = tiny.model(), tiny.model()
    first.fit(X, Y, batch_size=3, epochs=2, shuffle=False, verbose=0)  # the last batch is smaller
    second.fit(dataset(batch=3), epochs=2, verbose=0)
    assert tiny.equal_weights(first, second)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return X[4 * index : 4 * index + 4], Y[4 * index : 4 * index + 4]


@pytest.mark.usefixtures("eagerly")
@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # Keras' way of seeing the end
def test_other_kinds_of_data_train_alike():
    models = [tiny.model() for _ in range(3)]
    for model, data in zip(models, (dataset(), Batches(), (Batches()[i] for i in range(2))), strict=True):
        model.fit(data, verbose=0, shuffle=False)
        for part in ("encoders", "core", "heads"):  # the clock differs: a generator's length is unknown
            assert tiny.equal_weights(getattr(models[0], part).get_weights(), getattr(model, part).get_weights())
    assert models[1].evaluate(Batches(), verbose=0) == models[0].evaluate(dataset(), verbose=0)


class Killed(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


@pytest.mark.usefixtures("eagerly")
@pytest.mark.slow  # tests/training/test_checkpoints.py kills runs at every moment
def test_a_killed_run_resumes_where_it_was(tmp_path):
    whole, killed, resumed = (compiled_with("default") for _ in range(3))
    whole.fit(dataset(), epochs=4, verbose=0)
    with pytest.raises(KeyboardInterrupt):
        killed.fit(dataset(), epochs=4, verbose=0, callbacks=[keras.callbacks.BackupAndRestore(tmp_path), Killed()])
    resumed.fit(dataset(), epochs=4, verbose=0, callbacks=[keras.callbacks.BackupAndRestore(tmp_path)])
    assert tiny.equal_weights(whole, resumed)


@pytest.mark.usefixtures("eagerly")
def test_validation_split_and_callbacks(tmp_path):
    model = tiny.model()
    callbacks = [
        keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras"),
        keras.callbacks.EarlyStopping(patience=1, min_delta=1e9, restore_best_weights=True),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    history = model.fit(X, Y, batch_size=3, epochs=9, validation_split=0.25, callbacks=callbacks, verbose=0).history
    assert len(history["val_loss"]) == 2  # stopped
    best = keras.models.load_model(tmp_path / "1.keras")
    np.testing.assert_array_equal(best.predict(X, verbose=0), model.predict(X, verbose=0))
    assert model.evaluate(X[6:], Y[6:], verbose=0)[0] == pytest.approx(history["val_loss"][0], rel=1e-5)
    assert (tmp_path / "log.csv").read_text().startswith("epoch,accuracy,loss,val_accuracy,val_loss")


def test_losses_that_layers_add():
    images = keras.Input(tiny.SHAPE)
    encoded = keras.layers.Conv2D(4, 1, kernel_regularizer=keras.regularizers.L2(0.01))(images)
    backbone = mixmo_keras.backbones.Backbone(keras.Model(images, encoded), tiny.backbone().core)
    model = tiny.model(backbone=backbone)
    batch = make_batch(model)
    aim = objective(model, tensors(batch), StepSeed(model.seed))
    squares = sum(0.01 * np.square(encoder.get_weights()[0]).sum() for encoder in model.encoders.encoders)
    assert float(aim.loss) == pytest.approx(loss_oracle(batch, aim.logits) + squares, rel=1e-5)


@pytest.mark.parametrize("num_members", [1, 2, 3])
def test_summary_draws_the_members(num_members, capsys):
    model = tiny.model(num_members=num_members)
    lines = []
    model.summary(print_fn=lambda line, **_: lines.append(str(line)))
    figure = model.figure()
    assert lines[0] == figure
    assert any("encoders (MultiEncoder)" in line for line in lines)
    assert figure.count("encoder") == figure.count("label") == num_members
    assert "8×8×4" in figure
    assert ("sum" if num_members == 1 else "cutmix") in figure
    assert len({len(line) for line in figure.splitlines()[:1] + figure.splitlines()[-1:]}) == 1


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("eagerly")
def test_one_member_with_a_mixing_warns_once():
    message = "One member has nobody to mix with: pass mixing=None, or use SingleNetwork"
    with pytest.warns(UserWarning, match=message) as caught:
        model = mixmo_keras.MixMo(tiny.backbone(), num_members=1)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.fit(dataset(X, Y), verbose=0)  # and works
        mixmo_keras.SingleNetwork(tiny.backbone())


def test_a_loss_of_another_shape():
    model = tiny.model()
    model.compile("sgd", loss=lambda labels, logits: logits)
    with pytest.raises(ValueError, match=r"The loss must return one value a row.*<lambda> returned shape \(.*, 5\)"):
        model.fit(X, Y, verbose=0)


@pytest.mark.usefixtures("eagerly")
def test_weights_files_hold_the_optimizer_and_nothing_twice(tmp_path):
    model = tiny.model()
    model.fit(X, Y, verbose=0)
    model.predict_members(X, verbose=0)
    model.save_weights(tmp_path / "model.weights.h5")
    with h5py.File(tmp_path / "model.weights.h5") as file:
        assert set(file) == {
            *("augment", "clock", "incidents", "layers", "optimizer", "temperature_of_multiplexed", "vars")
        }
    loaded = tiny.model(seed=9)
    loaded.load_weights(tmp_path / "model.weights.h5")
    assert tiny.equal_weights(loaded, model)
    for ours, theirs in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
