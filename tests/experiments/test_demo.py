"""`make demo`: the comparison, and the prediction served in a process without the package."""

import dataclasses

import demo
import digits
import pytest


@pytest.mark.slow
def test_demo_reaches_its_accuracy(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    figures = demo.demo()
    assert figures["cut_mixmo"]["test"]["ensemble"]["accuracy"] >= 0.98
    assert "a handwritten" in capfd.readouterr().out


def test_demo_runs_from_training_to_serving(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    figures = demo.demo(dataclasses.replace(digits.RECIPE, backbone="wrn10_1", epochs=1))
    printed = capfd.readouterr().out
    assert set(figures) == {"cut_mixmo", "single"}
    assert "is served as" in printed
    assert "members' mean" in printed
