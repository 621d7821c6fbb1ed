"""The table of what 8 bits cost, by hand."""

import int8


def test_changes_are_by_seed():
    def figures(accuracy: float, mb: float) -> dict[str, float]:
        return dict(accuracy=accuracy, nll=1.0, ece=0.05, mb=mb, ms=2.0)

    seeds = {"0": (0.60, 0.59), "1": (0.64, 0.65)}
    kept = {
        "one": {seed: dict(float32=figures(of, 2.8), int8=figures(in_8, 0.7)) for seed, (of, in_8) in seeds.items()}
    }
    *_, before, after = int8.table(kept).splitlines()
    assert before == "| one | float32 | 62.00 ± 2.83 | – | 1.000 ± 0.000 | 0.050 ± 0.000 | 2.80 | 2.00 |"
    assert after == "| one | int8 | 62.00 ± 4.24 | +0.00 ± 1.41 | 1.000 ± 0.000 | 0.050 ± 0.000 | 0.70 | 2.00 |"


def test_times_are_medians_in_turns():
    calls: list[str] = []
    seconds = int8.times({name: lambda images, name=name: calls.append(name) for name in ("a", "b")}, None)
    assert calls == ["a", "b"] * int8.ROUNDS
    assert set(seconds) == {"a", "b"}
    assert all(value >= 0 for value in seconds.values())
