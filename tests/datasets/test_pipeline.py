"""Pipelines of batches: orders that follow from the seed, from memory and streamed; copies; what is refused."""

import numpy as np
import pytest
import tensorflow as tf

from mixmo_keras import datasets


def test_training_batches_are_shuffled_anew_repeat_by_seed_and_drop_the_rest():
    dataset = tf.data.Dataset.range(10)

    def epochs(seed):
        batches = datasets.batches(dataset, 4, training=True, seed=seed)
        return [np.concatenate(list(batches.as_numpy_iterator())).tolist() for _ in range(2)]

    first, second = epochs(seed=1)
    assert len(first) == 8
    assert len(set(first)) == 8
    assert first != second
    assert epochs(seed=1) == [first, second]
    assert epochs(seed=2)[0] != first


def test_batches_of_all_epochs_begin_at_any_epoch():
    dataset = tf.data.Dataset.range(10)
    steps = datasets.steps_per_epoch(dataset, 4)
    assert steps == 2

    def epochs(first_epoch, count, seed=1):
        batches = datasets.batches(dataset, 4, training=True, seed=seed, first_epoch=first_epoch)
        assert batches.cardinality() == tf.data.INFINITE_CARDINALITY or batches.cardinality() > 10**12
        flat = np.concatenate(list(batches.take(steps * count).as_numpy_iterator()))
        return flat.reshape(count, -1).tolist()

    orders = epochs(0, 40)
    assert all(len(set(order)) == 8 for order in orders)  # no image twice in an epoch
    assert len({tuple(order) for order in orders}) == 40  # another order in each
    assert {image for order in orders for image in order} == set(range(10))  # another rest is dropped in each
    assert epochs(7, 3) == orders[7:10]
    assert epochs(0, 2, seed=2) != orders[:2]
    with pytest.raises(ValueError, match="`first_epoch` is about training"):
        datasets.batches(dataset, 4, first_epoch=0)


def test_evaluation_batches_keep_order_and_the_rest():
    batches = list(datasets.batches(tf.data.Dataset.range(10), 4).as_numpy_iterator())
    assert [batch.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_no_thread_tunes_a_pass():
    images = datasets.load("digits", "train")
    for options in (dict(training=True), dict(training=True, memory=0, first_epoch=1), dict(training=False)):
        assert datasets.batches(images, 8, **options).options().autotune.enabled is False


def test_repeated_batches_read_once_and_transform_each_copy():
    reads = []

    def read():
        for number in range(6):
            reads.append(number)
            yield np.full((1, 1, 1), number, "uint8"), number

    spec = (tf.TensorSpec((1, 1, 1), tf.uint8), tf.TensorSpec((), tf.int64))
    dataset = tf.data.Dataset.from_generator(read, output_signature=spec)

    def tell_apart(images):
        return tf.cast(images, tf.int32) + 10 * tf.reshape(tf.range(tf.shape(images)[0]), (-1, 1, 1, 1))

    batches = datasets.batches(dataset, 3, repetitions=2, transform=tell_apart)
    images, labels = next(iter(batches.as_numpy_iterator()))
    assert labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert images.ravel().tolist() == [0, 11, 22, 30, 41, 52]
    for _ in range(2):
        list(batches)
    assert len(reads) <= 12  # the cache: one whole pass, and the one that `next` broke off


def test_a_batch_larger_than_the_split():
    with pytest.raises(
        ValueError, match=r"`batch_size` \(=11 images\) is larger than the training split \(10 images\)"
    ):
        datasets.batches(tf.data.Dataset.range(10), 11, training=True)


def test_streamed_epochs_are_permutations_that_follow_from_the_seed():
    images = tf.data.Dataset.range(10).map(lambda n: (tf.fill((2, 2, 1), tf.cast(n, tf.uint8)), n))
    memory = 20  # bytes: five images

    def epochs(first_epoch, count, seed=1):
        batches = datasets.batches(images, 3, training=True, seed=seed, first_epoch=first_epoch, memory=memory)
        labels = np.concatenate([label for _, label in batches.take(3 * count).as_numpy_iterator()])
        return labels.reshape(count, 9).tolist()

    orders = epochs(0, 20)
    assert all(len(set(order)) == 9 for order in orders)
    assert len({tuple(order) for order in orders}) == 20
    assert epochs(7, 3) == orders[7:10]
    assert epochs(0, 2, seed=2) != orders[:2]
    for global_seed in (0, 5):  # 0 made tf.data fail, any other changed the order
        tf.random.set_seed(global_seed)
        drawn = tf.random.uniform(())
        tf.random.set_seed(global_seed)
        assert epochs(0, 2) == orders[:2]
        assert tf.random.uniform(()) == drawn
    one_epoch = datasets.batches(images, 3, training=True, memory=memory)
    assert [len(set(np.concatenate([label for _, label in one_epoch]).tolist())) for _ in range(2)] == [9, 9]
    assert int(one_epoch.cardinality()) == 3
    whole = [label for _, labels in datasets.batches(images, 4, memory=memory) for label in labels.numpy()]
    assert whole == list(range(10))


def test_numpys_numbers_are_numbers():
    dataset = tf.data.Dataset.range(10)
    batches = datasets.batches(dataset, np.int64(4), np.bool_(True), np.int32(1), first_epoch=np.int64(2))
    expected = datasets.batches(dataset, 4, True, 1, first_epoch=2)
    for batch, same in zip(batches.take(4), expected.take(4), strict=True):
        assert batch.numpy().tolist() == same.numpy().tolist()
    assert datasets.steps_per_epoch(dataset, np.int64(4)) == 2


# -- partners ----------------------------------------------------------------------------------------------------------

NUM_IMAGES, NUM_PARTNERS = 40, 6


def numbered_images():
    """Images (2, 2, 1) whose pixels are their number, labelled by ten times that."""
    numbers = np.arange(NUM_IMAGES, dtype="int64")
    images = np.broadcast_to(numbers[:, None, None, None], (NUM_IMAGES, 2, 2, 1)).astype("uint8")
    return tf.data.Dataset.from_tensor_slices((images, 10 * numbers))


def drawn_partners(count, seed=0, first_epoch=0, batch=8):
    """(batches, batch) numbers of the images, and (batches, batch, partners) of their partners."""
    batches = datasets.batches(
        numbered_images(), batch, training=True, seed=seed, first_epoch=first_epoch, partners=NUM_PARTNERS
    )
    own, partners = [], []
    for inputs, labels in batches.take(count).as_numpy_iterator():
        assert sorted(inputs) == ["images", "partner_images", "partner_labels"]
        assert inputs["images"].shape == (batch, 2, 2, 1)
        assert inputs["partner_images"].shape == (batch, NUM_PARTNERS, 2, 2, 1)
        assert inputs["partner_labels"].shape == (batch, NUM_PARTNERS)
        assert inputs["partner_images"].dtype == np.uint8
        np.testing.assert_array_equal(10 * inputs["images"][:, 0, 0, 0].astype(int), labels)
        of_pixels = inputs["partner_images"][..., 0, 0, 0].astype(int)
        np.testing.assert_array_equal(10 * of_pixels, inputs["partner_labels"])
        own.append(labels // 10)
        partners.append(of_pixels)
    return np.stack(own), np.stack(partners)


def test_partners_come_from_all_images_uniformly_and_independently():
    """Bounds are five standard deviations of independent uniform draws, with replacement."""
    own, partners = drawn_partners(400)
    draws = partners.size  # 19,200
    counts = np.bincount(partners.ravel(), minlength=NUM_IMAGES)
    chi2, freedom = ((counts - draws / NUM_IMAGES) ** 2 / (draws / NUM_IMAGES)).sum(), NUM_IMAGES - 1
    assert chi2 == pytest.approx(freedom, abs=5 * np.sqrt(2 * freedom))

    def check_rate(events, probability):
        deviation = np.sqrt(probability * (1 - probability) / events.size)
        assert events.mean() == pytest.approx(probability, abs=5 * deviation)

    check_rate(partners == own[..., None], 1 / NUM_IMAGES)  # an image is its own partner by chance alone
    in_batch = (partners[..., None] == own[:, None, None, :]).any(axis=-1)
    check_rate(in_batch, 8 / NUM_IMAGES)  # not drawn from the batch, nor kept out of it
    check_rate(partners[:, :, 1:] == partners[:, :, :-1], 1 / NUM_IMAGES)  # one image's partners
    check_rate(partners[:, 1:] == partners[:, :-1], 1 / NUM_IMAGES)  # two images' partners
    check_rate(partners[1:] == partners[:-1], 1 / NUM_IMAGES)  # two steps'
    check_rate(partners[5:] == partners[:-5], 1 / NUM_IMAGES)  # the same step's of two epochs
    check_rate(drawn_partners(400, seed=1)[1] == partners, 1 / NUM_IMAGES)  # two seeds'


def test_partners_follow_from_seed_epoch_and_step():
    own, partners = drawn_partners(15)
    for first_epoch in (1, 2):
        own_again, partners_again = drawn_partners(5, first_epoch=first_epoch)
        np.testing.assert_array_equal(own_again, own[5 * first_epoch : 5 * first_epoch + 5])
        np.testing.assert_array_equal(partners_again, partners[5 * first_epoch : 5 * first_epoch + 5])
    tf.random.set_seed(3)
    np.testing.assert_array_equal(drawn_partners(5)[1], partners[:5])
    alone = datasets.batches(numbered_images(), 8, training=True, first_epoch=0)
    labels = np.stack([labels for _, labels in alone.take(15).as_numpy_iterator()])
    np.testing.assert_array_equal(labels // 10, own)  # partners don't change the order of the images
    one_epoch = datasets.batches(numbered_images(), 8, training=True, partners=NUM_PARTNERS)
    first, second = (np.stack([inputs["partner_labels"] for inputs, _ in one_epoch]) for _ in range(2))
    assert first.shape == (5, 8, NUM_PARTNERS)
    assert (first != second).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(training=False), "`partners` is about training: it needs training=True"),
        (dict(repetitions=2), "`partners` can't be combined with `repetitions` or `transform`"),
        (dict(transform=lambda images: images), "`partners` can't be combined with `repetitions` or `transform`"),
        (dict(memory=10), "`partners` are gathered from images in memory; these are read anew in every epoch"),
        (dict(random_part=(2, 2)), "`partners` are gathered from images in memory"),
        (dict(dataset=numbered_images().map(lambda image, label: image)), "`partners` come with labels"),
    ],
)
def test_what_partners_cant_be_combined_with(change, message):
    options = {"dataset": numbered_images(), "batch_size": 8, "training": True, "partners": 2}
    with pytest.raises(ValueError, match=message):
        datasets.batches(**options | change)


def test_which_images_stay_in_memory():
    assert datasets.in_memory(numbered_images())
    assert datasets.in_memory(numbered_images(), memory=NUM_IMAGES * 4)
    assert not datasets.in_memory(numbered_images(), memory=NUM_IMAGES * 4 - 1)
    spec = (tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((), tf.int64))
    sizes = tf.data.Dataset.from_generator(lambda: iter(()), output_signature=spec)
    assert not datasets.in_memory(sizes)
