"""Classes as a task: what `num_classes` is short for, what is mixed, and that both are saved."""

import keras
import numpy as np
import pytest
import tiny
from keras import ops

import mixmo_keras
from mixmo_keras import tasks


def test_num_classes_is_short_for_classification():
    model = tiny.model()
    assert model.task == tasks.Classification(tiny.NUM_CLASSES)
    assert model.num_classes == tiny.NUM_CLASSES
    assert tiny.model(num_classes=None, task=tasks.Classification(4)).output_shape == (None, 4)
    assert tiny.model(num_classes=4, task=tasks.Classification(4)).num_classes == 4
    assert mixmo_keras.CutMixMo(tiny.backbone()).num_classes == 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            dict(num_classes=5, task=tasks.Classification(4)),
            r"`num_classes` \(=5\) is short for .*, and `task` is Classification\(num_classes=4\)",
        ),
        (dict(task="classification"), r"`task` must be a task of mixmo_keras\.tasks, .*, got 'classification'"),
        (dict(num_classes=None, task=tasks.Classification), r"`task` must be a task of mixmo_keras\.tasks"),
    ],
)
def test_what_does_not_agree(options, message):
    with pytest.raises(ValueError, match=message):
        tiny.model(**options)


@pytest.mark.parametrize("wrong", [1, 2.5, "3", None, True])
def test_a_number_of_classes(wrong):
    with pytest.raises(ValueError, match="`num_classes` must be an integer of at least 2"):
        tasks.Classification(wrong)


def test_a_model_of_a_task_is_saved_with_it(tmp_path):
    model = tiny.model(num_classes=None, task=tasks.Classification(4))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.task == tasks.Classification(4)
    assert "num_classes" not in model.get_config()
    earlier = {name: value for name, value in model.get_config().items() if name != "task"} | {"num_classes": 4}
    assert mixmo_keras.MixMo.from_config(earlier).task == tasks.Classification(4)


def test_heads_of_earlier_files():
    layer = mixmo_keras.MultiHead(2, 5)
    config = layer.get_config()
    earlier = {name: value for name, value in config.items() if name != "num_outputs"} | {"num_classes": 5}
    assert mixmo_keras.MultiHead.from_config(earlier).get_config() == config


@pytest.mark.parametrize("form", ["integer", "one-hot"])
def test_labels_of_mixed_images(form):
    labels, partners = np.array([[0, 2]]), np.array([[1, 2]])
    if form == "one-hot":
        labels, partners = np.eye(3)[labels], np.eye(3)[partners]
    shares = ops.convert_to_tensor([[0.75, 0.6]])
    targets = tasks.Classification(3).mix(ops.convert_to_tensor(labels), ops.convert_to_tensor(partners), shares)
    np.testing.assert_allclose(targets, [[[0.75, 0.25, 0], [0, 0, 1]]], atol=1e-6)


def test_figures_are_those_of_metrics():
    model = tiny.model(num_members=3)
    x, y = tiny.data(12)
    figures = model.figures(x, y)
    member_logits, labels = model.predict_with_labels(x, y)
    assert figures["ensemble"]["accuracy"] == mixmo_keras.metrics.accuracy(model.pooled(member_logits), labels)
    assert len(figures["members"]) == 3


def test_from_classifier_takes_a_task():
    source = tiny.model(num_members=1)
    model = mixmo_keras.from_classifier(source, task=tasks.Classification(7), verbose=False)
    assert model.task == tasks.Classification(7)
    assert mixmo_keras.from_classifier(source, verbose=False).task == source.task


def test_networks_of_a_deep_ensemble_have_one_task():
    models = [tiny.model(num_classes=number) for number in (4, 5)]
    with pytest.raises(ValueError, match=r"same image shape and task; .*num_classes=4.*num_classes=5"):
        mixmo_keras.DeepEnsemble(models)
    assert mixmo_keras.DeepEnsemble([models[0], tiny.model(num_classes=4)]).task == models[0].task
