"""ConvNeXt: keras.applications' network with its weights in ours."""

import keras
import numpy as np
from keras.src.applications.convnext import ConvNeXt

from mixmo_keras import backbones

SIZES = dict(depths=(1, 2, 1, 1), widths=(4, 6, 8, 8))


def test_the_network_of_keras_with_its_weights():
    depths, widths = (list(values) for values in SIZES.values())
    options = dict(include_top=False, pooling="avg", input_shape=(32, 32, 3), include_preprocessing=False)
    theirs = ConvNeXt(depths, widths, layer_scale_init_value=1.0, **options)
    parts = backbones.convnext("tiny", (32, 32, 3), **SIZES)
    random = np.random.default_rng(0)
    theirs.set_weights([weight + random.normal(0, 0.1, weight.shape) for weight in theirs.get_weights()])
    weights = iter(theirs.get_weights())
    for network in (parts.encoder, parts.core):
        for weight in network.weights:
            value = next(weights)
            of_depthwise = weight.path.endswith("_conv/kernel") and weight.shape[0] == 7
            weight.assign(np.swapaxes(value, 2, 3) if of_depthwise else value)
    assert not list(weights)
    images = random.normal(size=(2, 32, 32, 3)).astype("float32")
    expected = theirs(images, training=False)
    assert np.ptp(expected, axis=0).max() > 0.1
    np.testing.assert_allclose(parts.core(parts.encoder(images)), expected, rtol=1e-5, atol=1e-5)


def test_initial_weights():
    parts = backbones.convnext("tiny", (32, 32, 3), seed=0, depths=(1, 1, 1, 1))
    stem, block = parts.encoder.get_layer("patches"), "stage2_block1"
    kernels = [stem.kernel, parts.core.get_layer("stage2_conv").kernel]
    kernels += [parts.core.get_layer(f"{block}_conv").kernel, parts.core.get_layer(f"{block}_dense2").kernel]
    for kernel in kernels:
        assert abs(np.std(kernel) - 0.02) < 0.001
    assert not np.any(stem.bias)
    np.testing.assert_array_equal(parts.core.get_layer(f"{block}_scale").factors, np.full(192, 1e-6, "float32"))
    assert isinstance(parts.core.get_layer("norm"), keras.layers.LayerNormalization)
    assert parts.head_stddev == 0.02
