"""Datasets by name, folders of images, batches of them."""

import os
from unittest import mock

import numpy as np
import tensorflow as tf
from bad_inputs.harness import Row, anything_else, booleans, check, choices, each, integers, numbers
from PIL import Image

import mixmo_keras
from mixmo_keras import augmentation, datasets
from mixmo_keras.datasets import decoding, label_noise, manifest, resizing, views
from mixmo_keras.experiments import Recipe, run, running

X, Y = np.zeros((12, 8, 8, 3), "uint8"), np.arange(12) % 5
DATA = tf.data.Dataset.from_tensor_slices((X, Y))


def batches(name, **options):
    return lambda here, value: datasets.batches(DATA, **{**dict(batch_size=4), **options, name: value})


BATCHES = [
    *integers("batches", "batch_size", batches("batch_size"), 4, below=0),
    *integers("batches", "seed", batches("seed"), 4),
    *anything_else("batches", "seed", batches("seed"), ["abc"], "`seed` must be an integer, got 'abc'"),
    *integers("batches", "repetitions", batches("repetitions"), 2, below=0),
    *integers("batches", "first_epoch", batches("first_epoch", training=True), 2, below=-1, none=True),
    *integers("batches", "partners", batches("partners", training=True), 2, below=-1),
    *integers("batches", "memory", batches("memory"), 2**30, below=-1),
    *booleans("batches", "training", batches("training")),
    *anything_else("batches", "transform", batches("transform"), [3, "flip"], "`transform` must be"),
    *anything_else(
        "batches",
        "random_part",
        batches("random_part", training=True),
        [3, (8,), (0, 8), "ab"],
        "`random_part` must be",
    ),
    *anything_else(
        "batches",
        "dataset",
        lambda here, value: datasets.batches(value, 4),
        [X, [X], None, "digits"],
        "`dataset` must be a tf.data.Dataset",
    ),
    Row("batches(without end)", lambda here: datasets.batches(DATA.repeat(), 4), "never ends"),
    Row("batches(without end, training)", lambda here: datasets.batches(DATA.repeat(), 4, training=True), "never ends"),
    Row("steps_per_epoch(without end)", lambda here: datasets.steps_per_epoch(DATA.repeat(), 4), "never ends"),
    Row("in_memory(without end)", lambda here: datasets.in_memory(DATA.repeat()), "never ends"),
    Row("subset(without end)", lambda here: views.subset(DATA.repeat(), 4), "never ends"),
    Row(
        "batches(too few images)",
        lambda here: datasets.batches(DATA, 64, training=True),
        "is larger than the training split",
    ),
    Row("batches(no image)", lambda here: datasets.batches(DATA.take(0), 4), "empty|no image"),
    Row(
        "batches(no image, training)",
        lambda here: datasets.batches(DATA.take(0), 4, training=True),
        "is larger than|empty",
    ),
    Row("batches(already in batches)", lambda here: datasets.batches(DATA.batch(4), 4), "one by one"),
    Row(
        "batches(already in batches, training)",
        lambda here: datasets.batches(DATA.batch(4), 2, training=True),
        "one by one",
    ),
    Row(
        "batches(random_part larger than images)",
        lambda here: next(iter(batches("random_part", training=True)(here, (16, 16)))),
    ),
    *integers("subset", "num_images", lambda here, value: views.subset(DATA, value), 4, below=0),
    Row("chosen(too many)", lambda here: views.chosen(12, 13), "`num_images` must be an integer from 1 to 12"),
    Row("subset(too many)", lambda here: views.subset(DATA, 13), "`num_images` must be an integer from 1 to 12"),
    Row(
        "with_labels(too few)",
        lambda here: views.with_labels(DATA, Y[:-1]),
        "one for each image|11 labels for 12 images",
    ),
    Row("with_labels(of 0.5)", lambda here: views.with_labels(DATA, Y + 0.5), "`labels` must be integers"),
    *numbers("LabelNoise", "rate", lambda here, value: label_noise.LabelNoise(value), 0.5, [-1, 2]),
    *choices("LabelNoise", "kind", lambda here, value: label_noise.LabelNoise(0.5, value)),
    *integers("LabelNoise", "seed", lambda here, value: label_noise.LabelNoise(0.5, seed=value), 1, below=-1),
    Row(
        "LabelNoise.labels(of K)",
        lambda here: label_noise.LabelNoise(0.5).labels([5], list("abcde")),
        "`labels` must be integers from 0 to 4",
    ),
    *anything_else(
        "center_crop",
        "size",
        lambda here, value: resizing.center_crop(value),
        [8, (8,), (0, 8), (8.5, 8), "ab", None],
        "`size` must be",
    ),
    *integers("center_crop", "border", lambda here, value: resizing.center_crop((8, 8), value), 1, below=-1),
    *numbers("random_crop", "smallest_area", lambda here, value: resizing.random_crop((8, 8), value), 0.5, [0, 2]),
    *choices("random_crop", "interpolation", lambda here, value: resizing.random_crop((8, 8), interpolation=value)),
    *anything_else(
        "to_shape",
        "shape",
        lambda here, value: resizing.to_shape(value),
        [8, (8, 8), (0, 8, 3), None],
        "`shape` must be",
    ),
    Row(
        "PadCropFlip(padding larger than the image)",
        lambda here: mixmo_keras.CutMixMo(here.backbone, augmentation=augmentation.PadCropFlip(8), num_classes=5),
        "`padding`",
    ),
]


@each(BATCHES)
def test_batches(row, here, record_property):
    check(row, here, record_property)


NAMES = [
    *anything_else(
        "info",
        "dataset",
        lambda here, value: datasets.info(value),
        ["nonsense", "", "digits@", "digits@0", "digits@8x0", "no/such/folder@8", 3, None, []],
        "`dataset` must be|`size` must be",
    ),
    *choices("load", "split", lambda here, value: datasets.load("digits", value)),
    *booleans("load", "whole", lambda here, value: datasets.load("digits", "test", whole=value)),
    *anything_else(
        "load", "data_dir", lambda here, value: datasets.load("digits", "test", value), [3, ["a"]], "`data_dir` must be"
    ),
    Row(
        "load_corrupted(digits)",
        lambda here: datasets.load_corrupted("digits", "fog", 1),
        "No corrupted images of digits were published, only of cifar10, cifar100, imagenet2012",
    ),
    Row(
        "corrupted_versions(nonsense)",
        lambda here: datasets.corrupted_versions("nonsense"),
        "No corrupted images of nonsense were published",
    ),
    Row(
        "corrupted_versions(extra=1)",
        lambda here: datasets.corrupted_versions("cifar10", extra=1),
        "`extra` must be True or False",
    ),
]


@each(NAMES)
def test_names(row, here, record_property):
    check(row, here, record_property)


def picture(path, size=(12, 10), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), "uint8")).convert(mode).save(path, **options)
    return path


def photos(folder, classes=("cat", "dog"), count=6):
    """A folder of classes of sound images."""
    for name in classes:
        for number in range(count):
            picture(folder / name / f"{number}.png")
    return folder


def with_file(name, make):
    """Loads a folder of images, one of which is made by a function of its path."""

    def call(here):
        folder = photos(here.folder / "photos")
        make(folder / "cat" / name)
        return datasets.info(f"{folder}@8")

    return call


def truncated(share, name):
    def make(path):
        sound = picture(path, size=(64, 64)).read_bytes()
        path.write_bytes(sound[: int(len(sound) * share)])

    return with_file(name, make)


def link(target):
    return lambda path: os.symlink(target, path)


def tiny_blocks(path):
    path.write_bytes(GIF_BEGINS + b"\x21\xfe" + b"\1a" * (40 * decoding.MAX_BLOCKS) + b"\0" + GIF_ENDS)


# a screen of a pixel; a frame of one
GIF_BEGINS, GIF_ENDS = b"GIF89a\1\0\1\0\0\0\0", b",\0\0\0\0\1\0\1\0\x80\0\0\0\xff\xff\xff\2\2L\1\0;"
UNREADABLE = "1 of 13 files .*can't be read.*cat/broken"


def named(name):
    """Loads a folder of images where a folder or an image has a name of these bytes."""

    def call(here):
        root = os.fsencode(photos(here.folder / "photos"))
        os.rename(os.path.join(root, b"cat" if b"." not in name else b"cat/0.png"), os.path.join(root, name))
        return datasets.info(f"{os.fsdecode(root)}@8")

    return call


def below_a_name(here):
    """Loads a folder of images that lies in one whose name is not UTF-8."""
    return datasets.info(f"{photos(here.folder / os.fsdecode(b'caf' + LATIN))}@8")


def sixteen_bits(here):
    """Loads a folder of 12-bit values in PNG files of 16 bits."""
    folder = photos(here.folder / "photos")
    for path in folder.rglob("*.png"):
        Image.fromarray(np.arange(4096, dtype="uint16").reshape(64, 64)).save(path)
    return datasets.info(f"{folder}@8")


def of_one_kind(here):
    """Loads a folder one of whose classes is all files of a kind that isn't read."""
    folder = photos(here.folder / "photos")
    for number in range(6):
        picture(folder / "owl" / f"{number}.jp2", format="PNG")
    return datasets.info(f"{folder}@8")


def of_another_kind(here):
    """Loads a folder of such files alone."""
    for number in range(12):
        picture(here.folder / "photos" / "ab"[number % 2] / f"{number}.jp2", format="PNG")
    return datasets.info(str(here.folder / "photos"))


def tiff_of(levels):
    """Loads a folder one of whose images is a TIFF file of these levels."""
    return with_file("broken.tif", lambda path: Image.fromarray(levels).save(path))


def no_cache(here):
    """Loads a TIFF file where nothing can be kept."""
    with mock.patch.dict(os.environ, XDG_CACHE_HOME=os.devnull):
        return with_file("broken.tif", picture)(here)


def layout(*names, classes=("cat", "dog")):
    """Loads a folder of folders of classes."""

    def call(here):
        for name in names:
            photos(here.folder / "data" / name, classes)
        return datasets.info(f"{here.folder / 'data'}@8")

    return call


def flat_splits(here):
    """Loads train/ and test/ that hold images and no class folders."""
    return datasets.info(str(photos(here.folder / "data", ("train", "test"))))


def another_class(here):
    """Loads a layout whose test images have a class that is not trained on."""
    layout("train")(here)
    return layout("test", classes=("cat", "dog", "owl"))(here)


def labelled(*lines, split="train", file="labels.csv"):
    """Loads a folder of twelve images by a CSV file of these lines, in which `...` stands for rows of all images."""

    def call(here):
        folder = photos(here.folder / "data")
        rows = [f"{name}/{number}.png,{name}" for name in ("cat", "dog") for number in range(6)]
        content = [row for line in lines for row in (rows if line is ... else [line])]
        (folder / file).write_bytes("\n".join(content).encode("latin-1"))
        name = f"{folder}@8" if file == "labels.csv" else f"{folder / file}@8"
        return next(iter(datasets.load(name, split)))

    return call


def recipe_on(numbers, **options):
    """Runs a recipe of classes on images with these numbers."""

    def call(here):
        rows = [f"{name}/{number}.png,{numbers}" for name in ("cat", "dog") for number in range(6)]
        labelled("path,a,b", *rows)(here)
        folders = dict(dataset=f"{here.folder / 'data'}@8", output_dir=str(here.folder / "runs"))
        return run(Recipe(**folders, **options))

    return call


def changed_within_a_run(change):
    """Reads training images of a run that began before something happened to the first of their files."""

    def call(here):
        recipe = Recipe(dataset=f"{photos(here.folder / 'data')}@8", output_dir=str(here.folder / "runs"))
        before = manifest.of(recipe.dataset)
        before.write(recipe.folder)
        images = datasets.load(recipe.dataset, "train")
        change(here.folder / "data" / before.names("train")[0])
        with running.naming_changed_files(recipe):
            return next(iter(images))

    return call


LATIN = "é".encode("latin-1")
FOLDERS = [
    Row(
        "folder(an image removed within a run)",
        changed_within_a_run(lambda path: path.unlink()),
        r"The data have changed since the run in .* began: 1 file was removed \(cat/\d.png\)\. Put them back",
    ),
    Row(
        "folder(an image emptied within a run)",
        changed_within_a_run(lambda path: path.write_bytes(b"")),
        r"1 of 12 files in .* can't be read .*cat/\d.png: it is empty",
    ),
    Row("folder(class not in UTF-8)", named(b"caf" + LATIN), r"must be UTF-8, got '.*/photos/caf\\udce9': rename it"),
    Row("folder(image not in UTF-8)", named(b"cat/" + LATIN + b".png"), r"must be UTF-8, got '.*/cat/\\udce9.png'"),
    Row("folder(not in UTF-8)", below_a_name, r"must be UTF-8, got '.*/caf\\udce9': rename it"),
    Row(
        "folder(text not in UTF-8)",
        with_file(os.fsdecode(LATIN) + ".txt", lambda path: path.touch()),
        warns=r"1 files \(1 .txt\) are not read",
    ),
    Row("folder(class in UTF-8)", named("café".encode())),
    Row(
        "folder(text in .jpg)",
        with_file("broken.jpg", lambda path: path.write_text("no image")),
        f"{UNREADABLE}.jpg: it is no image",
    ),
    Row(
        "folder(empty .png)",
        with_file("broken.png", lambda path: path.write_bytes(b"")),
        f"{UNREADABLE}.png: it is empty",
    ),
    Row("folder(half a .png)", truncated(0.5, "broken.png"), f"{UNREADABLE}.*: .*Invalid PNG data"),
    Row("folder(half a .jpg)", truncated(0.5, "broken.jpg"), f"{UNREADABLE}.*: .*Invalid JPEG data"),
    Row("folder(.jpg that lacks its end)", truncated(0.9, "broken.jpg"), UNREADABLE),
    Row("folder(half a .bmp)", truncated(0.5, "broken.bmp"), UNREADABLE),
    Row("folder(half a .gif)", truncated(0.5, "broken.gif"), f"{UNREADABLE}.*: .*Invalid GIF data"),
    Row("folder(dangling link)", with_file("broken.png", link("nowhere.png")), UNREADABLE),
    Row("folder(named pipe)", with_file("broken.png", os.mkfifo), f"{UNREADABLE}.*: it is no file"),
    Row("folder(a device)", with_file("broken.png", link("/dev/zero")), f"{UNREADABLE}.*: it is no file"),
    Row("folder(GIF of tiny blocks)", with_file("broken.gif", tiny_blocks), f"{UNREADABLE}.*more than the .* blocks"),
    Row("folder(link to itself)", with_file("broken.png", link("broken.png")), UNREADABLE),
    Row(
        "folder(a .webp that is called .jpg)",
        with_file("webp.jpg", lambda path: picture(path, format="WEBP")),
    ),
    Row(
        "folder(a .tif that is called .png)",
        with_file("broken.png", lambda path: picture(path, format="TIFF")),
        UNREADABLE,
    ),
    Row(
        "folder(a small file of 80 million pixels)",
        with_file("broken.png", lambda path: Image.new("1", (9000, 9000)).save(path)),
        f"{UNREADABLE}.*9000×9000 pixels, more than the 67,108,864 that are read",
    ),
    Row("folder(link of a folder to itself)", with_file("loop", link("."))),
    Row("folder(grey images among colour)", with_file("grey.png", lambda path: picture(path, mode="L"))),
    Row(
        "folder(.webp that is none)",
        with_file("broken.webp", lambda path: path.write_bytes(b"x")),
        warns=r"1 files \(1 .webp\) are not read: JPEG, PNG, GIF, BMP, WebP and TIFF in the class folders are",
    ),
    Row(
        "folder(orientation in XMP alone)",
        with_file("broken.jpg", lambda path: picture(path, xmp=b'<x tiff:Orientation="6"/>')),
        f"{UNREADABLE}.*Pillow reads 12×10 pixels|{UNREADABLE}.*Pillow reads 10×12 pixels|{UNREADABLE}.*Pillow reads",
    ),
    Row(
        "folder(16 bits of which 12 are used)",
        sixteen_bits,
        warns=r"12 files of 16 bits use the lowest 16 of 256 levels only, since their values end below 4,096 of 65,536",
    ),
    Row(
        "folder(a class of .jp2)",
        of_one_kind,
        r"Class 'owl' has 0 images.* Its 6 files \(6 .jp2\) are not read: .*to PNG, for",
    ),
    Row(
        "folder(.jp2 alone)",
        of_another_kind,
        r"holds no folders of images, one a class. Its 12 files \(12 .jp2\) are not read: .*to PNG, for example",
    ),
    Row("folder(.tif)", with_file("sound.tif", picture)),
    Row(
        "folder(.tif of floats)",
        tiff_of(np.ones((8, 8), "float32")),
        f"{UNREADABLE}.tif: its pixels are floating-point",
    ),
    Row(
        "folder(.tif of 32 bits)", tiff_of(np.full((8, 8), 2**17, "int32")), f"{UNREADABLE}.tif: .* run from 131072 to"
    ),
    Row("folder(half a .tif)", truncated(0.5, "broken.tif"), UNREADABLE),
    Row("folder(text in .tif)", with_file("broken.tif", lambda path: path.write_text("no image")), UNREADABLE),
    Row("folder(.tif without a cache)", no_cache, f"{UNREADABLE}.tif: a PNG file of it can't be kept in /dev/null/mix"),
    Row("folder(train without classes)", flat_splits, "train has no class folders, but its name says"),
    Row("folder(val and test without train)", layout("val", "test"), "has no folder `train` beside test, val"),
    Row(
        "folder(val and valid)",
        layout("train", "val", "valid"),
        r"several folders of the validation split \(val, valid\)",
    ),
    Row("folder(test has another class)", another_class, "test has classes that train/ has not: owl"),
    Row("labels.csv(without path)", labelled("file,class", ...), "labels.csv must have a column `path`.* 'file,class'"),
    Row("labels.csv(semicolons)", labelled("path;class", "cat/0.png;cat"), "commas between columns; .*'path;class'"),
    Row("labels.csv(empty)", labelled(), "labels.csv must have a column `path`"),
    Row("labels.csv(no images)", labelled("path,class"), "names no images"),
    Row(
        "labels.csv(a column twice)",
        labelled("path,class,class", ...),
        "columns of different names, got path, class, c",
    ),
    Row(
        "labels.csv(a cell too many)", labelled("path,class", ..., "cat/0.png,cat,1"), "2 columns, and line 14 has 3 c"
    ),
    Row("labels.csv(not in UTF-8)", labelled("path,class", "cat/é.png,cat"), "no CSV file in UTF-8, in line"),
    Row("labels.csv(an open quote)", labelled("path,class", '"cat/0.png,cat'), "no CSV file in UTF-8, in line"),
    Row(
        "labels.csv(a path above)",
        labelled("path,class", ..., "../a.png,cat"),
        "below .*data, got '../a.png' in line 14",
    ),
    Row(
        "labels.csv(a path of all)", labelled("path,class", ..., "/a.png,cat"), "below .*data, got '/a.png' in line 14"
    ),
    Row("labels.csv(no path)", labelled("path,class", ..., ",cat"), "must be below .*data, got '' in line 14"),
    Row(
        "labels.csv(twice)",
        labelled("path,class", ..., "cat/../cat/0.png,dog"),
        "names cat/0.png twice, in lines 2 ",
    ),
    Row(
        "labels.csv(no image)",
        labelled("path,class", ..., "cat/0.txt,cat"),
        "cat/0.txt in line 14 is no image of a kind",
    ),
    Row("labels.csv(no file)", labelled("path,class", ..., "cat/9.png,cat"), "can't be read .*cat/9.png: No such file"),
    Row("labels.csv(no class)", labelled("path,class", ..., "cat/9.png,"), "has no class in line 14"),
    Row("labels.csv(one class)", labelled("path,class", "cat/0.png,cat"), "has 1 class: a classifier needs two"),
    Row("labels.csv(path alone)", labelled("path", "cat/0.png"), "must have a column `class`, or a column of numbers"),
    Row(
        "labels.csv(a text)",
        labelled("path,camera", ...),
        "must hold a number for each image; `camera` in line 2 holds 'cat'",
    ),
    Row("labels.csv(NaN)", labelled("path,a", "cat/0.png,nan"), "`a` in line 2 holds 'nan'"),
    Row(
        "labels.csv(four images)",
        labelled("path,a", *(f"cat/{n}.png,{n}" for n in range(4))),
        "has 4 images: at least 5",
    ),
    Row(
        "labels.csv(an unknown split)",
        labelled("path,class,split", "cat/0.png,cat,train", "cat/1.png,cat,dev"),
        "`split` must be train, val or test, got 'dev' in line 3",
    ),
    Row(
        "labels.csv(no train)", labelled("path,class,split", "cat/0.png,cat,test"), "its column `split` has no `train`"
    ),
    Row(
        "labels.csv(a group in two splits)",
        labelled("path,class,group,split", "cat/0.png,cat,g,train", "cat/1.png,cat,h,test", "cat/2.png,cat,g,test"),
        "group 'g' is in two splits, train in line 2 and test in line 4",
    ),
    Row(
        "labels.csv(a class that isn't trained on)",
        labelled(
            "path,class,split",
            *(
                f"{name}/{n}.png,{name},{split}"
                for name, split in (("cat", "train"), ("dog", "test"))
                for n in range(6)
            ),
        ),
        "Class 'dog' has no images to train on, which are chosen as the column `split` says",
    ),
    Row("labels.csv(right)", labelled("path,class", ...)),
    Row("ours.csv(right)", labelled("path,class", ..., file="ours.csv")),
    Row(
        "run(numbers)",
        recipe_on("3,4"),
        r"has numbers for each image \(a, b\), .* say what they are by `task`, binary or multi_label or regression",
    ),
    Row(
        "run(noise on shares)",
        recipe_on("0.5,0.5", label_noise=0.2),
        "`label_noise` draws other classes for images",
    ),
    Row("folder(palette)", with_file("palette.png", lambda path: picture(path, mode="P"))),
    Row("folder(one bit)", with_file("bit.png", lambda path: picture(path, mode="1"))),
    Row("folder(alpha)", with_file("alpha.png", lambda path: picture(path, mode="RGBA"))),
    Row("folder(grey .bmp)", with_file("grey.bmp", lambda path: picture(path, mode="L"))),
    Row("folder(CMYK .jpg)", with_file("cmyk.jpg", lambda path: picture(path, mode="CMYK"))),
    Row("folder(one class)", lambda here: datasets.info(str(photos(here.folder / "p", ["cat"]))), "has 1 class folder"),
    Row(
        "folder(four images a class)", lambda here: datasets.info(str(photos(here.folder / "p", count=4))), "at least 5"
    ),
    Row("folder(empty)", lambda here: datasets.info(str(here.folder)), "holds no folders of images"),
    Row("folder(a file)", lambda here: datasets.info(str(picture(here.folder / "a.png"))), "`dataset` must be"),
    Row(
        "folder(an empty class)",
        lambda here: [(photos(here.folder / "p") / "owl").mkdir(), datasets.info(str(here.folder / "p"))],
        "owl",
    ),
]


@each(FOLDERS)
def test_folders(row, here, record_property):
    check(row, here, record_property)


def decoded(content: bytes, **options):
    return lambda here: decoding.decode(tf.constant(content), 3, **options)


INVALID = (tf.errors.InvalidArgumentError,)  # the one error that a graph can raise
DECODED = [
    Row(f"decode({content[:16]!r}, {len(content):,} bytes)", decoded(content), pattern, INVALID)
    for content, pattern in [
        (b"", "Unknown image file format"),
        (b"no image", "Unknown image file format"),
        (b"\x89PNG\r\n\x1a\n", "Unknown image file format|PNG"),
        (b"\xff\xd8\xff", "JPEG"),
        (b"GIF89a", "Unknown image file format|GIF|pixels"),
        (b"BM", "Unknown image file format|BMP|pixels"),
        (b"RIFF\0\0\0\0WEBP", "Unknown image file format"),
        (b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\2", "animated WebP files are not"),
        (b"BM" + b"\xff" * 60, "The BMP file is compressed, or has another number of bits"),
        (GIF_BEGINS + b"\x21\xfe" + b"\1a" * 2**19, "The GIF is in more than the 262,144 blocks"),
        (GIF_BEGINS + b"\x21\xfe\0" * 2**18, "The GIF is in more than the 262,144 blocks"),
    ]
]


DECODED += integers(
    "decode", "max_pixels", lambda here, value: decoding.decode(GIF_BEGINS + GIF_ENDS, 3, value), 4, below=0
)
DECODED += [
    Row("decode(max_pixels=2**70)", decoded(b"", max_pixels=2**70), "`max_pixels` must be an integer from 1 to")
]


@each(DECODED)
def test_files(row, here, record_property):
    check(row, here, record_property)
