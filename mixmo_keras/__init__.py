"""Multi-input multi-output ensembles for Keras: an ensemble's accuracy and uncertainty at the price of one network."""

import importlib
from typing import TYPE_CHECKING

from mixmo_keras import augmentation, backbones, losses, masks, schedules
from mixmo_keras.layers import MixingBlock, MultiEncoder, MultiHead
from mixmo_keras.mixing import Mixing
from mixmo_keras.models import CutMixMo, LinearMixMo, MixMo, SingleNetwork

if TYPE_CHECKING:
    from mixmo_keras import datasets, export

__version__ = "0.1.0"

__all__ = [
    "CutMixMo",
    "LinearMixMo",
    "MixMo",
    "Mixing",
    "MixingBlock",
    "MultiEncoder",
    "MultiHead",
    "SingleNetwork",
    "augmentation",
    "backbones",
    "datasets",
    "export",
    "losses",
    "masks",
    "schedules",
]


def __getattr__(name: str):
    if name in ("datasets", "export"):  # on first use: they import TensorFlow, which the JAX backend does without
        return importlib.import_module(f"mixmo_keras.{name}")
    raise AttributeError(f"module 'mixmo_keras' has no attribute {name!r}")
