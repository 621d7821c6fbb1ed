"""The pictures: they show what they say, and no half-written file is left."""

import gallery
import numpy as np
import pytest

from mixmo_keras import masks, plots

IMAGES = np.stack([np.full((8, 8, 3), 255), np.zeros((8, 8, 3))]).astype("uint8")


def test_gallery_shows_every_mask_and_its_mix():
    figure = plots.mixing_gallery(IMAGES, num_draws=2)
    rows = np.array(figure.axes).reshape(len(masks.MASKS), 6)
    for axes, name in zip(rows, masks.MASKS, strict=True):
        assert axes[0].get_ylabel() == name.replace("_", " ")
        for mask_axis, mixed_axis in (axes[2:4], axes[4:6]):
            # a white image mixed into a black one looks like the mask itself
            np.testing.assert_array_equal(mask_axis.images[0].get_array(), mixed_axis.images[0].get_array())
            ratio = float(mask_axis.get_title().split()[1].rstrip(","))
            assert np.asarray(mask_axis.images[0].get_array()).mean() / 255 == pytest.approx(ratio, abs=0.01)


def test_gallery_takes_grey_images_and_chosen_masks():
    figure = plots.mixing_gallery(IMAGES[..., :1], masks=["cutmix", masks.linear], num_draws=1)
    assert [axes.get_ylabel() for axes in figure.axes[::4]] == ["cutmix", "linear"]


def test_gallery_needs_two_images():
    with pytest.raises(ValueError, match=r"at least two images \(n, H, W, C\), got shape \(1, 8, 8, 3\)"):
        plots.mixing_gallery(IMAGES[:1])


def test_weight_curves_are_the_formula():
    lines = plots.weight_curves([1, 3, None]).axes[0].lines
    ratio = 0.25
    for line, root in zip(lines, (1, 3, None), strict=True):
        place = int(np.argmin(abs(line.get_xdata() - ratio)))
        expected = 1.0 if root is None else 2 * ratio ** (1 / root) / (ratio ** (1 / root) + (1 - ratio) ** (1 / root))
        assert line.get_ydata()[place] == pytest.approx(expected, rel=1e-4)


def test_save_leaves_no_part(tmp_path):
    path = plots.save(plots.weight_curves(), tmp_path / "new" / "curves.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in path.parent.iterdir()] == ["curves.png"]

    class Broken:
        def savefig(self, file, dpi):
            file.write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        plots.save(Broken(), path)
    assert [file.name for file in path.parent.iterdir()] == ["curves.png"]
    assert path.read_bytes().startswith(b"\x89PNG")


def test_gallery_recipe(tmp_path, capsys):
    paths = gallery.main(["--dataset", "digits", "--output-dir", str(tmp_path)])
    assert sorted(path.name for path in paths) == ["loss_weights.png", "mixing_gallery.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    with pytest.raises(SystemExit, match="has fewer validation images"):
        gallery.main(["--dataset", "digits", "--images", "0", "5000"])
