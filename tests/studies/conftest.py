"""Photographs and a network in small, for the two studies on photographs."""

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
    """The arguments of a study on few small images with a tiny network."""
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (60, 8, 8, 3), "uint8"), random.integers(0, 2, 60)
    small = dict(SIZE=8, TRAIN=16, VALIDATION=8, TEST=16, EPOCHS=2, FURTHER_EPOCHS=1, FROZEN_EPOCHS=1, BATCH_SIZE=8)
    for name, value in small.items():
        monkeypatch.setattr(photographs, name, value)
    monkeypatch.setattr(photographs, "elpv", lambda folder, size: (images, labels))
    monkeypatch.setattr(photographs.libraries, "network", network)
    monkeypatch.setattr(pages, "FIGURES", tmp_path)
    return ["elpv", "--seeds", "0", "--output-dir", str(tmp_path / "runs")]
