"""Keras' own augmentation layers, driven by the step's seeds: each row on its own, the same again for the same step.

A Keras layer draws from a generator with a state, which a run that goes on after a kill doesn't have any more. Here it draws
from the step's seeds in the generator's place, as long as it is called.
"""

from collections.abc import Iterator

import keras
from keras import ops

from mixmo_keras import keras_internals

# that draw for each image of a batch, and keep its shape and its class
BY_ROW = (
    "AutoContrast",
    "Equalization",
    "RandAugment",
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
    "RandomElasticTransform",
    "RandomErasing",
    "RandomFlip",
    "RandomGrayscale",
    "RandomHue",
    "RandomInvert",
    "RandomPerspective",
    "RandomPosterization",
    "RandomRotation",
    "RandomSaturation",
    "RandomSharpness",
    "RandomShear",
    "RandomTranslation",
    "RandomZoom",
    "Solarization",
)
# of which XLA has no kernel on TensorFlow: what turns, shifts, zooms or bends
NOT_COMPILED = (
    "RandAugment",
    "RandomElasticTransform",
    "RandomPerspective",
    "RandomRotation",
    "RandomShear",
    "RandomTranslation",
    "RandomZoom",
)
REFUSED = {
    "AugMix": "it draws once for a batch, from Python's generator",
    "CutMix": "it mixes labels too: pass msda='cutmix'",
    "MixUp": "it mixes labels too: pass msda='mixup'",
    "RandomCrop": "it draws once for a batch: use mixmo_keras.augmentation.PadCropFlip or RandomResizedCrop",
    "RandomGaussianBlur": "it draws its width once for a batch",
    "Rescaling": "the model takes raw pixels, and normalises them itself",
    "Normalization": "the model takes raw pixels, and normalises them itself",
}
PIXELS = (0, 255)


class KerasAugmentation:
    """What `augmentation=` makes of Keras' layers: it is called as `augment(images, seed)`.

    Args:
        layer: One of `BY_ROW`, or a `keras.Sequential` or `keras.layers.Pipeline` of them.

    Raises:
        ValueError: a layer that can't be driven so, or expects pixels in another range than 0 to 255.
    """

    def __init__(self, layer: keras.layers.Layer):
        self.layers = list(_flat(layer))
        if not self.layers:
            raise ValueError(
                "`augmentation` must hold layers that augment, got an empty one; None is for no augmentation."
            )
        for one in self.layers:
            _check(one)

    @property
    def supports_jit(self) -> bool:
        """Whether XLA can compile all of them on TensorFlow; it has no kernel for what turns, shifts and zooms."""
        on_tensorflow = keras.backend.backend() == "tensorflow"
        return not (on_tensorflow and any(type(layer).__name__ in NOT_COMPILED for layer in self.layers))

    def __call__(self, images, seed):
        """Images (B, H, W, C) augmented; of the same shape and dtype."""
        x = ops.cast(images, "float32")
        for number, layer in enumerate(self.layers):
            with keras_internals.drawing_from(layer, seed.fork(f"layer {number}")) as draws:
                drawn = layer.get_random_transformation(x, training=True)
                if isinstance(layer, keras.layers.RandAugment):
                    x = _rand_augmented(layer, x, drawn["transforms"], draws)
                else:
                    x = _transformed(layer, x, drawn)
        x = ops.reshape(ops.cast(x, "float32"), ops.shape(images))
        if "int" in keras.backend.standardize_dtype(images.dtype):
            x = ops.round(ops.clip(x, *PIXELS))
        return ops.cast(x, images.dtype)


def is_keras(layer) -> bool:
    """Whether this is a layer of Keras' preprocessing of images, or a sequence, for `KerasAugmentation`."""
    sequences = (keras.Sequential, keras.layers.Pipeline)
    refused = type(layer) in [getattr(keras.layers, name) for name in REFUSED]
    preprocesses = hasattr(layer, "get_random_transformation") and hasattr(layer, "transform_images")
    return isinstance(layer, sequences) or refused or preprocesses


def _flat(layer) -> Iterator[keras.layers.Layer]:
    if isinstance(layer, (keras.Sequential, keras.layers.Pipeline)):
        for one in layer.layers:
            yield from _flat(one)
    else:
        yield layer


def _check(layer: keras.layers.Layer) -> None:
    name = type(layer).__name__
    if name in REFUSED:
        raise ValueError(f"keras.layers.{name} can't be an `augmentation` of single images: {REFUSED[name]}.")
    if name not in BY_ROW or getattr(keras.layers, name, None) is not type(layer):
        raise ValueError(
            f"`augmentation` takes of Keras' layers those that draw for each image: {', '.join(BY_ROW)}; got {name}. "
            "Write an `Augmentation` (mixmo_keras.augmentation), or use it in tf.data."
        )
    value_range = getattr(layer, "value_range", PIXELS)
    if tuple(value_range) != PIXELS:
        raise ValueError(
            f"`augmentation` is of raw pixels: keras.layers.{name} must have value_range=(0, 255), got {value_range}."
        )


def _transformed(layer: keras.layers.Layer, images, drawn):
    """Images (B, H, W, C) as a layer drew it; Equalization's is a histogram: of each image, not of all as in Keras."""
    if isinstance(layer, keras.layers.Equalization):
        return equalized(images, layer.bins)
    return layer.transform_images(images, drawn, training=True)


def _rand_augmented(layer: keras.layers.RandAugment, images, drawn: dict, seed):
    """RandAugment with a choice of operations for each image; Keras' layer chooses them for the whole batch."""
    chosen = seed.uniform((layer.num_ops, ops.shape(images)[0], 1, 1, 1), 0, len(drawn))
    chosen = ops.cast(ops.minimum(ops.floor(chosen), len(drawn) - 1), "int32")
    for turn in range(layer.num_ops):
        before = images
        for number, (name, transformation) in enumerate(drawn.items()):
            after = _transformed(getattr(layer, name), before, transformation)
            images = ops.where(chosen[turn] == number, ops.cast(after, before.dtype), images)
    return images


def equalized(images, bins: int = 256):
    """Images (B, H, W, C) whose values are spread evenly over 0 to 255, each channel of each image by its own histogram.

    The formula is that of keras.layers.Equalization for a single image.
    """
    num_images, num_pixels, channels = ops.shape(images)[0], images.shape[1] * images.shape[2], images.shape[3]
    # NaN is no index of a histogram; a step looks for it in the images as they came
    values = ops.cast(ops.clip(ops.nan_to_num(images) / 255 * (bins - 1), 0, bins - 1), "int32")
    values = ops.reshape(values, (-1, num_pixels, channels))
    first = bins * (ops.arange(num_images)[:, None, None] * channels + ops.arange(channels)[None, None, :])
    places = ops.reshape(values + ops.cast(first, "int32"), (-1,))
    counts = ops.segment_sum(ops.ones_like(places, dtype="float32"), places, num_segments=num_images * channels * bins)
    totals = ops.cumsum(ops.reshape(counts, (-1, bins)), axis=1)  # of each channel of each image
    least = ops.min(ops.where(totals > 0, totals, float(num_pixels)), axis=1, keepdims=True)
    table = ops.round(ops.clip((totals - least) * 255 / ops.maximum(num_pixels - least, 1.0), 0, 255))
    spread = ops.reshape(ops.take(ops.reshape(table, (-1,)), places), ops.shape(images))
    constant = ops.reshape(least == num_pixels, (-1, 1, 1, channels))
    return ops.where(constant, images, spread)
