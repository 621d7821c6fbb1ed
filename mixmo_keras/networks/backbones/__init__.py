"""Networks as two parts, an encoder and a core: by name, by function, or any functional Keras model, cut at a layer.

A backbone function has the signature `backbone(..., input_shape, seed, drop_path) -> Backbone`. To add one, write its file
here and list it in `names.FAMILIES`.
"""

from mixmo_keras.networks.backbones.airbench import airbench
from mixmo_keras.networks.backbones.backbone import Backbone
from mixmo_keras.networks.backbones.convnext import convnext
from mixmo_keras.networks.backbones.efficientnet_lite import efficientnet_lite
from mixmo_keras.networks.backbones.names import get, policy
from mixmo_keras.networks.backbones.pit import pit
from mixmo_keras.networks.backbones.preact_resnet import preact_resnet
from mixmo_keras.networks.backbones.regnet import regnet, regnety
from mixmo_keras.networks.backbones.resnet import resnet
from mixmo_keras.networks.backbones.split import split
from mixmo_keras.networks.backbones.swin import swin
from mixmo_keras.networks.backbones.vit import deit3, vit
from mixmo_keras.networks.backbones.wide_resnet import wide_resnet
from mixmo_keras.networks.backbones.xcit import xcit

__all__ = [
    "Backbone",
    "airbench",
    "convnext",
    "deit3",
    "efficientnet_lite",
    "get",
    "pit",
    "policy",
    "preact_resnet",
    "regnet",
    "regnety",
    "resnet",
    "split",
    "swin",
    "vit",
    "wide_resnet",
    "xcit",
]
