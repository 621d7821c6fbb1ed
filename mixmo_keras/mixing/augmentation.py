"""Augmentation on the device, after batch repetition: every copy of an image gets its own draw.

An `Augmentation` draws and applies apart. Keras' own layers (`keras.layers.RandAugment`, `RandomRotation`, a `Sequential` of
them) draw from the step's seeds, see `keras_augmentation`. Any other layer that is called as `augment(images, seed=...)`
serves too: images (B, H, W, C) of raw pixels and a `keras.random.SeedGenerator` in, images of the same shape and dtype out.
"""

import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from mixmo_keras.common import arguments
from mixmo_keras.mixing import keras_augmentation

# a random part's share of the area, the least and the greatest; its width by height (Szegedy et al., 2015)
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
PADDING_MODES = ("zeros", "reflect")
_PRIME = 46_337  # the square of what is below it is below 2³¹


class Augmentation(keras.layers.Layer):
    """Augments each row on its own: what is random apart from what is done with it."""

    def draw(self, seed, num_rows) -> tuple:
        """All that is random for so many rows; tensors whose first axis is the rows."""
        raise NotImplementedError(f"{type(self).__name__} must define `draw`.")

    def apply(self, images, *drawn):
        """Images (B, H, W, C) as they were drawn to become, of the same shape and dtype."""
        raise NotImplementedError(f"{type(self).__name__} must define `apply`.")

    def move(self, maps, images, border: int, *drawn):
        """Label maps (B, H, W) moved as `apply` moves their images; what comes in from outside has the label `border`.

        Args:
            maps: (B, H, W), integers.
            images: (B, H, W, C), as they are before.
            border: A label.
            *drawn: Of `draw`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `move` to be used for label maps.")

    def call(self, images, seed):
        return self.apply(images, *self.draw(seed, ops.shape(images)[0]))


@keras.saving.register_keras_serializable("mixmo_keras")
class PadCropFlip(Augmentation):
    """Pads, crops back to size at a random place, and flips left-right half of the time: CIFAR's augmentation.

    Args:
        padding: Pixels added on each side before the crop.
        flip: Whether to flip. Leave it off where left and right mean something, as in digits.
        padding_mode: What comes in from the border, `"zeros"` or `"reflect"`, the image mirrored at its outermost pixels.
        alternating: Whether an image is flipped in every other epoch, in place of half of the time (Jordan, 2024): two
            epochs show each image both ways. Which ones begin flipped follows from the seed and from their pixels; copies
            of an image in one step are flipped alike.
    """

    def __init__(
        self, padding: int = 4, flip: bool = True, padding_mode: str = "zeros", alternating: bool = False, **kwargs
    ):
        super().__init__(**kwargs)
        self.padding = arguments.integer("padding", padding, least=0)
        self.flip = arguments.boolean("flip", flip)
        self.padding_mode = arguments.choice("padding_mode", padding_mode, PADDING_MODES)
        self.alternating = arguments.boolean("alternating", alternating)
        if self.alternating and not self.flip:
            raise ValueError("alternating=True says how images are flipped: it needs flip=True.")
        if not self.padding and not self.flip:
            raise ValueError("padding=0 and flip=False augment nothing: pass `augmentation=None` instead.")

    def draw(self, seed, num_rows):
        """Shifts (B, 2) in pixels within ±padding, and flips (B,): booleans, or where they alternate `_sides`' keys."""
        shifts = keras.random.uniform((num_rows, 2), 0, 2 * self.padding + 1, seed=seed)
        shifts = ops.cast(ops.floor(shifts), "int32") - self.padding
        if self.alternating:
            key = 2 * (seed.constant("flip") % _PRIME) + ops.cast(seed.epoch, "int32") % 2
            return shifts, ops.broadcast_to(key, (num_rows,))
        flips = keras.random.uniform((num_rows,), seed=seed) < (0.5 if self.flip else 0.0)
        return shifts, flips

    def apply(self, images, shifts, flips):
        """Moves each image by its shift, then flips it left-right where told."""
        source, inside = self._source(images, shifts, flips)
        moved = ops.take(ops.reshape(images, (-1, images.shape[-1])), source, axis=0)
        if self.padding_mode == "reflect":
            return moved
        return ops.where(inside[..., None], moved, ops.zeros_like(moved))

    def move(self, maps, images, border, shifts, flips):
        source, inside = self._source(images, shifts, flips)
        moved = ops.take(ops.reshape(maps, (-1,)), source, axis=0)
        return moved if self.padding_mode == "reflect" else ops.where(inside, moved, ops.cast(border, moved.dtype))

    def _source(self, images, shifts, flips):
        """Which pixel of all images each pixel (B, H, W) comes from, and whether this is one of the image's."""
        num_rows, (height, width) = ops.shape(images)[0], images.shape[1:3]
        flips = _sides(images, flips) if self.alternating else flips
        columns = ops.arange(width)[None, :]
        columns = ops.where(flips[:, None], width - 1 - columns, columns) + shifts[:, 1:]
        rows = ops.arange(height)[None, :] + shifts[:, :1]
        if self.padding_mode == "reflect":
            rows, columns = _reflected(rows, height), _reflected(columns, width)
        inside = ops.logical_and(
            ops.logical_and(rows >= 0, rows < height)[:, :, None],
            ops.logical_and(columns >= 0, columns < width)[:, None, :],
        )
        source = (ops.arange(num_rows)[:, None] * height + ops.clip(rows, 0, height - 1))[:, :, None] * width
        return source + ops.clip(columns, 0, width - 1)[:, None, :], inside

    def get_config(self):
        names = ("padding", "flip", "padding_mode", "alternating")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("mixmo_keras")
class RandomResizedCrop(Augmentation):
    """A random part of each image, enlarged to the image's size, flipped left-right half of the time: ImageNet's.

    Szegedy et al. (2015). A part that would be wider or higher than the image is cut to its border.

    Args:
        scale: The least and the greatest share of the image's area.
        ratio: The least and the greatest width by height of the part, relative to the image's.
        flip: Whether to flip.
    """

    def __init__(self, scale=AREA, ratio=RATIO, flip: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.scale = arguments.bounds("scale", scale, "share of the area within (0, 1]", most=1)
        self.ratio = arguments.bounds("ratio", ratio, "ratio")
        self.flip = arguments.boolean("flip", flip)

    def draw(self, seed, num_rows):
        """Boxes (B, 4), top, left, height and width as shares of the image; and flips (B,), booleans."""
        area = keras.random.uniform((num_rows,), *self.scale, seed=seed)
        log_ratio = ops.log(ops.convert_to_tensor(self.ratio, "float32"))
        ratio = ops.exp(log_ratio[0] + (log_ratio[1] - log_ratio[0]) * keras.random.uniform((num_rows,), seed=seed))
        height, width = ops.minimum(ops.sqrt(area / ratio), 1.0), ops.minimum(ops.sqrt(area * ratio), 1.0)
        place = keras.random.uniform((num_rows, 2), seed=seed)
        boxes = ops.stack([place[:, 0] * (1 - height), place[:, 1] * (1 - width), height, width], axis=1)
        flips = keras.random.uniform((num_rows,), seed=seed) < (0.5 if self.flip else 0.0)
        return boxes, flips

    def apply(self, images, boxes, flips):
        """Cuts each image's box out and enlarges it bilinearly: a product with a matrix for each axis."""
        height, width = images.shape[1:3]
        rows = _bilinear(boxes[:, 0], boxes[:, 2], height)
        columns = _bilinear(boxes[:, 1], boxes[:, 3], width)
        columns = ops.where(flips[:, None, None], ops.flip(columns, axis=1), columns)
        cut = ops.einsum("bih,bhwc->biwc", rows, ops.cast(images, "float32"))
        cut = ops.einsum("bjw,biwc->bijc", columns, cut)
        return ops.cast(ops.round(cut) if "int" in str(images.dtype) else cut, images.dtype)

    def move(self, maps, images, border, boxes, flips):
        """Each pixel has the label of the one that is nearest."""
        height, width = maps.shape[1:3]
        rows = _nearest(boxes[:, 0], boxes[:, 2], height)
        columns = _nearest(boxes[:, 1], boxes[:, 3], width)
        columns = ops.where(flips[:, None], ops.flip(columns, axis=1), columns)
        source = (ops.arange(ops.shape(maps)[0])[:, None] * height + rows)[:, :, None] * width + columns[:, None, :]
        return ops.take(ops.reshape(maps, (-1,)), source, axis=0)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale, "ratio": self.ratio, "flip": self.flip}


@keras.saving.register_keras_serializable("mixmo_keras")
class Compose(Augmentation):
    """Augmentations one after the other, such as `Compose([PadCropFlip(), TrivialAugment()])`.

    Args:
        augmentations: `Augmentation`s, at least one.
    """

    def __init__(self, augmentations, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(augmentations, (list, tuple)) or not augmentations:
            raise ValueError(f"`augmentations` must be a list of augmentations, got {augmentations!r}.")
        for augmentation in augmentations:
            arguments.instance("augmentations", augmentation, Augmentation, "a list of mixmo_keras' augmentations")
        self.augmentations = list(augmentations)

    def build(self, input_shape):
        for augmentation in self.augmentations:
            augmentation.build(input_shape)

    def draw(self, seed, num_rows):
        """What each draws, in their order."""
        return tuple(augmentation.draw(seed, num_rows) for augmentation in self.augmentations)

    def apply(self, images, *drawn):
        """Images (B, H, W, C) as each in turn was drawn to make them."""
        for augmentation, of_one in zip(self.augmentations, drawn, strict=True):
            images = augmentation.apply(images, *of_one)
        return images

    def move(self, maps, images, border, *drawn):
        for augmentation, of_one in zip(self.augmentations, drawn, strict=True):
            maps, images = augmentation.move(maps, images, border, *of_one), augmentation.apply(images, *of_one)
        return maps

    def get_config(self):
        augmentations = [keras.saving.serialize_keras_object(one) for one in self.augmentations]
        return {**super().get_config(), "augmentations": augmentations}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        restored = [
            keras.saving.deserialize_keras_object(one, custom_objects=custom_objects) for one in config["augmentations"]
        ]
        return cls(**{**config, "augmentations": restored})


def _reflected(positions, size: int):
    """Positions along an axis, those outside mirrored at its first and last pixel."""
    positions = ops.abs(positions)
    return ops.where(positions >= size, 2 * (size - 1) - positions, positions)


def _sides(images, keys):
    """Whether each image is flipped: a bit that follows from its pixels and from the seed, turned in every other epoch.

    Args:
        images: (B, H, W, C), from 0 to 255.
        keys: (B,) integers, twice the seed's number below `_PRIME`, and one more in every other epoch.
    """
    pixels = ops.reshape(ops.cast(images, "int32"), (-1, int(np.prod(images.shape[1:]))))
    weights = np.random.default_rng(0).integers(1, 2**12, pixels.shape[1]).astype("int32")
    hashed = (ops.sum(pixels * weights, axis=1) % _PRIME + keys // 2) % _PRIME
    hashed = (hashed * hashed) % _PRIME  # below 2³¹
    return (hashed + keys) % 2 == 1


def _bilinear(start, length, size: int):
    """(B, size, size): how much each pixel of an axis counts for each pixel of its enlarged part, given in shares of it."""
    centers = (ops.arange(size, dtype="float32") + 0.5) / size
    positions = (start[:, None] + length[:, None] * centers[None, :]) * size - 0.5
    positions = ops.clip(positions, 0, size - 1)
    return ops.maximum(1 - ops.abs(positions[:, :, None] - ops.arange(size, dtype="float32")), 0.0)


def _nearest(start, length, size: int):
    """(B, size): the pixel of an axis that each pixel of its enlarged part is nearest to, given in shares of it."""
    centers = (ops.arange(size, dtype="float32") + 0.5) / size
    positions = (start[:, None] + length[:, None] * centers[None, :]) * size
    return ops.clip(ops.cast(ops.floor(positions), "int32"), 0, size - 1)


def get(augmentation: keras.layers.Layer | str | None) -> Callable | None:
    """The layer of a name, and what drives a layer of Keras'; other layers and `None` are returned as they are."""
    if isinstance(augmentation, str):
        arguments.choice("augmentation", augmentation, ("pad_crop_flip",), ", a layer or None")
        return PadCropFlip()
    if augmentation is not None and keras_augmentation.is_keras(augmentation):
        return keras_augmentation.KerasAugmentation(augmentation)
    call = None if isinstance(augmentation, type) else getattr(augmentation, "call", augmentation)
    if augmentation is not None and (not callable(call) or "seed" not in inspect.signature(call).parameters):
        raise ValueError(
            "`augmentation` must be a layer that is called as augment(images, seed=...), a name or None; "
            f"got {augmentation!r}."
        )
    return augmentation


def check_size(augmentation: Callable | None, image_shape) -> None:
    """Raises where an augmentation would leave nothing of images (H, W, C)."""
    every = augmentation.augmentations if isinstance(augmentation, Compose) else [augmentation]
    for one in every:
        if isinstance(one, Compose):
            check_size(one, image_shape)
        elif isinstance(one, PadCropFlip) and one.padding >= min(image_shape[:2]):
            raise ValueError(
                f"`padding` must be smaller than the images, {image_shape[0]}×{image_shape[1]} pixels, or a crop may show "
                f"nothing of them, got {one.padding}."
            )


def moves_maps(augmentation: Callable | None) -> bool:
    """Whether an augmentation can move label maps as it moves their images."""
    if isinstance(augmentation, Compose):
        return all(map(moves_maps, augmentation.augmentations))
    own = isinstance(augmentation, Augmentation) and type(augmentation).move is not Augmentation.move
    return augmentation is None or own


def flips(augmentation: Callable | None) -> bool:
    """Whether an augmentation shows mirror images too; assumed of layers that are not of this package."""
    if isinstance(augmentation, Compose):
        return any(map(flips, augmentation.augmentations))
    if isinstance(augmentation, Augmentation):
        return getattr(augmentation, "flip", False)
    return augmentation is not None


def draw(augmentation: Callable | None, seed, num_rows) -> Any:
    """What `apply` needs to augment so many rows: what an `Augmentation` draws; for another layer, the seed itself."""
    if augmentation is None:
        return None
    return augmentation.draw(seed, num_rows) if isinstance(augmentation, Augmentation) else seed


def apply(augmentation: Callable | None, images, drawn: Any):
    """Images (B, H, W, C) augmented as drawn by `draw`."""
    if augmentation is None:
        return images
    if isinstance(augmentation, Augmentation):
        augmented = augmentation.apply(images, *drawn)
    else:  # from the seed's start each time: the same seed gives the same images
        augmented = augmentation(images, seed=drawn.fork("apply"))
    same_shape = tuple(getattr(augmented, "shape", ()))[1:] == tuple(images.shape)[1:]
    if not same_shape or _dtype(augmented) != _dtype(images):
        raise ValueError(
            f"`augmentation` must return images of the same shape and dtype, {tuple(images.shape)} of {_dtype(images)}; "
            f"{augmentation!r} returned {_described(augmented)}."
        )
    return augmented


def move(augmentation: Callable | None, maps, images, drawn: Any, border: int):
    """Label maps (B, H, W) moved as `apply` moves their images, by an augmentation that can: `moves_maps`."""
    arguments.instance("augmentation", augmentation, Augmentation, "one of mixmo_keras' augmentations")
    return augmentation.move(maps, images, border, *drawn)  # type: ignore[union-attr]


def _dtype(images) -> str:
    return keras.backend.standardize_dtype(images.dtype)


def _described(images) -> str:
    return f"{tuple(images.shape)} of {_dtype(images)}" if hasattr(images, "shape") else repr(images)
