"""The number of residual branches behind a weight, by hand."""

import families
import keras
import pytest
import tiny
from keras import layers

from mixmo_keras.networks import depth


def behind(network: keras.Model) -> dict[str, int]:
    """The branches behind each weight by its path."""
    counts = depth.branches_behind(network)
    assert len(counts) == len(network.trainable_weights)
    return {weight.path: counts[id(weight)] for weight in network.trainable_weights}


def test_a_weight_counts_its_own_branch_and_those_behind_it():
    for path, count in behind(tiny.residual_backbone().core).items():
        assert count == tiny.BRANCHES_BEHIND[path.split("/")[0]], path


def test_squeezes_shortcuts_with_weights_and_maps_on_the_way():
    features = keras.Input((4, 4, 3))
    x = layers.Conv2D(2, 1, name="first")(features)
    first_map = layers.Reshape((16, 2), name="map")(x)  # which a decoder takes
    branch = layers.Multiply()([x, layers.Conv2D(2, 1, name="squeeze")(x)])
    x = layers.Conv2D(2, 1, name="shortcut")(x) + branch
    x = layers.Add()([x, layers.Conv2D(2, 1, name="branch")(x)])
    x = layers.Concatenate()([x, layers.Conv2D(2, 1, name="beside")(x)])
    last = layers.Conv2D(2, 1, name="last")(x)
    counts = {path.split("/")[0]: count for path, count in behind(keras.Model(features, [first_map, last])).items()}
    assert counts == dict(first=2, squeeze=2, shortcut=2, branch=1, beside=0, last=0)


def test_a_layer_that_is_called_twice_has_the_depth_of_its_first_call():
    features = keras.Input((3,))
    shared = layers.Dense(3, name="shared")
    x = layers.Add()([features, shared(features)])
    x = layers.Add()([x, shared(x)])
    assert set(behind(keras.Model(features, x)).values()) == {2}


@pytest.mark.parametrize("family", families.FAMILIES)
def test_branches_of_the_families(family):
    """As many as leave out rows in training, and in XCiT those of class attention, which never do."""
    more = {"xcit": 4}.get(family, 0)
    assert depth.num_branches(families.build(family).core) == families.FAMILIES[family][1] + more
