"""A method's model on a backbone as command lines name it: a named network, a classifier's file, or a library's network."""

import dataclasses
from typing import Any

import keras

from mixmo_keras.common import trained
from mixmo_keras.common.console import say
from mixmo_keras.models.from_classifier import from_classifier, learning_rate, loaded, parts_of
from mixmo_keras.models.methods import METHODS, AnyBackbone
from mixmo_keras.models.mixmo import MixMo
from mixmo_keras.networks.backbones import libraries
from mixmo_keras.networks.copying import dtype_policy
from mixmo_keras.tasks import resolve
from mixmo_keras.training import schedules


def is_trained(backbone: Any) -> bool:
    """Whether a backbone was trained before, by its name."""
    return trained.is_file(backbone) or trained.is_of_a_library(backbone)


def schedule(backbone: Any, images_a_step: float) -> schedules.ProgressSchedule:
    """Half a cosine for so many images a step, at the rate of further training of what was trained before."""
    published = schedules.PUBLISHED["cosine"]
    if is_trained(backbone):
        published = dataclasses.replace(published, rate=learning_rate(trained.keeps_its_rate(backbone)))
    return published.of(images_a_step)


def model_of(
    method: str,
    backbone: AnyBackbone,
    *,
    pretrained: bool = True,
    encoder_noise: float | None = None,
    verbose: bool = True,
    **options,
) -> MixMo:
    """A model of a method.

    Args:
        method: A name in `METHODS`.
        backbone: The name of a network, such as `"wrn16_2"`; the path of a classifier's `.keras` file;
            `"efficientnet_lite0"`, `"keras:NAME"` or `"hub:PRESET"`, see `networks.backbones.libraries`; or what else
            methods take.
        pretrained: Whether a library's network has its weights. It begins anew otherwise, encoders and all.
        encoder_noise: As in `from_classifier`, of what was trained already. Defaults to its default.
        verbose: Whether to print what was found in a trained one and done with it.
        **options: Of the method, such as `num_classes` or `task`; where a file knows other ones, heads begin anew;
            `input_shape`, and `normalization`, which backbones with preprocessing of their own do without.

    Raises:
        ValueError: no such backbone, or what the method refuses.
    """
    if not is_trained(backbone):
        return METHODS[method](backbone, **options)
    options = {name: value for name, value in options.items() if name != "normalization"}
    task, input_shape = resolve(options.pop("task", None), options.pop("num_classes", None)), options.get("input_shape")
    of_trained: dict[str, Any] = {"verbose": verbose}
    of_trained |= {} if encoder_noise is None else {"encoder_noise": encoder_noise}
    dtype, num_classes = options.pop("dtype", None), len(task.names(None))
    if trained.is_file(backbone):
        of_trained |= {} if dtype in (None, "float32") else {"dtype": dtype}  # the classifier has its own
        classifier = loaded(str(backbone))
        if task.why_only_classes():
            of_trained["task"] = task
        elif known := other_classes(classifier, num_classes):
            of_trained["num_classes"] = num_classes
            if verbose:
                say(f"{backbone} knows {known} classes; the images have {num_classes}: its heads begin anew")
        return from_classifier(classifier, method=method, **of_trained, **options)
    with dtype_policy(dtype):
        network = libraries.network(str(backbone), max(num_classes, 2), input_shape, pretrained, options.get("seed"))
    if pretrained:
        return from_classifier(network, method=method, task=task, **of_trained, **options)
    if encoder_noise is not None:
        raise ValueError("`encoder_noise` has no meaning for a network that begins anew, which pretrained=False says.")
    parts = parts_of(network, input_shape).backbone
    return METHODS[method](parts, task=task, normalization=None, **options)


def other_classes(classifier: keras.Model, num_classes: int) -> int | None:
    """Returns the number of classes that a classifier knows, if it is another than that of the images, else `None`."""
    outputs = classifier.output_shape
    known = outputs[-1] if isinstance(outputs, tuple) and len(outputs) == 2 else None
    known = 2 if known == 1 else known  # by a sigmoid
    return None if known == num_classes else known
