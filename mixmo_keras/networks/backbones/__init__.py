"""Networks as two parts, an encoder and a core: by name, by function, or any functional Keras model, cut at a layer.

A backbone function has the signature `backbone(..., input_shape, seed) -> Backbone`. To add one, write its file here and
list its name pattern in `_FAMILIES`.
"""

import re

import keras

from mixmo_keras.networks.backbones.backbone import Backbone
from mixmo_keras.networks.backbones.preact_resnet import preact_resnet
from mixmo_keras.networks.backbones.resnet import resnet
from mixmo_keras.networks.backbones.split import split
from mixmo_keras.networks.backbones.vit import vit
from mixmo_keras.networks.backbones.wide_resnet import wide_resnet

__all__ = ["Backbone", "get", "preact_resnet", "resnet", "split", "vit", "wide_resnet"]

# name pattern, whose groups are the function's arguments; function; how to write the name
_FAMILIES = (
    (r"wrn(?P<depth>\d+)_(?P<width>\d+)", wide_resnet, "wrn<depth>_<width> (such as wrn28_10 or wrn16_2)"),
    (
        r"preact_resnet(?P<depth>\d+)_(?P<width>\d+)",
        preact_resnet,
        "preact_resnet<depth>_<width> (such as preact_resnet18_2)",
    ),
    (r"resnet(?P<depth>\d+)", resnet, "resnet<depth> (such as resnet50)"),
    (r"vit_(?P<size>[a-z]+)(?P<patch>\d+)", vit, "vit_<size><patch> (such as vit_tiny4)"),
)


def get(
    backbone: str | Backbone | keras.Model,
    input_shape: tuple | None,
    seed: int,
    split_at: str | None = None,
    drop_path: float = 0.0,
    efficient_drop_path: bool = False,
) -> Backbone:
    """The backbone of a name or of a Keras model, or the one given, checked against `input_shape`.

    Args:
        backbone: a name such as `"wrn28_10"`, a `Backbone`, or a functional Keras model to split.
        input_shape: (H, W, C). For a name, `None` means its function's default: CIFAR's (32, 32, 3), Tiny ImageNet's
            (64, 64, 3) for `preact_resnet`, ImageNet's (224, 224, 3) for `resnet`; for a `Backbone`, its own.
        seed: from which a named backbone's initial weights follow.
        split_at: the layer at which to split a Keras model; `None` for the first convolution. See `split`.
        drop_path: rate of stochastic depth in every block of a named backbone.
        efficient_drop_path: whether its branches are computed for the rows alone that keep them.
    """
    if isinstance(backbone, keras.Model):
        backbone = split(backbone, split_at)
    elif split_at is not None:
        raise ValueError(f"`split_at` (={split_at!r}) is for a Keras model as the backbone, got {backbone!r}.")
    if (drop_path or efficient_drop_path) and not isinstance(backbone, str):
        option = f"`drop_path` (={drop_path})" if drop_path else "`efficient_drop_path`"
        raise ValueError(
            f"{option} is for a named backbone: build yours with it, such as backbones.wide_resnet(28, 10, drop_path=0.2), "
            "or with `StochasticDepth` layers."
        )
    if isinstance(backbone, Backbone):
        if input_shape is not None and tuple(input_shape) != backbone.input_shape:
            raise ValueError(
                f"`input_shape` (={tuple(input_shape)}) differs from the backbone's own, {backbone.input_shape}. "
                "Leave `input_shape` out, or build the backbone for it."
            )
        return backbone
    if isinstance(backbone, str):
        if input_shape is not None and len(input_shape) != 3:
            raise ValueError(f"`input_shape` must be (height, width, channels), got {tuple(input_shape)}.")
        for pattern, function, _ in _FAMILIES:
            if match := re.fullmatch(pattern, backbone):
                sizes: dict = {
                    name: int(value) if value.isdigit() else value for name, value in match.groupdict().items()
                }
                dropped: dict = dict(drop_path=drop_path, efficient_drop_path=efficient_drop_path)
                given: dict = {} if input_shape is None else {"input_shape": tuple(input_shape)}
                return function(**sizes, **given, seed=seed, **dropped)
        known = "; ".join(form for _, _, form in _FAMILIES)
        raise ValueError(f"Unknown backbone: {backbone!r}. Known names: {known}.")
    raise TypeError(
        "`backbone` must be a name, a functional Keras model or a mixmo_keras.backbones.Backbone, got "
        f"{type(backbone).__name__}."
    )
