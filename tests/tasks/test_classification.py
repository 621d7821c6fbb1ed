"""Classes as a task: what `num_classes` is short for, what is mixed, and that both are saved."""

import keras
import numpy as np
import pytest
import tiny
from keras import ops

import mixmo_keras
from mixmo_keras import tasks
from mixmo_keras.metrics import calibration


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


# -- soft labels ---------------------------------------------------------------------------------------------------------


def test_soft_labels_are_evaluated_and_calibrated_by_their_shares():
    random = np.random.default_rng(0)
    right = random.normal(0, 2, (4000, 3))
    shares = np.exp(tiny.log_softmax(right))
    assert calibration.fit_temperature(2.5 * right, shares) == pytest.approx(2.5, rel=1e-6)
    members = np.repeat(2.5 * right[:, None], 2, axis=1)
    assert calibration.fit_member_temperature(members, shares) == pytest.approx(2.5, rel=1e-4)
    entropy = -(shares * np.log(shares)).sum(-1).mean()
    figures = mixmo_keras.metrics.network_figures(right, shares)
    assert figures["nll"] == pytest.approx(entropy)
    assert figures["brier"] == pytest.approx(0, abs=1e-12)
    assert figures["accuracy"] == 1  # the class with the most
    by_hand = mixmo_keras.metrics.brier_score(np.zeros((1, 2)), np.array([[0.75, 0.25]]))
    assert by_hand == pytest.approx(2 * 0.25**2)


def test_an_evaluation_of_soft_labels(tmp_path):
    x, y = tiny.data(60)
    shares = np.random.default_rng(1).dirichlet(np.ones(tiny.NUM_CLASSES), 60).astype("float32")
    shares[:8] = np.eye(tiny.NUM_CLASSES)[y[:8]]  # a batch of one-hot rows among others
    model = tiny.model()
    batches = [(x[first : first + 8], shares[first : first + 8]) for first in range(0, 60, 8)]
    names = [f"class {number}" for number in range(tiny.NUM_CLASSES)]
    evaluated = mixmo_keras.evaluation.evaluate(model, batches, names, validation=batches, temperature=True)
    expected = -(shares * tiny.log_softmax(evaluated.logits)).sum(-1).mean()
    assert evaluated.figures["ensemble"]["nll"] == pytest.approx(expected, rel=1e-5)
    np.testing.assert_array_equal(evaluated.labels, shares.argmax(-1))
    assert (mixmo_keras.evaluation.report.write(evaluated, tmp_path)).is_file()
