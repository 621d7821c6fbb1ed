"""Images of several sizes brought to one: the middle to evaluate and to serve, random parts to train on."""

from collections.abc import Callable

import keras
import tensorflow as tf

from mixmo_keras.mixing.augmentation import AREA, RATIO


def middle(size: tuple[int, int], border: int = 0) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function of an image (h, w, C) to its middle, as large as the aspect ratio allows, as (H, W, C) uint8.

    Args:
        size: (H, W) in pixels.
        border: pixels to cut off on every side, after the image was resized to so much more. 16 for 224×224 pixels is
            how networks are evaluated on ImageNet.
    """
    height, width = size
    resize = _resizing((height + 2 * border, width + 2 * border), crop_to_aspect_ratio=True)

    def fit(image):
        image = resize(image)
        return _pixels(image[border : border + height, border : border + width])

    return fit


def random_part(size: tuple[int, int]) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """A function of an image (h, w, C) and a seed (2,) to a random part of it, as (H, W, C) uint8.

    The part's share of the area and its width by height are drawn within `augmentation.AREA` and `RATIO`; where ten draws
    don't fit into the image, it is the whole.
    """
    resize = _resizing(size)

    def fit(image, seed):
        start, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.shape(image), tf.zeros((1, 0, 4)), seed, 0.0, RATIO, AREA, 10, use_image_if_no_bounding_boxes=True
        )
        return tf.ensure_shape(_pixels(resize(tf.slice(image, start, extent))), (*size, image.shape[-1]))

    return fit


def _resizing(size: tuple[int, int], **options) -> keras.layers.Layer:
    return keras.layers.Resizing(*size, antialias=True, dtype="float32", **options)


def _pixels(image):
    return tf.cast(tf.round(tf.clip_by_value(image, 0, 255)), tf.uint8)
