"""Backbones by name: one table, and `get`, which takes whatever a model's `backbone` may be."""

import inspect
import re
from collections.abc import Callable, Mapping

import keras

from mixmo_keras.common import arguments
from mixmo_keras.networks.backbones.airbench import airbench
from mixmo_keras.networks.backbones.backbone import Backbone
from mixmo_keras.networks.backbones.convnext import convnext
from mixmo_keras.networks.backbones.efficientnet_lite import efficientnet_lite
from mixmo_keras.networks.backbones.pit import pit
from mixmo_keras.networks.backbones.preact_resnet import preact_resnet
from mixmo_keras.networks.backbones.regnet import regnety
from mixmo_keras.networks.backbones.resnet import resnet
from mixmo_keras.networks.backbones.split import split
from mixmo_keras.networks.backbones.swin import swin
from mixmo_keras.networks.backbones.vit import deit3, vit
from mixmo_keras.networks.backbones.wide_resnet import wide_resnet
from mixmo_keras.networks.backbones.xcit import xcit
from mixmo_keras.networks.stochastic_depth import DropPath

# how a name is written, with the function's arguments in <>: the function
FAMILIES: dict[str, Callable[..., Backbone]] = {
    "wrn<depth>_<width>": wide_resnet,
    "wrn<depth>_<width>_stride_<stride_on>": wide_resnet,
    "preact_resnet<depth>_<width>": preact_resnet,
    "resnet<depth>": resnet,
    "vit_<size><patch>": vit,
    "deit3_<size><patch>": deit3,
    "convnext_<size>": convnext,
    "swin_<size>": swin,
    "regnety_<flops>": regnety,
    "pit_<size>": pit,
    "xcit_<size><depth>_<patch>": xcit,
    "airbench<width>": airbench,
    "efficientnet_lite<version>": efficientnet_lite,
}


def get(
    backbone: str | Backbone | keras.Model,
    input_shape: tuple[int, int, int] | None,
    seed: int | None,
    drop_path: DropPath | float = 0.0,
) -> Backbone:
    """Returns the backbone of a name or of a Keras model; a `Backbone` is checked and returned as it is.

    Args:
        backbone: A name such as `"wrn28_10"`, a `Backbone`, or a functional Keras model, which is split behind its first
            convolution (`split` cuts it elsewhere).
        input_shape: (H, W, C) of the images. For a name, `None` means its function's default: CIFAR's (32, 32, 3) for
            `wide_resnet`, `vit` and `airbench`, Tiny ImageNet's (64, 64, 3) for `preact_resnet`, ImageNet's (224, 224, 3)
            for the others, with 240 and 260 pixels for `efficientnet_lite1` and `2`.
            For anything else it is the network's, and naming another raises.
        seed: Integer from which a named backbone's initial weights follow.
        drop_path: Stochastic depth of a named backbone. Any other brings its own.

    Raises:
        ValueError: no such name, no backbone, another image shape, or `drop_path` for a backbone that is built already.
    """
    drop_path = DropPath.of(drop_path)
    if input_shape is not None:
        input_shape = arguments.image_shape("input_shape", input_shape)
    if isinstance(backbone, str):
        function, sizes = parse(backbone)
        shape = {} if input_shape is None else {"input_shape": input_shape}
        return function(**sizes, **shape, seed=seed, drop_path=drop_path)
    expected = "a name, a functional Keras model or a mixmo_keras.backbones.Backbone"
    arguments.instance("backbone", backbone, (keras.Model, Backbone), expected)
    if drop_path.rate:
        raise ValueError(
            f"`drop_path` (={drop_path.rate}) is for a named backbone: build yours with it, such as "
            "backbones.wide_resnet(28, 10, drop_path=0.2), or with `StochasticDepth` layers."
        )
    if isinstance(backbone, keras.Model):
        backbone = split(backbone, input_shape=input_shape)
    if input_shape is not None and input_shape != backbone.input_shape:
        raise ValueError(
            f"`input_shape` (={input_shape}) differs from the backbone's, {backbone.input_shape}. "
            "Leave `input_shape` out, or build the backbone for it."
        )
    return backbone


def policy(dtype, backbone):
    """The dtype policy to build under: the backbone's own, if it has one."""
    if not isinstance(backbone, Backbone):
        return dtype
    if dtype is not None and keras.dtype_policies.get(dtype).name != backbone.dtype_policy.name:
        raise ValueError(
            f"`dtype` (={dtype!r}) differs from the policy the backbone was built under, {backbone.dtype_policy.name!r}. "
            "Leave `dtype` out, or build the backbone under that policy: keras.config.set_dtype_policy."
        )
    return backbone.dtype_policy


def parse(name: str) -> tuple[Callable[..., Backbone], dict[str, int | str]]:
    """Returns the function of a backbone's name and the sizes that the name says, the function's arguments."""
    if (found := _parsed(name)) is not None:
        return found
    in_small = re.sub(r"[-\s_]+", "_", name.lower())  # WRN-28-10 and ViT-Tiny/4 are names in papers
    likely = (in_small, re.sub(r"(?<=[a-z])_(?=\d)|/", "", in_small))
    meant = next((f" Do you mean {one!r}?" for one in likely if _parsed(one) is not None), "")
    raise ValueError(
        f"Unknown backbone: {name!r}.{meant} Known names: {', '.join(FAMILIES)}, such as wrn28_10, resnet50, vit_tiny4, "
        "convnext_tiny, xcit_small12_16 and airbench64."
    )


def _parsed(name: str) -> tuple[Callable[..., Backbone], dict[str, int | str]] | None:
    for form, function in FAMILIES.items():
        parameters = inspect.signature(function).parameters
        if match := re.fullmatch(_pattern(form, parameters), name):
            return function, {key: parameters[key].annotation(value) for key, value in match.groupdict().items()}
    return None


def _pattern(form: str, parameters: Mapping[str, inspect.Parameter]) -> str:
    """The regular expression of a family's names: digits for an integer, the fewest letters and digits for a string."""
    written = {int: r"\d+", str: "[a-z0-9_]+?"}
    return re.sub(r"<(\w+)>", lambda name: f"(?P<{name[1]}>{written[parameters[name[1]].annotation]})", form)
