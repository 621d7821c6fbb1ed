"""Multi-input multi-output ensembles for Keras: an ensemble's accuracy and uncertainty at the price of one network."""

import importlib
from typing import TYPE_CHECKING

from mixmo_keras import (
    augmentation,
    backbones,
    calibration,
    checkpoints,
    losses,
    masks,
    metrics,
    schedules,
    uncertainty,
)
from mixmo_keras.ensembles import DeepEnsemble
from mixmo_keras.interop import load_reference_checkpoint, save_reference_checkpoint
from mixmo_keras.layers import MixingBlock, MultiEncoder, MultiHead
from mixmo_keras.mixing import Mixing
from mixmo_keras.models import MIMO, CoSub, CutMixMo, LinearMixMo, MixMo, SingleNetwork
from mixmo_keras.msda import MSDA
from mixmo_keras.stochastic_depth import StochasticDepth

if TYPE_CHECKING:
    from mixmo_keras import datasets, distribution, export, plots

__version__ = "0.1.0"

__all__ = [
    "MIMO",
    "MSDA",
    "CoSub",
    "CutMixMo",
    "DeepEnsemble",
    "LinearMixMo",
    "MixMo",
    "Mixing",
    "MixingBlock",
    "MultiEncoder",
    "MultiHead",
    "SingleNetwork",
    "StochasticDepth",
    "augmentation",
    "backbones",
    "calibration",
    "checkpoints",
    "datasets",
    "distribution",
    "export",
    "load_reference_checkpoint",
    "losses",
    "masks",
    "metrics",
    "plots",
    "save_reference_checkpoint",
    "schedules",
    "uncertainty",
]


def __getattr__(name: str):
    # on first use: they import TensorFlow or matplotlib, which training on the JAX backend does without
    if name in ("datasets", "distribution", "export", "plots"):
        return importlib.import_module(f"mixmo_keras.{name}")
    raise AttributeError(f"module 'mixmo_keras' has no attribute {name!r}")
