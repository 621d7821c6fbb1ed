"""Writes an ensemble in a format: a SavedModel with all signatures, or what Keras exports."""

from pathlib import Path
from typing import Any

import keras
import numpy as np

from mixmo_keras.common import arguments
from mixmo_keras.networks.copying import in_float32
from mixmo_keras.networks.fusing import fused_views
from mixmo_keras.networks.views import views_of
from mixmo_keras.serving import versions
from mixmo_keras.training import incidents


def export(
    model,
    filepath,
    format: str,
    class_names,
    card,
    overwrite: bool,
    verbose: bool,
    multiplexed: bool,
    max_pixels,
    views: int,
    quantize: str | None = None,
    representative=None,
    **options,
) -> Path:
    """Writes `model`; arguments, result and errors as `Ensemble.export` says them."""
    if format in ("tf_saved_model", "litert") and keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"format={format!r} is written by TensorFlow, and Keras runs on {keras.backend.backend()!r}: save the model as "
            "a .keras file, and load and export it where the environment variable KERAS_BACKEND is tensorflow."
        )
    if name := incidents.unsound_weight(model):
        raise ValueError(f"The model's weights must be finite to be exported, got NaN or infinite ones in {name}.")
    views = views_of(model, views)
    if quantize is not None or representative is not None:
        options |= _in_eight_bits(model, format, quantize, representative)
    if format == "tf_saved_model":
        if multiplexed:
            raise ValueError("`multiplexed` is for other formats: a SavedModel has both signatures.")
        if options:
            raise ValueError(f"Options not used by format='tf_saved_model': {', '.join(options)}.")
        from mixmo_keras.serving.export import export  # needs TensorFlow

        limit = {} if max_pixels is None else {"max_pixels": max_pixels}
        return export(model, filepath, class_names, card, overwrite, verbose, views=views, **limit)
    given = dict(class_names=class_names, card=card, max_pixels=max_pixels)
    if unused := [f"`{name}`" for name, value in given.items() if value]:
        raise ValueError(f"{', '.join(unused)} applies to format='tf_saved_model', got format={format!r}.")
    if arguments.boolean("multiplexed", multiplexed) and views > 1:
        raise ValueError(f"`views` (={views}) can't be combined with multiplexed=True.")
    with versions.replacing_file(filepath, format, arguments.boolean("overwrite", overwrite)) as path:
        network = model.multiplexed() if multiplexed else fused_views(model, views)
        network = in_float32(network)  # LiteRT and ONNX Runtime have few operations in half precision
        network(np.zeros((1, *model.image_shape), "float32"))  # Keras exports what was called before only
        network.export(str(path), format=format, verbose=verbose, **options)
    return Path(filepath)


def _in_eight_bits(model, format: str, quantize: str | None, representative) -> dict[str, Any]:
    """Options of Keras' LiteRT export: weights in 8 bits, activations too, whose ranges are those for given images."""
    if format != "litert":
        raise ValueError(f"`quantize` and `representative` apply to format='litert', got format={format!r}.")
    arguments.choice("quantize", quantize, ("int8",))
    if representative is None:
        raise ValueError(
            "quantize='int8' needs `representative`, some hundred training images (n, H, W, C) as raw pixels: the ranges of "
            "the network's activations are measured on them."
        )
    images = np.asarray(representative, "float32")
    if images.ndim != 4 or not len(images) or images.shape[1:] != tuple(model.image_shape):
        expected = ", ".join(map(str, model.image_shape))
        raise ValueError(f"`representative` must be images (n, {expected}), one at least, got shape {images.shape}.")
    import tensorflow as tf  # what Keras exports LiteRT by

    return dict(
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=lambda: ([image[None]] for image in images),
    )
