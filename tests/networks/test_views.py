"""Views of images against NumPy, and the mean of a network's answers to them."""

import numpy as np
import pytest
import tiny
from keras import ops

import mixmo_keras
from mixmo_keras.networks import views

X, Y = tiny.data(3)


def oracle(images, count):
    """(n, V, H, W, C)."""
    every = [images, images[:, :, ::-1]]
    if count == 6:
        padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
        for shifted in (padded[:, :-2, :-2], padded[:, 2:, 2:]):
            every += [shifted, shifted[:, :, ::-1]]
    return np.stack(every[:count], axis=1)


@pytest.mark.parametrize("count", [1, 2, 6])
def test_views_against_numpy(count):
    shown = ops.convert_to_numpy(views.Views(count)(X.astype("float32")))
    np.testing.assert_array_equal(shown.reshape(3, count, *tiny.SHAPE), oracle(X, count))
    assert sum(views.WEIGHTS[count]) == 1


def test_the_mean_by_hand():
    # of one image: 0.25·(1 + 2) + 0.125·(3 + 4 + 5 + 6) = 3
    values = np.array([[1], [2], [3], [4], [5], [6]], "float32")
    assert ops.convert_to_numpy(views.AverageOfViews(6)(values)).tolist() == [[3.0]]


@pytest.mark.parametrize("averaging", ["logits", "probabilities"])
@pytest.mark.parametrize("count", [2, 6])
def test_a_model_averages_its_members_logits_over_the_views(count, averaging, recwarn):
    model = tiny.model(averaging=averaging)
    model.temperature = 2.0
    of_views = [model.predict_members(view, verbose=0) for view in np.moveaxis(oracle(X, count), 1, 0)]
    expected = np.tensordot(views.WEIGHTS[count], of_views, 1)
    np.testing.assert_allclose(model.predict_members(X, verbose=0, views=count), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.predict(X, verbose=0, views=count), model.pooled(expected), rtol=1e-5, atol=1e-5)
    logits, labels = model.predict_with_labels(X, Y, views=count)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(labels, Y)
    assert not [one for one in recwarn if "flips" in str(one.message)]


@pytest.mark.parametrize(
    "augmentation", [None, mixmo_keras.augmentation.PadCropFlip(2, flip=False), mixmo_keras.policies.RandomErasing()]
)
def test_a_model_that_never_saw_mirror_images_warns(augmentation):
    model = tiny.model(augmentation=augmentation)
    for ensemble in (model, mixmo_keras.DeepEnsemble([model])):
        with pytest.warns(
            UserWarning, match=r"`views` \(=2\) shows mirror images too, but .* was trained without flips"
        ):
            ensemble.predict(X, verbose=0, views=2)
