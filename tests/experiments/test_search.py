"""KerasTuner over M, width and r: conditional settings, limits, failures, kills, several workers, results."""

import json
import os
import signal
import socket
import sys
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest
import search as search_recipe
import tiny
from tiny_search import TRAIN, VALIDATION, hypermodel

import mixmo_keras
from mixmo_keras import backbones, datasets, search
from mixmo_keras.experiments.recipe import Recipe

RECIPES = Path(search_recipe.__file__).parent
pytestmark = pytest.mark.usefixtures("eagerly")


def settings(hyper, **values):
    """The model of chosen settings, and the settings that are active."""
    hp = keras_tuner.HyperParameters()
    hp.values = dict(values)
    model = hyper.build(hp)
    return model, {name: value for name, value in hp.values.items() if hp.is_active(name)}


def test_mixing_settings_exist_for_several_members_only():
    space = search.Space((1, 3), (1,), (2.0, 5.0), (1.0,), (0.3,), ("cow",), (2, 4), (0.01, 0.1), (1e-5, 1e-3))
    hyper = hypermodel(space=space)
    model, active = settings(hyper, num_members=3, weight_root=5.0, batch_repetitions=4, learning_rate=0.02, l2=1e-4)
    assert (model.num_members, model.batching.mixing.weight_root, model.batching.mixing.mask) == (3, 5.0, "cow")
    mixing = model.batching.mixing
    assert (mixing.alpha, mixing.probability, model.batching.repetitions, model.l2.rate) == (1.0, 0.3, 4, 1e-4)
    assert model.schedule.base == 0.02
    assert set(active) == {
        *("num_members", "width", "weight_root", "alpha", "probability", "mask"),
        *("batch_repetitions", "learning_rate", "l2"),
    }
    model, active = settings(hyper, num_members=1)
    assert (model.num_members, model.batching.mixing) == (1, None)
    assert set(active) == {"num_members", "width", "batch_repetitions", "learning_rate", "l2"}
    model, active = settings(hypermodel(), num_members=2)
    assert model.schedule.base == pytest.approx(0.05 * 16 / 2 / 64)  # the same for each image
    assert set(active) == {"num_members", "width", "weight_root"}


def test_a_step_has_as_many_rows_whatever_m_and_b():
    space = search.Space((1, 2), (1,), batch_repetitions=(2, 4))
    hyper = hypermodel(space=space)
    for members, repetitions in ((1, 2), (2, 4)):
        model, _ = settings(hyper, num_members=members, batch_repetitions=repetitions)
        hyper.fit(None, model, TRAIN, VALIDATION)
        assert int(model.step_counter.numpy()) == 16 // (16 // repetitions)


def test_cost_by_hand():
    images = keras.Input((8, 8, 3))
    encoder = keras.Model(images, keras.layers.Conv2D(4, 3, padding="same", use_bias=False)(images))
    features = keras.Input((8, 8, 4))
    core = keras.Model(features, keras.layers.Flatten()(keras.layers.Conv2D(6, 3, 2, padding="same")(features)))
    model = mixmo_keras.CutMixMo(backbones.Backbone(encoder, core), num_classes=5, normalization=None)
    found = search.cost(model)
    # fused: one encoder, one head
    assert found["parameters"] == 3 * 3 * 3 * 4 + (3 * 3 * 4 * 6 + 6) + (96 * 5 + 5)
    products = 2 * (64 * 27 * 4 + 16 * 36 * 6 + 96 * 5)
    assert products <= found["flops"] <= products + 16 * 6 + 5 + 2 * 8 * 8 * 3  # biases, and what rescaling does


def test_widths_beyond_a_limit_are_left_out():
    whole = hypermodel()
    limit = whole.costs[1]["parameters"]
    assert whole.costs[2]["parameters"] > limit
    assert hypermodel(max_parameters=limit).widths == (1,)
    assert hypermodel(max_flops=whole.costs[2]["flops"]).widths == (1, 2)
    with pytest.raises(ValueError, match="No width is within the limits"):
        hypermodel(max_flops=10)


def test_a_search_trains_networks_of_others_as_recipes_do(tmp_path, monkeypatch):
    images = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3)(keras.layers.Conv2D(4, 3)(images))
    mine = str(tmp_path / "mine.keras")
    keras.Model(images, keras.layers.Dense(7)(keras.layers.GlobalMaxPooling2D()(x))).save(mine)
    options = dict(num_classes=10, input_shape=(8, 8, 1), rows=16, augmentation=None)
    hyper = search.MixMoHyperModel(lambda width: mine, space=search.Space((1, 2), (1,), (2.0,)), **options)
    trained_with = []
    monkeypatch.setattr(mixmo_keras.MixMo, "fit", lambda model, *_, **__: trained_with.append(model.fine_tuning))
    for members, method in ((1, "single"), (2, "cut_mixmo")):
        model, _ = settings(hyper, num_members=members)
        hyper.fit(None, model, TRAIN, VALIDATION, epochs=8)
        recipe = Recipe(backbone=mine, method=method, batch_size=16, batch_repetitions=2, epochs=8).resolved()
        tuning = mixmo_keras.FineTuning(recipe.core_rate, recipe.freeze_epochs, recipe.freeze_batch_norm)
        found = (type(model.optimizer).__name__.lower(), model.optimizer._learning_rate.base, model.l2.rate)
        assert found == (recipe.optimizer, recipe.learning_rate, recipe.l2)
        assert trained_with.pop() == tuning
    searched = search.MixMoHyperModel(
        lambda width: mine, space=search.Space((1,), (1,), learning_rates=(0.01, 0.1), l2=(1e-5, 1e-3)), **options
    )
    model, _ = settings(searched, learning_rate=0.02, l2=1e-4)
    assert (model.optimizer._learning_rate.base, model.l2.rate) == (0.02, 1e-4)


def test_a_search_of_a_network_of_others_that_was_trained_by_sgd_is_another(tmp_path):
    mine = tmp_path / "mine.keras"
    mine.touch()
    options = search_recipe.parse(["--dataset", "digits", "--backbone", str(mine)])
    search_recipe.write_settings(options, tmp_path)
    search_recipe.write_settings(options, tmp_path)  # goes on
    before = json.loads((tmp_path / "settings.json").read_text())
    del before["further"]  # as an earlier version wrote it
    (tmp_path / "settings.json").write_text(json.dumps(before))
    with pytest.raises(ValueError, match=r"holds a search with other settings \(further None → "):
        search_recipe.write_settings(options, tmp_path)


class Failing(search.MixMoHyperModel):
    """Has no memory for two members, and NaN at width 2."""

    def fit(self, hp, model, *arguments, **options):
        if model.num_members == 2:
            raise MemoryError("out of memory")
        if hp.get("width") == 2:
            raise FloatingPointError("the loss is NaN")
        return super().fit(hp, model, *arguments, **options)


def test_failed_trials_are_recorded_and_the_search_goes_on(tmp_path, capsys):
    tuner = search.tuner(hypermodel(Failing), "random", tmp_path / "trials", max_trials=6)
    tuner.search(TRAIN, VALIDATION, epochs=1)
    rows = search.results(tuner)
    assert [row["score"] is None for row in rows] == [False, *[True] * (len(rows) - 1)]
    assert {row["failure"] for row in rows} == {
        None,
        "MemoryError: out of memory",
        "FloatingPointError: the loss is NaN",
    }
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("trial ")]
    assert len(printed) == len(rows)
    assert any("failed: MemoryError: out of memory, num_members 2" in line for line in printed)
    text = search.table(rows)
    assert text.splitlines()[0] == "| trial | num members | width | parameters | flops | weight root | validation NLL |"
    assert "failed: MemoryError: out of memory" in text


@pytest.mark.slow  # the random one goes through failed trials above
@pytest.mark.parametrize(
    "kind",
    search.TUNERS,
)
def test_every_tuner(kind, tmp_path):
    own = dict(max_epochs=2) if kind == "hyperband" else dict(max_trials=3)
    tuner = search.tuner(hypermodel(), kind, tmp_path / "trials", objective="accuracy", **own)
    tuner.search(TRAIN, VALIDATION, **({} if kind == "hyperband" else {"epochs": 1}))
    rows = search.results(tuner, "accuracy")
    scores = [row["score"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert len(rows) == (3 if kind != "hyperband" else 2)
    assert all(0 <= score <= 1 for score in scores)
    best = tuner.get_best_models()[0]
    assert best.evaluate(datasets.batches(VALIDATION, 64), verbose=0)[1] == pytest.approx(scores[0])


@pytest.mark.slow
def test_a_killed_search_goes_on_without_repeating_trials(tmp_path):
    script = Path(tiny.__file__).parent / "scripts/killed_search.py"
    process = tiny.start([sys.executable, str(script), str(tmp_path / "trials"), "3"])
    first, _ = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    second = tiny.script("killed_search.py", tmp_path / "trials", 100)
    trials = [[line.split(":")[0] for line in out.splitlines() if line.startswith("trial")] for out in (first, second)]
    assert trials[0] == ["trial 0", "trial 1"]
    assert sorted(trials[1]) == ["trial 2", "trial 3"]  # the killed one is run again
    reloaded = search.tuner(hypermodel(), "random", tmp_path / "trials", max_trials=4)
    assert len(search.results(reloaded)) == 4


def rows():
    cells = [
        ("0", 1, 1, 100, 2.0),
        ("1", 2, 1, 100, 1.5),
        ("2", 1, 2, 300, 1.6),
        ("3", 2, 2, 300, 1.0),
        ("4", 2, 4, 900, None),
    ]
    return [
        dict(trial=name, num_members=m, width=w, score=score, flops=cost, parameters=cost, failure=None, epochs=None)
        | ({"weight_root": 3.0} if m > 1 else {})
        for name, m, w, cost, score in cells
    ]


def test_pareto_front_by_hand():
    assert [row["trial"] for row in search.pareto(rows())] == ["1", "3"]
    assert [row["trial"] for row in search.pareto(rows(), "accuracy")] == ["0"]


def test_plot_shows_every_scored_trial():
    figure = search.plot(rows())
    members, widths, roots, cost = figure.axes
    drawn = [line for line in members.lines if len(line.get_xdata())]
    assert len(drawn) == 4
    assert len([line for line in roots.lines if len(line.get_xdata())]) == 2
    assert widths.get_xlabel() == "width"
    assert cost.get_xscale() == "log"


def test_the_command_has_what_was_found():
    row = {"num_members": 2, "width": 4, "weight_root": 3.0, "l2": 1e-4, "mask": "cow"}
    assert search.command("recipes/cifar10.py", row, "wrn16_4", epochs=30) == (
        "python recipes/cifar10.py --method cut_mixmo --backbone wrn16_4 --num-members 2 --weight-root 3.0 --mask cow "
        "--l2 0.0001 --epochs 30"
    )
    assert "--method single --backbone wrn16_1" in search.command("r.py", {"num_members": 1}, "wrn16_1")
    assert "--num-members" not in search.command("r.py", {"num_members": 1}, "wrn16_1")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: search.Space(num_members=()), "`num_members` is empty"),
        (lambda: search.Space(l2=(1e-3,)), "`l2` must be the least and the greatest value"),
        (lambda: hypermodel(rows=15), r"`rows` \(=15\) must be divisible by every `batch_repetitions` \(=2\)"),
        (lambda: search.tuner(None, "hyperband", "x", max_trials=5), "Hyperband, which has its own rule; got 5"),
        (lambda: search.tuner(None, "random", "x", max_epochs=5), "`max_epochs` is Hyperband's; got 5 for 'random'"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


SMALL = [
    *("--dataset", "digits", "--widths", "1", "--members", "1", "2", "--weight-roots", "3", "--rows", "32"),
    *("--images", "16", "--max-trials", "2", "--epochs", "1"),
]


def test_recipe(tmp_path, capsys):
    found = search_recipe.main([*SMALL, "--output-dir", str(tmp_path)])
    folder = tmp_path / "digits-search"
    assert json.loads((folder / "results.json").read_text()) == found
    assert {row["num_members"] for row in found} == {1, 2}
    assert (folder / "results.png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert (folder / "results.md").read_text() in printed
    assert "best: python recipes/digits.py --method" in printed
    events = [path for path in (folder / "tensorboard").rglob("events*") if b"hparams" in path.read_bytes()]
    assert len(events) >= 2
    again = search_recipe.main([*SMALL, "--output-dir", str(tmp_path)])
    assert again == found
    assert "trial 0:" not in capsys.readouterr().out  # nothing was run again
    with pytest.raises(SystemExit, match=r"holds a search with other settings .epochs 1 → 2"):
        search_recipe.main([*SMALL, "--epochs", "2", "--output-dir", str(tmp_path)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pilot", "--tuner", "bayesian"], "--tuner has no meaning with --pilot"),
        (["--pilot", "--members", "1", "2"], "--members has no meaning with --pilot"),
        (["--pilot", "--batch-repetitions", "2", "4"], "a pilot has one --batch-repetitions"),
        (["--seeds", "3"], "--seeds has no meaning without --pilot"),
        (["--tuner", "hyperband", "--max-trials", "4"], "--max-trials has no meaning with --tuner hyperband"),
    ],
)
def test_options_that_would_be_ignored(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        search_recipe.main(["--dataset", "digits", *arguments])
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_one_chief_and_two_workers(tmp_path):
    free = socket.create_server(("127.0.0.1", 0))
    port = str(free.getsockname()[1])
    free.close()
    command = [sys.executable, RECIPES / "search.py", *SMALL, "--widths", "1", "2", "--max-trials", "4"]
    command = [*map(str, command), "--output-dir", str(tmp_path)]
    oracle = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": port, "MIXMO_DATA_DIR": os.devnull}
    names = ("chief", "worker0", "worker1")
    processes = [tiny.start(command, KERASTUNER_TUNER_ID=name, **oracle) for name in names]
    outputs = [process.communicate(timeout=500) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    found = json.loads((tmp_path / "digits-search/results.json").read_text())
    assert sorted(row["trial"] for row in found) == ["0", "1", "2", "3"]
    ran = [[line.split(":")[0] for line in out.splitlines() if line.startswith("trial")] for out, _ in outputs]
    assert ran[0] == []
    assert sorted(ran[1] + ran[2]) == ["trial 0", "trial 1", "trial 2", "trial 3"]
    assert np.isfinite([row["score"] for row in found]).all()
