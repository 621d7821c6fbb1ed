"""The study of what further training is best spent on."""

import dataclasses
import json

import digits
import fine_tuning
import gains
import pages
import pytest


def test_the_deep_ensembles_first_network_is_the_classifier():
    rows = fine_tuning.ROWS
    assert gains.shared(rows, fine_tuning.SECOND) == fine_tuning.CLASSIFIER
    for name in rows.keys() - {fine_tuning.SECOND}:
        assert gains.shared(rows, name) == name


def test_tables_are_put_into_the_pages(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    monkeypatch.setattr(pages, "FIGURES", tmp_path)
    figures = {title: 1.0 for title, *_ in gains.COLUMNS}
    rows = {"the classifier": {"0": figures}, fine_tuning.DEFAULT: {"0": {**figures, "accuracy %": 3.5}}}
    (tmp_path / "fine_tuning-cifar10-0.json").write_text(json.dumps(rows))
    parts = ("table", "differences")
    page = "".join(f"<!-- fine_tuning-cifar10-0-{part} --><!-- /fine_tuning-cifar10-0-{part} -->" for part in parts)
    (tmp_path / "results.md").write_text(page)
    (tmp_path / "classifiers.md").write_text("<!-- fine_tuning-cifar10-0 --><!-- /fine_tuning-cifar10-0 -->")
    assert fine_tuning.main(["cifar10", "--docs"]) == rows
    assert "| the classifier | +2.5 | one seed |" in (tmp_path / "results.md").read_text()
    assert f"| {fine_tuning.DEFAULT} | 3.5 | 1.0 | 1.00 |" in (tmp_path / "classifiers.md").read_text()
    with pytest.raises(SystemExit, match="2"):
        fine_tuning.main(["cifar10", "--docs", "--rate", "0.1"])


@pytest.mark.slow  # the parts have tests of their own
def test_runs_are_made_and_evaluated(tmp_path, monkeypatch):
    small = dataclasses.replace(digits.RECIPE, train_images=64, backbone="wrn10_1", epochs=1)
    monkeypatch.setitem(fine_tuning.SETTINGS, "digits", small)
    rows = [fine_tuning.CLASSIFIER, "Cut-MixMo", fine_tuning.SECOND]
    command = ["digits", "--noise", "0.2", "--rows", *rows, "--output-dir", str(tmp_path)]
    assert fine_tuning.main([*command, "--only-table"]) == {}
    measured = fine_tuning.main(command)
    assert list(measured) == rows
    (folder,) = (tmp_path / "digits-wrn10_1-noise0.2/Cut-MixMo").iterdir()
    config = json.loads((folder / "config.json").read_text())
    assert config["backbone"].endswith("last.keras")
    assert config["learning_rate"] == pytest.approx(small.resolved().learning_rate)
