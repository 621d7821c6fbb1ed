"""Tiny ImageNet as a TensorFlow Dataset, read from its official zip: TFDS has no builder of its own.

Importing this module registers it: `tfds.load("tiny_imagenet")`. The zip is looked for in TFDS' folder for files that were
downloaded by hand, `<data_dir>/downloads/manual/tiny-imagenet-200.zip`, and downloaded where it is not there.
"""

import collections
import io
import posixpath
import zipfile

import tensorflow_datasets as tfds
from PIL import Image

ARCHIVE = "tiny-imagenet-200.zip"
ROOT = "tiny-imagenet-200"
URL = f"http://cs231n.stanford.edu/{ARCHIVE}"


class TinyImagenet(tfds.core.GeneratorBasedBuilder):
    """Tiny ImageNet (Le and Yang, 2015): the splits `train` and `validation`; the official test split has no labels.

    Sizes, classes and counts are those of the zip: officially 64×64 pixels and 200 classes with 500 and 50 images each. The
    labels are in the order of `wnids.txt`; `info.metadata` has the images' shape and the classes' names in words.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = None  # the zip may lie there, but needn't

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Tiny ImageNet: small images of a subset of ImageNet's classes.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(),
                    "file_name": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://cs231n.stanford.edu",
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        by_hand = dl_manager._manual_dir / ARCHIVE if dl_manager._manual_dir else None
        path = by_hand if by_hand and by_hand.exists() else dl_manager.download(URL)
        try:
            with zipfile.ZipFile(path) as archive:
                classes = _lines(archive, "wnids.txt")
                words = dict(line.split("\t", 1) for line in _lines(archive, "words.txt"))
                labels = dict(line.split("\t")[:2] for line in _lines(archive, "val/val_annotations.txt"))
                names = archive.namelist()
                shape = _shape(archive, next(name for name in names if name.endswith(".JPEG")))
        except (zipfile.BadZipFile, KeyError, StopIteration, ValueError) as error:
            raise _damaged(path, error) from error
        self.info.features["label"].names = classes
        self.info.metadata.update(
            image_shape=shape, class_names=_distinct([words.get(name, name) for name in classes], classes)
        )
        train = {name: name.split("/")[2] for name in names if _is_image(name, "train")}
        validation = {name: labels.get(posixpath.basename(name), "") for name in names if _is_image(name, "val")}
        for split, class_of_image in (("train", train), ("val", validation)):
            if not class_of_image or not set(class_of_image.values()) <= set(classes):
                raise _damaged(path, f"{split}/ has no images, or some without a class of wnids.txt")
        return {
            "train": self._generate_examples(path, train),
            "validation": self._generate_examples(path, validation),
        }

    def _generate_examples(self, path, labels: dict[str, str]):
        shape = tuple(self.info.metadata["image_shape"])
        with zipfile.ZipFile(path) as archive:
            for name, label in labels.items():
                try:
                    encoded = archive.read(name)
                    height, width, _ = _shape(archive, name, encoded)
                except (zipfile.BadZipFile, OSError) as error:
                    raise _damaged(path, f"{name}: {error}") from error
                if (height, width) != shape[:2]:
                    raise _damaged(path, f"{name} is {height}×{width} pixels, others are {shape[0]}×{shape[1]}")
                file_name = posixpath.basename(name)
                yield file_name, {"image": encoded, "label": label, "file_name": file_name}


def _lines(archive: zipfile.ZipFile, name: str) -> list[str]:
    return archive.read(f"{ROOT}/{name}").decode().splitlines()


def _is_image(name: str, split: str) -> bool:
    return name.startswith(f"{ROOT}/{split}/") and name.endswith(".JPEG")


def _shape(archive: zipfile.ZipFile, name: str, encoded: bytes | None = None) -> list[int]:
    """(H, W, 3) of an image in the zip; grey ones become colour."""
    with Image.open(io.BytesIO(archive.read(name) if encoded is None else encoded)) as image:
        return [image.height, image.width, 3]


def _distinct(words: list[str], classes: list[str]) -> list[str]:
    """The first synonym of each class; with its WordNet id where several classes have the same."""
    first = [synonyms.split(",")[0] for synonyms in words]
    count = collections.Counter(first)
    return [word if count[word] == 1 else f"{word} ({name})" for word, name in zip(first, classes, strict=True)]


def _damaged(path, why) -> ValueError:
    return ValueError(
        f"{path} is not a whole {ARCHIVE} ({why}): put the official file there, or remove it to download it."
    )
