"""Multi-input multi-output ensembles for Keras: an ensemble's accuracy and uncertainty at the price of one network."""

from mixmo_keras import backbones, masks
from mixmo_keras.layers import MixingBlock, MultiEncoder, MultiHead
from mixmo_keras.mixing import Mixing
from mixmo_keras.models import CutMixMo, LinearMixMo, MixMo, SingleNetwork

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
    "backbones",
    "masks",
]
