"""The study of fine-tuning on photographs, with a tiny network in place of EfficientNet-Lite0."""

import numpy as np
import pages
import photographs
import pytest


def test_places_of_other_data_are_refused(capsys):
    for arguments, said in (
        (["cifar10", "--photographs", "here"], "--photographs is of elpv"),
        (["elpv", "--data-dir", "here"], "--data-dir is of cifar10"),
    ):
        with pytest.raises(SystemExit, match="2"):
            photographs.main(arguments)
        assert said in capsys.readouterr().err


@pytest.mark.slow
def test_every_run_is_kept_and_none_is_repeated(tiny_study, capsys, monkeypatch):
    photographs.main(tiny_study)
    kept = pages.read("photographs-elpv")
    best = photographs.best_way(kept, [0])
    further = [f"{best}, then {row}" for row in (photographs.ONE_MORE, photographs.MEMBERS)]
    assert list(kept) == [*photographs.PLAIN_WAYS, *photographs.WAYS, *further]
    assert all(np.isfinite(list(by_seed["0"].values())).all() for by_seed in kept.values())
    said = capsys.readouterr().out
    assert said.count("| 1 |") == len(kept)
    monkeypatch.setattr(photographs.libraries, "network", None)  # nothing is built any more
    photographs.main(tiny_study)
    assert pages.read("photographs-elpv") == kept


def test_splits_are_disjoint_and_follow_from_the_seed():
    labels = np.arange(2000) % 2
    images = np.arange(2000)[:, None, None, None]
    first, again, other = (photographs.split((images, labels), seed) for seed in (0, 0, 1))
    numbers = [part[0].ravel() for part in (first.train, first.validation, first.test)]
    assert [len(part) for part in numbers] == [photographs.TRAIN, photographs.VALIDATION, photographs.TEST]
    assert len(np.unique(np.concatenate(numbers))) == sum(map(len, numbers))
    np.testing.assert_array_equal(first.train[0], again.train[0])
    assert not np.array_equal(first.train[0], other.train[0])
