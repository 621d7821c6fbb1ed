"""Corruptions: by hand where a number can be worked, stronger with severity, the same with the same seed."""

import numpy as np
import pytest

from mixmo_keras import corruptions

RANDOM = np.random.default_rng(0)
SMOOTH = np.clip(RANDOM.normal(size=(8, 5, 5, 3)).repeat(8, 1).repeat(8, 2)[:, 4:36, 4:36] * 50 + 128, 0, 255)
IMAGES = np.clip(SMOOTH + RANDOM.normal(scale=8, size=SMOOTH.shape), 0, 255).astype("uint8")


@pytest.mark.parametrize("name", list(corruptions.CORRUPTIONS))
def test_every_corruption(name):
    by_severity = [corruptions.corrupt(IMAGES, name, severity, seed=1) for severity in range(1, 6)]
    assert all(images.shape == IMAGES.shape and images.dtype == np.uint8 for images in by_severity)
    away = [np.abs(images.astype(float) - IMAGES).mean() for images in by_severity]
    assert away[0] > 0.3
    if name not in ("saturate", "pixelate"):  # grey first, and beyond the colours after; by how the pixels' grids meet
        assert away == sorted(away)
    assert np.array_equal(corruptions.corrupt(IMAGES, name, 3, seed=1), by_severity[2])
    if "noise" in name:
        assert not np.array_equal(corruptions.corrupt(IMAGES, name, 3, seed=2), by_severity[2])
    floats = corruptions.corrupt(IMAGES.astype("float32"), name, 3, seed=1)
    assert np.array_equal(floats, by_severity[2])


@pytest.mark.parametrize("name", [name for name in corruptions.CORRUPTIONS if name != "saturate"])
def test_grey_images_of_another_size(name):
    images = IMAGES[:, :20, :, :1]
    assert corruptions.corrupt(images, name, 5).shape == images.shape


def test_sizes_of_the_noise():
    grey = np.full((50, 32, 32, 3), 128, "uint8")
    for severity, scale in enumerate([0.04, 0.06, 0.08, 0.09, 0.10], start=1):
        assert corruptions.corrupt(grey, "gaussian_noise", severity).std() / 255 == pytest.approx(scale, rel=0.02)
        speckle = corruptions.corrupt(grey, "speckle_noise", severity).std() / 128
        assert speckle == pytest.approx([0.06, 0.1, 0.12, 0.16, 0.2][severity - 1], rel=0.02)
        shot = corruptions.corrupt(grey, "shot_noise", severity) / 255
        assert shot.var() == pytest.approx(128 / 255 / [500, 250, 100, 75, 50][severity - 1], rel=0.05)
        hit = (corruptions.corrupt(grey, "impulse_noise", severity) != 128).mean()
        assert hit == pytest.approx([0.01, 0.02, 0.03, 0.05, 0.07][severity - 1], rel=0.1)


def test_by_hand():
    # contrast at severity 5: 0.15 of the distance from the image's mean
    image = np.zeros((1, 2, 2, 3), "uint8")
    image[0, 0] = 200
    np.testing.assert_array_equal(corruptions.corrupt(image, "contrast", 5)[0, :, 0, 0], [115, 85])
    # brightness at severity 2: a tenth of the range more of the value, hue and saturation kept
    np.testing.assert_array_equal(corruptions.corrupt(np.full((1, 2, 2, 3), 100), "brightness", 2), 126)  # 125.5
    red = np.broadcast_to(np.array([100, 50, 50]), (1, 2, 2, 3))
    np.testing.assert_allclose(corruptions.corrupt(red, "brightness", 2)[0, 0, 0], [125.5, 62.75, 62.75], atol=0.5)
    # saturate at severity 2: a tenth of the saturation
    np.testing.assert_allclose(corruptions.corrupt(red, "saturate", 2)[0, 0, 0], [100, 95, 95], atol=0.5)
    # pixelate at severity 5: 0.65·32 = 20 pixels a side, enlarged
    assert len(np.unique(corruptions.corrupt(IMAGES[:1], "pixelate", 5)[0].reshape(32, -1), axis=0)) == 20
    # a blur spreads a point and keeps its sum
    point = np.zeros((1, 31, 31, 1))
    point[0, 15, 15] = 255
    for name in ("gaussian_blur", "defocus_blur"):
        blurred = corruptions.corrupt(point, name, 5).astype(float)
        assert blurred.sum() == pytest.approx(255, rel=0.05)
        assert blurred.max() < 60
