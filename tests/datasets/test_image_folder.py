"""Folders of class folders: splits, sizes, grey and colour, files that are no images; recipes/images.py."""

import dataclasses
import json
import shutil

import images as recipe
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mixmo_keras import datasets
from mixmo_keras.datasets.image_folder import ImageFolder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The digits as PNG files below three class folders, 40 each, whose names are words."""
    path = tmp_path_factory.mktemp("images") / "numbers"
    words = ("zero", "one", "two")
    count = [0, 0, 0]
    for image, label in datasets.load("digits", "train+validation").as_numpy_iterator():
        if label < 3 and count[label] < 40:
            (path / words[label]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(path / words[label] / f"{count[label]}.png")
            count[label] += 1
    return path


def test_splits_are_disjoint_stratified_and_whole(folder):
    images = ImageFolder(folder, (8, 8))
    assert images.class_names == ("one", "two", "zero")
    splits = {split: set(images.indices(split)) for split in datasets.SPLITS}
    assert sum(len(splits[split]) for split in ("train", "validation", "test")) == 120
    assert len(splits["train"] | splits["validation"] | splits["test"]) == 120
    assert splits["train"] | splits["validation"] == splits["train+validation"]
    for split, share in (("test", 0.2), ("validation", 0.1)):
        counts = np.bincount(images.labels[list(splits[split])], minlength=3)
        assert (counts >= 1).all()
        # three standard deviations of a binomial distribution
        assert (np.abs(counts - 40 * share) < 3 * np.sqrt(40 * share * (1 - share))).all()
    other = ImageFolder(folder, (16, 16))
    assert set(other.indices("test")) == splits["test"]


def test_pixels_and_labels_are_the_files(folder):
    name = f"{folder}@8"
    info = datasets.info(name)
    assert (info.image_shape, info.class_names, info.name) == ((8, 8, 1), ("one", "two", "zero"), "numbers")
    files = ImageFolder(folder, (8, 8))
    for index, (image, label) in zip(files.indices("test"), datasets.load(name, "test"), strict=True):
        np.testing.assert_array_equal(image[..., 0], np.asarray(Image.open(files.paths[index])))
        assert info.class_names[int(label)] in files.paths[index]
    assert image.dtype == tf.uint8


def test_sizes_and_channels(folder, tmp_path):
    assert datasets.info(str(folder)).image_shape == (64, 64, 1)
    assert datasets.info(f"{folder}@32x48").image_shape == (32, 48, 1)
    image, _ = next(iter(datasets.load(f"{folder}@32x48", "train")))
    assert image.shape == (32, 48, 1)
    mixed = tmp_path / "mixed"
    shutil.copytree(folder, mixed)
    Image.new("RGB", (30, 10), (255, 0, 0)).save(mixed / "one" / "0.png")  # one colour image, and not square
    assert datasets.info(f"{mixed}@8").image_shape == (8, 8, 3)
    reds = [image for split in datasets.SPLITS[:3] for image, _ in datasets.load(f"{mixed}@8", split)]
    assert any(np.array_equal(image, np.broadcast_to([255, 0, 0], (8, 8, 3))) for image in reds)


def test_webp_files_are_read_but_for_animations(tmp_path):
    drawn = np.random.default_rng(0)
    saved = {}
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(5):
            path = tmp_path / name / f"{number}.webp"
            saved[str(path)] = drawn.integers(0, 256, (8, 8, 3), "uint8")
            Image.fromarray(saved[str(path)]).save(path, lossless=True)
    stills = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    stills[0].save(tmp_path / "dog" / "moving.webp", save_all=True, append_images=stills[1:])
    with pytest.warns(UserWarning, match=r"1 files \(1 .webp\) are not read"):
        files = ImageFolder(tmp_path, (8, 8))
    assert set(files.paths) == set(saved)
    with pytest.warns(UserWarning, match="are not read"):
        train = datasets.load(f"{tmp_path}@8", "train")
    for index, (image, _) in zip(files.indices("train"), train, strict=True):
        np.testing.assert_array_equal(image, saved[files.paths[index]])


def test_channels_behind_the_size(folder, tmp_path):
    (grey, _), (repeated, _) = (next(iter(datasets.load(f"{folder}@8x8{end}", "test"))) for end in ("", "x3"))
    np.testing.assert_array_equal(repeated, np.repeat(grey, 3, -1))
    colours = {"red": (255, 0, 0), "blue": (0, 0, 255)}
    for name, colour in colours.items():
        (tmp_path / name).mkdir()
        for number in range(5):
            Image.new("RGB", (6, 6), colour).save(tmp_path / name / f"{number}.png")
    assert datasets.info(f"{tmp_path}@4x6x1").image_shape == (4, 6, 1)
    assert "brought to 4×6 in grey" in datasets.describe(f"{tmp_path}@4x6x1")
    levels = {int(label): int(image[0, 0, 0]) for image, label in datasets.load(f"{tmp_path}@4x6x1", "train")}
    assert levels == {0: pytest.approx(0.114 * 255, abs=1), 1: pytest.approx(0.299 * 255, abs=1)}  # luma
    assert dataclasses.replace(recipe.RECIPE, dataset="photos@4x6x1", image_size=5).dataset == "photos@5x5x1"
    for name, message in (
        (f"{folder}@8x8x2", r"the number of channels must be 1 \(grey\) or 3 \(RGB\), got 2"),
        ("digits@8x8x3", r"'digits@8x8x3': channels behind the size are for folders .*; leave out x3"),
    ):
        with pytest.raises(ValueError, match=message):
            datasets.info(name)


def test_what_is_no_dataset(folder, tmp_path):
    with pytest.raises(ValueError, match=r"`dataset` must be one of .*of a CSV file of labels, got 'nowhere@32'"):
        datasets.info("nowhere@32")
    with pytest.raises(ValueError, match=r"`size` must be \(height, width\), integers of at least 1, got \(8, 0\)"):
        ImageFolder(folder, (8, 0))
    with pytest.raises(ValueError, match="`folder` must be the path of a folder, got 3"):
        ImageFolder(3)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no folders of images, one a class"):
        datasets.info(str(tmp_path / "empty"))
    alone = tmp_path / "alone"
    shutil.copytree(folder / "one", alone / "one")
    with pytest.raises(ValueError, match="has 1 class folder: a classifier needs two"):
        datasets.info(str(alone))
    few = tmp_path / "few"
    shutil.copytree(folder, few)
    for path in sorted((few / "two").iterdir())[4:]:
        path.unlink()
    with pytest.raises(ValueError, match="Class 'two' has 4 images: at least 5 are needed"):
        datasets.info(str(few))
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    right = (broken / "one" / "3.png").read_bytes()
    (broken / "one" / "3.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"1 of 120 files in .* can't be read .*one/3.png: "):
        datasets.info(str(broken))
    (broken / "one" / "3.png").write_bytes(right)
    for side, message in (
        (9000, "one/4.png: 9000×9000 pixels, more than"),
        (20_000, "one/4.png: Image size .* exceeds limit"),
    ):
        Image.new("1", (side, side)).save(broken / "one" / "4.png")
        with pytest.raises(ValueError, match=message):
            datasets.info(str(broken))


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_recipe(folder, tmp_path, capsys):
    arguments = [f"{folder}@8", "--backbone", "tiny_4", "--epochs", "1", "--batch-size", "64", "--crop", "whole"]
    places = ["--output-dir", str(tmp_path / "runs"), "--export-dir", str(tmp_path / "saved")]
    figures = recipe.main([*places, *arguments])  # the folder may come behind options
    assert figures["name"] == "numbers_8-cut_mixmo-tiny_4-seed0"
    assert (tmp_path / "runs" / figures["name"] / "evaluation" / "report.html").exists()
    saved = tmp_path / "saved" / figures["name"]
    assert [str(path) for path in saved.iterdir()] == [figures["saved_model"]]  # once, with its temperature
    card = (saved / "1" / "model_card.md").read_text()
    assert "into 3 classes: one, two, zero" in card
    assert "(not calibrated)" in card  # by 12 validation images
    assert "| epochs | 1 |" in card
    assert json.loads((tmp_path / "runs" / figures["name"] / "metrics.json").read_text()) == figures
    assert "exported:" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="error: --compare-single has no meaning with --method single"):
        recipe.main([*arguments, "--method", "single", "--compare-single"])
    with pytest.raises(SystemExit, match="2"):
        recipe.main([])
    assert "the following arguments are required: DIR" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"error: `dataset` must be one of .*, got 'nowhere'"):
        recipe.main(["nowhere"])
    with pytest.raises(SystemExit, match="0"):
        recipe.main(["--help"])


def test_a_single_network_that_is_not_beaten_is_what_members_can_begin_as():
    said = recipe.other_ways(dataclasses.replace(recipe.RECIPE, dataset="my photos@64", output_dir="my runs"))
    exported, further = said.splitlines()
    assert "--method single in place of --compare-single" in exported
    assert "--then-members in place of --compare-single" in further
    for backbone in ("mine.keras", "efficientnet_lite0"):  # these members began so; on photographs none gained
        assert recipe.other_ways(dataclasses.replace(recipe.RECIPE, dataset="photos@64", backbone=backbone)) == exported


@pytest.mark.slow  # two whole runs; the sentence has a test of its own
@pytest.mark.usefixtures("eagerly")
def test_which_of_two_to_use(folder, tmp_path, capsys):
    arguments = [f"{folder}@8", "--backbone", "tiny_4", "--epochs", "1", "--batch-size", "64", "--compare-single"]
    recipe.main([*arguments, "--output-dir", str(tmp_path / "runs"), "--export-dir", str(tmp_path / "saved")])
    runs = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert runs == ["numbers_8-cut_mixmo-tiny_4-seed0", "numbers_8-single-tiny_4-seed0"]
    accuracies = []
    for name in runs:
        text = (tmp_path / "runs" / name / "evaluation/metrics.json").read_text()
        accuracies.append(100 * json.loads(text)["uncalibrated"]["accuracy"])
    *_, said, exported = capsys.readouterr().out.strip().splitlines()
    assert exported.startswith("exported: ")  # what is compared is known before
    assert f"{accuracies[0]:.1f} % against {accuracies[1]:.1f} % of" in said
