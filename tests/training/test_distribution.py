"""Strategies: several replicas, several processes, the same training."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

from mixmo_keras import distribution

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def alone():
    return json.loads(tiny.script("same_steps.py", "none", "null"))


def assert_same_steps(together, alone):
    assert len(alone["curve"]) == 20
    assert together["labels"] == alone["labels"]  # every image once
    for name in ("curve", "validation", "predicted", "members", "weights", "statistics"):
        np.testing.assert_allclose(together[name], alone[name], rtol=1e-4, atol=1e-4, err_msg=name)


def test_two_replicas_take_the_same_steps(alone):
    assert_same_steps(json.loads(tiny.script("same_steps.py", "mirrored", "2")), alone)


@pytest.mark.slow  # two replicas in one process take them above
def test_two_workers_take_the_same_steps(alone):
    for worker in tiny.run_together([[tiny.SCRIPTS / "same_steps.py", "auto", "null"]] * 2, tiny.cluster(2)):
        assert worker.returncode == 0, worker.stderr[-3000:]
        together = json.loads(worker.stdout)
        assert together["workers"] == 2
        assert_same_steps(together, alone)


def digits(folder: Path, *options: str) -> list[str]:
    settings = "--backbone wrn10_1 --epochs 3 --checkpoint-steps 20"
    folders = ["--output-dir", str(folder / "runs"), "--export-dir", str(folder / "served")]
    return [sys.executable, str(RECIPES / "digits.py"), *settings.split(), *folders, *options]


def finish(workers):
    for worker in workers:
        _, errors = worker.communicate(timeout=300)
        assert worker.returncode == 0, errors[-3000:]


def weights(folder: Path):
    (path,) = (folder / "runs").glob("*/last.keras")
    return keras.models.load_model(path)


@pytest.mark.slow
def test_a_killed_worker_ends_the_job_which_recovers_when_all_start_again(tmp_path):
    finish(tiny.start_workers(digits(tmp_path / "whole")))

    workers = tiny.start_workers(digits(tmp_path / "killed"))
    deadline = time.monotonic() + 200
    while not list((tmp_path / "killed").glob("runs/*/checkpoints/epoch-0001-*.npz")):
        assert time.monotonic() < deadline
        assert all(worker.poll() is None for worker in workers), workers[0].communicate()
        time.sleep(0.1)
    workers[1].send_signal(signal.SIGKILL)
    _, errors = workers[0].communicate(timeout=200)
    assert workers[0].returncode != 0
    assert "another worker was lost" in errors, errors[-3000:]
    workers[1].communicate()

    finish(tiny.start_workers(digits(tmp_path / "killed")))
    assert tiny.equal_weights(weights(tmp_path / "killed"), weights(tmp_path / "whole"))
    (log,) = (tmp_path / "killed").glob("runs/*/log.csv")
    (other,) = (tmp_path / "whole").glob("runs/*/log.csv")
    assert log.read_text() == other.read_text()


@pytest.mark.slow
def test_sigterm_at_one_worker_ends_all_with_0(tmp_path):
    workers = tiny.start_workers(digits(tmp_path, "--epochs", "40"))
    while not list(tmp_path.glob("runs/*/checkpoints/*.npz")):
        assert all(worker.poll() is None for worker in workers), workers[0].communicate()
        time.sleep(0.1)
    workers[1].send_signal(signal.SIGTERM)
    for worker in workers:
        output, errors = worker.communicate(timeout=200)
        assert worker.returncode == 0, errors[-3000:]
        assert "SIGTERM: stopped in epoch" in output


# -- choosing a strategy -----------------------------------------------------------------------------------------------


def test_without_devices_or_cluster_nothing_is_distributed(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for name in ("auto", "none"):
        strategy = distribution.strategy(name)
        assert strategy.num_replicas_in_sync == 1
        assert distribution.num_workers(strategy) == 1
        assert distribution.is_chief(strategy)
        assert distribution.across_workers(strategy, 7) == [7]
    assert isinstance(distribution.strategy("mirrored"), tf.distribute.MirroredStrategy)


def test_devices_are_divided_before_tensorflow_starts():
    tf.zeros(())  # it has started
    with pytest.raises(RuntimeError, match=r"num_devices=63: the CPU can't be divided any more, since TensorFlow has"):
        distribution.strategy("mirrored", 63)


@pytest.mark.parametrize(
    ("arguments", "cluster", "message"),
    [
        (("auto", 0), None, "`num_devices` must be an integer of at least 1, got 0"),
        (("multi_worker",), None, "needs the environment variable TF_CONFIG with at least two workers.* it lists 0"),
        (("multi_worker",), '{"cluster": {"worker": ["a:1"]}}', "it lists 1"),
        (
            ("auto", 2),
            '{"cluster": {"chief": ["a:1"], "worker": ["b:1"]}}',
            "a worker of several has one device, its CPU",
        ),
    ],
)
def test_what_can_not_be_chosen(arguments, cluster, message, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if cluster:
        monkeypatch.setenv("TF_CONFIG", cluster)
    with pytest.raises(ValueError, match=message):
        distribution.strategy(*arguments)


def test_synchronized_batch_norm_needs_batch_norm():
    images, features = keras.Input(tiny.SHAPE), keras.Input((8, 8, 4))
    encoder = keras.Model(images, keras.layers.Conv2D(4, 3, padding="same")(images))
    core = keras.Model(features, keras.layers.GlobalAveragePooling2D()(features))
    backbone = tiny.mixmo_keras.backbones.Backbone(encoder, core)
    with pytest.raises(ValueError, match="`synchronized_batch_norm` is set, but the backbone has no batch norm"):
        tiny.model(backbone=backbone, synchronized_batch_norm=True)
    model = tiny.model(synchronized_batch_norm=True)
    assert all(layer.synchronized for layer in model.core.layers if hasattr(layer, "moving_mean"))
    again = tiny.mixmo_keras.MixMo.from_config(model.get_config())
    assert again.synchronized_batch_norm


def test_what_replicas_can_not_do_is_refused():
    assert tiny.script("refused_under_replicas.py").endswith("done\n")


def test_as_many_images_as_devices_can_share(tmp_path):
    _, *command = digits(tmp_path)
    ended = tiny.run([*command, "--devices", "3"], tmp_path)
    assert ended.returncode == 1
    assert (
        "16 images a step (`batch_size` / `batch_repetitions`) can't be shared out evenly to 3 devices" in ended.stderr
    )
    assert not (tmp_path / "runs").exists()
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_devices_of_jax_take_the_same_steps(count):
    """`keras.distribution.DataParallel`: one program over the whole batch, so that nothing is drawn otherwise."""
    alone, together = (json.loads(tiny.script("jax_devices.py", devices, backend="jax")) for devices in (1, count))
    assert len(alone["losses"]) == 6
    for name, values in alone.items():
        np.testing.assert_allclose(together[name], values, rtol=1e-4, atol=1e-5, err_msg=name)
