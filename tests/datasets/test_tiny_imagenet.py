"""The Tiny ImageNet builder on small archives in the official layout, and on the real one where it is."""

import io
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from mixmo_keras import datasets

CLASSES = {"n02": "crane", "n01": "goldfish, Carassius auratus", "n03": "crane, wading bird"}
ROOT = "tiny-imagenet-200"


def jpeg(shade: int, size: int, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (size, size), shade if mode == "L" else (shade, shade, shade)).save(file, "JPEG")
    return file.getvalue()


def content(size: int = 64) -> dict[str, bytes | str]:
    """Three classes, ten train and two validation images each, whose shade tells class and number."""
    files: dict = {"wnids.txt": "\n".join(CLASSES) + "\n"}
    files["words.txt"] = "".join(f"{name}\t{words}\n" for name, words in {**CLASSES, "n09": "unused"}.items())
    annotations = ""
    for place, name in enumerate(CLASSES):
        for number in range(10):
            mode = "L" if number == 3 else "RGB"  # the official files have grey ones too
            files[f"train/{name}/images/{name}_{number}.JPEG"] = jpeg(80 * place + 5 * number, size, mode)
        for number in range(2):
            files[f"val/images/val_{3 * number + place}.JPEG"] = jpeg(80 * place + 5 * number, size)
            annotations += f"val_{3 * number + place}.JPEG\t{name}\t0\t0\t{size - 1}\t{size - 1}\n"
    files["val/val_annotations.txt"] = annotations
    files["test/images/test_0.JPEG"] = jpeg(0, size)
    return files


def archive(folder, files):
    path = folder / "downloads" / "manual" / f"{ROOT}.zip"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as out:
        for name, data in files.items():
            out.writestr(f"{ROOT}/{name}", data)
    return path


@pytest.mark.parametrize("size", [32, 64])
def test_reads_the_official_layout(tmp_path, size):
    archive(tmp_path, content(size))
    info = datasets.info("tiny_imagenet", tmp_path)
    assert info.image_shape == (size, size, 3)
    assert info.class_names == ("crane (n02)", "goldfish", "crane (n03)")  # in the order of wnids.txt
    assert info.normalization == (0.5, 0.5)
    splits = {name: list(datasets.load("tiny_imagenet", name, tmp_path)) for name in datasets.SPLITS}
    assert {name: len(rows) for name, rows in splits.items()} == {
        "train": 27,
        "validation": 3,
        "test": 6,
        "train+validation": 30,
    }
    for rows in splits.values():
        for image, label in rows:
            assert image.shape == (size, size, 3)
            assert int(np.rint(image.numpy().mean())) // 80 == int(label)


def damaged(change):
    files = content()
    change(files)
    return files


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda files: files.pop("val/val_annotations.txt"), "no item named"),
        (lambda files: files.pop("wnids.txt"), "no item named"),
        (lambda files: files.update({"val/val_annotations.txt": "val_0.JPEG\tn02\t0\n"}), "without a class"),
        (
            lambda files: files.update({"train/n07/images/n07_0.JPEG": jpeg(3, 64)}),
            "train/ has no images, or some without",
        ),
        (
            lambda files: files.update({"val/images/val_0.JPEG": jpeg(3, 32)}),
            "val_0.JPEG is 32×32 pixels, others are 64×64",
        ),
        (lambda files: files.update({"val/images/val_0.JPEG": b"no image"}), "val_0.JPEG: cannot identify image"),
    ],
)
def test_a_damaged_archive_is_one_error(tmp_path, change, message):
    archive(tmp_path, damaged(change))
    with pytest.raises(
        ValueError, match=rf"zip is not a whole tiny-imagenet-200.zip \(.*{message}.*remove it to download"
    ):
        datasets.load("tiny_imagenet", "train", tmp_path)
    assert not (tmp_path / "tiny_imagenet" / "1.0.0").exists()


@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.999])
def test_a_truncated_archive_is_one_error(tmp_path, fraction):
    path = archive(tmp_path, content())
    path.write_bytes(path.read_bytes()[: int(fraction * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"zip is not a whole tiny-imagenet-200.zip \(.*is not a zip file"):
        datasets.info("tiny_imagenet", tmp_path)


@pytest.mark.usefixtures("no_network")
def test_without_archive_and_network(tmp_path):
    with pytest.raises(FileNotFoundError, match="'tiny_imagenet' is not prepared in"):
        datasets.info("tiny_imagenet", tmp_path)


def test_the_real_archive():
    folder = os.environ.get("MIXMO_DATA_DIR", "")
    path = os.path.join(folder, "downloads", "manual", f"{ROOT}.zip")
    if not os.path.exists(path):
        pytest.skip(f"MIXMO_DATA_DIR names no folder with {ROOT}.zip")
    with zipfile.ZipFile(path) as real:
        classes = real.read(f"{ROOT}/wnids.txt").decode().split()
        annotated = real.read(f"{ROOT}/val/val_annotations.txt").decode().splitlines()
        train = sum(name.startswith(f"{ROOT}/train/") and name.endswith(".JPEG") for name in real.namelist())
    counts = np.bincount([classes.index(line.split("\t")[1]) for line in annotated], minlength=len(classes))
    assert datasets.info("tiny_imagenet", folder).num_classes == len(classes)
    labels = [int(label) for _, label in datasets.load("tiny_imagenet", "test", folder)]
    np.testing.assert_array_equal(np.bincount(labels, minlength=len(classes)), counts)
    assert int(datasets.load("tiny_imagenet", "train+validation", folder).cardinality()) == train
