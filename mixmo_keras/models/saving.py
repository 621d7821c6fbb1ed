"""Saving a model: what is refused before a file is touched, and a file that is whole or not there."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from mixmo_keras import keras_internals
from mixmo_keras.common import files
from mixmo_keras.models import changes
from mixmo_keras.training import compiling

_LEGACY = (".h5", ".hdf5")
_WEIGHTS = ".weights.h5"


def save(model, filepath, overwrite=True, zipped=None, **options) -> None:
    """Saves a model, as `keras.Model.save`: whole or not at all. `.h5` and quantized layers raise a `ValueError`."""
    check(model, filepath)
    with whole(filepath, ".keras", overwrite) as path:
        keras.Model.save(model, path, overwrite=overwrite, zipped=zipped, **options)


def save_weights(model, filepath, overwrite=True, **options) -> None:
    """Saves a model's weights, as `keras.Model.save_weights`: whole or not at all."""
    with whole(filepath, ".weights.h5", overwrite and not options) as path:
        keras.Model.save_weights(model, path, overwrite=overwrite, **options)


def check(model, path: Any) -> None:
    """Raises `ValueError` where a model can't be saved: in the format that a path names, or because of quantized layers."""
    if str(path).endswith(_LEGACY):
        raise ValueError(
            f"A model of mixmo_keras is saved as a .keras file, got {path}: Keras' old .h5 format can't hold it. Pass a "
            "path that ends in .keras; weights alone are saved by save_weights, as .weights.h5."
        )
    if quantized := [layer.name for layer in keras_internals.flatten_layers(model) if layer.quantization_mode]:
        raise ValueError(
            f"A model with quantized layers ({', '.join(quantized)}) can't be saved: it is built anew without them when it "
            "is loaded. Save the model before, and quantize model.fused(), which Keras saves."
        )


def compile_config(model) -> dict[str, Any]:
    """The options of a `MixMo`'s `compile` that Keras does not know, and the weights that its optimizer was built for."""
    own = {name: getattr(model, name) for name in compiling.OWN}
    own |= {"optimizer_weights": changes.weights_of_optimizer(model), "own_step": OwnStep()}
    return {name: keras.saving.serialize_keras_object(value) for name, value in own.items()}


def options_of_compile(model, config: dict) -> tuple[dict, list]:
    """The options of `compile`, of `compile_config` and Keras' own; and the weights of the optimizer, none for all."""
    options = keras.saving.deserialize_keras_object({key: config[key] for key in config.keys() - {"own_step"}})
    weights = changes.weights_by_number(model, options.pop("optimizer_weights", None) or {})
    if not model.core.trainable_weights:  # it was frozen after `compile`
        options.pop("fine_tuning", None)
    return options, weights


@keras.saving.register_keras_serializable("mixmo_keras")
class OwnStep:
    """Stands among what a model was compiled with, for other models: they can't be compiled by it."""

    def get_config(self) -> dict:
        return {}

    @classmethod
    def from_config(cls, config: dict):
        raise ValueError(
            "keras.models.clone_model makes a plain network of the layers, without a mixmo_keras model's training step. "
            "type(model).from_config(model.get_config()) makes a new one, copy.deepcopy(model) a copy."
        )


@contextlib.contextmanager
def whole(path: Any, suffix: str, overwrite: bool = True) -> Iterator[Any]:
    """The path for Keras to write a file to: beside its place, which it takes when the block ends.

    It is the path itself where that is no local file of this suffix, or where Keras is to ask whether to overwrite it.
    """
    local = isinstance(path, (str, os.PathLike)) and "://" not in str(path) and str(path).endswith(suffix)
    if not local or not Path(path).parent.is_dir() or (Path(path).exists() and not overwrite):
        yield path
        return
    with files.replacing(os.path.realpath(path)) as beside:  # the file that a link leads to, not the link
        yield str(beside)


def refuse_to_quantize(*_, **__) -> None:
    """In the place of `keras.Model.quantize`."""
    raise ValueError(
        "A model of mixmo_keras can't be quantized in place: it would train no more, and its file could not be loaded. Use "
        'a copy for inference: network = model.fused(), and network.quantize("int8").'
    )
