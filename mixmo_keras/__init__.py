"""Multi-input multi-output ensembles for Keras: an ensemble's accuracy and uncertainty at the price of one network."""

import importlib
from typing import TYPE_CHECKING

from mixmo_keras import metrics
from mixmo_keras.metrics import calibration, uncertainty
from mixmo_keras.mixing import augmentation, masks, policies
from mixmo_keras.mixing.batch import Batching
from mixmo_keras.mixing.mixing import Mixing
from mixmo_keras.mixing.msda import MSDA
from mixmo_keras.models.deep_ensemble import DeepEnsemble
from mixmo_keras.models.from_classifier import from_classifier
from mixmo_keras.models.methods import MIMO, CoSub, CutMixMo, LinearMixMo, SingleNetwork
from mixmo_keras.models.mixmo import MixMo
from mixmo_keras.models.reference_checkpoints import load_reference_checkpoint, save_reference_checkpoint
from mixmo_keras.networks import backbones
from mixmo_keras.networks.layers import MixingBlock, MultiEncoder, MultiHead
from mixmo_keras.networks.stochastic_depth import DropPath, StochasticDepth
from mixmo_keras.training import checkpoints, distribution, losses, schedules
from mixmo_keras.training.co_training import CoTraining
from mixmo_keras.training.objective import L2
from mixmo_keras.training.sharpness import SAM
from mixmo_keras.training.weight_averaging import SwapAveragedWeights
from mixmo_keras.version import __version__

if TYPE_CHECKING:
    from mixmo_keras import datasets, evaluation
    from mixmo_keras.evaluation import corruptions, plots, report
    from mixmo_keras.experiments import pilot, search
    from mixmo_keras.serving import export

__all__ = [
    "L2",
    "MIMO",
    "MSDA",
    "SAM",
    "Batching",
    "CoSub",
    "CoTraining",
    "CutMixMo",
    "DeepEnsemble",
    "DropPath",
    "LinearMixMo",
    "MixMo",
    "Mixing",
    "MixingBlock",
    "MultiEncoder",
    "MultiHead",
    "SingleNetwork",
    "StochasticDepth",
    "SwapAveragedWeights",
    "__version__",
    "augmentation",
    "backbones",
    "calibration",
    "checkpoints",
    "corruptions",
    "datasets",
    "distribution",
    "evaluation",
    "export",
    "from_classifier",
    "load_reference_checkpoint",
    "losses",
    "masks",
    "metrics",
    "pilot",
    "plots",
    "policies",
    "report",
    "save_reference_checkpoint",
    "schedules",
    "search",
    "uncertainty",
]

# on first use: they import TensorFlow, KerasTuner or matplotlib, which training on the JAX backend does without
_ON_FIRST_USE = {
    "corruptions": "evaluation.corruptions",
    "datasets": "datasets",
    "evaluation": "evaluation",
    "export": "serving.export",
    "pilot": "experiments.pilot",
    "plots": "evaluation.plots",
    "report": "evaluation.report",
    "search": "experiments.search",
}


def __getattr__(name: str):
    if name in _ON_FIRST_USE:
        return importlib.import_module(f"mixmo_keras.{_ON_FIRST_USE[name]}")
    raise AttributeError(f"module 'mixmo_keras' has no attribute {name!r}")
