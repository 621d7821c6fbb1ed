"""A tiny network of every family of backbones that cosub trains, for tests and for scripts in processes of their own."""

import functools

import numpy as np

from mixmo_keras import backbones
from mixmo_keras.networks.backbones import names

SHAPE, NUM_CLASSES = (16, 16, 3), 5

# name: its function with sizes, which takes `seed` and `drop_path`; and the number of its residual branches
FAMILIES = {
    "deit3": (functools.partial(backbones.deit3, "tiny", 8, SHAPE, depth=1), 2),
    "convnext": (
        functools.partial(backbones.convnext, "tiny", SHAPE, patch=2, depths=(1, 2, 1, 1), widths=(4, 6, 8, 8)),
        5,
    ),
    "swin": (
        functools.partial(
            backbones.swin, "tiny", SHAPE, patch=2, window=4, depths=(2, 1, 1, 1), width=4, heads=(1, 2, 2, 4)
        ),
        10,
    ),
    "regnet": (functools.partial(backbones.regnet, 8, 6, 2.0, 4, 8, SHAPE), 4),
    "pit": (
        functools.partial(
            backbones.pit, "tiny", SHAPE, patch=4, stride=2, depths=(1, 1, 1), head_width=4, heads=(1, 2, 4)
        ),
        6,
    ),
    "xcit": (functools.partial(backbones.xcit, "tiny", 1, 4, SHAPE, width=8, heads=2), 3),
}


# the smallest named backbone with learned positions, as "shallow_vit4"
names.FAMILIES["shallow_vit<patch>"] = functools.partial(backbones.vit, "tiny", depth=1)


def build(name: str, drop_path=0.5, seed: int = 0) -> backbones.Backbone:
    """A tiny network of a family, with layer scale of 1: weights of 1e-6 would hide a branch."""
    network, _ = FAMILIES[name]
    parts = network(seed=seed, drop_path=drop_path)
    for layer in parts.core.layers:
        if type(layer).__name__ == "LayerScale":
            layer.factors.assign(np.ones(layer.factors.shape))
    return parts


def data(count: int = 8):
    """Raw pixels (n, H, W, C), uint8, and integer labels (n,)."""
    random = np.random.default_rng(0)
    return random.integers(0, 256, (count, *SHAPE), dtype="uint8"), random.integers(0, NUM_CLASSES, count)
