"""What a normalisation may be, and the layer that it makes."""

import json

import numpy as np
import pytest

from mixmo_keras.networks import normalization

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype("float32")


@pytest.mark.parametrize(
    ("value", "mean", "std"),
    [
        ("auto", (0.4914, 0.4824, 0.4467), (0.2023, 0.1994, 0.2010)),
        (normalization.HALF, 0.5, 0.5),
        ((0, 1), 0, 1),
        ([np.float32(0.5), np.array(0.25)], 0.5, 0.25),
        (((0.1, 0.2, 0.3), 0.5), (0.1, 0.2, 0.3), 0.5),
        ((np.array([0.1, 0.2, 0.3]), [0.5, 0.6, 0.7]), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)),
    ],
)
def test_pixels_are_normalised(value, mean, std):
    expected = (PIXELS / 255 - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(normalization.layer(value, 3)(PIXELS), expected, rtol=1e-4, atol=1e-5)
    json.dumps(normalization.checked(value))


def test_other_channels_and_none(caplog):
    with caplog.at_level("INFO", logger="mixmo_keras"):
        assert normalization.statistics("auto", 2) == ([0.5, 0.5], [0.5, 0.5])
    assert "normalization='auto': mean and standard deviation (0.5, 0.5) for 2 channels" in caplog.text
    np.testing.assert_array_equal(normalization.layer(None, 3)(PIXELS), PIXELS)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("cifar", r'`normalization` must be \(mean, std\), "auto" or None, got \'cifar\''),
        (0.5, r"`normalization` must be \(mean, std\)"),
        ((0.5,), r"`normalization` must be \(mean, std\)"),
        (("a", 0.5), "`normalization's mean` must be a finite number or one for each channel, got 'a'"),
        ((0.5, None), "`normalization's std` must be a finite number or one for each channel, got None"),
        ((0.5, (0.2, 0.2, float("nan"))), "`normalization's std` must be a finite number, got nan"),
        ((float("inf"), 0.5), "`normalization's mean` must be a finite number or one for each channel, got inf"),
        ((0.5, 0), "must have positive standard deviations, got 0.0"),
        ((0.5, (0.2, -0.2, 0.2)), r"must have positive standard deviations, got \(0.2, -0.2, 0.2\)"),
        (((0.5, 0.5), 0.5), "one for each of 3 channels"),
        (((), 0.5), r"must be a finite number or one for each channel, got \(\)"),
        (((123.7, 116.8, 103.9), (58.4, 57.1, 57.4)), r"pixels in \[0, 1\].*divide .* from 0 to 255 by 255"),
        ((0.5, 127.5), "divide .* by 255"),
        ((127.5, 0.5), "divide .* by 255"),
    ],
)
def test_bad_input(value, message):
    with pytest.raises(ValueError, match=message):
        normalization.layer(value, 3)
