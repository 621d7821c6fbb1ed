"""Which classifiers become ensembles by one line, and whether they answer alike: `mixmo_keras.from_classifier`, tried.

    python studies/conversions.py [--models own MobileNetV3Small "keras_hub ViT"] [--docs]

Each model, with random weights, is converted to Cut-MixMo with two members; its probabilities are compared with the
ensemble's, also fused, saved and loaded, and exported; then the ensemble trains a step. `--docs` writes the table
into docs/classifiers.md. keras_hub's are its classes at small sizes: `pip install keras-hub`, in the extra `dev`.
"""

import argparse
import tempfile
import warnings
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import pages
import tensorflow as tf
from keras import layers

import mixmo_keras
from mixmo_keras import keras_internals
from mixmo_keras.experiments import tables

NUM_CLASSES = 4


class Conversion(NamedTuple):
    """What became of a classifier: the largest differences of probabilities."""

    name: str
    error: float
    fused_error: float
    loaded_error: float
    exported_error: float
    stem_fused: bool
    trained: bool


def own() -> keras.Model:
    """A small network with Keras' `Rescaling` in front, as in its tutorials."""
    images = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 255)(images)
    for filters in (8, 16):
        x = layers.MaxPooling2D()(layers.Conv2D(filters, 3, padding="same", activation="relu")(x))
    x = layers.Dropout(0.3)(layers.Flatten()(x))
    return keras.Model(images, layers.Dense(NUM_CLASSES, activation="softmax")(x), name="own")


def sequential() -> keras.Model:
    """Augmentation in the model, batch norm, logits."""
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.RandomFlip("horizontal"),
            layers.Rescaling(1 / 127.5, -1),
            layers.Conv2D(8, 3, strides=2),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(NUM_CLASSES),
        ]
    )


def transfer() -> keras.Model:
    """Keras' pattern of transfer learning: preprocessing, a frozen base, dropout, one sigmoid for two classes."""
    base = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3))
    base.trainable = False
    images = keras.Input((32, 32, 3))
    x = base(keras.applications.mobilenet_v2.preprocess_input(images), training=False)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(images, layers.Dense(1, activation="sigmoid")(x), name="transfer")


def of_keras(name: str, size: int = 32) -> Callable[[], keras.Model]:
    """A function that builds a network of keras.applications with its head."""
    return lambda: getattr(keras.applications, name)(weights=None, classes=NUM_CLASSES, input_shape=(size, size, 3))


def of_hub(name: str, **backbone) -> Callable[[], keras.Model]:
    """A function that builds a classifier of keras_hub on a backbone of its arguments."""

    def build() -> keras.Model:
        import keras_hub

        network = getattr(keras_hub.models, f"{name}Backbone")(**backbone)
        return getattr(keras_hub.models, f"{name}ImageClassifier")(network, num_classes=NUM_CLASSES)

    return build


# small backbones of keras_hub, of which all but the EfficientNet are also told the shape of an image
IMAGE = dict(image_shape=(32, 32, 3))
RESNET = dict(
    input_conv_filters=[64],
    input_conv_kernel_sizes=[7],
    stackwise_num_filters=[64, 64],
    stackwise_num_blocks=[1, 1],
    stackwise_num_strides=[1, 2],
    block_type="basic_block",
)
EFFICIENT_NET = dict(
    stackwise_kernel_sizes=[3, 3],
    stackwise_num_repeats=[1, 2],
    stackwise_input_filters=[8, 8],
    stackwise_output_filters=[8, 16],
    stackwise_expansion_ratios=[1, 4],
    stackwise_squeeze_and_excite_ratios=[0.0, 0.25],
    stackwise_strides=[1, 2],
    stackwise_block_types=["fused", "unfused"],
    stackwise_force_input_filters=[0, 0],
    stackwise_nores_option=[False, False],
    width_coefficient=1.0,
    depth_coefficient=1.0,
)
VIT = dict(patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32)
MODELS: dict[str, Callable[[], keras.Model]] = {
    "own": own,
    "Sequential": sequential,
    "transfer learning": transfer,
    **{
        name: of_keras(name)
        for name in (
            "MobileNet",
            "MobileNetV2",
            "MobileNetV3Small",
            "EfficientNetB0",
            "EfficientNetV2B0",
            "ConvNeXtTiny",
            "ResNet50",
            "ResNet50V2",
            "DenseNet121",
            "VGG16",
            "NASNetMobile",
        )
    },
    "Xception": of_keras("Xception", 71),
    "InceptionV3": of_keras("InceptionV3", 75),
    "keras_hub ResNet": of_hub("ResNet", **RESNET, **IMAGE),
    "keras_hub EfficientNet": of_hub("EfficientNet", **EFFICIENT_NET),
    "keras_hub VGG": of_hub("VGG", stackwise_num_repeats=[1, 1], stackwise_num_filters=[8, 8], **IMAGE),
    "keras_hub CSPNet": of_hub(
        "CSPNet",
        stem_filters=8,
        stem_kernel_size=3,
        stem_strides=1,
        stackwise_num_filters=[8, 16],
        stackwise_strides=[1, 2],
        stackwise_depth=[1, 1],
        stage_type="dark",
        block_type="dark_block",
        bottle_ratio=[1.0],
        block_ratio=[1.0],
        expand_ratio=[1.0],
    ),
    "keras_hub ViT": of_hub("ViT", **VIT, **IMAGE),
}


def try_out(name: str) -> Conversion:
    """Converts the classifier of a name, and tries what one does with an ensemble."""
    classifier = MODELS[name]()
    random = np.random.default_rng(0)
    shape = None if None not in classifier.inputs[0].shape[1:] else (32, 32, 3)
    images = random.uniform(0, 255, (32, *(shape or classifier.input_shape[1:]))).astype("float32")
    _as_if_trained(classifier, images)
    images = images[:4]
    model = mixmo_keras.from_classifier(classifier, input_shape=shape, seed=0, verbose=False)
    expected = _probabilities(classifier, images)
    if np.ptp(expected, axis=0).max() < 1e-3:
        raise ValueError(f"{name} answers all images alike: that its ensemble does so too says nothing.")
    fused = model.fused()
    stem_fused = not any(layer.name == "mixing_block" for layer in fused.layers)
    errors = [float(np.abs(_softmax(one.predict(images, verbose=0)) - expected).max()) for one in (model, fused)]
    logits = model.predict(images, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        loaded = keras.models.load_model(f"{folder}/model.keras", compile=False).predict(images, verbose=0)
        model.export(f"{folder}/exported")
        served = tf.saved_model.load(f"{folder}/exported/1").signatures["serving_default"]
        exported = served(tf.constant(images))["probabilities"].numpy()
    written = [float(np.abs(one - _softmax(logits)).max()) for one in (_softmax(loaded), exported)]
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(1e-3), run_eagerly=True)  # a step: tracing it would take minutes
    model.fit(images, np.arange(4) % model.num_classes, verbose=0)
    trained = any(not np.array_equal(one, other) for one, other in zip(before, model.get_weights(), strict=True))
    return Conversion(name, errors[0], errors[1], written[0], written[1], stem_fused, trained)


def _as_if_trained(classifier: keras.Model, images: np.ndarray) -> None:
    """Gives batch norm the statistics of images, without which nets of random weights answer all images alike."""
    norms = [one for one in keras_internals.flatten_layers(classifier) if isinstance(one, layers.BatchNormalization)]
    frozen = [norm for norm in norms if not norm.trainable]
    for norm in norms:
        norm.trainable, norm.momentum = True, 0.0
    classifier(images, training=True)
    for norm in frozen:
        norm.trainable = False


def _softmax(logits) -> np.ndarray:
    return keras.ops.convert_to_numpy(keras.ops.softmax(logits))


def _probabilities(classifier: keras.Model, images: np.ndarray) -> np.ndarray:
    """(n, K) of a classifier that gives logits, probabilities or one sigmoid."""
    answers = keras.ops.convert_to_numpy(classifier(images, training=False))
    if answers.shape[1] == 1:
        return np.concatenate([1 - answers, answers], axis=1)
    return answers if np.allclose(answers.sum(1), 1, atol=1e-4) else _softmax(answers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="NAME")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/classifiers.md")
    options = parser.parse_args()
    rows = []
    for name in options.models:
        with warnings.catch_warnings():
            # keras_hub's own
            warnings.filterwarnings("ignore", message=r".compile\(\). was not called as part of model loading")
            one = try_out(name)
        errors = (one.error, one.fused_error, one.loaded_error, one.exported_error)
        yes = ["yes" if value else "no" for value in (one.stem_fused, one.trained)]
        rows.append([name, *(f"{error:.0e}" for error in errors), *yes])
        print("  ".join(rows[-1]), flush=True)
        keras.utils.clear_session()
    header = ["classifier", "ensemble", "fused", "loaded", "exported", "one stem at export", "trains"]
    if options.docs:
        pages.write("classifiers.md", {"conversions": tables.markdown(header, rows)})


if __name__ == "__main__":
    main()
