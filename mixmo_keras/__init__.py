"""Multi-input multi-output ensembles for Keras: an ensemble's accuracy and uncertainty at the price of one network."""

import importlib

from mixmo_keras.common import start_up

with start_up.quiet():
    import keras  # noqa: F401  here, so that TensorFlow prints no notes about the machine

# `keras.models.load_model` finds the classes that were registered: what registers some is imported here
from mixmo_keras import metrics, tasks
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
from mixmo_keras.training import checkpoints, distribution, losses, precision, schedules
from mixmo_keras.training.co_training import CoTraining
from mixmo_keras.training.fine_tuning import FineTuning
from mixmo_keras.training.lookahead import Lookahead
from mixmo_keras.training.objective import L2
from mixmo_keras.training.sharpness import SAM
from mixmo_keras.training.weight_averaging import SwapAveragedWeights
from mixmo_keras.version import __version__

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
    "FineTuning",
    "LinearMixMo",
    "Lookahead",
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
    "precision",
    "report",
    "save_reference_checkpoint",
    "schedules",
    "search",
    "tasks",
    "uncertainty",
]

# imported when they are first used: they need TensorFlow, which training on the JAX backend does without, KerasTuner or
# matplotlib
_MODULES_ON_FIRST_USE = {
    "corruptions": "mixmo_keras.evaluation.corruptions",
    "datasets": "mixmo_keras.datasets",
    "evaluation": "mixmo_keras.evaluation",
    "export": "mixmo_keras.serving.export",
    "pilot": "mixmo_keras.experiments.pilot",
    "plots": "mixmo_keras.evaluation.plots",
    "report": "mixmo_keras.evaluation.report",
    "search": "mixmo_keras.experiments.search",
}


def __getattr__(name: str):
    if name in _MODULES_ON_FIRST_USE:
        return importlib.import_module(_MODULES_ON_FIRST_USE[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
