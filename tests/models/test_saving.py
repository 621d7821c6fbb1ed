"""Keras' own ways to save, copy, convert and change a model: each works, or is refused before anything is touched."""

import copy
import pickle
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

import mixmo_keras
from mixmo_keras import FineTuning

X, Y = tiny.data()


def trained(**options):
    model = tiny.model(augmentation=None, batch_repetitions=1, **options)
    model.compile(keras.optimizers.SGD(0.01, 0.9), run_eagerly=True)
    model.fit(X, Y, batch_size=4, verbose=0)
    return model


@pytest.fixture(scope="module")
def model():
    return trained()


def saved(model, path):
    model.save(path)
    return keras.models.load_model(path)


def with_weights(model, path, **options):
    model.save_weights(path, **options)
    other = tiny.model(augmentation=None, seed=9)
    other.load_weights(path)
    return other


def archived(model, path):
    archive = keras.export.ExportArchive()
    archive.track(model)
    spec = keras.InputSpec(shape=(None, *tiny.SHAPE), dtype="float32")
    archive.add_endpoint("serve", model.call, input_signature=[spec])
    archive.write_out(str(path), verbose=False)
    loaded = tf.saved_model.load(str(path))
    return lambda images: loaded.serve(images)


def as_saved_model(model, path):
    tf.saved_model.save(model, str(path))
    loaded = tf.saved_model.load(str(path))

    def answer(images):
        signature = loaded.signatures["serving_default"]
        (name,) = signature.structured_input_signature[1]
        (answers,) = signature(**{name: tf.constant(images)}).values()
        return answers

    return answer


SAME = {  # what gives a model, or function, of the same answers
    "save": lambda model, folder: saved(model, folder / "m.keras"),
    "keras.saving.save_model": lambda model, folder: (
        keras.saving.save_model(model, folder / "m.keras"),
        keras.saving.load_model(folder / "m.keras"),
    )[1],
    "save, not zipped": lambda model, folder: (
        model.save(folder / "m", zipped=False),
        keras.models.load_model(folder / "m"),
    )[1],
    "load without compiling": lambda model, folder: (
        model.save(folder / "m.keras"),
        keras.models.load_model(folder / "m.keras", compile=False),
    )[1],
    "save_weights": lambda model, folder: with_weights(model, folder / "m.weights.h5"),
    "save_weights, in parts": lambda model, folder: with_weights(model, folder / "m.weights.json", max_shard_size=1e-5),
    "copy.deepcopy": lambda model, folder: copy.deepcopy(model),
    "pickle": lambda model, folder: pickle.loads(pickle.dumps(model)),
    "ExportArchive": lambda model, folder: archived(model, folder / "m"),
    "tf.saved_model.save": lambda model, folder: as_saved_model(model, folder / "m"),
}


@pytest.mark.parametrize("make", SAME.values(), ids=SAME)
def test_the_same_answers(make, model, tmp_path):
    images = X.astype("float32")
    answers = keras.ops.convert_to_numpy(make(model, tmp_path)(images))
    np.testing.assert_allclose(answers, keras.ops.convert_to_numpy(model(images)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", [SAME["save"], SAME["copy.deepcopy"], SAME["pickle"]])
def test_the_state_of_the_optimizer_goes_along(make, model, tmp_path):
    other = make(model, tmp_path)
    assert other.compiled
    for ours, theirs in zip(model.optimizer.variables, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_model_of_the_configuration_is_new_and_of_its_class(model):
    for other in (keras.models.model_from_json(model.to_json()), type(model).from_config(model.get_config())):
        assert type(other) is type(model)
        assert [weight.shape for weight in other.weights] == [weight.shape for weight in model.weights]
        other.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
        assert np.isfinite(other.fit(X, Y, verbose=0).history["loss"]).all()


def test_layers_can_be_looked_at_and_their_tensors_used(model):
    model.summary(print_fn=lambda *_: None)
    assert keras.utils.model_to_dot(model) is not None
    assert [layer.name for layer in model.layers] == [
        one.name for one in map(model.get_layer, [x.name for x in model.layers])
    ]
    features = keras.Model(model.inputs, model.heads.input)
    assert features.predict(X, verbose=0).shape == (8, 6)


REFUSED = {  # what is done to a model and a file, and what answers
    "save as .h5": (
        lambda model, path: model.save(path.with_suffix(".h5")),
        "saved as a .keras file, got .*Pass a path",
    ),
    "save as .hdf5": (lambda model, path: model.save(str(path) + ".hdf5"), "saved as a .keras file"),
    "ModelCheckpoint as .h5": (
        lambda model, path: model.fit(
            X, Y, verbose=0, callbacks=[keras.callbacks.ModelCheckpoint(path.with_suffix(".h5"))]
        ),
        "saved as a .keras file",
    ),
    "save_weights as .h5": (
        lambda model, path: model.save_weights(path.with_suffix(".h5")),
        "must end in `.weights.h5`",
    ),
    "quantize": (lambda model, path: model.quantize("int8"), r"can't be quantized in place.*model.fused\(\)"),
    "clone_model": (lambda model, path: keras.models.clone_model(model), "clone_model makes a plain network"),
    "quantized layer": (
        lambda model, path: (model.heads.dense.quantize("int8"), model.save(path)),
        r"quantized layers \(dense\) can't be saved",
    ),
    "LoRA": (
        lambda model, path: (model.heads.dense.enable_lora(2), model.save(path)),
        "as by enable_lora, can't be saved",
    ),
    "dtype_policy": (
        lambda model, path: (setattr(model, "dtype_policy", "mixed_bfloat16"), model.save(path)),
        "built with the dtype policy 'float32'.*pass `dtype` when it is built",
    ),
    "add_loss": (lambda model, path: model.add_loss(0.1), "^$"),
}


@pytest.mark.parametrize(("do", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_touches_nothing(do, message, tmp_path):
    model = trained()
    paths = [tmp_path / f"m{suffix}" for suffix in (".keras", ".h5", ".keras.hdf5")]
    for path in paths:
        path.write_bytes(b"the one before")
    with pytest.raises((ValueError, NotImplementedError), match=message):
        do(model, paths[0])
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"the one before"}
    assert len(list(tmp_path.iterdir())) == 3


def test_a_deep_ensemble_is_refused_likewise(tmp_path):
    ensemble = mixmo_keras.DeepEnsemble([tiny.model()])
    with pytest.raises(ValueError, match=r"saved as a .keras file"):
        ensemble.save(tmp_path / "m.h5")
    with pytest.raises(ValueError, match="can't be quantized in place"):
        ensemble.quantize("int8")


def test_a_file_is_the_old_one_where_saving_fails(model, tmp_path, monkeypatch):
    path = tmp_path / "m.keras"
    model.save(path)
    before = path.read_bytes()
    monkeypatch.setattr(type(model.heads), "save_own_variables", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_that_a_link_leads_to_is_written(model, tmp_path):
    (tmp_path / "link.keras").symlink_to(tmp_path / "m.keras")
    model.save(tmp_path / "link.keras")
    assert (tmp_path / "link.keras").is_symlink()
    keras.models.load_model(tmp_path / "m.keras")


def test_a_fused_model_can_be_quantized_and_saved(model, tmp_path):
    network = model.fused()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers that Keras leaves as they are
        network.quantize("int8")
    network.save(tmp_path / "m.keras")
    answers = keras.models.load_model(tmp_path / "m.keras").predict(X, verbose=0)
    np.testing.assert_allclose(answers, network.predict(X, verbose=0), rtol=1e-5)


def test_backup_and_restore_goes_on_where_training_was(tmp_path):
    def fit(callbacks, model):
        return model.fit(X, Y, batch_size=4, epochs=3, shuffle=False, verbose=0, callbacks=callbacks)

    def new():
        model = tiny.model(augmentation=None, batch_repetitions=1)
        model.compile(keras.optimizers.SGD(0.01, 0.9), run_eagerly=True)
        return model

    whole, first, second = new(), new(), new()
    fit([], whole)
    with pytest.raises(KeyboardInterrupt):
        fit([keras.callbacks.BackupAndRestore(tmp_path), tiny.Die(3)], first)
    fit([keras.callbacks.BackupAndRestore(tmp_path)], second)
    weights = [[weight.numpy() for weight in model.trainable_weights] for model in (whole, second)]
    assert tiny.equal_weights(*weights)


# -- what was changed after a model was built ----------------------------------------------------------------------------


def frozen_core(model):
    model.core.trainable = False


def one_layer(model):
    model.core.trainable = False
    next(layer for layer in model.core.layers if layer.weights).trainable = True


def one_weight(model):
    model.heads.dense.bias.trainable = False


def one_encoder(model):
    model.encoders.encoders[1].trainable = False


CHANGES = [frozen_core, one_layer, one_weight, one_encoder]


def names(variables):
    return [variable.path.split("/")[-1] for variable in variables]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("when", ["before compile", "after fit"])
def test_what_is_trained_and_the_optimizer_are_in_the_file(change, when, tmp_path):
    model = trained()
    change(model)
    if when == "before compile":
        model.compile(keras.optimizers.SGD(0.01, 0.9), run_eagerly=True)
        model.fit(X, Y, batch_size=4, verbose=0)
    loaded = saved(model, tmp_path / "m.keras")
    assert names(loaded.trainable_weights) == names(model.trainable_weights)
    flags = [[layer.trainable for layer in one._flatten_layers()] for one in (loaded, model)]
    assert flags[0] == flags[1]
    for ours, theirs in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    loaded.run_eagerly = True
    figures = [one.fit(X, Y, batch_size=4, shuffle=False, verbose=0).history for one in (model, loaded)]
    assert figures[0] == figures[1]
    assert tiny.equal_weights(model, loaded)


def test_a_model_of_frozen_weights_alone_stays_so(tmp_path):
    model = trained()
    model.trainable = False
    assert saved(model, tmp_path / "m.keras").trainable_weights == []


def test_settings_of_layers_are_in_the_file(tmp_path):
    model = trained()
    norm = next(layer for layer in model.core.layers if isinstance(layer, keras.layers.BatchNormalization))
    convolution = next(layer for layer in model.core.layers if isinstance(layer, keras.layers.Conv2D))
    norm.momentum, convolution.activation = 0.5, keras.activations.relu
    convolution.kernel_regularizer = keras.regularizers.L2(0.1)
    loaded = saved(model, tmp_path / "m.keras")
    assert loaded.core.get_layer(norm.name).momentum == 0.5
    assert loaded.core.get_layer(convolution.name).activation is keras.activations.relu
    assert float(loaded.core.get_layer(convolution.name).kernel_regularizer.l2) == pytest.approx(0.1)
    np.testing.assert_array_equal(loaded(X), model(X))
    assert "changed_layers" not in trained().get_config()


def test_the_backbone_is_in_the_file_as_it_was_when_the_model_was_built(tmp_path):
    backbone = tiny.backbone()
    model = tiny.model(backbone=backbone)
    backbone.core.trainable = False
    assert len(saved(model, tmp_path / "m.keras").trainable_weights) == len(model.trainable_weights)


def test_fine_tuning_of_a_core_that_was_frozen_later_is_left_out(tmp_path):
    model = tiny.model()
    model.compile(keras.optimizers.SGD(0.1), fine_tuning=FineTuning(0.5))
    model.core.trainable = False
    assert saved(model, tmp_path / "m.keras").fine_tuning is None


def test_a_step_trains_what_is_trainable_now():
    model = tiny.model(augmentation=None, batch_repetitions=1)
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(X, Y, verbose=0)
    model.core.trainable = False
    before = [weight.numpy() for weight in model.core.weights if "moving" not in weight.path]
    model.fit(X, Y, verbose=0)
    after = [weight.numpy() for weight in model.core.weights if "moving" not in weight.path]
    assert tiny.equal_weights(before, after)
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    model.fit(X, Y, verbose=0)
    model.core.trainable = True
    with pytest.raises(ValueError, match="the optimizer does not know them: call `compile` again"):
        model.fit(X, Y, verbose=0)


def test_a_model_with_nothing_to_train_says_so():
    model = tiny.model()
    model.trainable = False
    model.compile(run_eagerly=True)
    for train in (model.fit, model.train_on_batch):
        with pytest.raises(ValueError, match=r"has nothing to train: all its weights are frozen. Call `evaluate`"):
            train(X, Y)
    model.evaluate(X, Y, verbose=0)
