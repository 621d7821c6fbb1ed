"""Each task beside classes: trained, saved, loaded, resumed, calibrated, exported; and a new one in a few lines."""

import dataclasses

import keras
import numpy as np
import pytest
import tiny
from every_task import X, model, targets_and_tasks
from keras import ops

import mixmo_keras
from mixmo_keras import tasks
from mixmo_keras.models import reference_checkpoints
from mixmo_keras.tasks.task import Task

NAMES = list(targets_and_tasks())


def trained(name: str, **options):
    task, y = targets_and_tasks()[name]
    made = model(task, **options)
    made.fit(X, y, batch_size=8, verbose=0)
    return made, y


@pytest.mark.parametrize("name", NAMES)
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


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_model_serves_the_answers(name, tmp_path):
    import tensorflow as tf

    made, y = trained(name)
    made.calibrate(X, y)
    path = made.export(tmp_path / "served" / "1")
    signatures = tf.saved_model.load(str(path)).signatures
    answers = made.answers(X)
    served = {**signatures["serving_default"](images=tf.constant(X, "float32"))}
    served |= signatures["members"](images=tf.constant(X, "float32"))
    assert served.keys() == answers.keys()
    for answer, values in answers.items():
        np.testing.assert_allclose(served[answer], values, rtol=1e-4, atol=1e-4, err_msg=answer)
    card = (path / "model_card.md").read_text()
    assert all(part in card for part in made.task.names(None))
    fused = made.fused()
    np.testing.assert_allclose(fused.predict(X, verbose=0), made.predict(X, verbose=0), rtol=1e-3, atol=1e-3)


def test_on_jax():
    assert tiny.script("tasks_on_jax.py", backend="jax").split() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_for_classes_says_so(name):
    task, _ = targets_and_tasks()[name]
    made = model(task)
    reason = "it is written for one class an image"
    with pytest.raises(ValueError, match=f"can't evaluate .*{reason}.*model.figures"):
        mixmo_keras.evaluation.evaluate(made, [], ["a"])
    with pytest.raises(ValueError, match=f"can't answer several images in one pass: {reason}"):
        made.predict_multiplexed(X)
    with pytest.raises(ValueError, match=reason):
        reference_checkpoints._weights(made)  # which needs no PyTorch
    with pytest.raises(AttributeError, match=f"no `num_classes`: {reason}"):
        _ = made.num_classes
    with pytest.raises(ValueError, match="is short for"):
        mixmo_keras.MixMo(tiny.backbone(), num_classes=3, task=task)


# -- a new task is one class ---------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("tests")
@dataclasses.dataclass(frozen=True)
class Ordinal(tasks.MultiLabel):
    """Grades from 0 to K: label k of `MultiLabel` says whether the grade is above k (Niu et al., CVPR 2016)."""

    def check_shape(self, targets):
        if len(targets.shape) != 1:
            raise ValueError(f"Grades must be (n,), got {tuple(targets.shape)}.")

    def check(self, targets):
        if not np.isin(targets, range(self.num_labels + 1)).all():
            raise ValueError(f"Grades must be integers from 0 to {self.num_labels}.")

    def wrong(self, targets):
        targets = ops.cast(targets, "float32")
        wrong = ops.logical_or(targets < 0, targets > self.num_labels)
        return ops.any(wrong), ops.min(targets), ops.max(targets)

    def prepare(self, model, x, y, steps):
        pass

    def canonical(self, targets):
        return ops.cast(targets[:, None] > np.arange(self.num_labels), "float32")

    def in_form(self, targets, form):
        return (targets if len(targets.shape) == 2 else self.canonical(targets)), form

    def to_evaluate(self, targets, count):
        self.check(np.asarray(targets))
        return ops.convert_to_numpy(self.canonical(ops.convert_to_tensor(targets)))

    def served(self, member_outputs, average):
        above = ops.sigmoid(average(member_outputs))
        return {"grade": ops.sum(above, axis=-1), "member_logits": member_outputs}


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
    with pytest.raises(ValueError, match="Grades must be integers from 0 to 3"):
        made.fit(X, grades + 1, verbose=0)
