"""The table of the fast recipe's runs, by hand."""

import fast


def run(seed: int, seconds: float, accuracy: float) -> dict:
    settings = dict(method="single", input_repetition=None, msda=None, backbone="airbench64", epochs=20, seed=seed)
    return {
        "settings": settings,
        "versions": {"commit": "0123456789"},
        "processor_seconds": seconds,
        "test": {"ensemble": {"accuracy": accuracy}},
        "test_views": {"ensemble": {"accuracy": accuracy + 0.01}},
    }


def test_seeds_of_the_same_settings_are_a_row():
    members = run(0, 2000, 0.9)
    members["settings"] |= {"method": "cut_mixmo", "input_repetition": 0.5}
    *_, single, several = fast.table({"a": run(0, 1900, 0.90), "b": run(1, 1904, 0.92), "c": members}).splitlines()
    assert single == "| single | airbench64 | 20 | 1902 ± 3 | 91.00 ± 1.41 | 92.00 ± 1.41 | 0, 1 | 0123456 |"
    assert several == "| cut_mixmo, ρ = 0.5 | airbench64 | 20 | 2000 | 90.00 | 91.00 | 0 | 0123456 |"
