"""WRN against a count by hand and a forward pass in NumPy; what makes a backbone."""

import json

import keras
import numpy as np
import pytest
import tiny
from keras import layers
from scipy.special import erf

import mixmo_keras
from mixmo_keras import backbones, seeds
from mixmo_keras.networks.backbones import Backbone, names, wide_resnet
from mixmo_keras.networks.backbones.airbench import whitening_filters
from mixmo_keras.networks.backbones.tokens import ClassToken, LayerScale


def wrn_parameters(depth, width, num_members, num_classes, channels=3):
    """Trainable parameters, counted from the paper's table: encoders, blocks, final batch norm, heads."""
    total, inputs = num_members * 9 * channels * 16, 16
    for outputs in (16 * width, 32 * width, 64 * width):
        for block in range((depth - 4) // 6):
            total += 2 * inputs + 9 * inputs * outputs + 2 * outputs + 9 * outputs * outputs
            if block == 0 and (inputs != outputs or outputs != 16 * width):  # shortcut where the shape changes
                total += inputs * outputs
            inputs = outputs
    return total + 2 * inputs + num_members * (inputs + 1) * num_classes


@pytest.mark.parametrize("num_members", [1, 3])
@pytest.mark.parametrize(("depth", "width"), [(10, 1), (16, 2)])
def test_number_of_parameters(depth, width, num_members):
    model = tiny.model(backbone=f"wrn{depth}_{width}", input_shape=(8, 8, 3), num_members=num_members)
    trainable = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    assert trainable == wrn_parameters(depth, width, num_members, tiny.NUM_CLASSES)


def test_the_papers_network_has_the_papers_parameters():
    model = mixmo_keras.CutMixMo()  # every default: WRN-28-10, M = 2, CIFAR-100
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == 36_601_416
    assert wrn_parameters(28, 10, 2, 100) == 36_601_416
    assert model.input_shape == (None, 32, 32, 3)
    assert model.output_shape == (None, 100)


def layer_table(core, kind):
    return {layer.name: layer for layer in core.layers if isinstance(layer, kind)}


def test_strides_and_shortcuts():
    core = wide_resnet(16, 2).core
    convolutions = layer_table(core, layers.Conv2D)
    strided = {name for name, layer in convolutions.items() if layer.strides == (2, 2)}
    assert strided == {f"group{g}_block1_{part}" for g in (2, 3) for part in ("conv2", "shortcut")}
    assert {name for name in convolutions if "shortcut" in name} == {f"group{g}_block1_shortcut" for g in (1, 2, 3)}
    assert all(layer.padding == "same" and not layer.use_bias for layer in convolutions.values())
    norms = layer_table(core, layers.BatchNormalization).values()
    assert {(layer.momentum, layer.epsilon) for layer in norms} == {(0.9, 1e-5)}
    # He, truncated normal, fan-in
    kernel = convolutions["group3_block2_conv1"].kernel
    assert np.std(kernel) == pytest.approx(np.sqrt(2 / (9 * 128)), rel=0.02)
    # where the shape stays, the shortcut is the input itself: WRN-10-1's first block
    assert "group1_block1_shortcut" not in layer_table(wide_resnet(10, 1).core, layers.Conv2D)


def convolution(x, kernel, stride):
    """ "Same" padding as in TensorFlow: with stride 2 on even sizes one row and column more, at the bottom and right."""
    size = kernel.shape[0]
    height, width = x.shape[1] // stride, x.shape[2] // stride
    padding = max((height - 1) * stride + size - x.shape[1], 0)
    low = padding // 2
    x = np.pad(x, ((0, 0), (low, padding - low), (low, padding - low), (0, 0)))
    return sum(
        x[:, i : i + stride * (height - 1) + 1 : stride, j : j + stride * (width - 1) + 1 : stride] @ kernel[i, j]
        for i in range(size)
        for j in range(size)
    )


@pytest.mark.parametrize("name", ["wrn16_2", "wrn16_2_stride_second", "wrn16_2_stride_first"])
def test_strides_on_the_first_or_second_convolution(name):
    parts, default = backbones.get(name, (8, 8, 3), 0), backbones.get("wrn16_2", (8, 8, 3), 0)
    convolutions = layer_table(parts.core, layers.Conv2D)
    strided = {layer for layer, one in convolutions.items() if one.strides == (2, 2)}
    halving = "conv1" if name.endswith("first") else "conv2"
    assert strided == {f"group{g}_block1_{part}" for g in (2, 3) for part in (halving, "shortcut")}
    assert parts.core.output_shape == (None, 128)
    assert convolutions["group2_block1_conv1"].output.shape == (None, *((4, 4) if halving == "conv1" else (8, 8)), 64)
    # the same weights, to the last bit
    assert [w.path for w in parts.core.weights] == [w.path for w in default.core.weights]
    assert tiny.equal_weights(parts.core, default.core)
    assert tiny.equal_weights(parts.encoder, default.encoder)


@pytest.mark.slow
def test_mimos_network_by_name_has_the_papers_parameters():
    parts = backbones.get("wrn28_10_stride_first", None, 0)
    for num_members, total in ((1, 36_479_194), (3, 36_492_878)):  # 36.479 M and 36.492 M in MIMO's table
        assert num_members * count(parts.encoder) + count(parts.core) + num_members * 641 * 10 == total
        assert wrn_parameters(28, 10, num_members, 10) == total


@pytest.mark.parametrize("stride_on", ["second", "first"])
@pytest.mark.parametrize(("depth", "width"), [(10, 1), (10, 2), (16, 1)])
def test_forward_pass(depth, width, stride_on):
    core = wide_resnet(depth, width, (8, 8, 3), seed=0, stride_on=stride_on).core
    random = np.random.default_rng(0)
    core.set_weights([w + random.uniform(0.1, 0.5, w.shape) if w.ndim == 1 else w for w in core.get_weights()])
    weights = {w.path: np.asarray(w, "float64") for w in core.weights}

    def norm_relu(x, name):
        gamma, beta, mean, variance = (
            weights[f"{name}_bn/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return np.maximum(gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta, 0)

    features = random.normal(size=(2, 8, 8, 16))
    x = features
    for group in (1, 2, 3):
        for block in range(1, (depth - 4) // 6 + 1):
            name, stride = f"group{group}_block{block}", 2 if group > 1 and block == 1 else 1
            first, second = (stride, 1) if stride_on == "first" else (1, stride)
            y = convolution(norm_relu(x, f"{name}_1"), weights[f"{name}_conv1/kernel"], first)
            y = convolution(norm_relu(y, f"{name}_2"), weights[f"{name}_conv2/kernel"], second)
            shortcut = weights.get(f"{name}_shortcut/kernel")  # of the raw input
            x = y + (x if shortcut is None else convolution(x, shortcut, stride))
    expected = norm_relu(x, "final").mean((1, 2))
    np.testing.assert_allclose(core(features.astype("float32")), expected, rtol=1e-4, atol=1e-4)


def preact_parameters(width, num_members, num_classes):
    """Trainable parameters of PreActResNet-18-w, counted from the paper's table: encoders, blocks, heads."""
    total, inputs = num_members * 9 * 3 * 64, 64
    for group, outputs in enumerate(64 * width * 2**group for group in range(4)):
        for block in range(2):
            total += 2 * inputs + 9 * inputs * outputs + 2 * outputs + 9 * outputs * outputs
            if block == 0 and (inputs != outputs or group):
                total += inputs * outputs
            inputs = outputs
    return total + num_members * (inputs + 1) * num_classes


@pytest.mark.parametrize("width", [1, *(pytest.param(width, marks=pytest.mark.slow) for width in (2, 3))])
def test_number_of_parameters_of_preact_resnet(width):
    parts = backbones.preact_resnet(18, width)
    for num_members in (1, 2, 3):
        heads = num_members * (512 * width + 1) * 200
        total = num_members * count(parts.encoder) + count(parts.core) + heads
        assert total == preact_parameters(width, num_members, 200)


def test_preact_resnet_pads_both_sides_and_starts_its_heads_small():
    model = mixmo_keras.CutMixMo("preact_resnet18_1", num_classes=200, augmentation=None, seed=0)
    assert model.image_shape == (64, 64, 3)
    assert model.encoders.encoders[0].output_shape == (None, 32, 32, 64)
    assert model.core.output_shape == (None, 512)
    assert np.std(model.heads.dense.kernel) == pytest.approx(0.01, rel=0.02)
    # a lone bright pixel at the bottom right corner: what pads on both sides sees it in one place, "same" would in another
    x = np.zeros((1, 4, 4, 3), "float32")
    x[0, 3, 3] = 1
    encoder = backbones.preact_resnet(18, 1, (4, 4, 3), seed=0).encoder
    kernel = np.asarray(encoder.get_layer("conv").kernel)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.stack(
        [[np.tensordot(padded[0, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3], kernel, 3) for j in (0, 1)] for i in (0, 1)]
    )
    np.testing.assert_allclose(encoder(x)[0], expected, rtol=1e-5, atol=1e-6)


def count(network) -> int:
    return sum(int(np.prod(w.shape)) for w in network.trainable_weights)


@pytest.mark.slow
def test_resnet50_has_the_known_number_of_parameters():
    parts = backbones.resnet(50)
    assert parts.encoder.output_shape == (None, 112, 112, 64)
    assert parts.core.output_shape == (None, 2048)
    assert count(parts.encoder) + count(parts.core) + 2049 * 1000 == 25_557_032  # of every implementation with K = 1000
    strided = {layer.name for layer in parts.core.layers if getattr(layer, "strides", None) in ((2, 2),)}
    assert strided == {"stem_pool", *(f"group{g}_block1_{part}" for g in (2, 3, 4) for part in ("conv2", "shortcut"))}


def test_resnet50_pads_both_sides_where_a_convolution_has_strides_and_starts_its_heads_small():
    parts = backbones.resnet(50, (64, 64, 3), seed=0)
    assert parts.head_stddev == 0.01  # as the pre-activation ResNet above
    for network, name, size in (
        (parts.encoder, "conv", 7),
        *((parts.core, f"group{group}_block1_conv2", 3) for group in (2, 3, 4)),
    ):
        layer, pad = network.get_layer(name), network.get_layer(f"{name}_pad")
        assert (layer.strides, layer.padding) == ((2, 2), "valid")
        assert pad.padding == ((size // 2, size // 2),) * 2
        assert layer.input is pad.output
        # against NumPy: the window of the first place begins above and left of the map, whose size is even
        random = np.random.default_rng(0)
        x = random.normal(size=(1, 4, 4, pad.input.shape[-1])).astype("float32")
        padded = np.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
        kernel = np.asarray(layer.kernel)
        expected = [[np.tensordot(padded[0, i : i + size, j : j + size], kernel, 3) for j in (0, 2)] for i in (0, 2)]
        np.testing.assert_allclose(layer(pad(x))[0], np.stack(expected), rtol=1e-3, atol=1e-4)


def test_vit():
    parts = backbones.get("vit_tiny4", None, 0)
    assert parts.encoder.output_shape == (None, 8, 8, 192)
    c, tokens = 192, 64
    block = 4 * (c * c + c) + (c * 4 * c + 4 * c) + (4 * c * c + c) + 4 * c  # attention, two dense layers, two norms
    assert count(parts.core) == tokens * c + 12 * block + 2 * c
    assert count(parts.encoder) == 4 * 4 * 3 * c + c
    # the positions matter: shuffled patches give another answer, as they would not without an embedding
    small = backbones.vit("tiny", 4, (8, 8, 3), seed=0, depth=1)
    features = np.random.default_rng(0).normal(size=(1, 2, 2, 192)).astype("float32")
    answer = small.core(features)
    assert np.abs(answer - small.core(features[:, ::-1])).max() > 1e-4
    positions = small.core.get_layer("position").positions
    positions.assign(np.zeros(positions.shape))
    np.testing.assert_allclose(small.core(features), small.core(features[:, ::-1]), rtol=1e-3, atol=1e-4)
    again = backbones.vit("tiny", 4, (8, 8, 3), seed=0, depth=1)
    assert not tiny.equal_weights(small.core, again.core)
    positions.assign(again.core.get_layer("position").positions)
    assert tiny.equal_weights(small.core, again.core)


DEIT = dict(pool="token", layer_scale=1e-4, initialization="deit")  # the network of DeiT III, which cosub trains


def test_a_vits_default_start_is_what_it_was():
    parts = backbones.vit("tiny", 4, (8, 8, 3), seed=5, depth=2)
    assert not layer_table(parts.core, (ClassToken, LayerScale))
    assert parts.head_stddev is None
    same = backbones.vit("tiny", 4, (8, 8, 3), seed=5, depth=2, pool="mean", layer_scale=None, initialization="glorot")
    assert tiny.equal_weights(parts.core, same.core)
    # one seed after the other, in the order in which they were drawn before there were options
    drawn = [seeds.derive(5, "core", number) for number in range(8)]
    glorot, start = keras.initializers.GlorotUniform, keras.initializers.TruncatedNormal(stddev=0.02, seed=drawn[1])
    table = {layer.name: layer for layer in (*parts.encoder.layers, *parts.core.layers)}
    assert np.array_equal(table["patches"].kernel, glorot(drawn[0])((4, 4, 3, 192)))
    assert np.array_equal(table["position"].positions, start((4, 192)))
    for block, (attention, first, second) in enumerate((drawn[2:5], drawn[5:8]), start=1):
        query = next(w for w in table[f"block{block}_attention"].weights if w.path.endswith("query/kernel"))
        # Keras draws the kernels of all heads at once, as one matrix
        assert np.array_equal(query, np.reshape(glorot(attention)((192, 192)), (192, 3, 64)))
        assert np.array_equal(table[f"block{block}_dense1"].kernel, glorot(first)((192, 768)))
        assert np.array_equal(table[f"block{block}_dense2"].kernel, glorot(second)((768, 192)))


@pytest.mark.slow
def test_deits_network_has_its_parameters_and_its_start():
    parts = backbones.vit("small", 16, (224, 224, 3), seed=0, **DEIT)
    assert parts.core.output_shape == (None, 384)
    assert count(parts.encoder) + count(parts.core) + 385 * 1000 == 22_059_496  # of deit_small_patch16_LS
    table = {layer.name: layer for layer in (*parts.encoder.layers, *parts.core.layers)}
    kernels = [weight for weight in table["block1_attention"].weights if weight.name == "kernel"]
    normal = [*kernels, *(table[f"block7_dense{number}"].kernel for number in (1, 2)), table["position"].positions]
    for weight in normal:
        assert np.std(weight) == pytest.approx(0.02, rel=0.02)
        assert np.abs(weight).max() > 0.06  # its truncated normal cuts at ±2, not at two standard deviations
    assert np.std(table["class_token"].token) == pytest.approx(0.02, rel=0.15)
    query, key, value, _ = (np.asarray(kernel).ravel() for kernel in kernels)
    assert max(abs(np.corrcoef([query, key, value])[np.triu_indices(3, 1)])) < 0.02  # drawn each on its own
    for weight in (table["patches"].kernel, table["patches"].bias):  # PyTorch's default for a convolution
        assert np.abs(weight).max() == pytest.approx(1 / np.sqrt(3 * 16 * 16), rel=0.02)
        assert np.std(weight) == pytest.approx(1 / np.sqrt(3 * 3 * 16 * 16), rel=0.1)
    for number in (1, 2):
        assert np.array_equal(table[f"block12_scale{number}"].factors, np.full(384, 1e-4, "float32"))
    assert parts.head_stddev == 0.02


def test_a_vit_with_token_and_factors_against_numpy():
    core = backbones.vit("tiny", 4, (8, 8, 3), seed=0, depth=2, **DEIT).core
    random = np.random.default_rng(0)
    core.set_weights([w + random.normal(size=w.shape) / 10 for w in core.get_weights()])
    weights = {w.path: np.asarray(w, "float64") for w in core.weights}

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * weights[f"{name}/gamma"] + weights[f"{name}/beta"]

    def dense(x, name, product="bnc,cd->bnd"):
        return np.einsum(product, x, weights[f"{name}/kernel"]) + weights[f"{name}/bias"]

    def attention(x, name):
        query, key, value = (dense(x, f"{name}/{part}", "bnc,chd->bnhd") for part in ("query", "key", "value"))
        scores = np.exp(tiny.log_softmax(np.einsum("bnhd,bmhd->bhnm", query, key) / np.sqrt(64)))
        return dense(np.einsum("bhnm,bmhd->bnhd", scores, value), f"{name}/attention_output", "bnhd,hdc->bnc")

    features = random.normal(size=(3, 2, 2, 192))
    x = features.reshape(3, 4, 192) + weights["position/positions"]
    x = np.concatenate([np.tile(weights["class_token/token"], (3, 1, 1)), x], axis=1)  # without a position
    for name in ("block1", "block2"):
        x = x + weights[f"{name}_scale1/factors"] * attention(norm(x, f"{name}_norm1"), f"{name}_attention")
        y = dense(norm(x, f"{name}_norm2"), f"{name}_dense1")
        y = dense(y * (1 + erf(y / np.sqrt(2))) / 2, f"{name}_dense2")
        x = x + weights[f"{name}_scale2/factors"] * y
    expected = norm(x, "norm")[:, 0]
    np.testing.assert_allclose(core(features.astype("float32")), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("options", [DEIT, {}, dict(pool="token"), dict(layer_scale=0.1)])
@pytest.mark.usefixtures("eagerly")
def test_a_vit_trains_saves_and_fuses(options, tmp_path):
    parts = backbones.vit("tiny", 4, tiny.SHAPE, seed=0, depth=1, drop_path=0.2, **options)
    model = tiny.model(backbone=parts, co_training=0.5, learning_rate=0.01)
    x, y = tiny.data()
    assert np.isfinite(model.fit(x, y, batch_size=4, verbose=0).history["loss"]).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert np.array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    np.testing.assert_allclose(model.fused().predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-3, atol=1e-4)


def test_initial_weights_follow_from_the_seed():
    first, again, other = (wide_resnet(10, 1, (8, 8, 3), seed) for seed in (1, 1, 2))
    assert tiny.equal_weights(first.core, again.core)
    assert not tiny.equal_weights(first.core, other.core)
    kernels = [w.tobytes() for w in first.core.get_weights() if w.ndim == 4]
    assert len(set(kernels)) == len(kernels)


@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 16, 3), (7, 9, 2), (1, 1, 3)])
def test_any_image_shape(shape):
    backbone = backbones.get("wrn10_1", shape, 0)
    assert backbone.input_shape == shape
    assert backbone.core(backbone.encoder(np.zeros((2, *shape), "float32"))).shape == (2, 64)


@pytest.mark.parametrize(
    ("backbone", "shape", "message"),
    [
        ("vgg16", None, "Unknown backbone: 'vgg16'. Known names: wrn<depth>_<width>"),
        ("WRN-28-10", None, r"Unknown backbone: 'WRN-28-10'. Do you mean 'wrn28_10'\? Known names"),
        ("ViT-Tiny/4", None, r"Do you mean 'vit_tiny4'\?"),
        ("wrn28", None, "Unknown backbone: 'wrn28'"),
        ("wrn28_10_1", None, "Unknown backbone"),
        ("wrn12_1", None, "`depth` must be 6n . 4 with n ≥ 1, such as 10, 16, 28 or 40, got 12"),
        ("wrn4_1", None, "`depth` must be 6n . 4 .* got 4"),
        ("wrn10_1_stride_third", None, "`stride_on` must be one of second, first, got 'third'"),
        ("wrn10_0", None, "`width` must be an integer of at least 1, got 0"),
        ("preact_resnet18_0", None, "`width` must be an integer of at least 1, got 0"),
        ("preact_resnet20_1", None, "`depth` must be one of 18, 34, got 20"),
        ("resnet18", None, "`depth` must be one of 50, 101, 152, got 18"),
        ("vit_giant4", None, "`size` must be one of tiny, small, medium, base, large, huge, got 'giant'"),
        ("vit_tiny5", None, r"`patch` \(=5\) must divide the images' height and width, 32×32"),
        (None, None, "`backbone` must be a name, a functional Keras model or .*Backbone, got None"),
        (wide_resnet, None, "`backbone` must be a name.* got <function wide_resnet"),
        ("wrn10_1", (8, 8), r"`input_shape` must be \(height, width, channels\), integers .* got \(8, 8\)"),
        (tiny.backbone(), (8, 8, 1), r"differs from the backbone's, \(8, 8, 3\)"),
    ],
)
def test_bad_input(backbone, shape, message):
    with pytest.raises(ValueError, match=message):
        mixmo_keras.MixMo(backbone, input_shape=shape)


def networks():
    parts = tiny.backbone()
    return parts.encoder, parts.core


def test_numpy_numbers_are_numbers():
    parts = backbones.wide_resnet(np.int64(10), np.int32(1), np.array([8, 8, 3]), np.int64(1), np.float32(0.25))
    assert parts.input_shape == (8, 8, 3)
    assert tiny.equal_weights(parts.core, wide_resnet(10, 1, (8, 8, 3), 1, 0.25).core)


@pytest.mark.parametrize(
    ("name", "function", "sizes"),
    [
        ("wrn28_10", backbones.wide_resnet, dict(depth=28, width=10)),
        ("wrn28_10_stride_first", backbones.wide_resnet, dict(depth=28, width=10, stride_on="first")),
        ("preact_resnet18_2", backbones.preact_resnet, dict(depth=18, width=2)),
        ("resnet50", backbones.resnet, dict(depth=50)),
        ("vit_tiny4", backbones.vit, dict(size="tiny", patch=4)),
        ("airbench64", backbones.airbench, dict(width=64)),
        ("deit3_medium16", backbones.deit3, dict(size="medium", patch=16)),
        ("convnext_tiny", backbones.convnext, dict(size="tiny")),
        ("swin_base", backbones.swin, dict(size="base")),
        ("regnety_16gf", backbones.regnety, dict(flops="16gf")),
        ("regnety_1_6gf", backbones.regnety, dict(flops="1_6gf")),
        ("pit_extra_small", backbones.pit, dict(size="extra_small")),
        ("xcit_small12_16", backbones.xcit, dict(size="small", depth=12, patch=16)),
        ("efficientnet_lite2", backbones.efficientnet_lite, dict(version=2)),
    ],
)
def test_names(name, function, sizes):
    assert names.parse(name) == (function, sizes)
    assert len(set(names.FAMILIES) - {"tiny_<channels>", "shallow_vit<patch>"}) == 13, "a row above for every family"


def test_airbench_has_the_papers_weights():
    parts = backbones.airbench(64, seed=0)
    # whitening 2·2·3·24 + 24; six convolutions, and as many shifts: 2·(64 + 256 + 256)
    assert parts.encoder.count_params() == 312
    convolutions = 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256)
    assert sum(int(np.prod(weight.shape)) for weight in parts.core.trainable_weights) == convolutions + 1152
    assert parts.core.output_shape == (None, 256)
    kernel = parts.core.get_layer("block2_conv1").get_weights()[0]
    features = np.random.default_rng(0).normal(size=(1, 5, 5, 64)).astype("float32")
    copied = parts.core.get_layer("block2_conv1")(features)[..., :64]
    np.testing.assert_allclose(copied, features, rtol=1e-6)  # the first filters are the identity
    assert 0.95 / np.sqrt(9 * 64) < np.abs(kernel[..., 64:]).max() < 1 / np.sqrt(9 * 64)


def test_whitening_filters_are_orthogonal_and_come_with_their_negatives():
    filters = whitening_filters()
    np.testing.assert_array_equal(filters[..., 12:], -filters[..., :12])
    directions = filters[..., :12].reshape(12, 12)
    lengths = np.linalg.norm(directions, axis=0)
    np.testing.assert_allclose(directions.T @ directions, np.diag(lengths**2), atol=1e-9)
    # grey patches, the first direction, vary by 15.48: filtered they have the variance 15.48/(15.48 + 0.00075)
    np.testing.assert_allclose(lengths[0] ** 2 * 15.48, 1, atol=1e-4)


def test_airbench_members_see_their_images_by_other_filters_in_float32():
    model = mixmo_keras.CutMixMo("airbench8", num_classes=5, input_shape=(9, 9, 3), dtype="mixed_bfloat16", seed=0)
    first, second = (encoder.get_weights()[0] for encoder in model.encoders.encoders)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(np.sort(first.ravel()), np.sort(second.ravel()))
    features = model.encoders(model.normalize(np.full((1, 9, 9, 3), 100.0)))
    assert features.dtype == "float32"
    assert model.core(model.mixing_block(features)).dtype == "bfloat16"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(input_shape=(32, 32, 1)), r"images of 3 channels, got `input_shape` \(32, 32, 1\)"),
        (dict(input_shape=(8, 32, 3)), r"9×9 pixels or more, got \(8, 32, 3\)"),
        (dict(drop_path=0.1), "no residual branches for `drop_path`"),
        (dict(width=0), "`width` must be an integer"),
    ],
)
def test_what_airbench_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        backbones.airbench(**options)


def test_a_keras_model_is_split_at_its_first_convolution():
    network = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3, name="first"), layers.Conv2D(6, 3)])
    assert backbones.get(network, None, 0).encoder.layers[-1].name == "first"
    with pytest.raises(ValueError, match=r"`input_shape` \(=\(8, 8, 1\)\) differs from the backbone's, \(8, 8, 3\)"):
        backbones.get(network, (8, 8, 1), 0)


def test_parts_that_do_not_fit():
    images, vector = keras.Input((8, 8, 3)), keras.Input((4,))
    encoder = keras.Model(images, layers.Conv2D(4, 3)(images))
    core = tiny.backbone().core
    with pytest.raises(
        ValueError, match=r"encoder's output \(None, 6, 6, 4\) must be a map .* core's input \(None, 8, 8, 4\)"
    ):
        Backbone(encoder, core)
    with pytest.raises(ValueError, match=r"encoder's output \(None, 4\) must be a map"):
        Backbone(keras.Model(vector, layers.Dense(4)(vector)), core)
    features = keras.Input((6, 6, 4))
    with pytest.raises(
        ValueError, match=r"core must end in a vector \(B, F\), as after pooling; it ends in \(None, 4, 4, 2\)"
    ):
        Backbone(encoder, keras.Model(features, layers.Conv2D(2, 3)(features)))


def test_round_trip_through_json():
    backbone = tiny.backbone()
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(backbone)))
    for _ in range(2):  # a configuration may be used again
        copy = keras.saving.deserialize_keras_object(config)
        assert copy.input_shape == backbone.input_shape
        assert [w.shape for w in copy.core.weights] == [w.shape for w in backbone.core.weights]


@pytest.mark.usefixtures("eagerly")
def test_two_models_of_one_backbone_share_nothing():
    backbone = tiny.backbone()
    first, second = (tiny.model(backbone=backbone, seed=seed) for seed in (1, 2))
    assert tiny.equal_weights(first.core, backbone.core)  # its weights are kept, as pretrained ones must be
    before = second.get_weights()
    first.fit(*tiny.data(), verbose=0)
    assert tiny.equal_weights(before, second)
    assert not tiny.equal_weights(first.core, backbone.core)


def test_dtype_is_the_backbones():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        backbone = tiny.backbone()
    finally:
        keras.config.set_dtype_policy("float32")
    model = tiny.model(backbone=backbone)
    assert model.dtype_policy.name == backbone.dtype_policy.name == model.heads.dtype_policy.name == "mixed_bfloat16"
    with pytest.raises(ValueError, match=r"`dtype` \(='float16'\) differs from the policy .* 'mixed_bfloat16'"):
        tiny.model(backbone=backbone, dtype="float16")
    assert mixmo_keras.MixMo.from_config(model.get_config()).dtype_policy.name == "mixed_bfloat16"
