"""Checkpoints: a run that was killed anywhere ends as the one that was not."""

import concurrent.futures
import errno
import functools
import os
import signal
import zipfile
from typing import NamedTuple

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
import tiny

import mixmo_keras
from mixmo_keras import checkpoints, datasets
from mixmo_keras.training import checkpoint_files
from mixmo_keras.training.checkpoints import Checkpoints, Position
from mixmo_keras.training.weight_averaging import SwapAveragedWeights

DATA = tf.data.Dataset.from_tensor_slices(tiny.data(44))
STEPS, EPOCHS = 5, 3


class Interrupt(keras.callbacks.Callback):
    """Does something after so many training steps (`step`) or in the validation of an epoch (`epoch`)."""

    def __init__(self, action, step=None, epoch=None):
        super().__init__()
        self.action, self.step, self.in_validation_of, self.done, self.epoch = action, step, epoch, 0, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.done += 1
        if self.done == self.step:
            self.action()

    def on_test_batch_begin(self, batch, logs=None):
        if self.epoch == self.in_validation_of:
            self.action()


def die():
    raise KeyboardInterrupt


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


class Run(NamedTuple):
    """What a run ended with."""

    weights: list
    optimizer: list
    logs: dict[int, dict]  # by epoch
    model: mixmo_keras.MixMo  # begins anew in the next `run`


def variables(model) -> list:
    return [*model.variables, *model.optimizer.variables]


@functools.cache
def network(ema=False, **compiled):
    """A model and the values of its variables: most of a run's time would go into tracing its step."""
    model = tiny.model(learning_rate=None)
    optimizer = keras.optimizers.SGD(model.schedule, 0.9, use_ema=ema, ema_momentum=0.8, **compiled)
    model.compile(optimizer)
    optimizer.build(model.trainable_variables)
    return model, [np.array(variable) for variable in variables(model)]


@pytest.fixture(autouse=True, scope="module")
def _forget_networks():
    yield
    network.cache_clear()


def run(folder, *callbacks, every_steps=2, ema=False, new=False, **compiled) -> Run:
    """Trains for `EPOCHS` or from where a checkpoint is: a model as it was built, if not a new one.

    Averages of statistics are variables that a run adds to its model, which is a new one then.
    """
    model, values = (network.__wrapped__ if new or ema else network)(ema, **compiled)
    for variable, value in zip(variables(model), values, strict=True):
        variable.assign(value)
    resuming = Checkpoints(folder, every_steps=every_steps)
    position = resuming.restore(model)
    logs = {}
    record = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, values: logs.update({epoch: dict(values)}))
    swap = [SwapAveragedWeights()] if ema else []
    with resuming.on_sigterm() as preemption:
        model.fit(
            datasets.batches(DATA, 8, training=True, first_epoch=position.epoch),
            steps_per_epoch=STEPS,
            validation_data=datasets.batches(DATA, 16),
            initial_epoch=position.epoch,
            epochs=EPOCHS,
            verbose=0,
            callbacks=[*callbacks, preemption, record, *swap, resuming],
        )
    return Run(model.get_weights(), [np.array(variable) for variable in model.optimizer.variables], logs, model)


def assert_same(resumed, whole):
    assert tiny.equal_weights(resumed.weights, whole.weights)
    assert tiny.equal_weights(resumed.optimizer, whole.optimizer)
    assert resumed.logs == {epoch: whole.logs[epoch] for epoch in resumed.logs}
    assert EPOCHS - 1 in resumed.logs


def test_sigterm_is_left_alone_in_another_thread(tmp_path):
    """Python lets the main thread alone handle signals; a notebook's or server's threads train all the same."""
    before = signal.getsignal(signal.SIGTERM)

    def enter() -> bool:
        with Checkpoints(tmp_path).on_sigterm():
            return signal.getsignal(signal.SIGTERM) is before

    with concurrent.futures.ThreadPoolExecutor() as pool:
        assert pool.submit(enter).result()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole"), new=True)


# steps: before the first checkpoint, on one, past one, the last of an epoch, the first of one, the very last
@pytest.mark.parametrize("step", [2, 5, 15, *(pytest.param(step, marks=pytest.mark.slow) for step in (1, 3, 6))])
def test_a_killed_run_ends_as_the_one_that_was_not(step, tmp_path, whole):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Interrupt(die, step))
    assert_same(run(tmp_path), whole)


@pytest.mark.slow  # each alone is killed and gone on with above and below
@pytest.mark.parametrize(
    "options",
    [
        dict(gradient_accumulation_steps=2, global_clipnorm=0.5, ema=True),
        dict(gradient_accumulation_steps=2, global_clipnorm=0.5),
        dict(gradient_accumulation_steps=2, ema=True),
    ],
)
def test_with_averaged_weights_and_accumulated_gradients(options, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", Interrupt(die, 8), **options)
    assert_same(run(tmp_path / "killed", **options), run(tmp_path / "whole", **options))


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    return run(tmp_path_factory.mktemp("averaged"), ema=True)


# killed in an epoch, at its end, and in validation, where the averaged weights are in the model
@pytest.mark.slow
@pytest.mark.parametrize(
    "when", [dict(step=1), dict(step=8), dict(step=10), dict(step=15), dict(epoch=0), dict(epoch=2)]
)
def test_averaged_weights_and_statistics_of_a_killed_run(when, tmp_path, averaged):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Interrupt(die, **when), ema=True)
    assert_same(run(tmp_path, ema=True), averaged)


@pytest.mark.slow  # without averages below, and killed with them above
@pytest.mark.parametrize("when", [dict(step=5), dict(epoch=1)])
def test_sigterm_with_averaged_weights(when, tmp_path, averaged):
    with pytest.raises(SystemExit):
        run(tmp_path, Interrupt(terminate, **when), every_steps=None, ema=True)
    assert_same(run(tmp_path, ema=True), averaged)


@pytest.mark.slow  # once above
def test_a_run_killed_again_and_again(tmp_path, whole):
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, Interrupt(die, 4))
    (tmp_path / ".part-epoch-0001-step-000004.npz").write_bytes(b"killed while it wrote")
    assert_same(run(tmp_path, new=True), whole)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("when", [dict(step=3), dict(step=5), dict(epoch=1)])
def test_sigterm_saves_and_exits_with_0(when, tmp_path, whole, capsys):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as exit:
        run(tmp_path, Interrupt(terminate, **when), every_steps=None)
    assert exit.value.code == 0
    expected = Position(0, when["step"]) if "step" in when else Position(1, STEPS)
    assert max(Checkpoints(tmp_path).files()) == expected
    assert f"stopped in epoch {expected.epoch + 1} after step {expected.step}" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) is before
    assert_same(run(tmp_path), whole)


def test_a_finished_run_does_nothing_more(tmp_path, whole):
    run(tmp_path)
    again = run(tmp_path)
    assert again.logs == {}
    assert tiny.equal_weights(again.weights, whole.weights)


def test_the_last_two_are_kept_and_nothing_else(tmp_path):
    run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "epoch-0002-step-000004.npz",
        "epoch-0003-step-000000.npz",
    ]


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "truncated":
        content = content[: len(content) // 2]
    elif how == "empty":
        content = b""
    else:  # in the middle of the longest array: not everything between arrays is looked at
        with zipfile.ZipFile(path) as archive:
            longest = max(archive.infolist(), key=lambda entry: entry.compress_size)
        content[longest.header_offset + longest.compress_size // 2 + 100] ^= 1
    path.write_bytes(content)


# the one before is emptied below in any case
@pytest.mark.parametrize(
    "how", [*(pytest.param(how, marks=pytest.mark.slow) for how in ("truncated", "empty")), "one bit"]
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(how, tmp_path, whole):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Interrupt(die, 9))
    before, newest = Checkpoints(tmp_path).files().values()
    damage(newest, how)
    model = tiny.model()
    with pytest.warns(UserWarning, match=f"Checkpoint {newest} is damaged .*; the one before it is tried"):
        assert Checkpoints(tmp_path).restore(tiny.model(learning_rate=None)) == Position(1, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [before.name, f"{newest.name}.damaged"]
    assert_same(run(tmp_path), whole)
    (before, newest) = Checkpoints(tmp_path).files().values()
    damage(newest, how)
    damage(before, "empty")
    with pytest.warns(UserWarning, match="is damaged"), pytest.raises(ValueError, match=r"All checkpoints in .* are"):
        Checkpoints(tmp_path).restore(model)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(
        ValueError, match=r"of another model or optimizer: .* the first that differs is model/\d+/kernel"
    ):
        Checkpoints(tmp_path).restore(tiny.model(num_classes=7))
    adam = tiny.model()
    adam.compile("adam")
    with pytest.raises(ValueError, match="of another model or optimizer"):
        Checkpoints(tmp_path).restore(adam)


def test_another_runs_checkpoints_are_not_mixed_in(tmp_path):
    run(tmp_path)
    with pytest.raises(ValueError, match="is of a run that has come further than this one"):
        tiny.model().fit(*tiny.data(), verbose=0, callbacks=[Checkpoints(tmp_path)])
    assert max(Checkpoints(tmp_path).files()) == Position(EPOCHS)


def test_a_full_disk_leaves_the_earlier_checkpoints(tmp_path, monkeypatch):
    def fail(file, **arrays):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    run(tmp_path)
    files = sorted(tmp_path.iterdir())
    monkeypatch.setattr(np, "savez", fail)
    resuming = Checkpoints(tmp_path)
    resuming.set_model(tiny.model(learning_rate=None))
    with pytest.raises(OSError, match="No space left"):
        resuming.save(Position(9))
    assert sorted(tmp_path.iterdir()) == files


def test_a_loss_gone_nan_is_not_saved(tmp_path):
    model = tiny.model(learning_rate=float("inf"))
    resuming = Checkpoints(tmp_path)
    with pytest.raises(FloatingPointError):
        model.fit(*tiny.data(), batch_size=2, epochs=2, verbose=0, callbacks=[resuming])
    assert resuming.files() == {}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64", "bool"])
def test_arrays_come_back_bit_for_bit(dtype, tmp_path):
    array = np.random.default_rng(0).normal(size=(2, 3)).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    checkpoints.write(tmp_path / "a.npz", {"seconds": 1.5}, [array, np.float32(2)])
    header, (read, scalar) = checkpoint_files.read(tmp_path / "a.npz")
    assert header["seconds"] == 1.5
    assert (read.dtype, read.tobytes(), scalar) == (array.dtype, array.tobytes(), 2)


@pytest.mark.parametrize("kind", ["checkpoint", "model.keras"])
def test_a_warm_start_takes_the_weights_and_nothing_else(kind, tmp_path, whole):
    trained = whole.model
    path = tmp_path / kind
    if kind == "model.keras":
        trained.save(path)
    else:
        run(tmp_path)
        path = tmp_path / "epoch-0003-step-000000.npz"
    model = tiny.model()
    checkpoints.warm_start(model, path)
    assert int(model.step_counter) == 0
    assert float(model.clock.progress(0)) == -1
    x, _ = tiny.data()
    assert np.array_equal(model.predict(x, verbose=0), trained.predict(x, verbose=0))
    with pytest.raises(ValueError, match="is of another model: it has no model/"):
        checkpoints.warm_start(tiny.model(num_members=3), path)


@pytest.mark.parametrize("kind", ["checkpoint", "last.keras"])
def test_a_network_of_other_members_is_begun_as_not_warm_started_from(kind, tmp_path):
    single = tiny.model(num_members=1)
    path = tmp_path / "last.keras"
    single.save(path)
    if kind == "checkpoint":
        single.build_optimizer()
        kept = Checkpoints(tmp_path)
        kept.set_model(single)
        kept.save(Position(1))
        path = tmp_path / "epoch-0001-step-000000.npz"
    advice = r"it has no model/.* of shape .*is what another begins as.*from_classifier\(.*or --backbone RUN/last.keras"
    with pytest.raises(ValueError, match=advice):
        checkpoints.warm_start(tiny.model(), path)
    x, _ = tiny.data()
    begun = mixmo_keras.from_classifier(tmp_path / "last.keras", seed=0, verbose=False)
    np.testing.assert_allclose(begun(x), single(x), atol=1e-4)


def test_a_warm_start_from_what_is_no_checkpoint(tmp_path):
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match="of another model: a Sequential, not a MixMo"):
        checkpoints.warm_start(tiny.model(), tmp_path / "other.keras")


@pytest.mark.parametrize(("options", "message"), [(dict(every_steps=0), "`every_steps`"), (dict(keep=0), "`keep`")])
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        Checkpoints("anywhere", **options)


@pytest.mark.slow
def test_jax_resumes_exactly_too(tmp_path):
    assert tiny.script("jax_resume.py", tmp_path, backend="jax").endswith("done\n")
