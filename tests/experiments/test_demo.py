"""`make demo` as it is run; in short it is in test_recipes.py."""

import demo
import pytest


@pytest.mark.slow
def test_demo_reaches_its_accuracy(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    figures = demo.demo()
    assert figures["cut_mixmo"]["test"]["ensemble"]["accuracy"] >= 0.98
    assert "a handwritten" in capfd.readouterr().out
