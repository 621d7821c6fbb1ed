"""Networks of other libraries as one's own backbone: their stochastic depth becomes ours, or a true message comes."""

import functools

import keras
import numpy as np
import pytest
import tiny
from keras import layers
from keras.src.applications.convnext import ConvNeXt, StochasticDepth
from keras.src.applications.efficientnet_v2 import EfficientNetV2

import mixmo_keras
from mixmo_keras import backbones, seeds
from mixmo_keras.networks import stochastic_depth
from mixmo_keras.networks.backbones.library_layers import LibraryLayer, description_of
from mixmo_keras.networks.stochastic_depth import rate_of
from mixmo_keras.seeds import StepSeed

# what keras_hub's own constructors cause
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:keras.src.layers.layer")

SHAPE = (32, 32, 3)
RANDOM = np.random.default_rng(0)
IMAGES, LABELS = RANDOM.integers(0, 256, (8, *SHAPE)).astype("float32"), np.arange(8) % 3


class DropPath(layers.Layer):
    """As keras_cv's, and those of many a network of one's own; not registered."""

    def __init__(self, rate=0.5, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.seed = keras.random.SeedGenerator(0)

    def call(self, x, training=None):
        if not training or not self.rate:
            return x
        kept = keras.random.uniform((keras.ops.shape(x)[0], *[1] * (len(x.shape) - 1)), seed=self.seed) > self.rate
        return x / (1 - self.rate) * keras.ops.cast(kept, x.dtype)

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


class Block(layers.Layer):
    """A residual block that holds its `DropPath`."""

    def __init__(self, filters, kernel_size=1, rate=0.0, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.convolution = layers.Conv2D(filters, kernel_size, padding="same")
        self.drop_path = DropPath(rate)

    def call(self, x):
        return x + self.drop_path(self.convolution(x))

    def get_config(self):
        sizes = dict(filters=self.filters, kernel_size=self.convolution.kernel_size, rate=self.drop_path.rate)
        return {**super().get_config(), **sizes}


class Incomplete(Block):
    """Whose configuration has what it doesn't take, and lacks what it does, as keras_hub's MiT's."""

    def get_config(self):
        return {**layers.Layer.get_config(self), "filters": self.filters, "twice": 2 * self.filters}


def own(*branch) -> keras.Model:
    """A convolution, one residual branch, pooling."""
    images = keras.Input(SHAPE)
    x = layers.Conv2D(4, 4, 4)(images)
    y = layers.Conv2D(4, 3, padding="same")(x)
    for layer in branch:
        y = layer(y)
    return keras.Model(images, layers.GlobalAveragePooling2D()(layers.Add()([x, y])))


def blocks() -> keras.Model:
    images = keras.Input(SHAPE)
    x = layers.Conv2D(4, 4, 4)(images)
    for rate in (0.25, 0.5):
        x = Block(4, 3, rate)(x)
    return keras.Model(images, layers.GlobalAveragePooling2D()(x))


def convnext() -> keras.Model:
    sizes = dict(depths=[1, 1, 2, 1], projection_dims=[4, 4, 6, 8])
    return ConvNeXt(**sizes, drop_path_rate=0.4, include_top=False, input_shape=SHAPE, layer_scale_init_value=1.0)


def efficientnet() -> keras.Model:
    stage = dict(kernel_size=3, num_repeat=2, input_filters=8, output_filters=8, strides=1)
    args = [
        stage | dict(expand_ratio=1, se_ratio=0, conv_type=1),
        stage | dict(expand_ratio=4, se_ratio=0.25, conv_type=0),
    ]
    options = dict(default_size=32, drop_connect_rate=0.4, blocks_args=args, weights=None, include_top=False)
    return EfficientNetV2(1.0, 1.0, input_shape=SHAPE, **options)


def hub(kind: str, **options) -> keras.Model:
    return getattr(pytest.importorskip("keras_hub").models, f"{kind}Backbone")(**options)


SWIN = dict(image_shape=SHAPE, embed_dim=4, depths=(2, 2), num_heads=(1, 2), window_size=4, patch_size=4, drop_path=0.3)
MIT = dict(
    layerwise_depths=[1, 2],
    num_layers=2,
    layerwise_num_heads=[1, 2],
    layerwise_sr_ratios=[2, 1],
    max_drop_path_rate=0.5,
    layerwise_patch_sizes=[7, 3],
    layerwise_strides=[4, 2],
    image_shape=SHAPE,
    hidden_dims=[4, 8],
)
VIT = dict(image_shape=SHAPE, patch_size=8, num_layers=2, num_heads=2, hidden_dim=8)
# name: a function, and the rates of its stochastic depth
NETWORKS = {
    "StochasticDepth": (lambda: own(StochasticDepth(0.5)), [0.5]),
    "Dropout of rows": (lambda: own(layers.Dropout(0.5, noise_shape=(None, 1, 1, 1))), [0.5]),
    "DropPath": (lambda: own(DropPath(0.5)), [0.5]),
    "DropPath in a block": (blocks, [0.25, 0.5]),
    "ConvNeXt": (convnext, [0.1, 0.2, 0.3, 0.4]),
    "EfficientNetV2": (efficientnet, [0.1, 0.2, 0.3]),
    "keras_cv": (lambda: own(pytest.importorskip("keras_cv").layers.DropPath(0.5)), [0.5]),
    "keras_hub Swin": (functools.partial(hub, "SwinTransformer", **SWIN), [0.1, 0.2, 0.3]),
    "keras_hub MiT": (functools.partial(hub, "MiT", **MIT), [0.25, 0.5]),
}
OF_LIBRARIES = ("keras_cv", "keras_hub Swin", "keras_hub MiT")  # whose import takes seconds
each_network = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in OF_LIBRARIES)) for name in NETWORKS]
)


def rates_of(parts) -> list[float]:
    return [layer.rate for layer in stochastic_depth.layers_of(parts.core)]


@each_network
def test_stochastic_depth_becomes_ours_at_the_same_rates(name):
    build, rates = NETWORKS[name]
    network = build()
    parts = backbones.split(network)
    assert sorted(rates_of(parts)) == pytest.approx(rates)
    prepared = IMAGES if parts.preprocessing is None else parts.preprocessing(IMAGES)
    features = parts.encoder(prepared, training=False)
    expected = keras.ops.convert_to_numpy(network(IMAGES, training=False))
    expected = expected.mean(tuple(range(1, expected.ndim - 1)))
    np.testing.assert_allclose(parts.core(features, training=False), expected, rtol=1e-5, atol=1e-5)
    assert not [layer for layer in parts.core.layers if rate_of(layer)]  # none of theirs is left

    def draw(step):
        with seeds.drawing(StepSeed(0, step)):
            return np.asarray(parts.core(features, training=True))

    if name != "keras_hub MiT":  # has dropout of single features as well
        assert np.array_equal(draw(0), draw(0))
    assert not np.array_equal(draw(0), draw(1))


@pytest.mark.parametrize(
    "name",  # large networks take ten seconds each
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in (*OF_LIBRARIES, "ConvNeXt", "EfficientNetV2")))
        for name in NETWORKS
    ],
)
@pytest.mark.usefixtures("eagerly")
def test_cosub_trains_and_saves(name, tmp_path):
    network = NETWORKS[name][0]()
    weights = []
    for _ in range(2 if name != "keras_hub MiT" else 1):
        model = mixmo_keras.CoSub(network, num_classes=3, drop_path=0, augmentation=None, seed=0)
        history = model.fit(IMAGES, LABELS, batch_size=4, shuffle=False, verbose=0).history
        assert np.isfinite(history["loss"]).all()
        weights.append(model.get_weights())
    assert tiny.equal_weights(weights[0], weights[-1])  # draws follow the seed and the step
    before = model.predict(IMAGES, verbose=0)
    model.save(tmp_path / "model.keras")
    with keras.saving.custom_object_scope({"DropPath": DropPath, "Block": Block}):
        loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(IMAGES, verbose=0), before)
    assert sorted(rates_of(loaded)) == pytest.approx(NETWORKS[name][1])


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "width"), [("ViT", "mlp_dim"), ("DeiT", "intermediate_dim")])
def test_transformers_of_keras_hub_are_split_and_cosub_says_what_they_lack(kind, width, tmp_path):
    network = hub(kind, **VIT, **{width: 16})
    assert backbones.split(network).encoder.output_shape == (None, 4, 4, 8)
    with pytest.raises(
        ValueError, match=r"`co_training` needs .* This one has none; dropout of single features does not"
    ):
        mixmo_keras.CoSub(network, num_classes=3, drop_path=0)
    model = mixmo_keras.CutMixMo(network, num_classes=3, encoder_noise=0.1, normalization=None, seed=0)
    features = model.core(model.mixing_block(model.encoders(IMAGES)), training=False)
    expected = keras.ops.mean(network(IMAGES, training=False), axis=1)
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0))


@pytest.mark.slow
def test_keras_hubs_vit_with_its_weights_in_ours():
    theirs = hub("ViT", **VIT | dict(mlp_dim=32, num_layers=1, hidden_dim=192, num_heads=3) | dict(mlp_dim=768))
    parts = backbones.vit("tiny", 8, SHAPE, depth=1, pool="token")
    theirs.set_weights([weight + RANDOM.normal(0, 0.1, weight.shape) for weight in theirs.get_weights()])
    embedding, encoder = theirs.layers[1:]
    block, core = encoder.encoder_layers[0], parts.core.get_layer
    parts.encoder.get_layer("patches").set_weights(embedding.patch_embedding.get_weights())
    positions = np.asarray(embedding.position_embedding.embeddings)
    core("position").positions.assign(positions[1:])
    core("class_token").token.assign(embedding.class_token[0] + positions[:1])  # ours has no position
    pairs = dict(norm1=block.layer_norm_1, attention=block.mha, norm2=block.layer_norm_2)
    for name, layer in (pairs | dict(dense1=block.mlp.dense_1, dense2=block.mlp.dense_2)).items():
        core(f"block1_{name}").set_weights(layer.get_weights())
    core("norm").set_weights(encoder.layer_norm.get_weights())
    images = RANDOM.normal(size=(2, *SHAPE)).astype("float32")
    expected = theirs(images, training=False)[:, 0]
    np.testing.assert_allclose(parts.core(parts.encoder(images)), expected, rtol=1e-5, atol=1e-5)


def test_parts_with_another_librarys_stochastic_depth_are_refused_by_a_true_message():
    parts = tiny.backbone()
    features = keras.Input(parts.core.output_shape[1:])
    core = keras.Model(features, DropPath(0.5)(features))
    whole = keras.Model(parts.core.input, core(parts.core.output))
    with pytest.raises(
        ValueError, match=r"The stochastic depth of this one, DropPath, is another library's\. .* passed whole"
    ):
        mixmo_keras.CoSub(backbones.Backbone(parts.encoder, whole), num_classes=3, drop_path=0)


def test_what_is_no_stochastic_depth():
    class ScalesNothing(DropPath):
        scale_by_keep = False

    ScalesNothing.__name__ = "AnotherDropPath"
    for layer in (
        layers.Dropout(0.5),
        layers.Dropout(0.5, noise_shape=(None, 1, 4, 4)),
        layers.Dropout(0.5, noise_shape=(4, 1)),
        layers.Dropout(0.0, noise_shape=(None, 1)),
        DropPath(0.0),
        DropPath(1.0),
        ScalesNothing(0.5),
        mixmo_keras.StochasticDepth(0.5),
        layers.Dense(3),
        "DropPath",
    ):
        assert rate_of(layer) is None
    assert rate_of(layers.Dropout(0.5, noise_shape=(None, 1))) == rate_of(StochasticDepth(0.5)) == 0.5


def test_a_description_has_what_the_class_takes():
    block = Incomplete(4, 3, 0.5)
    block(np.ones((1, 4, 4, 4), "float32"))
    assert set(description_of(block)["config"]) == {"filters", "name", "trainable", "dtype"}
    searched = description_of(block, search=True)["config"]
    assert searched["filters"] == 4
    assert searched["kernel_size"] == [3, 3]  # the convolution's
    assert searched["rate"] == 0.5  # the `DropPath`'s


def test_a_layer_that_can_be_made_again_and_drops_nothing_stays():
    with keras.saving.custom_object_scope({"DropPath": DropPath}):
        parts = backbones.split(own(DropPath(0.0)))
    assert not [layer for layer in parts.core.layers if isinstance(layer, LibraryLayer)]
    assert [layer for layer in parts.core.layers if isinstance(layer, DropPath)]
