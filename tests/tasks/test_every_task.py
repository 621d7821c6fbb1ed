"""Each task beside classes: trained, saved, loaded, resumed, calibrated, exported; and a new one in a few lines."""

import keras
import numpy as np
import pytest
import tiny
from every_task import X, model, targets_and_tasks
from ordinal import Ordinal

import mixmo_keras
from mixmo_keras import tasks
from mixmo_keras.evaluation import report
from mixmo_keras.metrics import several_labels
from mixmo_keras.models import reference_checkpoints
from mixmo_keras.tasks.task import Task

NAMES = list(targets_and_tasks())
# one stands for all in `make test`; test_every_method.py has each task under each method, slow too
one_task = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "multi_label" else pytest.mark.slow) for name in NAMES]
)


def trained(name: str, **options):
    task, y = targets_and_tasks()[name]
    made = model(task, **options)
    made.fit(X, y, batch_size=8, verbose=0)
    return made, y


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in ("binary", "multi_label"))) for name in NAMES]
)
def test_the_whole_path(name, tmp_path):
    made, y = trained(name)
    before = made.figures(X, y)["ensemble"]["nll"]
    made.calibrate(X, y)
    assert made.figures(X, y)["ensemble"]["nll"] <= before + 0.05
    assert np.isfinite(made.evaluate(X, y, verbose=0)).all()
    answers = made.answers(X)
    assert all(len(values) == len(X) for values in answers.values())

    made.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.task == made.task
    assert loaded.task.get_config() == made.task.get_config()
    for answer, values in loaded.answers(X).items():  # with temperature, thresholds, intervals
        np.testing.assert_allclose(values, answers[answer], rtol=1e-4, atol=1e-5)
    loaded.fit(X, y, batch_size=8, verbose=0)
    made.fit(X, y, batch_size=8, verbose=0)
    assert tiny.equal_weights(loaded, made)

    together = mixmo_keras.DeepEnsemble([made, loaded])
    np.testing.assert_allclose(
        together.predict(X, verbose=0), together.pooled(together.predict_members(X, verbose=0)), rtol=1e-4
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_temperature_that_does_harm_is_not_kept(name, monkeypatch, caplog):
    """By the rule of classes: of images that it was not fitted on. Thresholds and intervals are fitted all the same."""
    made, y = trained(name)
    fitted = made.calibrate(X[:9], y[:9])
    assert fitted == made.temperature == 1
    assert f"9 validation images are too few to fit it on, {made.task.least_to_calibrate} are the least" in caplog.text
    answers = {"binary": "thresholds", "multi_label": "thresholds", "regression": "width"}.get(name)
    values = None if answers is None else getattr(made.average, answers).copy()

    monkeypatch.setattr(type(made.task), "calibrate", lambda *_: 0.01)  # a fit gone wrong
    images, targets = np.tile(X, (3, 1, 1, 1)), np.concatenate([y] * 3)
    assert made.calibrate(images, targets) == made.temperature == 1
    assert "a higher NLL under the other half's temperature" in caplog.text
    assert answers is None or (getattr(made.average, answers) != values).any()


def test_temperatures_of_labels_that_do_harm_are_not_kept(monkeypatch):
    made, y = trained("multi_label")
    made.task = tasks.MultiLabel(3, temperature_by_label=True)
    monkeypatch.setattr(several_labels, "fit_temperatures", lambda *_: [0.01, 1.0, 1.0])
    made.calibrate(np.tile(X, (3, 1, 1, 1)), np.concatenate([y] * 3))
    np.testing.assert_array_equal(made.average.label_temperatures, 1)


@one_task
def test_a_killed_run_goes_on_to_the_same_weights(name, tmp_path):
    task, y = targets_and_tasks()[name]
    whole = model(task)
    whole.fit(X, y, batch_size=8, epochs=2, shuffle=False, verbose=0)

    killed, checkpoints = model(task), mixmo_keras.checkpoints.Checkpoints(tmp_path, every_steps=1)
    with pytest.raises(KeyboardInterrupt):
        killed.fit(X, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=[checkpoints, tiny.Die(4)])
    again, checkpoints = model(task), mixmo_keras.checkpoints.Checkpoints(tmp_path, every_steps=1)
    position = checkpoints.restore(again)
    options = dict(batch_size=8, epochs=2, initial_epoch=position.epoch, shuffle=False, verbose=0)
    again.fit(X, y, callbacks=[checkpoints], **options)
    assert tiny.equal_weights(
        [w.numpy() for w in again.trainable_weights], [w.numpy() for w in whole.trainable_weights]
    )


@one_task
def test_a_saved_model_serves_the_answers(name, tmp_path):
    import tensorflow as tf

    made, y = trained(name)
    made.calibrate(X, y)
    path = made.export(tmp_path / "served" / "1")
    signatures = tf.saved_model.load(str(path)).signatures
    answers = made.answers(X)
    served = {**signatures["serving_default"](images=tf.constant(X, "float32"))}
    served |= signatures["members"](images=tf.constant(X, "float32"))
    assert served.keys() - {"names"} == answers.keys()
    assert {name.decode() for name in served["names"].numpy()[3]} == set(made.task.names(None))
    for answer, values in answers.items():
        np.testing.assert_allclose(served[answer], values, rtol=1e-4, atol=1e-4, err_msg=answer)
    card = (path / "model_card.md").read_text()
    assert all(part in card for part in made.task.names(None))
    fused = made.fused()
    np.testing.assert_allclose(fused.predict(X, verbose=0), made.predict(X, verbose=0), rtol=1e-3, atol=1e-3)


@pytest.mark.slow  # a process that compiles for JAX; test_steps.py has one of classes
def test_on_jax():
    assert tiny.script("tasks_on_jax.py", backend="jax").split() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_for_classes_says_so(name):
    task, _ = targets_and_tasks()[name]
    made = model(task)
    reason = "it is written for one class an image"
    with pytest.raises(ValueError, match="`label_noise` is about one class an image"):
        mixmo_keras.evaluation.evaluate(made, [], ["a"], label_noise=0.1)
    with pytest.raises(ValueError, match=f"can't answer several images in one pass: {reason}"):
        made.predict_multiplexed(X)
    with pytest.raises(ValueError, match=reason):
        reference_checkpoints._weights(made)  # which needs no PyTorch
    with pytest.raises(AttributeError, match=f"no `num_classes`: {reason}"):
        _ = made.num_classes
    with pytest.raises(ValueError, match="is short for"):
        mixmo_keras.MixMo(tiny.backbone(), num_classes=3, task=task)


# -- a new task is one file ----------------------------------------------------------------------------------------------


def test_a_new_task(tmp_path):
    assert issubclass(Ordinal, Task)
    grades = np.arange(24) % 4
    made = model(Ordinal(3), msda="cutmix")
    made.fit(X, grades, batch_size=8, validation_data=(X, grades), verbose=0)
    made.calibrate(X, grades)
    assert 0 <= made.answers(X)["grade"].min() <= made.answers(X)["grade"].max() <= 3
    made.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        keras.models.load_model(tmp_path / "model.keras").predict(X, verbose=0), made.predict(X, verbose=0)
    )
    batches = [(X, grades)]
    evaluated = mixmo_keras.evaluation.evaluate(made, batches, ["above 0", "above 1", "above 2"], validation=batches)
    assert evaluated.figures["task"] == "ordinal"
    assert evaluated.figures["headline"][0] in report.write(evaluated, tmp_path).read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="Grades must be integers from 0 to 3"):
        made.fit(X, grades + 1, verbose=0)
