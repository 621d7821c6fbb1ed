"""The study of what follows fine-tuning, with a tiny network in place of EfficientNet-Lite0."""

import numpy as np
import pages
import photographs
import pytest
import then_members


@pytest.mark.slow
def test_every_way_is_measured_and_none_is_repeated(tiny_study, monkeypatch):
    monkeypatch.setattr(then_members, "EPOCHS", 2)
    monkeypatch.setattr(then_members, "FURTHER_EPOCHS", 2)
    then_members.main(tiny_study)
    kept = pages.read("then_members-elpv")
    assert list(kept) == [then_members.TUNED, *then_members.WAYS, then_members.NETWORKS]
    assert all(np.isfinite(list(by_seed["0"].values())).all() for by_seed in kept.values())
    monkeypatch.setattr(photographs.libraries, "network", None)  # nothing is built any more
    then_members.main(tiny_study)
    assert pages.read("then_members-elpv") == kept


def test_a_way_is_held_against_the_network_that_goes_on_for_as_long():
    def figures(points):
        others = {"nll": 0.6, "nll_calibrated": 0.5, "aurc": 0.1}
        return {str(seed): {"accuracy": 0.8 + points * (1 + seed), **others} for seed in (0, 1)}

    ways = [then_members.TUNED, *then_members.WAYS, then_members.NETWORKS]
    kept = {row: figures(0.01 if "MIMO" in row else 0) for row in ways}
    lines = then_members.differences(kept).splitlines()[2:]
    of_row = {
        cells[0]: cells[1:] for cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    }
    assert then_members.ONE not in of_row
    assert of_row["MIMO, ρ = 0.5"] == ["one network", "+1.5 ± 0.5", *["+0.000 ± 0.000"] * 3, "+1.5 ± 0.5"]
    assert of_row[f"MIMO, ρ = 0.5, {2 * then_members.FURTHER_EPOCHS} epochs"][0] == then_members.LONGER
    assert of_row[then_members.NETWORKS][0] == of_row[then_members.LONGER][0] == then_members.ONE
