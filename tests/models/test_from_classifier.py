"""A classifier becomes an ensemble that gives its answers; what can't become one is told why."""

import contextlib
import re
import types
import zipfile

import families
import keras
import numpy as np
import pytest
import tiny
from keras import layers, ops

import mixmo_keras
from mixmo_keras import from_classifier
from mixmo_keras.common import trained
from mixmo_keras.networks import stochastic_depth
from mixmo_keras.training import checkpoints

assert "shallow_vit<patch>" in families.names.FAMILIES  # which its import adds

SHAPE = (8, 8, 3)
IMAGES = np.random.default_rng(0).uniform(0, 255, (3, *SHAPE)).astype("float32")


def test_a_model_of_a_named_backbone_at_another_size_has_its_positions_interpolated():
    small, large = (
        mixmo_keras.SingleNetwork("shallow_vit4", num_classes=3, input_shape=(size, size, 3), seed=size)
        for size in (8, 12)
    )
    checkpoints.begin_as(large, small)  # as a training at another resolution does
    images = np.random.default_rng(0).uniform(0, 255, (3, 12, 12, 3)).astype("float32")
    model = from_classifier(small, method="single", input_shape=(12, 12, 3), verbose=False)
    np.testing.assert_allclose(model(images), large(images), rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match=r"`patch` \(=4\) must divide the images' height and width, 10×10"):
        from_classifier(small, method="single", input_shape=(10, 10, 3))


def test_cosub_goes_on_with_the_stochastic_depth_of_a_classifier():
    options = dict(num_classes=3, input_shape=(8, 8, 3), seed=0)
    made = from_classifier(mixmo_keras.CoSub("shallow_vit4", **options, drop_path=0.3), method="cosub", verbose=False)
    assert {layer.rate for layer in stochastic_depth.layers_of(made.core)} == {0.3}
    with pytest.raises(ValueError, match="`co_training` needs a network whose two passes differ"):
        from_classifier(mixmo_keras.SingleNetwork("shallow_vit4", **options), method="cosub")


def moved(model: keras.Model) -> keras.Model:
    """Weights away from where they begin, biases and batch norm's statistics too."""
    random = np.random.default_rng(1)
    model.set_weights([w + random.uniform(-0.05, 0.15, w.shape) * (w.ndim == 1) for w in model.get_weights()])
    return model


def body(x, filters: int = 5):
    x = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(x))
    return layers.GlobalAveragePooling2D()(layers.ReLU()(x))


def scaled(images):
    return layers.Rescaling(1 / 255)(images)


def plain():
    images = keras.Input(SHAPE)
    return keras.Model(images, layers.Dense(4, name="logits")(body(scaled(images))), name="plain")


def with_softmax():
    images = keras.Input(SHAPE)
    x = layers.Dropout(0.5)(body(layers.Conv2D(4, 3, activation="relu")(scaled(images))))
    return keras.Model(images, layers.Dense(4, activation="softmax")(x))


def with_softmax_layer():
    images = keras.Input(SHAPE)
    return keras.Model(images, layers.Softmax()(layers.Dense(4, use_bias=False)(body(scaled(images)))))


def with_an_operation():
    images = keras.Input(SHAPE)
    return keras.Model(images, ops.softmax(layers.Dense(4)(body(images / 127.5 - 1.0))))


def two_classes():
    images = keras.Input(SHAPE)
    return keras.Model(images, layers.Dense(1, activation="sigmoid")(body(scaled(images))))


def one_logit():
    images = keras.Input(SHAPE)
    model = keras.Model(images, layers.Dense(1)(body(scaled(images))))
    model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    return model


def two_probabilities():
    images = keras.Input(SHAPE)
    model = keras.Model(images, layers.Dense(2, activation="softmax")(body(scaled(images))))
    model.compile("sgd", "binary_crossentropy")  # of labels one-hot, as of many beginners
    return model


def a_convolution_as_head():
    images = keras.Input(SHAPE)
    x = layers.GlobalAveragePooling2D(keepdims=True)(layers.Conv2D(5, 3, 2)(scaled(images)))
    return keras.Model(images, layers.Activation("softmax")(layers.Flatten()(layers.Conv2D(4, 1)(x))))


def convolution_of_logits():
    """As MobileNetV3 without its softmax."""
    images = keras.Input(SHAPE)
    x = layers.GlobalAveragePooling2D(keepdims=True)(layers.Conv2D(5, 3)(scaled(images)))
    return keras.Model(images, layers.Activation("linear")(layers.Flatten()(layers.Conv2D(4, 1, name="logits")(x))))


def sequential():
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.RandomFlip(),
            layers.Rescaling(1 / 255),
            layers.ZeroPadding2D(1),
            layers.Conv2D(4, 3),
            layers.Flatten(),
            layers.Dense(6, activation="relu"),
            layers.Dense(4),
        ]
    )


def transfer_learning():
    inner = keras.Input(SHAPE)
    base = keras.Model(inner, layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(5, 3)(inner))), name="base")
    base.trainable = False
    images = keras.Input(SHAPE)
    x = layers.GlobalAveragePooling2D()(base(keras.applications.resnet50.preprocess_input(images), training=False))
    return keras.Model(images, layers.Dense(4, activation="softmax")(x), name="transfer")


def nested_and_reused():
    """Two models inside, with layers of the same name, and one layer that is called twice."""
    inner = keras.Input(SHAPE)
    first = keras.Model(inner, layers.Conv2D(4, 3, padding="same", name="conv")(inner))
    features = keras.Input((8, 8, 4))
    second = keras.Sequential([features, layers.Conv2D(4, 3, padding="same", name="conv"), layers.ReLU()])
    images = keras.Input(SHAPE)
    again = layers.Conv2D(4, 3, padding="same")
    x = second(first(scaled(images)))
    return keras.Model(images, layers.Dense(4)(body(again(again(x)))))


def rewired():
    """A model that was cut out of another, whose layers have calls outside it."""
    whole = plain()
    features = whole.layers[-2].output
    layers.Dense(7)(features)
    return keras.Model(whole.inputs[0], layers.Dense(4)(features))


def of_any_size():
    images = keras.Input((None, None, 3))
    return keras.Model(images, layers.Dense(4)(body(scaled(images))))


def transformer():
    images = keras.Input(SHAPE)
    x = tiny.PatchEmbedding()(scaled(images))
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 3)(x, x))
    return keras.Model(images, layers.Dense(4)(x[:, 0]))


def with_statistics():
    images = keras.Input(SHAPE)
    x = layers.Normalization(mean=[120.0, 110.0, 100.0], variance=[3600.0, 3500.0, 3400.0])(images)
    return keras.Model(images, layers.Dense(4)(body(layers.Resizing(6, 6)(x))))


CLASSIFIERS = [
    plain,
    with_softmax,
    with_softmax_layer,
    with_an_operation,
    two_classes,
    one_logit,
    two_probabilities,
    a_convolution_as_head,
    sequential,
    transfer_learning,
    nested_and_reused,
    rewired,
    of_any_size,
    transformer,
    with_statistics,
]


def probabilities(classifier: keras.Model) -> np.ndarray:
    """(n, K) of what a classifier gives: logits, probabilities, or those of the second of two classes."""
    answers = np.asarray(classifier(IMAGES, training=False))
    if answers.shape[1] == 1:
        right = answers if answers.min() >= 0 and answers.max() <= 1 else 1 / (1 + np.exp(-answers))
        return np.concatenate([1 - right, right], 1)
    return answers if np.allclose(answers.sum(1), 1, atol=1e-5) else np.exp(tiny.log_softmax(answers))


def answers_of(model) -> np.ndarray:
    return np.exp(tiny.log_softmax(np.asarray(model(IMAGES, training=False))))


def converted(classifier: keras.Model, **options) -> mixmo_keras.MixMo:
    options = dict(verbose=False, seed=0, augmentation=None, batch_repetitions=1) | options
    return from_classifier(classifier, input_shape=SHAPE if None in classifier.input_shape[1:] else None, **options)


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=lambda function: function.__name__)
def test_the_ensemble_gives_the_classifiers_answers_and_stays_it_fused(classifier):
    classifier = moved(classifier())
    before = classifier.get_weights()
    model = converted(classifier, num_members=3, encoder_noise=0.5)
    np.testing.assert_allclose(answers_of(model), probabilities(classifier), atol=1e-5)
    fused = model.fused()
    np.testing.assert_allclose(answers_of(fused), probabilities(classifier), atol=1e-5)
    assert not any(isinstance(layer, mixmo_keras.MultiEncoder) for layer in fused.layers)  # one stem
    kernels = [encoder.get_weights()[0] for encoder in model.encoders.encoders]
    assert np.abs(kernels[0] - kernels[1]).max() > 0
    assert tiny.equal_weights(classifier, before)


@pytest.mark.parametrize("method", ["linear_mixmo", "mimo", "single"])
def test_every_method_begins_so(method):
    classifier = moved(with_softmax())
    np.testing.assert_allclose(answers_of(converted(classifier, method=method)), probabilities(classifier), atol=1e-5)


@pytest.mark.parametrize("share", ["share_encoders", "share_heads"])
def test_what_members_share_is_shared_out_as_well(share):
    classifier = moved(plain())
    warned = pytest.warns(UserWarning, match="share one head")
    with warned if share == "share_heads" else contextlib.nullcontext():
        model = converted(classifier, **{share: True})
    np.testing.assert_allclose(answers_of(model), probabilities(classifier), atol=1e-5)


def test_it_trains_saves_loads_and_keeps_what_was_frozen_frozen(tmp_path):
    classifier = moved(transfer_learning())
    model = converted(classifier, batch_repetitions=2, input_repetition=0.0)  # to be multiplexed
    model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
    core, stems = model.core.get_weights(), [encoder.get_weights() for encoder in model.encoders.encoders]
    model.fit(IMAGES, np.array([0, 1, 2]), batch_size=3, verbose=0)
    assert tiny.equal_weights(model.core, core)  # frozen, batch norm's statistics too
    for encoder, stem in zip(model.encoders.encoders, stems, strict=True):
        assert not tiny.equal_weights(encoder, stem)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(IMAGES), model(IMAGES))
    assert len(loaded.trainable_weights) == len(model.trainable_weights) == 2 * 2 + 2
    np.testing.assert_allclose(answers_of(loaded.multiplexed()).sum(1), 1, rtol=1e-5)


def test_a_transformers_embedding_is_opened_and_saved(tmp_path):
    model = converted(moved(transformer()))
    assert next(layer.name for layer in model.encoders.encoders[0].layers if layer.weights).startswith("conv2d")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(IMAGES), model(IMAGES))


def test_a_file_and_the_librarys_own_network(tmp_path):
    single = tiny.model(num_members=1, mixing=None)
    moved(single)
    single.temperature = 2.0
    single.save(tmp_path / "single.keras")
    model = from_classifier(tmp_path / "single.keras", num_members=2, seed=0, verbose=False)
    np.testing.assert_allclose(model(IMAGES), single(IMAGES), atol=1e-4)  # the temperature is in the head
    assert model.image_shape == SHAPE
    assert model.num_classes == tiny.NUM_CLASSES
    three = from_classifier(model, num_members=3, seed=0, verbose=False)  # an ensemble is one network fused
    np.testing.assert_allclose(three(IMAGES), single(IMAGES), atol=1e-4)


def test_what_was_done_to_pixels_before_is_said():
    images = keras.Input(SHAPE)
    classifier = moved(keras.Model(images, layers.Dense(4)(body(images))))
    model = converted(classifier, normalization=(0.0, 1.0))
    expected = tiny.log_softmax(np.asarray(classifier(IMAGES / 255)))
    np.testing.assert_allclose(answers_of(model), np.exp(expected), atol=1e-5)


def test_what_keras_hub_does_to_images_outside_its_graph_is_taken_in():
    classifier = moved(of_any_size())
    converter = types.SimpleNamespace(image_size=(8, 8), scale=[0.1, 0.2, 0.3], offset=[1.0, 2.0, 3.0])
    classifier.preprocessor = types.SimpleNamespace(image_converter=converter)
    model = from_classifier(classifier, verbose=False, seed=0)
    expected = np.asarray(classifier(IMAGES * np.float32(converter.scale) + np.float32(converter.offset)))
    np.testing.assert_allclose(model(IMAGES), expected, atol=1e-4)


def test_it_says_what_it_found_and_did(capsys):
    from_classifier(transfer_learning(), seed=0)
    first = capsys.readouterr().out
    assert first.startswith("transfer: images of 8×8×3, 4 classes, gives softmax\n")
    assert "kept" in first.splitlines()[1]
    assert "3×3, shared out among 2 members, which differ by 0.1 of their spread" in first
    assert "core           20 weights, copied; 10 of them are frozen and stay so" in first
    from_classifier(sequential(), seed=0, encoder_noise=0, method="single")
    second = capsys.readouterr().out
    assert re.search(r"random_flip\w* is random in training and off now: pass `augmentation`", second)
    assert "shared out among one member\n" in second
    images = keras.Input(SHAPE)
    from_classifier(keras.Model(images, layers.Dense(4)(body(images))), seed=0)
    assert "takes pixels as they come" in capsys.readouterr().out
    from_classifier(plain(), seed=0, verbose=False)
    assert capsys.readouterr().out == ""


class Subclassed(keras.Model):
    pass


def _graph(make, **compiled):
    images = keras.Input(SHAPE)
    model = keras.Model(images, make(images), name="net")
    if compiled:
        model.compile("sgd", **compiled)
    return model


def dense(units, activation=None):
    return lambda images: layers.Dense(units, activation=activation)(body(images))


REFUSED = [
    (lambda: _graph(lambda x: layers.Dense(3)(layers.Flatten()(x))), "net has no convolution that could be shared out"),
    (lambda: Subclassed(), "must be a functional or Sequential Keras model, got Subclassed"),
    (lambda: _graph(body), r"net must end in a dense layer, .* it ends in 'global_average_pooling2d\w*', a GlobalAv"),
    (lambda: _graph(dense(3, "sigmoid")), "net ends in 3 sigmoids: that is several labels an image"),
    (lambda: _graph(dense(3, "relu")), "net ends in relu: a classifier ends in softmax, sigmoid"),
    (lambda: _graph(dense(1)), "net has one output and no sigmoid: it is taken for a regression"),
    (lambda: _graph(dense(3), loss="mse"), "net was compiled with mean_squared_error, a loss of another task"),
    (
        lambda: _graph(dense(3), loss=keras.losses.BinaryCrossentropy(from_logits=True)),
        "net was compiled with binary_crossentropy, a loss of another task",
    ),
    (
        lambda: _graph(dense(3, "softmax"), loss="binary_crossentropy"),
        "If every image has one class all the same, compile it with keras.losses.CategoricalCrossentropy",
    ),
    (
        lambda: _graph(dense(2), loss=keras.losses.BinaryCrossentropy(from_logits=True)),
        "net was compiled with binary_crossentropy, a loss of another task",
    ),
    (lambda: _graph(dense(3), loss="squared_hinge"), "net was compiled with squared_hinge, a loss of another task"),
    (
        lambda: _graph(lambda x: layers.Softmax()(dense(3, "softmax")(x))),
        "net must have one activation behind its last dense layer, got softmax and then softmax",
    ),
    (
        lambda: _graph(lambda x: layers.Conv2D(3, 1)(x)),
        r"gives \(n, K\), one row an image; net gives \(None, 8, 8, 3\)",
    ),
    (
        lambda: _graph(lambda x: layers.Dense(3)(body(layers.Concatenate()([layers.Conv2D(2, 1)(x), x])))),
        r"net can't be split at 'conv2d\w*': \w+ passes it by, to concatenate",
    ),
    (
        lambda: _graph(lambda x: layers.Dense(3)(body(layers.SeparableConv2D(2, 3)(x)))),
        r"net begins with separable_conv2d\w*: what is shared out among members must be one convolution",
    ),
    (lambda: _graph(lambda x: layers.Dense(3)(body(x) * float("nan"))), "net gives NaN or infinite answers"),
    (
        lambda: _graph(lambda x: layers.Dense(3)(body(layers.Conv2D(4, 3)(layers.RandomCrop(6, 6)(x))))),
        r"net makes images of \(8, 8, 3\) in use where its first convolution was built for \(6, 6, 3\)",
    ),
    (
        lambda: _graph(lambda x: layers.Flatten()(layers.Dense(2)(layers.Reshape((2, 3))(layers.Dense(6)(body(x)))))),
        r"net must end in a dense layer, .* it ends in 'dense\w*', a Dense",
    ),
    (
        lambda: keras.Sequential([keras.Input((3, 8, 8)), layers.Permute((2, 3, 1)), layers.Conv2D(2, 3)]),
        "channels first",
    ),
    (of_any_size, r"must take images of one shape \(H, W, C\)"),
    (lambda: "classifier.h5", r"must be a Keras model or the path of a .keras file, got 'classifier.h5'"),
    (lambda: 3, "`classifier` must be a Keras model or the path of a .keras file, got 3"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[message[:30] for _, message in REFUSED])
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        from_classifier(make(), verbose=False)


def test_arguments_that_are_refused():
    for options, message in (
        (
            dict(normalization="auto"),
            r"`normalization` must be \(mean, std\) of what was done to pixels before, or None",
        ),
        (
            dict(normalization=(0.5, 0.5)),
            r"would normalise images a second time: the backbone has preprocessing.*rescaling",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            from_classifier(plain(), verbose=False, **options)
    networks = mixmo_keras.DeepEnsemble([tiny.model(num_members=1, mixing=None, seed=seed) for seed in (0, 1)])
    with pytest.raises(ValueError, match="must be one network, got a DeepEnsemble"):
        from_classifier(networks)


def test_a_classifier_as_a_backbone_is_sent_here():
    with pytest.raises(
        ValueError, match=r"ends in probabilities, 'dense\w*'.*from_classifier\(model\) makes an ensemble"
    ):
        mixmo_keras.CutMixMo(with_softmax(), num_classes=4)


@pytest.mark.parametrize("num_classes", [4, 5])
@pytest.mark.parametrize("classifier", [plain, convolution_of_logits], ids=lambda function: function.__name__)
def test_a_backbone_that_ends_in_its_classes_is_warned_of(classifier, num_classes):
    """Its own classes may be others, as ImageNet's thousand."""
    warned = r"ends in 'logits', a linear dense layer of 4 units, as classes do.*from_classifier.*include_top=False"
    with pytest.warns(UserWarning, match=warned) as caught:
        mixmo_keras.CutMixMo(classifier(), num_classes=num_classes)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match=warned):
        mixmo_keras.backbones.split(classifier())


@pytest.mark.parametrize(
    "end", [layers.ReLU(), layers.BatchNormalization(), lambda x: layers.Dense(6, "relu")(x), lambda x: ops.tanh(x)]
)
def test_a_backbone_that_ends_in_features_is_not(end):
    images = keras.Input(SHAPE)
    features = keras.Model(images, end(layers.Dense(6)(body(images))))
    mixmo_keras.backbones.split(features)  # a warning would fail


def test_preprocessing_that_the_backbone_has_is_not_done_twice():
    images = keras.Input(SHAPE)
    features = keras.Model(images, body(layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(images))))
    for normalization in ("auto", None):
        model = mixmo_keras.CutMixMo(features, num_classes=4, normalization=normalization)
        np.testing.assert_allclose(model.normalize(IMAGES), IMAGES / 255, rtol=1e-6)
        assert [layer.name for layer in model.encoders.encoders[0].layers if "rescaling" in layer.name] == []
    with pytest.raises(ValueError, match=r"`normalization` \(=\(0.5, 0.5\)\) would normalise images a second time"):
        mixmo_keras.CutMixMo(features, num_classes=4, normalization=(0.5, 0.5))


def test_a_layer_that_can_not_be_made_again_is_named():
    class Own(layers.Layer):
        def __init__(self, width, **kwargs):
            super().__init__(**kwargs)

        def call(self, x):
            return x

    classifier = _graph(lambda x: layers.Dense(3)(body(Own(object())(layers.Conv2D(3, 3)(x)))))
    with pytest.raises(
        ValueError, match=r"net can't be copied.*its layer 'own\w*', a Own of test_from_classifier, can't be"
    ):
        from_classifier(classifier)


def adapted():
    images = keras.Input(SHAPE)
    normalization = layers.Normalization()
    normalization.adapt(IMAGES)
    return keras.Model(images, layers.Dense(4)(body(layers.Conv2D(4, 3)(normalization(images)))))


def stem_called_twice():
    images = keras.Input(SHAPE)
    stem = layers.Conv2D(3, 3, padding="same")
    return keras.Model(images, layers.Dense(4)(body(stem(stem(scaled(images))))))


def of_whole_numbers():
    images = keras.Input(SHAPE, dtype="uint8")
    return keras.Model(images, layers.Dense(4)(body(ops.cast(images, "float32") / 127.5 - 1.0)))


def compiled_with_ones_own():
    model = plain()
    model.compile("sgd", lambda targets, logits: ops.mean(logits))
    return model


class Made(keras.Model):
    """A class of one's own, made of a graph."""


def of_a_class_of_ones_own():
    whole = plain()
    return Made(whole.inputs[0], whole.outputs[0])


class Unregistered(layers.Layer):
    def call(self, x):
        return 2 * x


def with_a_layer_of_ones_own():
    images = keras.Input(SHAPE)
    return keras.Model(images, layers.Dense(4)(body(Unregistered()(layers.Conv2D(4, 3)(scaled(images))))))


def with_a_lambda():
    images = keras.Input(SHAPE)
    return keras.Model(images, layers.Dense(4)(body(layers.Lambda(lambda x: x / 255.0)(images))))


def with_constraints():
    images = keras.Input(SHAPE)
    norm = keras.constraints.UnitNorm(axis=[0, 1, 2])
    return keras.Model(images, layers.Dense(4)(body(layers.Conv2D(4, 3, kernel_constraint=norm)(scaled(images)))))


@pytest.mark.parametrize(
    "classifier",
    [
        adapted,
        stem_called_twice,
        of_whole_numbers,
        compiled_with_ones_own,
        of_a_class_of_ones_own,
        with_a_layer_of_ones_own,
        with_a_lambda,
        with_constraints,
    ],
    ids=lambda function: function.__name__,
)
def test_what_a_fresh_pair_of_eyes_broke(classifier):
    classifier = classifier()
    model = converted(classifier)
    images = np.floor(IMAGES)
    expected = np.exp(tiny.log_softmax(np.asarray(classifier(images, training=False))))
    for ours in (model, model.fused()):
        np.testing.assert_allclose(np.exp(tiny.log_softmax(np.asarray(ours(images)))), expected, atol=1e-5)
    model.compile(keras.optimizers.SGD(1e-6), run_eagerly=True)  # constraints would bind at once
    model.fit(images, np.array([0, 1, 2]), batch_size=3, verbose=0)
    after = np.exp(tiny.log_softmax(np.asarray(model(images))))
    np.testing.assert_allclose(after, expected, atol=0.1)


def test_further_training_begins_gently():
    model = converted(plain())
    assert model.schedule.get_config()["base"] == pytest.approx(0.005)
    assert from_classifier(plain(), verbose=False).batching.augmentation is None


def test_a_network_of_this_library_goes_on_with_the_rate_that_trained_it(tmp_path):
    network = tiny.model(num_members=1, mixing=None)
    network.save(tmp_path / "single.keras")
    assert trained.is_of_this_library(tmp_path / "single.keras")
    for classifier in (network, tmp_path / "single.keras"):
        model = from_classifier(classifier, verbose=False)
        assert model.schedule.get_config()["base"] == pytest.approx(0.05)
    other_classes = from_classifier(network, num_classes=3, verbose=False)  # its weights come from other images
    assert other_classes.schedule.get_config()["base"] == pytest.approx(0.005)


def test_half_of_the_rows_show_all_members_the_same_image():
    """Unless there is one member, or heads that have to learn their classes, or it is said otherwise."""
    for options, expected in (
        ({}, 0.5),
        (dict(method="mimo", num_members=3), 0.5),
        (dict(input_repetition=0.0), 0.0),
        (dict(method="single"), 0.0),
        (dict(num_classes=3), 0.0),
    ):
        assert from_classifier(plain(), verbose=False, **options).batching.input_repetition == expected, options


@pytest.mark.parametrize("content", [None, b"no archive", {}, {"config.json": "[1"}, {"config.json": "[1]"}])
def test_what_is_no_network_of_this_library(content, tmp_path):
    path = tmp_path / "other.keras"
    if isinstance(content, dict):
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in content.items():
                archive.writestr(name, text)
    elif content is not None:
        path.write_bytes(content)
    assert not trained.is_of_this_library(path)


class WithACall(keras.Model):
    """Made of a graph, but called otherwise."""

    def call(self, inputs, **options):
        return -super().call(inputs, **options)


def test_a_graph_with_a_call_of_its_own_is_not_taken_for_its_graph():
    whole = plain()
    for take in (from_classifier, mixmo_keras.backbones.split):
        with pytest.raises(ValueError, match="must be a functional or Sequential Keras model, got WithACall"):
            take(WithACall(whole.inputs[0], whole.outputs[0]))
