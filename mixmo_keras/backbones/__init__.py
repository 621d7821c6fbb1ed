"""Networks as two parts, an encoder and a core, by name or by function.

A backbone function has the signature `backbone(..., input_shape, seed) -> Backbone`. To add one, write its file here and
list its name pattern in `_FAMILIES`.
"""

import re

from mixmo_keras.backbones.backbone import Backbone
from mixmo_keras.backbones.preact_resnet import preact_resnet
from mixmo_keras.backbones.wide_resnet import wide_resnet

__all__ = ["Backbone", "get", "preact_resnet", "wide_resnet"]

# name pattern, whose groups are the function's arguments; function; how to write the name
_FAMILIES = (
    (r"wrn(?P<depth>\d+)_(?P<width>\d+)", wide_resnet, "wrn<depth>_<width> (such as wrn28_10 or wrn16_2)"),
    (
        r"preact_resnet(?P<depth>\d+)_(?P<width>\d+)",
        preact_resnet,
        "preact_resnet<depth>_<width> (such as preact_resnet18_2)",
    ),
)


def get(backbone: str | Backbone, input_shape: tuple | None, seed: int) -> Backbone:
    """The backbone of a name, or the one given, checked against `input_shape`.

    Args:
        backbone: a name such as `"wrn28_10"`, or a `Backbone`.
        input_shape: (H, W, C). For a name, `None` means its paper's: CIFAR's (32, 32, 3), or Tiny ImageNet's (64, 64, 3) for
            `preact_resnet`; for a `Backbone`, its own.
        seed: from which a named backbone's initial weights follow.
    """
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
                sizes: dict = {name: int(value) for name, value in match.groupdict().items()}
                given: dict = {} if input_shape is None else {"input_shape": tuple(input_shape)}
                return function(**sizes, **given, seed=seed)
        known = "; ".join(form for _, _, form in _FAMILIES)
        raise ValueError(f"Unknown backbone: {backbone!r}. Known names: {known}.")
    raise TypeError(f"`backbone` must be a name or a mixmo_keras.backbones.Backbone, got {type(backbone).__name__}.")
