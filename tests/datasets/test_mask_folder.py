"""Folders of images beside masks: pairs, splits and classes, ADE20K's layout, and what is wrong with a folder."""

import numpy as np
import pytest
from PIL import ExifTags, Image

from mixmo_keras import datasets, tasks
from mixmo_keras.datasets.mask_folder import MaskFolder

RANDOM = np.random.default_rng(0)


def write(folder, name, mask, image=None, masks="masks", mode=None):
    """A pair of files: an image whose pixels are 20 times their class, and its mask."""
    image = np.repeat(20 * np.minimum(mask, 12)[..., None], 3, -1) if image is None else image
    for place, pixels, suffix in (("images", image, "png"), (masks, mask, "png")):
        path = folder / place / f"{name}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(pixels.astype("uint8"))
        if mode == "P" and place == masks:
            picture = picture.convert("P")
            picture.putdata(pixels.astype("uint8").ravel().tolist())
            picture.putpalette(RANDOM.integers(0, 256, 768).tolist())
        picture.save(path)


def arrays(folder, split, size="8"):
    images, maps = zip(*datasets.load(f"{folder}@{size}", split).as_numpy_iterator(), strict=True)
    return np.stack(images), np.stack(maps)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for number in range(40):
        mask = RANDOM.choice([0, 1, 2, 255], (8, 12))
        mask[0, 0] = 2
        write(folder, f"{number}", mask, mode="P" if number % 2 else None)
    return folder


def test_masks_beside_images(photographs):
    about = datasets.info(f"{photographs}@8x12")
    assert about.image_shape == (8, 12, 3)
    assert datasets.info(f"{photographs}@8x12x1").image_shape == (8, 12, 1)
    assert about.class_names == ("0", "1", "2")
    assert about.task == tasks.Segmentation(("0", "1", "2"))
    splits = {split: arrays(photographs, split, "8x12") for split in datasets.SPLITS}
    assert sum(len(splits[split][0]) for split in ("train", "validation", "test")) == 40
    images, maps = splits["train+validation"]
    assert maps.dtype == "uint8"
    np.testing.assert_array_equal(images[..., 0], 20 * np.minimum(maps, 12))  # in grey levels and in palettes


def test_masks_are_cut_and_enlarged_with_their_images(photographs):
    images, maps = arrays(photographs, "train", "16")
    assert images.shape[1:] == (16, 16, 3)
    assert set(np.unique(maps)) == {0, 1, 2, 255}
    small = arrays(photographs, "train", "8")[1]
    np.testing.assert_array_equal(maps, small.repeat(2, 1).repeat(2, 2))  # its nearest pixel
    inner = images[:, 1:-1, 1:-1, 0].astype(int) - 20 * np.minimum(maps[:, 1:-1, 1:-1], 12)
    assert np.abs(inner).mean() < 40  # bilinear beside nearest, at the same place


def test_a_photograph_is_turned_upright_and_fits_its_mask(tmp_path):
    for split in ("train", "val", "test"):
        for number in range(2):
            write(tmp_path, f"{split}/{number}", np.full((6, 4), number))
        pixels = RANDOM.integers(0, 256, (4, 6, 3), "uint8")
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6  # to be looked at after a quarter turn to the right
        Image.fromarray(pixels).save(tmp_path / "images" / split / "1.png", exif=exif)
    images, _ = arrays(tmp_path, "test", "6x4")
    np.testing.assert_array_equal(images[1], np.rot90(pixels, -1))


def test_names_and_split_folders(tmp_path):
    for split in ("train", "val", "test"):
        for number in range(2):
            write(tmp_path, f"{split}/{number}", np.full((4, 4), number))
    (tmp_path / "classes.txt").write_text("road\nsky\nwall\n")
    folder = MaskFolder(tmp_path, (4, 4))
    assert folder.class_names == ("road", "sky", "wall")
    assert folder.splits.tolist() == ["test", "test", "train", "train", "validation", "validation"]
    assert len(arrays(tmp_path, "validation")[0]) == 2
    assert datasets.describe(str(tmp_path)).startswith(f"{tmp_path}: 3 classes")


def test_a_small_copy_of_ade20k(tmp_path):
    """0 is ignored, 1 to 150 are classes 0 to 149; its validation split is the test split."""
    for number in range(60):
        write(tmp_path, f"training/ADE_train_{number:08}", np.full((6, 6), number % 3), masks="annotations")
    for number in range(3):
        mask = np.full((6, 6), 150)
        mask[:3] = 0
        write(tmp_path, f"validation/ADE_val_{number:08}", mask, masks="annotations")
    about = datasets.info(f"{tmp_path}@6")
    assert about.num_classes == 150
    assert about.class_names[-1] == "150"
    _, maps = arrays(tmp_path, "test", "6")
    assert len(maps) == 3
    assert (maps[:, :3] == 255).all()
    assert (maps[:, 3:] == 149).all()
    train, validation = (arrays(tmp_path, split, "6")[1] for split in ("train", "validation"))
    assert len(train) + len(validation) == 60
    assert len(validation) > 0
    assert set(np.unique(train)) == {0, 1, 255}


def image_of_another_size(folder):
    write(folder, "a", np.zeros((4, 4)), image=np.zeros((5, 4, 3)))


def colours(folder):
    write(folder, "a", np.zeros((4, 4, 3)), image=np.zeros((4, 4, 3)))


def no_mask(folder):
    write(folder, "a", np.zeros((4, 4)))
    (folder / "images" / "a.png").rename(folder / "images" / "b.png")


def no_image(folder):
    write(folder, "a", np.zeros((4, 4)))
    write(folder, "b", np.zeros((4, 4)))
    (folder / "images" / "b.png").unlink()


def nothing(folder):
    (folder / "images").mkdir()
    (folder / "masks").mkdir()


def damaged(folder):
    write(folder, "a", np.zeros((4, 4)))
    (folder / "masks" / "a.png").write_bytes(b"no picture")


def too_large(folder):
    for place in ("images", "masks"):
        (folder / place).mkdir()
        Image.new("1", (9000, 9000)).save(folder / place / "a.png")


def one_class(folder):
    write(folder, "a", np.zeros((4, 4)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (image_of_another_size, r"must have the size of its image, 4×5 pixels \(width×height\), and has 4×4"),
        (colours, r"must have one number a pixel, .* it has colours \(RGB\)"),
        (no_mask, "1 images have no mask of their name in .*masks, such as b"),
        (no_image, "1 masks have no image of their name in .*images, such as b"),
        (nothing, "must hold images in `images` and PNG files .* it has 0 images and 0 masks"),
        (damaged, "can't be read"),
        (too_large, "a.png has 9000×9000 pixels, more than the 67,108,864 that are read"),
        (one_class, "`classes` must be an integer of at least 2"),
    ],
)
def test_what_is_wrong_with_a_folder(make, message, tmp_path):
    make(tmp_path)
    with pytest.raises(ValueError, match=message):
        datasets.info(str(tmp_path))


def test_random_parts_are_refused(photographs):
    with pytest.raises(ValueError, match=r"don't move their masks: use augmentation\.RandomResizedCrop"):
        datasets.load(str(photographs), "train", whole=True)


def test_a_split_without_images(tmp_path):
    for number in range(2):
        write(tmp_path, f"train/{number}", np.full((4, 4), number))
    with pytest.raises(ValueError, match="has no test images"):
        datasets.load(str(tmp_path), "test")
