"""What a person who serves a model should know, in Markdown beside it."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from mixmo_keras import multiplexing
from mixmo_keras.version import __version__, commit

LIMITS = (
    "- Its figures hold for images like those it was tested on.\n"
    "- Of encoded images that have another aspect ratio the middle is taken.\n"
    "- Encoded images of more than {max_pixels:,} pixels are refused before they are decoded."
)


def model_card(model, class_names: Sequence[str], sections: Mapping[str, Any], max_pixels: int, views: int) -> str:
    """The card of a model: what it takes and gives, sections of its own, its limits, and the versions it was made with.

    Args:
        model: A `MixMo` or a `DeepEnsemble`.
        class_names: The names of the classes, or of what else the task predicts, in their order.
        sections: Headings to texts, or to mappings of names to values.
        max_pixels: Number of pixels of an encoded image, at most.
        views: Of each image, whose mean answer is given.
    """
    parts = [f"# {model.name}", _summary(model, class_names), _properties(model, views)]
    for heading, content in sections.items():
        parts += [f"## {heading}", _table(content) if isinstance(content, Mapping) else str(content)]
    of_task = "".join(f"- {limit}\n" for limit in model.task.limits())
    limits = of_task + LIMITS.format(max_pixels=max_pixels) + multiplexing.serving.limits(model)
    parts += ["## Limits", limits, "## Versions", _versions()]
    return "\n\n".join(parts) + "\n"


def _summary(model, class_names: Sequence[str]) -> str:
    height, width, channels = model.image_shape
    members = f"an ensemble of {model.num_members} members" if model.num_members > 1 else "a single network"
    images = f"images of {height}×{width} pixels and {channels} channel{'s' if channels > 1 else ''}"
    return f"{model.task.summary(images, class_names)} It is {members} with {model.count_params():,} parameters."


def _properties(model, views: int) -> str:
    shape = ", ".join(map(str, model.image_shape))
    properties = {
        "input": f"raw pixels, 0 to 255, ({shape}); or image files of any size (`serving_bytes`)",
        "output": model.task.outputs_in_words,
        "averaging": model.average.averaging,
        "temperature": _temperature(model.temperature),
    }
    if (threshold := getattr(model.average, "threshold", None)) is not None:
        properties["threshold"] = f"the second class from a probability of {threshold:.4g} on"
    of_views = {"views of an image": f"{views}, in as many passes"} if views > 1 else {}
    return _table(properties | of_views | multiplexing.serving.card_properties(model))


def _temperature(value: float) -> str:
    return f"{value:g}{'' if value != 1 else ' (not calibrated)'}"


def _table(values: Mapping[str, Any]) -> str:
    texts = {name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in values.items()}
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in texts.items())])


def _versions() -> str:
    versions = [f"mixmo_keras {__version__}", f"Keras {keras.__version__}", f"TensorFlow {tf.__version__}"]
    if checkout := commit():
        versions.append(f"commit {checkout}")
    return ", ".join(versions)
