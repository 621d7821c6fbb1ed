"""The study of bfloat16: rows of a method differ in precision alone; the table has the difference of each seed."""

import dataclasses

import precision
import pytest
import rows


@pytest.mark.parametrize("method", precision.METHODS)
def test_rows_differ_in_precision_alone(method):
    full, half = (
        dataclasses.asdict(rows.recipes(precision.ROWS, f"{method}, {name}", precision.STUDY.settings["digits"], 1)[0])
        for name in precision.PRECISIONS
    )
    assert {key for key in full if full[key] != half[key]} == {"dtype", "output_dir"}
    assert (full["dtype"], half["dtype"]) == ("float32", "mixed_bfloat16")


def test_the_table_has_differences_seed_by_seed():
    def figures(row, seed):  # one point more in bfloat16 with seed 0, two with seed 1
        return {"accuracy %": 80.0 + ("bfloat16" in row) * (1 + seed), "NLL, calibrated": 0.5}

    measured = {row: {str(seed): figures(row, seed) for seed in (0, 1)} for row in precision.ROWS}
    line = next(line for line in precision.table(measured).splitlines() if line.startswith("| MIMO"))
    assert [cell.strip() for cell in line.strip("|").split("|")][3] == "+1.5 ± 0.5"
