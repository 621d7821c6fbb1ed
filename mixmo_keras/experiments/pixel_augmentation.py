"""Augmentations of pixels by keras-cv, on the CPU: each copy of an image on its own, before the model sees it.

Keras' own RandAugment draws its operations once for a batch; keras-cv's draws them for each image, from generators that
can't be set to a step: such runs go on after a kill, but neither they nor runs from the start repeat bit for bit.
"""

from collections.abc import Callable

import tensorflow as tf


def _keras_cv(layer: str, **options) -> Callable[[], Callable]:
    def build() -> Callable:
        import keras_cv  # takes seconds

        augment = getattr(keras_cv.layers, layer)(value_range=(0, 255), **options)
        return lambda images: augment({"images": tf.cast(images, tf.float32)}, training=True)["images"]

    return build


# name: a function that builds the function of images (n, H, W, C)
PIXEL_AUGMENTATIONS = {
    "randaugment": _keras_cv("RandAugment", augmentations_per_image=2, magnitude=0.3),
    "augmix": _keras_cv("AugMix"),
}
