"""What a run says while it trains."""

import contextlib
import types

import pytest
import tiny

from mixmo_keras import datasets, metrics, tasks
from mixmo_keras.common import files
from mixmo_keras.experiments import Recipe, results, running
from mixmo_keras.experiments.epochs import EarlyStopping, Expectation, MemberFigures
from mixmo_keras.experiments.results import kept_file, was_long_ago


def trained(epochs: int, steps: int, seconds: float, validation: float = 0.0, skipped: int = 0) -> list[str]:
    """What is said in a training whose first step takes a minute and the others so many seconds."""
    said: list[str] = []
    now = [0.0]
    callback = Expectation(said.append, lambda: now[0])
    callback.set_params({"epochs": epochs, "steps": steps})
    model = types.SimpleNamespace(steps_to_skip=skipped)
    callback.set_model(model)
    for epoch in range(epochs):
        callback.on_epoch_begin(epoch)
        for step in range(steps):
            callback.on_train_batch_begin(step)
            if model.steps_to_skip:
                model.steps_to_skip -= 1
                now[0] += 0.001
            else:
                now[0] += seconds if epoch or step > skipped else 60
            callback.on_train_batch_end(step)
        now[0] += validation
        callback.on_epoch_end(epoch)
    return [line.strip() for line in said]


def test_the_end_is_estimated_after_the_first_steps_and_said_after_the_second_epoch():
    first, second = trained(epochs=10, steps=100, seconds=1.0, validation=20)
    # after 6 steps, of which the first is not counted: 994 are left
    assert first.startswith("an epoch of 100 steps takes about 2 min: epoch 10 ends in about 17 min, ")
    assert second.startswith("an epoch took 2 min, validation included: epoch 10 ends in about 16 min, ")


def test_steps_that_are_skipped_are_not_counted():
    first, _ = trained(epochs=10, steps=100, seconds=1.0, skipped=40)
    assert first.startswith("an epoch of 100 steps takes about 2 min: epoch 10 ends in about 16 min, ")  # 954 steps


def test_of_short_trainings_little_is_said():
    assert trained(epochs=2, steps=3, seconds=0.1) == []
    [line] = trained(epochs=4, steps=3, seconds=0.1)
    assert line.startswith("an epoch took 0 s, validation included: epoch 4 ends in about 1 s, ")


def test_the_accuracy_of_each_member_is_logged(eagerly):
    model, (images, labels) = tiny.model(), tiny.data(20)
    callback = MemberFigures([(images[:12], labels[:12]), (images[12:], labels[12:])])
    callback.set_model(model)
    logs = {"val_accuracy": 0.5}
    callback.on_epoch_end(0, logs)
    members = model.predict_members(images, verbose=0)
    assert logs == {
        "val_accuracy": 0.5,
        "val_member_0_accuracy": metrics.accuracy(members[:, 0], labels),
        "val_member_1_accuracy": metrics.accuracy(members[:, 1], labels),
    }


def test_a_single_network_has_no_members_to_log():
    callback = MemberFigures([])
    callback.set_model(types.SimpleNamespace(num_members=1))
    logs: dict = {}
    callback.on_epoch_end(0, logs)
    assert logs == {}


def ended_after(values: list[float], patience: int, before: int = 0) -> int:
    """The epochs of a training that is stopped early, of which the log has some before it goes on."""
    callback = EarlyStopping(patience, "val_accuracy", "max", [{"val_accuracy": value} for value in values[:before]])
    model = types.SimpleNamespace(stop_training=False)
    callback.set_model(model)
    for epoch, value in enumerate(values[before:], before):
        if callback.is_over() or model.stop_training:
            return epoch
        callback.on_epoch_end(epoch, {"val_accuracy": value})
    return len(values)


def test_a_training_ends_early_wherever_it_was_killed():
    values = [0.5, 0.7, 0.6, 0.7, 0.6, 0.9, 0.9]
    for before in range(5):
        assert ended_after(values, 2, before) == max(before, 4)  # equal is no new best
        assert ended_after(values, 4, before) == len(values)


def test_a_run_ends_early_by_its_recipe(tmp_path):
    options: dict = {}
    model = types.SimpleNamespace(fit=lambda *data, **given: options.update(given), task=tasks.Classification(10))
    checkpoints = types.SimpleNamespace(
        position=types.SimpleNamespace(epoch=0), on_sigterm=lambda: contextlib.nullcontext(None), files=dict
    )
    data = types.SimpleNamespace(train=datasets.load("digits", "train").take(8), validation=None)
    recipe = Recipe(dataset="digits", method="single", batch_size=4, batch_repetitions=1, early_stopping=2).resolved()
    running.fit(recipe, model, data, checkpoints, tmp_path)
    (stopping,) = [callback for callback in options["callbacks"] if isinstance(callback, EarlyStopping)]
    stopping.set_model(model)
    model.stop_training = False
    for epoch, accuracy in enumerate((0.5, 0.4, 0.4)):
        assert not model.stop_training
        stopping.on_epoch_end(epoch, {"val_accuracy": accuracy})
    assert model.stop_training


def test_the_file_of_the_epoch_that_a_run_keeps(tmp_path):
    assert kept_file(tmp_path) == tmp_path / "last.keras"
    for keep in ("last", "best"):
        files.write_json(tmp_path / "config.json", {"keep": keep})
        assert kept_file(tmp_path) == tmp_path / f"{keep}.keras"


def test_a_best_epoch_of_long_ago_is_told_from_a_recent_one():
    for best, last, accuracies, expected in (
        (5, 20, (0.9, 0.8), True),
        (15, 20, (0.9, 0.8), True),
        (16, 20, (0.9, 0.8), False),
        (5, 20, (0.8, 0.8), False),
        (1, 3, (0.9, 0.8), False),
    ):
        validation = {
            "best": {"epoch": best, "accuracy": accuracies[0]},
            "last": {"epoch": last, "accuracy": accuracies[1]},
        }
        assert was_long_ago(validation) == expected


@pytest.mark.parametrize("keep", ["last", "best"])
def test_a_best_epoch_of_long_ago_is_named_with_what_keeps_it(keep, monkeypatch, capsys):
    for name in ("rows", "in_columns"):
        monkeypatch.setattr(results.report, name, lambda *_: [])
    validation = {"best": {"epoch": 5, "accuracy": 0.9}, "last": {"epoch": 20, "accuracy": 0.8}}
    figures = {"name": "mine", "epochs": 20, "keep": keep, "training_seconds": 1.0, "saved_model": None}
    results.print_table(figures | {"test": {"images": 4}, "validation": validation})
    said = capsys.readouterr().out
    assert f"after epoch {20 if keep == 'last' else 5}" in said
    assert ("--keep best tests and exports it without training again" in said) == (keep == "last")
