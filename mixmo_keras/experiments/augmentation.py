"""The augmentation that a recipe's options ask for."""

import typing

import keras

from mixmo_keras.experiments.recipe import Recipe
from mixmo_keras.mixing import policies
from mixmo_keras.mixing.augmentation import AREA, Augmentation, Compose, PadCropFlip, RandomResizedCrop
from mixmo_keras.mixing.three_augment import ColorJitter


def of_recipe(recipe: Recipe) -> keras.layers.Layer | None:
    """Returns the layer that augments each copy on the device; the random part of crop="whole" was taken before."""
    padding = recipe.padding if recipe.crop == "pad" else 0
    layers: list[Augmentation] = []
    if recipe.crop == "resize":
        smallest_area = typing.cast(float, recipe.smallest_area)  # of a resolved recipe with this crop
        layers.append(RandomResizedCrop((smallest_area, AREA[1]), flip=recipe.flip))
    elif padding or recipe.flip:
        layers.append(PadCropFlip(padding, recipe.flip, recipe.padding_mode, recipe.alternating_flip))
    if recipe.policy:
        layers.append(policies.BY_NAME[recipe.policy]())
    if recipe.color_jitter:
        layers.append(ColorJitter(recipe.color_jitter))
    if recipe.erasing:
        layers.append(policies.RandomErasing(recipe.erasing))
    return Compose(layers) if len(layers) > 1 else layers[0] if layers else None
