"""Orders of an epoch: independent of one another as chance has it, whole, and the same wherever a run begins.

Bounds are five standard deviations of what independent uniform permutations give, or of as many independent draws.
"""

import itertools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from mixmo_keras import datasets
from mixmo_keras.datasets import orders

# -- permutations ------------------------------------------------------------------------------------------------------


def permutations(num_images: int, count: int, seed: int = 0) -> np.ndarray:
    """(count, num_images): the orders of the first epochs."""
    positions = tf.range(num_images, dtype=tf.int64)
    of_epoch = tf.function(lambda epoch: orders.permuted(positions, num_images, seed, epoch))  # traced once
    return np.stack([of_epoch(epoch).numpy() for epoch in tf.range(count, dtype=tf.int64)])


@pytest.mark.parametrize("num_images", [1, 2, 3, 17, 1000, 50_000])
def test_every_order_is_a_permutation(num_images):
    for order in permutations(num_images, 3):
        assert sorted(order) == list(range(num_images))


@pytest.mark.parametrize("num_images", [1000, 4999])
def test_orders_of_neighbouring_epochs_and_seeds_are_uncorrelated(num_images):
    """Two uniform permutations correlate with mean 0 and standard deviation 1/√(n − 1), and nearly normally."""
    of_seeds = np.stack([permutations(num_images, 20, seed) for seed in range(4)])

    def between(first, second):
        return [np.corrcoef(one, other)[0, 1] for one, other in zip(first, second, strict=True)]

    every = []
    for lag in (1, 2, 3):
        every += [between(order[lag:], order[:-lag]) for order in of_seeds]
    every += [between(of_seeds[0], of_seeds[seed]) for seed in (1, 2, 3)]
    every += [between(of_seeds[0, 1:], of_seeds[1, :-1])]  # (seed, epoch + 1) with (seed + 1, epoch)
    scores = np.concatenate(every) * np.sqrt(num_images - 1)
    assert len(scores) == 295
    assert np.abs(scores).max() < 5
    # a sum of squares of 295 standard normal numbers: mean 295, standard deviation √(2·295); few are paired twice
    assert (scores**2).sum() == pytest.approx(295, abs=5 * np.sqrt(2 * 295))


def test_seeds_share_batch_mates_by_chance_alone():
    """Of n·(b − 1)/2 pairs in the batches of one seed, each is a pair of another seed's with probability (b − 1)/(n − 1)."""
    num_images, batch, num_seeds = 4992, 16, 8
    batch_of_image = np.empty((num_seeds, num_images), int)
    for seed in range(num_seeds):
        batch_of_image[seed, permutations(num_images, 1, seed)[0]] = np.arange(num_images) // batch
    shared = 0
    for one, other in itertools.combinations(batch_of_image, 2):
        counts = np.unique(one * num_images + other, return_counts=True)[1]  # images in both of two batches
        shared += (counts * (counts - 1) // 2).sum()
    expected = 28 * num_images * (batch - 1) / 2 * (batch - 1) / (num_images - 1)  # 3151: .3 % of pairs
    assert shared == pytest.approx(expected, abs=5 * np.sqrt(expected))  # rare and nearly independent: Poisson's


def test_neighbours_are_spread_as_by_chance():
    """In a uniform permutation about two neighbouring places hold neighbours, and between two as many pairs of places."""
    num_images, count = 2000, 100
    every = permutations(num_images, count)
    steps = np.abs(np.diff(every, axis=1))
    chance = 2 / num_images * (num_images - 1)  # each of n − 1 neighbouring places, with probability 2/n
    assert (steps == 1).sum() == pytest.approx(count * chance, abs=5 * np.sqrt(count * chance))
    again = 0
    for order, following in itertools.pairwise(every):
        place = np.argsort(following)
        again += (np.abs(np.diff(place[order])) == 1).sum()
    assert again == pytest.approx((count - 1) * chance, abs=5 * np.sqrt((count - 1) * chance))
    # |difference| of two draws without replacement: mean (n + 1)/3, variance (n + 1)(n − 2)/18; steps nearly independent
    sd = np.sqrt((num_images + 1) * (num_images - 2) / 18 / steps.size)
    assert steps.mean() == pytest.approx((num_images + 1) / 3, abs=5 * sd)


@pytest.mark.slow
def test_every_image_comes_to_every_place():
    """Counts of (image, place) over N permutations: Σ(count − N/n)²·n/N·(n − 1)/n is χ² of (n − 1)² degrees of freedom."""
    num_images, count = 50, 1000
    table = np.zeros((num_images, num_images))
    for order in permutations(num_images, count):
        table[order, np.arange(num_images)] += 1
    expected = count / num_images
    chi2 = ((table - expected) ** 2 / expected).sum() * (num_images - 1) / num_images
    freedom = (num_images - 1) ** 2
    assert chi2 == pytest.approx(freedom, abs=5 * np.sqrt(2 * freedom))


# -- folders -----------------------------------------------------------------------------------------------------------

CLASSES, TRAINED, BATCH = 10, 42, 64  # 42 of each class's 60 images are its training split
STEPS = CLASSES * TRAINED // BATCH


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten classes, 60 images of 4×4 pixels each, all of whose pixels are (class, number, 0)."""
    path = tmp_path_factory.mktemp("images") / "sorted"
    for label in range(CLASSES):
        (path / f"class{label}").mkdir(parents=True)
        for number in range(60):
            Image.new("RGB", (4, 4), (label, number, 0)).save(path / f"class{label}" / f"{number:02}.png")
    return path


def epochs_of(dataset, count, seed=0, first_epoch=0, batch=BATCH, memory=0, **options):
    """(count, images) numbers 100·class + number, in the order that `batches` has them in."""
    steps = datasets.steps_per_epoch(dataset, batch)
    batches = datasets.batches(
        dataset, batch, training=True, seed=seed, first_epoch=first_epoch, memory=memory, **options
    )
    read = [numbers_of(images, labels) for images, labels in batches.take(count * steps).as_numpy_iterator()]
    return np.reshape(read, (count, steps * batch))


def numbers_of(images, labels):
    assert (images == images[:, :1, :1]).all()
    assert (images[:, 0, 0, 0] == labels).all()
    return 100 * labels + images[:, 0, 0, 1]


def check_draws_of_classes(epochs, num_images, batch):
    """Counts of equal classes in first batches: those of draws without replacement (multivariate hypergeometric)."""
    counts = np.stack([np.bincount(order[:batch] // 100, minlength=CLASSES) for order in epochs])
    mean = batch / CLASSES
    variance = mean * (1 - 1 / CLASSES) * (num_images - batch) / (num_images - 1)
    assert np.abs(counts.sum(axis=0) - len(epochs) * mean).max() < 5 * np.sqrt(len(epochs) * variance)
    # an epoch's Σ(count − mean)²/variance·(1 − 1/K) is χ² of K − 1 degrees of freedom; the sum over epochs of all
    chi2, freedom = ((counts - mean) ** 2).sum() / variance * (1 - 1 / CLASSES), len(epochs) * (CLASSES - 1)
    assert chi2 == pytest.approx(freedom, abs=5 * np.sqrt(2 * freedom))
    return counts


def check_once_an_epoch(epochs, all_numbers):
    assert all(len(set(order)) == len(order) and set(order) <= all_numbers for order in epochs)


def check_uncorrelated(pairs):
    scores = [np.corrcoef(*pair)[0, 1] * np.sqrt(len(pair[0]) - 1) for pair in pairs]
    assert np.abs(scores).max() < 5


@pytest.mark.slow
def test_batches_of_a_sorted_folder_are_uniform_draws(folder):
    dataset = datasets.load(f"{folder}@4", "train")
    in_order = [int(numbers_of(*(part[None] for part in item))[0]) for item in dataset.as_numpy_iterator()]
    assert in_order == sorted(in_order)  # as its files are
    assert len(in_order) == int(dataset.cardinality()) == CLASSES * TRAINED
    epochs = epochs_of(dataset, 12)
    counts = check_draws_of_classes(epochs, len(in_order), BATCH)
    # a class is missing with probability (1 − 64/420)^42 = .001
    assert (counts == 0).sum() <= 3  # of 120: .11 expected, so 3 or fewer but in 8 of a million cases
    check_once_an_epoch(epochs, set(in_order))
    assert len({tuple(np.setdiff1d(in_order, order)) for order in epochs}) == 12  # another remainder is dropped in each
    check_uncorrelated(itertools.pairwise(epochs))


@pytest.mark.slow
def test_epochs_of_a_folder_follow_from_seed_and_epoch_alone(folder):
    dataset = datasets.load(f"{folder}@4", "train")
    epochs = epochs_of(dataset, 4)
    assert (epochs_of(dataset, 2, first_epoch=2) == epochs[2:]).all()
    others = epochs_of(dataset, 4, seed=1)
    check_uncorrelated([*zip(epochs, others, strict=True), *zip(epochs[1:], others, strict=False)])
    for global_seed in (0, 5):
        tf.random.set_seed(global_seed)
        assert (epochs_of(dataset, 1) == epochs[:1]).all()
    one_epoch = datasets.batches(dataset, BATCH, training=True, memory=0)
    assert int(one_epoch.cardinality()) == STEPS
    first, second = (np.concatenate([numbers_of(*batch) for batch in one_epoch.as_numpy_iterator()]) for _ in range(2))
    assert len(set(first)) == len(set(second)) == STEPS * BATCH
    check_uncorrelated([(first, second)])


@pytest.mark.slow
def test_streamed_images_come_in_the_order_of_those_from_memory(folder):
    dataset = datasets.load(f"{folder}@4", "train")
    assert (epochs_of(dataset, 2) == epochs_of(dataset, 2, memory=2**30)).all()


@pytest.mark.slow
def test_random_parts_of_a_folder_follow_from_the_image_and_the_epoch(tmp_path):
    for name in ("dark", "light"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(20):
            rows, columns = np.mgrid[: 10 + number, :20]
            pixels = np.stack([8 * rows, 8 * columns, np.full_like(rows, number)], axis=-1)  # a part tells where it is
            Image.fromarray(pixels.astype("uint8")).save(tmp_path / "photos" / name / f"{number:02}.png")
    dataset = datasets.load(f"{tmp_path}/photos", "train", whole=True)
    assert isinstance(dataset, orders.Reorderable)

    def parts(first_epoch, count, batch=7):
        """Of each epoch the parts by image: another batch size changes the batches, not the parts."""
        steps = datasets.steps_per_epoch(dataset, batch)
        batches = datasets.batches(dataset, batch, True, 3, first_epoch=first_epoch, random_part=(6, 6))
        every = []
        for number, (images, labels) in enumerate(batches.take(count * steps).as_numpy_iterator()):
            if number % steps == 0:
                every.append({})
            every[-1] |= {
                (int(label), int(image[0, 0, 2])): image.tobytes() for image, label in zip(images, labels, strict=True)
            }
        return every

    epochs = parts(0, 3)
    assert [len(epoch) for epoch in epochs] == [28, 28, 28]
    assert parts(1, 2) == epochs[1:] == parts(1, 2, batch=14)
    every = [part for epoch in epochs for part in epoch.values()]
    assert len(set(every)) > 0.9 * len(every)  # some are whole images: ten draws didn't fit


# -- TensorFlow Datasets -----------------------------------------------------------------------------------------------


class SortedImages(tfds.core.GeneratorBasedBuilder):
    """Ten classes, 30 images of 16×16 pixels each, in files in the order of their classes."""

    VERSION = tfds.core.Version("1.0.0")
    SORTED = True

    def _info(self):
        image, label = tfds.features.Image(shape=(16, 16, 3)), tfds.features.ClassLabel(num_classes=CLASSES)
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict({"label": label, "number": np.int64, "image": image}),
            supervised_keys=("image", "label"),
            disable_shuffling=self.SORTED,
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(range(30)), "test": self._generate_examples(range(30, 33))}

    def _generate_examples(self, numbers):
        for label in range(CLASSES):
            for number in numbers:
                pixels = np.broadcast_to(np.array([label, number, 0], "uint8"), (16, 16, 3))
                yield 100 * label + number, {"image": pixels, "label": label, "number": number}


class ScatteredImages(SortedImages):
    """The same in files that TFDS shuffled when it wrote them, as it does with all but few."""

    SORTED = False


# few files are cut into pieces, which is the harder case
@pytest.fixture(scope="module", params=[pytest.param(6, marks=pytest.mark.slow), 1], ids=["six files", "one file"])
def data_dir(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("tfds")
    for builder in (SortedImages, ScatteredImages):
        config = tfds.download.DownloadConfig(num_shards=request.param)
        builder(data_dir=path).download_and_prepare(download_config=config)
    return str(path)


def numbers_in_order(dataset):
    return [int(numbers_of(*(part[None] for part in item))[0]) for item in dataset.as_numpy_iterator()]


SPLITS = {"train": "train[:90%]", "validation": "train[90%:]", "test": "test", "train+validation": "train"}
PIXELS = 16 * 16 * 3
BUFFER = 5000  # bytes, of some 30 of 270 images in their files


@pytest.mark.slow
def test_a_tensorflow_datasets_files_are_read_in_an_order_of_seed_and_epoch(data_dir):
    source = datasets.tensorflow_dataset("scattered_images", SPLITS)
    dataset = source.load("train", data_dir, False)
    assert isinstance(dataset, orders.Reorderable)
    in_order = numbers_in_order(dataset)
    assert len(in_order) == int(dataset.cardinality()) == 270
    epochs = epochs_of(dataset, 20, batch=32, memory=BUFFER)
    check_once_an_epoch(epochs, set(in_order))
    assert {number for order in epochs for number in order} == set(in_order)
    assert len({tuple(order) for order in epochs}) == 20
    assert (epochs_of(dataset, 2, first_epoch=7, batch=32, memory=BUFFER) == epochs[7:9]).all()
    other = epochs_of(dataset, 20, seed=1, batch=32, memory=BUFFER)
    assert all((one != two).any() for one, two in zip(epochs, other, strict=True))
    for global_seed in (0, 5):
        tf.random.set_seed(global_seed)
        assert (epochs_of(dataset, 2, batch=32, memory=BUFFER) == epochs[:2]).all()
    # epochs begin everywhere in the files: 20·32 first images, each of 270 2.4 times, so that 245 are among them; a
    # buffer alone begins with the same 20 to 60
    first = {number for order in epochs for number in order[:32]}
    assert len(first) > 210
    # pieces of 4 or 5 images stay near each other: of 54 or more pieces in random orders, correlations are below 5/√53
    scores = [np.corrcoef(*pair)[0, 1] for pair in (*itertools.pairwise(epochs), *zip(epochs, other, strict=True))]
    assert np.abs(scores).max() < 5 / np.sqrt(53)


@pytest.mark.slow
def test_a_buffer_of_all_records_makes_uniform_draws_of_sorted_files(data_dir):
    dataset = datasets.tensorflow_dataset("sorted_images", SPLITS).load("train+validation", data_dir, False)
    assert numbers_in_order(dataset) == sorted(numbers_in_order(dataset))
    epochs = epochs_of(dataset, 20, batch=32, memory=300 * PIXELS - 1)  # not all decoded images, but all records
    check_once_an_epoch(epochs, set(numbers_in_order(dataset)))
    check_uncorrelated(itertools.pairwise(epochs))
    check_draws_of_classes(epochs, 300, 32)


def test_splits_read_from_files_are_disjoint(data_dir):
    source = datasets.tensorflow_dataset("scattered_images", SPLITS)
    read = {}
    for split, count in (("train", 270), ("validation", 30), ("test", 30), ("train+validation", 300)):
        dataset = source.load(split, data_dir, False)
        (order,) = epochs_of(dataset, 1, batch=count, memory=0)
        assert sorted(order) == sorted(numbers_in_order(dataset))
        read[split] = set(order)
    assert not read["train"] & read["validation"]
    assert read["train"] | read["validation"] == read["train+validation"]
    assert not read["train+validation"] & read["test"]


@pytest.mark.slow
def test_images_in_files_keep_their_indices_in_every_order(data_dir):
    """What a random part is drawn by: a larger buffer moves images, and leaves each its index."""
    dataset = datasets.tensorflow_dataset("scattered_images", SPLITS, size=(16, 16)).load("train", data_dir, True)

    def indices(memory):
        records = tf.data.Dataset.range(3).flat_map(lambda epoch: dataset.records(0, epoch, memory))
        return [(int(index), int(dataset.read(record)[1])) for index, record in records]

    few, many = indices(0), indices(2**20)
    assert few != many
    for epoch in range(3):
        part = slice(270 * epoch, 270 * (epoch + 1))
        assert sorted(few[part]) == sorted(many[part]) == sorted(few[:270])
        assert sorted(index for index, _ in few[part]) == list(range(270))
    batches = datasets.batches(dataset, 32, True, first_epoch=0, random_part=(2, 2))
    images, labels = next(batches.as_numpy_iterator())
    assert images.shape == (32, 2, 2, 3)
    assert (images[..., 0] == labels[:, None, None]).all()


def test_what_stands_for_files_is_read_in_its_own_order(monkeypatch):
    monkeypatch.setenv(
        "https_proxy", "http://127.0.0.1:9"
    )  # so that a download can be tried, which the mock leaves out
    with tfds.testing.mock_data(num_examples=12):
        dataset = datasets.load("imagenet2012", "train", whole=True)
        assert not isinstance(dataset, orders.Reorderable)
        batches = datasets.batches(dataset, 4, True, first_epoch=0, random_part=(8, 8))
        assert next(iter(batches))[0].shape == (4, 8, 8, 3)


# -- anything else -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_is_made_of_a_reorderable_dataset_is_an_ordinary_one(folder):
    dataset = datasets.load(f"{folder}@4", "train")
    assert isinstance(dataset, tf.data.Dataset)
    assert isinstance(dataset, orders.Reorderable)
    some = dataset.take(100).map(lambda image, label: (image, label))
    assert not isinstance(some, orders.Reorderable)
    epochs = epochs_of(some, 3, batch=20, memory=48 * 20)  # 20 images of 48 bytes
    check_once_an_epoch(epochs, set(numbers_in_order(some)))
    assert (epochs_of(some, 1, batch=20, first_epoch=2, memory=48 * 20) == epochs[2:]).all()
