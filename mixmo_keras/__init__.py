"""Multi-input multi-output ensembles for Keras: an ensemble's accuracy and uncertainty at the price of one network."""

import importlib
from typing import TYPE_CHECKING

from mixmo_keras.common import with_keras
from mixmo_keras.version import __version__

if TYPE_CHECKING:
    from mixmo_keras import datasets, evaluation, metrics
    from mixmo_keras.evaluation import corruptions, plots, report
    from mixmo_keras.experiments import pilot, search
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
    from mixmo_keras.serving import export
    from mixmo_keras.training import checkpoints, distribution, losses, schedules
    from mixmo_keras.training.co_training import CoTraining
    from mixmo_keras.training.fine_tuning import FineTuning
    from mixmo_keras.training.objective import L2
    from mixmo_keras.training.sharpness import SAM
    from mixmo_keras.training.weight_averaging import SwapAveragedWeights

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

# where the names are, which come with Keras
_OBJECTS = {
    "L2": "training.objective",
    "MIMO": "models.methods",
    "MSDA": "mixing.msda",
    "Batching": "mixing.batch",
    "CoSub": "models.methods",
    "CoTraining": "training.co_training",
    "CutMixMo": "models.methods",
    "DeepEnsemble": "models.deep_ensemble",
    "DropPath": "networks.stochastic_depth",
    "FineTuning": "training.fine_tuning",
    "LinearMixMo": "models.methods",
    "MixMo": "models.mixmo",
    "Mixing": "mixing.mixing",
    "MixingBlock": "networks.layers",
    "MultiEncoder": "networks.layers",
    "MultiHead": "networks.layers",
    "SAM": "training.sharpness",
    "SingleNetwork": "models.methods",
    "StochasticDepth": "networks.stochastic_depth",
    "SwapAveragedWeights": "training.weight_averaging",
    "from_classifier": "models.from_classifier",
    "load_reference_checkpoint": "models.reference_checkpoints",
    "save_reference_checkpoint": "models.reference_checkpoints",
}
_MODULES = {
    "augmentation": "mixing.augmentation",
    "backbones": "networks.backbones",
    "calibration": "metrics.calibration",
    "checkpoints": "training.checkpoints",
    "distribution": "training.distribution",
    "losses": "training.losses",
    "masks": "mixing.masks",
    "metrics": "metrics",
    "policies": "mixing.policies",
    "schedules": "training.schedules",
    "uncertainty": "metrics.uncertainty",
}
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
_WITHOUT_KERAS = ("common", "experiments", "version")


def __getattr__(name: str):
    if name.startswith("_") or name in _WITHOUT_KERAS:
        raise AttributeError(f"module 'mixmo_keras' has no attribute {name!r}")
    for places in (_MODULES, _ON_FIRST_USE):
        if name in places:
            return importlib.import_module(f"mixmo_keras.{places[name]}")
    if name in _OBJECTS:
        return getattr(importlib.import_module(f"mixmo_keras.{_OBJECTS[name]}"), name)
    raise AttributeError(f"module 'mixmo_keras' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _import_all() -> None:
    """Imports what Keras has to know where it loads a model."""
    for place in (*_OBJECTS.values(), *_MODULES.values()):
        importlib.import_module(f"mixmo_keras.{place}")


with_keras.follow(_import_all, _WITHOUT_KERAS)
