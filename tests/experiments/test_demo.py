"""`make demo` as it is run; in short it is in test_recipes.py."""

import dataclasses

import demo
import pytest


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
