"""The pictures of masks, augmentations and loss weights show what they say."""

import gallery
import numpy as np
import pytest

from mixmo_keras import masks

IMAGES = np.stack([np.full((8, 8, 3), 255), np.zeros((8, 8, 3))]).astype("float32")


def test_gallery_shows_every_mask_and_its_mix():
    figure = gallery.mixing_gallery(IMAGES, num_draws=2)
    for axes, name in zip(np.array(figure.axes).reshape(len(masks.MASKS), 6), masks.MASKS, strict=True):
        assert axes[0].get_ylabel() == name.replace("_", " ")
        for mask_axis, mixed_axis in (axes[2:4], axes[4:6]):
            # a white image mixed into a black one looks like the mask itself
            np.testing.assert_array_equal(mask_axis.images[0].get_array(), mixed_axis.images[0].get_array())
            ratio = float(mask_axis.get_title().split()[1].rstrip(","))
            assert np.asarray(mask_axis.images[0].get_array()).mean() / 255 == pytest.approx(ratio, abs=0.01)


def test_weight_curves_are_the_formula():
    lines, ratio = gallery.weight_curves([1, 3, None]).axes[0].lines, 0.25
    for line, root in zip(lines, (1, 3, None), strict=True):
        place = int(np.argmin(abs(line.get_xdata() - ratio)))
        expected = 1.0 if root is None else 2 * ratio ** (1 / root) / (ratio ** (1 / root) + (1 - ratio) ** (1 / root))
        assert line.get_ydata()[place] == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_pictures_are_written(tmp_path):
    paths = gallery.main(["--dataset", "digits", "--output-dir", str(tmp_path)])
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
