"""The study of fine-tuning on photographs, with a tiny network in place of EfficientNet-Lite0."""

import keras
import numpy as np
import pages
import photographs
import pytest

from mixmo_keras.networks import backbones


def network(name, num_classes, input_shape, seed):
    parts = backbones.get("wrn10_1", input_shape, seed)
    images = keras.Input(input_shape)
    pixels = keras.layers.Rescaling(1 / 255)(images)
    return keras.Model(images, keras.layers.Dense(num_classes)(parts.core(parts.encoder(pixels))))


@pytest.fixture
def tiny_study(monkeypatch, tmp_path):
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (60, 8, 8, 3), "uint8"), random.integers(0, 2, 60)
    small = dict(SIZE=8, TRAIN=16, VALIDATION=8, TEST=16, EPOCHS=2, FURTHER_EPOCHS=1, FROZEN_EPOCHS=1, BATCH_SIZE=8)
    for name, value in small.items():
        monkeypatch.setattr(photographs, name, value)
    monkeypatch.setattr(photographs, "elpv", lambda folder: (images, labels))
    monkeypatch.setattr(photographs.libraries, "network", network)
    monkeypatch.setattr(pages, "FIGURES", tmp_path)
    return ["elpv", "--seeds", "0", "--output-dir", str(tmp_path / "runs")]


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
