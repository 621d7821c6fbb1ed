"""keras_hub's backbones as they are: cut, trained a step, saved and loaded. Importing keras_hub takes seconds: all slow."""

import conversions
import keras
import numpy as np
import pytest

import mixmo_keras
from mixmo_keras import backbones

pytestmark = pytest.mark.slow

SHAPE = (32, 32, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (4, *SHAPE)).astype("float32")


@pytest.fixture(scope="module")
def models():
    return pytest.importorskip("keras_hub").models


def vit(models, **options):
    return models.ViTBackbone(**conversions.VIT | conversions.IMAGE | options)


def resnet(models, **options):
    return models.ResNetBackbone(image_shape=(None, None, 3), **conversions.RESNET | options)


def efficient(models):
    return models.EfficientNetBackbone(**conversions.EFFICIENT_NET)


def pooled(features):
    return keras.ops.convert_to_numpy(keras.ops.mean(features, axis=tuple(range(1, len(features.shape) - 1))))


@pytest.mark.parametrize("encoder_noise", [None, 0.1])
@pytest.mark.parametrize("backbone", [vit, resnet, efficient], ids=lambda function: function.__name__)
def test_a_backbone_trains_saves_and_loads(backbone, encoder_noise, models, tmp_path):
    network = backbone(models)
    shape = SHAPE if None in network.inputs[0].shape[1:] else None
    parts = backbones.split(network, input_shape=shape)
    again = parts.core(parts.encoder(IMAGES, training=False), training=False)
    np.testing.assert_allclose(again, pooled(network(IMAGES, training=False)), rtol=1e-5, atol=1e-6)
    options = dict(input_shape=shape, encoder_noise=encoder_noise, batch_repetitions=2, seed=0, normalization=None)
    model = mixmo_keras.CutMixMo(network, num_classes=3, **options)
    if encoder_noise is not None:  # at inference the core sees what it knows
        features = model.core(model.mixing_block(model.encoders(IMAGES)), training=False)
        np.testing.assert_allclose(features, pooled(network(IMAGES, training=False)), rtol=1e-3, atol=1e-4)
    model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
    before = model.core.get_weights()
    assert np.isfinite(model.fit(IMAGES, np.array([0, 1, 2, 0]), verbose=0).history["loss"]).all()
    assert not all(map(np.array_equal, before, model.core.get_weights()))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(IMAGES), model(IMAGES))


def resnet_18_imagenet(models):
    """The published arguments; it takes images of any size."""
    blocks = dict(stackwise_num_filters=[64, 128, 256, 512], stackwise_num_blocks=[2, 2, 2, 2])
    network = resnet(models, **blocks, stackwise_num_strides=[1, 2, 2, 2])
    return models.ResNetImageClassifier(network, num_classes=1000), network.count_params()


def vit_base_patch16_224_imagenet(models):
    """The published arguments, but for images of 32 pixels, which have 4 positions of patches in place of 14²."""
    sizes = dict(patch_size=(16, 16), num_layers=12, num_heads=12, hidden_dim=768, mlp_dim=3072)
    network = vit(models, **sizes, dropout_rate=0.0, attention_dropout=0.0, use_mha_bias=True)
    return models.ViTImageClassifier(network, num_classes=1000), network.count_params() + (14**2 - 4) * 768


@pytest.mark.parametrize(
    ("preset", "backbone"),
    [(resnet_18_imagenet, "ResNetBackbone"), (vit_base_patch16_224_imagenet, "ViTBackbone")],
    ids=lambda one: getattr(one, "__name__", None),
)
def test_the_architecture_of_a_published_preset_is_converted(preset, backbone, models):
    classifier, num_weights = preset(models)
    published = getattr(models, backbone).presets[preset.__name__]["metadata"]["params"]
    assert num_weights == published
    shape = SHAPE if None in classifier.inputs[0].shape[1:] else None
    model = mixmo_keras.from_classifier(classifier, input_shape=shape, seed=0, verbose=False)
    theirs = keras.ops.convert_to_numpy(classifier(IMAGES, training=False))
    assert np.ptp(theirs, axis=0).max() > 0.01 * np.abs(theirs).max()
    for network in (model, model.fused()):
        logits = keras.ops.convert_to_numpy(network(IMAGES, training=False))
        np.testing.assert_allclose(logits, theirs, atol=1e-5 * np.abs(theirs).max())
