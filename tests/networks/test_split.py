"""Any functional model, cut in two: put together again, the parts say what it says."""

import keras
import numpy as np
import pytest
import tiny
from keras import layers

import mixmo_keras
from mixmo_keras import backbones
from mixmo_keras.networks import graphs

APPLICATIONS = [
    "ResNet50",
    "ResNet50V2",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "ConvNeXtTiny",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Small",
    "DenseNet121",
    "VGG16",
    "NASNetMobile",
    "Xception",
]


def network(pool=True):
    """Convolution, batch norm, ReLU; a residual block; batch norm's statistics away from their start."""
    images = keras.Input((8, 8, 3), name="pixels")
    x = layers.Conv2D(4, 3, padding="same", name="stem")(images)
    x = layers.BatchNormalization(name="stem_bn")(x)
    x = layers.ReLU(name="stem_relu")(x)
    y = layers.Conv2D(4, 3, padding="same", name="inner")(x)
    x = layers.Add(name="add")([x, y])
    x = layers.Conv2D(6, 3, 2, name="last")(x)
    if pool:
        x = layers.GlobalMaxPooling2D()(x)
    model = keras.Model(images, x, name="own")
    random = np.random.default_rng(0)
    model.set_weights([w + random.uniform(0.1, 0.5, w.shape) for w in model.get_weights()])
    return model


def rejoined(parts, images):
    return keras.ops.convert_to_numpy(parts.core(parts.encoder(images, training=False), training=False))


def answer(model, images):
    features = keras.ops.convert_to_numpy(model(images, training=False))
    return features.mean((1, 2)) if features.ndim == 4 else features


IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype("float32")


@pytest.mark.parametrize("at", ["stem", "stem_bn", "stem_relu", "add"])
@pytest.mark.parametrize("pool", [True, False])
def test_the_parts_say_what_the_model_says(at, pool):
    model = network(pool)
    parts = backbones.split(model, at)
    np.testing.assert_array_equal(rejoined(parts, IMAGES), answer(model, IMAGES))
    before = model.get_weights()
    parts.core.set_weights([w + 1 for w in parts.core.get_weights()])  # copies
    assert tiny.equal_weights(model, before)


def test_a_cut_is_found_and_said(caplog):
    with caplog.at_level("INFO", logger="mixmo_keras"):
        parts = backbones.split(network())
    assert "own is split at 'stem_relu': pass `split_at` for another layer" in caplog.text
    assert [layer.name for layer in parts.encoder.layers] == ["pixels", "stem", "stem_bn", "stem_relu"]


def test_a_connection_that_passes_the_cut_by_is_named():
    with pytest.raises(
        ValueError, match=r"own can't be split at 'inner': stem_relu passes it by, to add\. Split before"
    ):
        backbones.split(network(), "inner")


def test_what_can_not_be_split():
    class Own(keras.Model):
        pass

    two = keras.Model([a := keras.Input((8, 8, 3)), b := keras.Input((8, 8, 3))], layers.Add()([a, b]))
    dense = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(3, "relu")])
    open_size = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(3, 3)])
    for model, at, message in (
        (Own(), None, "must be a functional or Sequential Keras model, got Own"),
        (
            keras.Sequential([layers.Conv2D(3, 3)]),
            None,
            "has no input shape yet: begin it with keras.Input",
        ),
        (two, None, "must have one input and one output; .* has 2 and 1"),
        (dense, None, "has no convolution to split behind"),
        (open_size, None, r"must take images of one shape \(H, W, C\); .* takes \(None, None, 3\)"),
        (network(), "stm", "own has no layer 'stm'. Its first layers are pixels, stem, stem_bn"),
        (dense, dense.layers[0].name, r"must name a layer whose output is a map"),
        (network(pool=False), "last", "own ends at 'last': nothing is left for the members to share"),
    ):
        with pytest.raises(ValueError, match=message):
            backbones.split(model, at)
    with pytest.raises(ValueError, match=r"`split_at` .* is for a Keras model as the backbone, got 'wrn10_1'"):
        mixmo_keras.CutMixMo("wrn10_1", split_at="conv")


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("split_at", [None, pytest.param("add", marks=pytest.mark.slow)])
def test_a_split_model_trains_saves_and_loads(split_at, tmp_path):
    whole = network()
    model = mixmo_keras.CutMixMo(whole, num_classes=5, split_at=split_at, batch_repetitions=2, seed=0)
    kernels = [np.asarray(encoder.get_layer("stem").kernel) for encoder in model.encoders.encoders]
    assert not np.array_equal(*kernels)  # each initialised anew
    assert np.array_equal(model.core.get_layer("last").kernel, whole.get_layer("last").kernel)  # kept
    x, y = tiny.data()
    history = model.fit(x, y, batch_size=4, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert np.array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    np.testing.assert_allclose(model.fused().predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-3, atol=1e-3)


def test_a_sequential_model():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, activation="relu", name="first"),
            layers.Conv2D(6, 3),
            layers.Flatten(),
        ]
    )
    parts = backbones.split(model)
    assert parts.encoder.layers[-1].name == "first"
    np.testing.assert_array_equal(rejoined(parts, IMAGES), answer(model, IMAGES))


class Talkative(layers.Layer):
    """Its `get_config` gives what it doesn't take, as keras_hub's embeddings of patches do."""

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width

    def build(self, input_shape):
        self.factors = self.add_weight(shape=(self.width,))

    def call(self, x):
        return x * self.factors

    def get_config(self):
        return {**super().get_config(), "width": self.width, "twice_the_width": 2 * self.width}


class WithAConfigOfItsOwn(keras.Model):
    """A graph whose class can be made again, though not all of its layers can."""

    def __init__(self, width, **kwargs):
        images = keras.Input((8, 8, 3))
        self.embedding = Talkative(width)
        super().__init__(images, layers.Conv2D(6, 3)(self.embedding(layers.Conv2D(width, 3)(images))), **kwargs)
        self.width = width

    def get_config(self):
        return {"width": self.width, "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def test_a_model_with_a_config_of_its_own_is_copied_by_it():
    """A layer whose configuration names more than it takes is made again from the arguments that it takes."""
    model = WithAConfigOfItsOwn(4)
    flat = graphs.flat(model)
    np.testing.assert_array_equal(flat(IMAGES), model(IMAGES))
    flat.set_weights([weight + 1 for weight in flat.get_weights()])
    assert not np.array_equal(flat(IMAGES), model(IMAGES))
    np.testing.assert_array_equal(rejoined(backbones.split(model), IMAGES), answer(model, IMAGES))


def size_of(name):
    return {"Xception": 71}.get(name, 32)  # the least it takes


def application(name):
    size = size_of(name)
    return getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(size, size, 3))


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
def test_keras_applications(name):
    model = application(name)
    images = np.random.default_rng(0).uniform(0, 255, (2, *model.input_shape[1:])).astype("float32")
    parts = backbones.split(model)
    prepared = images if parts.preprocessing is None else parts.preprocessing(images)
    np.testing.assert_array_equal(rejoined(parts, prepared), answer(model, images))
    check_two_steps(mixmo_keras.CutMixMo(model, num_classes=5, batch_repetitions=1, seed=0), images)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV3Small", "Xception", "EfficientNetB0", "ResNet50"])
def test_keras_applications_with_their_own_first_convolution(name):
    """Shared out among members, whatever follows it, and with padding or preprocessing before it."""
    model = application(name)
    images = np.random.default_rng(0).uniform(0, 255, (2, *model.input_shape[1:])).astype("float32")
    options = dict(encoder_noise=0.1, batch_repetitions=1, seed=0)
    own = backbones.split(model).preprocessing is not None
    ensemble = mixmo_keras.CutMixMo(model, num_classes=5, normalization="auto" if own else None, **options)
    features = ensemble.core(ensemble.mixing_block(ensemble.encoders(ensemble.normalize(images))), training=False)
    expected = answer(model, images)
    np.testing.assert_allclose(features, expected, atol=1e-3 * np.abs(expected).max())
    check_two_steps(ensemble, images)


def check_two_steps(ensemble, images):
    ensemble.compile(run_eagerly=True)  # two steps: tracing them would take minutes and gigabytes
    history = ensemble.fit(images.repeat(4, 0), np.arange(8) % 5, batch_size=4, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert int(ensemble.step_counter) == 2


@pytest.mark.slow
def test_a_cut_of_ones_own_choice_in_an_application():
    model = application("MobileNet")
    parts = backbones.split(model, "conv1_relu")
    assert parts.encoder.output_shape == (None, 16, 16, 32)
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(rejoined(parts, images), answer(model, images))
