"""`make demo` as it is run; in short it is in test_recipes.py."""

import dataclasses
import subprocess
import types

import demo
import numpy as np
import pytest


def test_the_table_of_the_demo_by_hand():
    issues = {"wrong": 380, "images": 1000, "margin": {"found": 0.98}}
    figures = {
        "label_issues": issues,
        "images": {"test": 360},
        "uncalibrated": {"accuracy": 0.956, "nll": 0.80},
        "ensemble": {"nll": 0.17},
    }
    several = {"images_a_pass": 2, "uncalibrated": {"accuracy": 0.931, "nll": 0.83}, "network": {"nll": 0.29}}
    speeds = {"single": 1.0, "Cut-MixMo": 0.96, "Cut-MixMo, 2 images a pass": 1.87}
    lines = demo.conclusion({"single": figures, "Cut-MixMo": figures | {"multiplexed": several}}, speeds).splitlines()
    assert lines[0] == "380 of 1000 training labels are wrong, none of 360 test labels."
    assert [line.split() for line in lines[3:6]] == [
        ["single", "95.6%", "0.80", "0.17", "98%", "1.00", "x"],
        ["Cut-MixMo", "95.6%", "0.80", "0.17", "98%", "0.96", "x"],
        ["Cut-MixMo,", "2", "images", "a", "pass", "93.1%", "0.83", "0.29", "1.87", "x"],
    ]
    assert len({len(line) for line in lines[2:6]}) == 1  # one column under the other


def test_a_client_that_fails_is_shown_with_its_error(monkeypatch):
    ended = subprocess.CompletedProcess([], 1, "", "no such folder")
    monkeypatch.setattr(demo, "subprocess", types.SimpleNamespace(run=lambda *_, **__: ended))
    with pytest.raises(SystemExit, match="could not ask the exported model:\nno such folder"):
        demo.client_answer("saved_models/digits", np.zeros((8, 8, 1)), 7)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_what_the_demo_says_holds_for_every_seed(seed, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    shown = demo.demo(dataclasses.replace(demo.RECIPE, seed=seed, data_seed=seed))
    accuracy = {name: one.evaluated.figures["uncalibrated"]["accuracy"] for name, one in shown.items()}
    found = {name: one.evaluated.figures["label_issues"]["margin"]["found"] for name, one in shown.items()}
    for mixed in ("single + CutMix", "Cut-MixMo"):
        assert accuracy[mixed] > accuracy["single"] + 0.1
        assert found[mixed] > found["single"] + 0.1
    assert "a handwritten" in capfd.readouterr().out
