"""Networks as two parts, an encoder and a core: by name, by function, or any functional Keras model, cut at a layer.

A backbone function has the signature `backbone(..., input_shape, seed, drop_path) -> Backbone`. To add one, write its file
here and list it in `names.FAMILIES`.
"""

from mixmo_keras.networks.backbones.airbench import airbench
from mixmo_keras.networks.backbones.backbone import Backbone
from mixmo_keras.networks.backbones.names import get, policy
from mixmo_keras.networks.backbones.preact_resnet import preact_resnet
from mixmo_keras.networks.backbones.resnet import resnet
from mixmo_keras.networks.backbones.split import split
from mixmo_keras.networks.backbones.vit import vit
from mixmo_keras.networks.backbones.wide_resnet import wide_resnet

__all__ = ["Backbone", "airbench", "get", "policy", "preact_resnet", "resnet", "split", "vit", "wide_resnet"]
