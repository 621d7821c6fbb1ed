"""TIFF files in folders: read by Pillow once, then as PNG files from the cache."""

import io
from pathlib import Path

import numpy as np
import pytest
from image_files import by_pillow
from PIL import ExifTags, Image

from mixmo_keras import datasets
from mixmo_keras.datasets import file_checks, tiff
from mixmo_keras.datasets.image_folder import ImageFolder

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16")


def content(mode, orientation, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), "uint8")
    if mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype("uint16") * 257)
    else:
        image = Image.fromarray(pixels).convert(mode)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    file = io.BytesIO()
    image.save(file, "TIFF", exif=exif)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two classes of TIFF files alone, of every mode, one of them with another orientation."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for seed, mode in enumerate(MODES * 2):
        path = tmp_path / "photos" / "ab"[seed % 2] / f"{seed:02}.{'tif' if seed % 3 else 'TIFF'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(mode, 6 if seed == 3 else 1, seed))
    return tmp_path / "photos"


def test_a_folder_of_tiff_files_is_read_as_pillow_reads_them(folder, tmp_path):
    images = ImageFolder(folder, (6, 6))
    assert (len(images.names), images.channels) == (18, 3)
    assert "18 images, 2 classes (a 9, b 9)" in images.description()
    assert "1 are turned upright" in images.description()
    seen = 0
    for split in ("train", "validation", "test"):
        for index, (image, _) in zip(images.indices(split), images.load(split, whole=True), strict=True):
            own = Path(images.paths[index]).read_bytes()
            np.testing.assert_array_equal(image, by_pillow(own, "RGB"))
            assert images.facts[index].digest == file_checks._digest(own)  # not the PNG file's
            seen += 1
    assert seen == 18
    assert len(list((tmp_path / "cache" / "mixmo_keras" / "tiff").iterdir())) == 18


def test_a_file_is_converted_once_and_again_where_its_png_is_gone(folder, tmp_path, monkeypatch):
    kept = []
    keep = tiff.keep
    monkeypatch.setattr(tiff, "keep", lambda content, place: kept.append(place) or keep(content, place))
    datasets.info(f"{folder}@8")
    assert len(kept) == 18
    ImageFolder(folder)
    assert len(kept) == 18
    kept[5].unlink()
    ImageFolder(folder)
    assert kept[18:] == [kept[5]]


def test_grey_files_are_grey(folder):
    for path in folder.rglob("*.[tT]*"):
        path.write_bytes(content("L", 1, int(path.stem)))
    assert datasets.info(f"{folder}@8").image_shape == (8, 8, 1)
