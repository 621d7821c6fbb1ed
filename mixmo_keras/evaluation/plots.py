"""Pictures of mixing and augmentation. Each function returns a matplotlib figure; `save` writes it to a file."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from keras import ops
from matplotlib.figure import Figure

from mixmo_keras import seeds
from mixmo_keras.common import arguments, files
from mixmo_keras.mixing import masks as mask_functions
from mixmo_keras.mixing import mixing
from mixmo_keras.mixing.augmentation import Augmentation
from mixmo_keras.mixing.masks import MaskFunction
from mixmo_keras.mixing.ratios import loss_weights
from mixmo_keras.training import data_checks

MOST_DRAWS = 100  # in a row of a gallery


def mixing_gallery(
    images,
    masks: Sequence[str | MaskFunction] | None = None,
    num_draws: int = 3,
    weight_root: float | None = 3.0,
    seed: int = 0,
) -> Figure:
    """Two images mixed by each mask, as a person can see it: a row a mask, `num_draws` draws in it.

    A model mixes features at the encoder's resolution; here the same masks mix the pixels. Each draw shows the mask of the
    first image beside the mixed image, and says the ratios κ and the losses' weights w.

    Args:
        images: (2 or more, H, W, C) raw pixels, 0 to 255; the first two are mixed.
        masks: Names or functions. Defaults to all in `masks.MASKS`.
        num_draws: Number of draws of each mask, at most 100. Defaults to 3.
        weight_root: r of the weights shown; None for equal weights. Defaults to 3.
        seed: Seed of the draws. Defaults to 0.
    """
    images = np.asarray(images, "float32")
    if images.ndim != 4 or len(images) < 2:
        raise ValueError(f"`images` must be at least two images (n, H, W, C), got shape {images.shape}.")
    data_checks.check_pixels(images)
    num_draws = arguments.integer("num_draws", num_draws, least=1, most=MOST_DRAWS)
    seed = arguments.integer("seed", seed)
    two = images[:2]
    masks = list(mask_functions.MASKS) if masks is None else masks
    arguments.instance("masks", masks, (list, tuple), "a list of names or functions of masks, or None")
    figure = Figure(figsize=(2.1 + 3.1 * num_draws, 1.72 * len(masks) + 0.5), layout="constrained")
    grid = figure.subplots(len(masks), 2 + 2 * num_draws, squeeze=False)
    for axes, mask in zip(grid, masks, strict=True):
        _draw_row(axes, two, mask, num_draws, weight_root, seed)
    for axis, title in zip(grid[0][:2], ("first", "second"), strict=True):
        axis.set_title(title, fontsize=8)
    weights = "equal" if weight_root is None else f"r = {weight_root:g}"
    figure.suptitle(f"Mask of the first image and the mix; ratios κ and loss weights w ({weights})", fontsize=11)
    return figure


def _draw_row(axes, two, mask: str | MaskFunction, num_draws: int, weight_root: float | None, seed: int) -> None:
    """The two images, then the mask and the mix of each draw."""
    function = mask_functions.get(mask)
    if function is mask_functions.linear:
        choice = mixing.Mixing(mask, weight_root=weight_root)
    else:
        choice = mixing.Mixing(mask, probability=1.0, weight_root=weight_root)
    masks = mixing.draw_masks(choice, seeds.StepSeed(seed), num_draws, 2, two.shape[1:])
    ratios = mixing.visible_ratios(masks)
    values = (masks, ratios, loss_weights(ratios, weight_root))
    drawn, ratios, weights = (ops.convert_to_numpy(value) for value in values)
    for axis, image in zip(axes[:2], two, strict=True):
        _show(axis, image)
    axes[0].set_ylabel(function.__name__.replace("_", " "), fontsize=10)
    for number in range(num_draws):
        mask_axis, mixed_axis = axes[2 + 2 * number : 4 + 2 * number]
        _show(mask_axis, 255 * np.broadcast_to(drawn[number, 0], two.shape[1:]))
        _show(mixed_axis, np.sum(drawn[number] * two, axis=0))
        mask_axis.set_title(f"κ {ratios[number, 0]:.2f}, {ratios[number, 1]:.2f}", fontsize=8)
        mixed_axis.set_title(f"w {weights[number, 0]:.2f}, {weights[number, 1]:.2f}", fontsize=8)


def augmentation_gallery(
    images, augmentations: Mapping[str, Augmentation], num_draws: int = 8, seed: int = 0
) -> Figure:
    """What augmentations make of images: a row an augmentation and image, the image first, then `num_draws` draws of it.

    Args:
        images: (n, H, W, C) raw pixels, 0 to 255.
        augmentations: By the title of their rows.
        num_draws: Number of draws of each image, at most 100. Defaults to 8.
        seed: Seed of the draws. Defaults to 0.
    """
    images = np.asarray(images, "float32")
    if images.ndim != 4 or not len(images):
        raise ValueError(f"`images` must be images (n, H, W, C), got shape {images.shape}.")
    data_checks.check_pixels(images)
    arguments.instance("augmentations", augmentations, Mapping, "a mapping of titles to augmentations")
    for layer in augmentations.values():
        arguments.instance("augmentations", layer, Augmentation, "a mapping of titles to mixmo_keras' augmentations")
    if not augmentations:
        raise ValueError("`augmentations` must hold an augmentation at least, got an empty mapping.")
    num_draws = arguments.integer("num_draws", num_draws, least=1, most=MOST_DRAWS)
    seed = arguments.integer("seed", seed)
    figure = Figure(
        figsize=(1.3 + 1.05 * (num_draws + 1), 1.05 * len(augmentations) * len(images) + 0.4), layout="constrained"
    )
    grid = figure.subplots(len(augmentations) * len(images), num_draws + 1, squeeze=False)
    pairs = ((title, layer, image) for title, layer in augmentations.items() for image in images)
    for axes, (title, layer, image) in zip(grid, pairs, strict=True):
        drawn = layer(np.repeat(image[None], num_draws, axis=0), seed=seeds.StepSeed(seed))
        for axis, shown in zip(axes, (image, *ops.convert_to_numpy(drawn)), strict=True):
            _show(axis, shown)
        axes[0].set_ylabel(title, fontsize=8)
    grid[0, 0].set_title("image", fontsize=8)
    return figure


def weight_curves(weight_roots: Sequence[float | None] = (1, 2, 3, 5, None)) -> Figure:
    """Draws the loss weight w_r(κ) of one of two members against its mixing ratio κ (MixMo, equation 4).

    Args:
        weight_roots: The roots r, a line each; `None` for equal weights.
    """
    ratios = np.linspace(0, 1, 201, dtype="float32")
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axis = figure.subplots()
    arguments.instance("weight_roots", weight_roots, (tuple, list), "a list of numbers")
    for root in weight_roots:
        if root is not None:
            arguments.number("weight_roots", root, above=0, otherwise=" each, or None for equal weights")
        weights = loss_weights(ops.convert_to_tensor(np.stack([ratios, 1 - ratios], axis=1)), root)
        label = "equal weights (r → ∞)" if root is None else f"r = {root:g}"
        axis.plot(ratios, ops.convert_to_numpy(weights)[:, 0], label=label, linestyle="--" if root is None else "-")
    axis.set(xlabel="mixing ratio κ of the member", ylabel="weight of its loss", xlim=(0, 1), ylim=(0, 2))
    axis.set_title("Loss weight of one of two members", fontsize=11)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return figure


def save(figure: Figure, path: str | os.PathLike, dpi: float = 110) -> Path:
    """Writes a figure as the file that its ending names, such as `.png` or `.svg`, whole or not at all."""
    if not hasattr(figure, "savefig"):
        raise ValueError(f"`figure` must be a figure of matplotlib's, got {figure!r}.")
    arguments.instance("path", path, (str, os.PathLike), "the path of a file")
    dpi = arguments.number("dpi", dpi, above=0)
    with files.replacing(path) as part:
        figure.savefig(part, dpi=dpi)
    return Path(path)


def _show(axis, image) -> None:
    pixels = np.clip(np.rint(image), 0, 255).astype("uint8")
    axis.imshow(np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
