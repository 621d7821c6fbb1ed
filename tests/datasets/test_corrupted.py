"""Test sets under shift, in small folders laid out exactly as their authors' archives, and by TFDS' splits."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from mixmo_keras import datasets
from mixmo_keras.datasets import class_folders, corrupted, registry

WNIDS = class_folders.names_of_imagenet()


def values(dataset):
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.array(images), np.array(labels)


def save(path, grey: int, size=(40, 50)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), grey, "uint8")).save(path)


def archive_of_arrays(folder, labels, sizes=(2, 2)):
    """All 19 files of CIFAR-10-C or CIFAR-100-C: five blocks of severity; pixels say the severity and the place."""
    folder.mkdir()
    count = len(labels)
    for name in (*corrupted.FIFTEEN, *corrupted.EXTRA):
        severity, place = np.divmod(np.arange(5 * count), count)
        pixels = (10 * (severity + 1) + place).astype("uint8")
        np.save(folder / f"{name}.npy", np.broadcast_to(pixels[:, None, None, None], (5 * count, *sizes, 3)))
    np.save(folder / "labels.npy", np.tile(labels, 5))


def test_versions_are_fifteen_and_five():
    for name in ("cifar10", "cifar100", "imagenet2012", "cifar10@16"):
        versions = datasets.corrupted_versions(name)
        assert len(versions) == 15 * 5
        assert not {corruption for corruption, _ in versions} & {
            "speckle_noise",
            "gaussian_blur",
            "spatter",
            "saturate",
        }
    assert len(datasets.corrupted_versions("cifar10", extra=True)) == 19 * 5


@pytest.mark.parametrize("name", ["cifar10", "imagenet2012"])
def test_every_version_has_its_name_in_tfds(name):
    builder, _ = corrupted._OF_TFDS[name]
    spelled = corrupted._NAMES_OF_TFDS.get(name, {})
    ours = {f"{spelled.get(one, one)}_{severity}" for one, severity in datasets.corrupted_versions(name, extra=True)}
    assert ours == set(tfds.builder_cls(builder).builder_configs)


@pytest.mark.parametrize(
    ("name", "folder", "labels"), [("cifar100", "CIFAR-100-C", [99, 0, 7]), ("cifar10", "CIFAR-10-C", [3, 9])]
)
def test_arrays_are_blocks_of_severity(name, folder, labels, tmp_path):
    archive_of_arrays(tmp_path / folder, labels)
    for severity in range(1, 6):
        images, found = values(datasets.load_corrupted(name, "glass_blur", severity, tmp_path))
        assert found.tolist() == labels
        assert images[:, 0, 0, 0].tolist() == [10 * severity + place for place in range(len(labels))]
        assert images.dtype == "uint8"
    images, _ = values(datasets.load_corrupted(f"{name}@4", "fog", 1, tmp_path))
    assert images.shape == (len(labels), 4, 4, 3)


def test_damaged_archives_of_arrays(tmp_path):
    archive_of_arrays(tmp_path / "CIFAR-100-C", [1, 2])
    folder = tmp_path / "CIFAR-100-C"
    np.save(folder / "fog.npy", np.zeros((9, 2, 2, 3), "uint8"))
    with pytest.raises(ValueError, match=r"fog.npy must hold images \(5·n, H, W, 3\) uint8.*got \(9, 2, 2, 3\) uint8"):
        datasets.load_corrupted("cifar100", "fog", 1, tmp_path)
    (folder / "snow.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"There is no .*snow\.npy: unpack the authors' archive"):
        datasets.load_corrupted("cifar100", "snow", 1, tmp_path)
    np.save(folder / "labels.npy", np.full(10, 100))
    with pytest.raises(ValueError, match=r"labels\.npy must hold classes from 0 to 99; got 100 to 100"):
        datasets.load_corrupted("cifar100", "frost", 1, tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"has no corrupted cifar100: unpack its authors' archive into .*CIFAR-100-C"
    ):
        datasets.load_corrupted("cifar100", "frost", 1, tmp_path / "other")


@pytest.mark.parametrize("group", ["", "weather"])
def test_imagenet_c_is_folders_of_corruption_severity_and_class(group, tmp_path):
    for number, place in ((999, 2), (0, 1)):
        for severity in (1, 5):
            path = tmp_path / "ImageNet-C" / group / "fog" / str(severity) / WNIDS[number]
            save(path / f"ILSVRC2012_val_{place:08}.JPEG", 20 * severity + place, (224, 224))
    images, labels = values(datasets.load_corrupted("imagenet2012", "fog", 5, tmp_path))
    assert labels.tolist() == [0, 999]
    assert images.shape == (2, 224, 224, 3)  # published at this size: nothing is cut off
    assert images[:, 0, 0, 0].tolist() == [101, 102]
    with pytest.raises(
        ValueError, match=r"ImageNet-C has no folder fog/3/, or \*/fog/3/: unpack the authors' archives"
    ):
        datasets.load_corrupted("imagenet2012", "fog", 3, tmp_path)


def test_imagenet_a_has_some_classes_and_v2_numbers_for_names(tmp_path):
    for number in (6, 11, 988):
        save(tmp_path / "imagenet-a" / WNIDS[number] / f"0.{number}.jpg", number % 256)
    (tmp_path / "imagenet-a" / "README.txt").write_text("names of classes")
    images, labels = values(datasets.load("imagenet_a", "test", tmp_path))
    assert labels.tolist() == [6, 11, 988]
    assert images.shape == (3, 224, 224, 3)
    for number in (0, 2, 10, 999):  # as texts 10 comes before 2
        save(tmp_path / "imagenetv2-matched-frequency-format-val" / str(number) / "a.jpeg", number % 256)
    images, labels = values(datasets.load("imagenet_v2@32", "test", tmp_path))
    assert sorted(labels.tolist()) == [0, 2, 10, 999]
    np.testing.assert_allclose(images[:, 0, 0, 0], labels % 256, atol=2)  # JPEG
    info = datasets.info("imagenet_a", tmp_path)
    assert (info.class_names, info.image_shape) == (WNIDS, (224, 224, 3))
    save(tmp_path / "imagenet-a" / "cat" / "0.jpg", 0)
    with pytest.raises(ValueError, match="has a folder cat, which is no class of ImageNet"):
        datasets.load("imagenet_a", "test", tmp_path)


def test_a_test_set_has_no_other_split(tmp_path):
    with pytest.raises(ValueError, match="imagenet_a has no train images: it has the splits test alone"):
        datasets.load("imagenet_a", "train", tmp_path)


@pytest.mark.parametrize(("name", "split"), [("imagenet2012", "validation"), ("cifar10", "test")])
def test_the_labelled_split_of_tfds_is_read(name, split, monkeypatch):
    """As published: the labels of `imagenet2012_corrupted`'s test split are secret, -1."""
    asked = []

    def as_dataset(self, split, **_):
        asked.append((self.builder_config.name, split))
        shape = self.info.features["image"].shape
        return tf.data.Dataset.from_tensors({"image": tf.zeros(shape, tf.uint8), "label": tf.constant(3, tf.int64)})

    monkeypatch.setattr(registry, "_reachable", lambda url: True)
    monkeypatch.delenv("MIXMO_DATA_DIR", raising=False)
    with tfds.testing.mock_data(as_dataset_fn=as_dataset):
        _, labels = values(datasets.load_corrupted(name, "glass_blur", 2))
    assert labels.tolist() == [3]
    assert asked == [("frosted_glass_blur_2" if name == "cifar10" else "glass_blur_2", split)]


def test_a_split_without_labels_is_refused(monkeypatch):
    def as_dataset(self, split, **_):
        shape = self.info.features["image"].shape
        return tf.data.Dataset.from_tensors({"image": tf.zeros(shape, tf.uint8), "label": tf.constant(-1, tf.int64)})

    monkeypatch.setattr(registry, "_reachable", lambda url: True)
    with tfds.testing.mock_data(as_dataset_fn=as_dataset):
        source = datasets.tensorflow_dataset("imagenet2012_corrupted/fog_1", {"test": "test"})
        with pytest.raises(ValueError, match="imagenet2012_corrupted/fog_1, split test has no labels, they were never"):
            source.load("test", None, False)
