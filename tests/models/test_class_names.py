"""The names of the classes are saved with a model, and data that number the classes otherwise are refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

import mixmo_keras
from mixmo_keras import evaluation
from mixmo_keras.training import checkpoints

X, Y = tiny.data(8)
NAMES = ("ant", "bee", "cat", "dog", "eel")
MOVED = ("ant", "cat", "bee", "dog", "eel")
REFUSED = r"learned the classes in another order \(cat was 2, and is 1, bee was 1, and is 2\)"


def named(names=NAMES, **options) -> mixmo_keras.MixMo:
    model = tiny.model(**options)
    model.class_names = names
    return model


def dataset(names) -> tf.data.Dataset:
    """Batches as `keras.utils.image_dataset_from_directory` gives them."""
    batches = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    batches.class_names = list(names)
    return batches


def test_names_are_saved_with_a_model(tmp_path):
    model = named()
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").class_names == NAMES
    assert mixmo_keras.MixMo.from_config(model.get_config()).class_names == NAMES
    assert tiny.model().class_names is None
    assert "class_names" not in tiny.model().get_config()  # a file as earlier versions wrote it


def test_names_of_a_deep_ensemble(tmp_path):
    ensemble = mixmo_keras.DeepEnsemble([tiny.model(), named(seed=4)])
    assert ensemble.class_names == NAMES
    ensemble.save(tmp_path / "ensemble.keras")
    assert keras.models.load_model(tmp_path / "ensemble.keras").class_names == NAMES
    with pytest.raises(ValueError, match=REFUSED):
        mixmo_keras.DeepEnsemble([named(), named(MOVED, seed=4)])


def test_an_ensemble_that_begins_as_a_classifier_has_its_names():
    assert mixmo_keras.from_classifier(named(), verbose=False).class_names == NAMES
    assert mixmo_keras.from_classifier(named(), num_classes=5, verbose=False).class_names is None


@pytest.mark.usefixtures("eagerly")
def test_training_on_a_folder_notes_its_names():
    model = tiny.model()
    model.fit(dataset(NAMES), verbose=0)
    assert model.class_names == NAMES
    with pytest.raises(ValueError, match=REFUSED):
        model.fit(dataset(MOVED), verbose=0)
    with pytest.raises(ValueError, match=REFUSED):
        model.fit(dataset(NAMES), validation_data=dataset(MOVED), verbose=0)


@pytest.mark.parametrize(
    "meet",
    [
        lambda model, folder: model.evaluate(dataset(MOVED), verbose=0),
        lambda model, folder: model.calibrate(dataset(MOVED)),
        lambda model, folder: model.export(folder / "1", class_names=MOVED),
        lambda model, folder: evaluation.evaluate(model, [(X, Y)], MOVED),
    ],
    ids=["evaluate", "calibrate", "export", "evaluation.evaluate"],
)
def test_classes_in_another_order_are_refused(tmp_path, meet):
    with pytest.raises(ValueError, match=REFUSED):
        meet(named(), tmp_path)
    assert not (tmp_path / "1").exists()


def test_a_warm_start_from_other_numbers_is_refused(tmp_path):
    named().save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=f"model.keras {REFUSED}"):
        checkpoints.warm_start(named(MOVED), tmp_path / "model.keras")
    checkpoints.warm_start(tiny.model(), tmp_path / "model.keras")  # of which nothing is known


@pytest.mark.slow
def test_an_exported_model_answers_with_the_names(tmp_path):
    named().export(tmp_path / "1")
    answer = tf.saved_model.load(tmp_path / "1").signatures["serving_default"](images=tf.constant(X, "float32"))
    expected = np.array(NAMES)[answer["label"].numpy()]
    assert answer["class_name"].numpy().astype(str).tolist() == expected.tolist()
