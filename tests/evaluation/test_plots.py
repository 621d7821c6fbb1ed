"""The pictures: they show what they say, and no half-written file is left."""

import numpy as np
import pytest

from mixmo_keras import augmentation, masks, plots, policies
from mixmo_keras.seeds import StepSeed

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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(num_draws=0), "`num_draws` must be an integer from 1 to 100, got 0"),
        (dict(seed=0.5), "`seed` must be an integer, got 0.5"),
        (dict(masks="cutmix"), "`masks` must be a list of names or functions of masks, or None, got 'cutmix'"),
    ],
)
def test_wrong_options_of_the_gallery(options, message):
    with pytest.raises(ValueError, match=message):
        plots.mixing_gallery(IMAGES, **options)


def test_gallery_shows_what_augmentations_draw():
    layers = {"erased": policies.RandomErasing(1.0, fill=0), "flipped": augmentation.PadCropFlip(0)}
    figure = plots.augmentation_gallery(IMAGES, layers, num_draws=3, seed=4)
    shown = [axes.images[0].get_array() for axes in figure.axes]
    assert len(shown) == 2 * len(IMAGES) * 4
    np.testing.assert_array_equal(shown[0][..., 0], np.rint(IMAGES[0][..., 0]))
    expected = layers["erased"](np.repeat(np.float32(IMAGES[:1]), 3, axis=0), seed=StepSeed(4))
    np.testing.assert_array_equal(shown[2][..., 0], np.rint(expected[1][..., 0]))
    assert [axes.get_ylabel() for axes in figure.axes[::4]] == [name for name in layers for _ in IMAGES]
    with pytest.raises(ValueError, match=r"`images` must be images \(n, H, W, C\), got shape \(3,\)"):
        plots.augmentation_gallery(np.zeros(3), layers)


def test_equal_weights():
    figure = plots.mixing_gallery(IMAGES, masks=["cutmix"], num_draws=1, weight_root=None)
    assert figure.axes[3].get_title() == "w 1.00, 1.00"
    with pytest.raises(ValueError, match="`weight_roots` must be a positive number each, or None for equal weights"):
        plots.weight_curves([3, -1])


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
    for options, message in (
        (dict(path=3), "`path` must be the path of a file"),
        (dict(dpi=0), "`dpi` must be a posi"),
    ):
        with pytest.raises(ValueError, match=message):
            plots.save(plots.weight_curves(), **{"path": path, **options})
