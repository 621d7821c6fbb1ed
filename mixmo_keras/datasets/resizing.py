"""Every change of an image's size, but for those that are a corruption or an augmentation.

`center_crop` brings images to size for evaluation and for serving, `random_crop` for training on photographs, and `to_shape`
brings the images of one dataset to what a model of another takes.
"""

from collections.abc import Callable

import keras
import tensorflow as tf

from mixmo_keras.common import arguments
from mixmo_keras.mixing.augmentation import AREA, RATIO

INTERPOLATIONS = ("bilinear", "bicubic")


def center_crop(size: tuple[int, int], border: int = 0) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function of an image (h, w, C) to its center, as large as the aspect ratio allows, as (H, W, C) uint8.

    Args:
        size: (H, W) in pixels.
        border: Number of pixels to cut off on every side, after the image was resized to so much more. 16 for 224×224
            pixels is how networks are evaluated on ImageNet. Defaults to 0.
    """
    height, width = arguments.image_size("size", size)
    border = arguments.integer("border", border, least=0)
    resize = _resizing((height + 2 * border, width + 2 * border), crop_to_aspect_ratio=True)

    def crop(image):
        image = resize(image)
        return _pixels(image[border : border + height, border : border + width])

    return crop


def random_crop(
    size: tuple[int, int], smallest_area: float = AREA[0], interpolation: str = INTERPOLATIONS[0]
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """A function of an image (h, w, C) and a seed (2,) to a random part of the image, resized to (H, W, C) uint8.

    The part's fraction of the area and its width by height are drawn within `augmentation.AREA` and `RATIO`. Where ten draws
    don't fit into the image, the whole image is taken.

    Args:
        size: (H, W) in pixels.
        smallest_area: The least fraction of the image's area that a part has, within (0, 1]. Defaults to that of
            `augmentation.AREA`.
        interpolation: How the part is resized, `"bilinear"` or `"bicubic"`; either way antialiased where it shrinks.
    """
    size = arguments.image_size("size", size)
    area = (arguments.number("smallest_area", smallest_area, above=0, most=AREA[1]), AREA[1])
    resize = _resizing(size, interpolation=arguments.choice("interpolation", interpolation, INTERPOLATIONS))

    def crop(image, seed):
        start, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.shape(image), tf.zeros((1, 0, 4)), seed, 0.0, RATIO, area, 10, use_image_if_no_bounding_boxes=True
        )
        return tf.ensure_shape(_pixels(resize(tf.slice(image, start, extent))), (*size, image.shape[-1]))

    return crop


def to_shape(shape: tuple[int, int, int]) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function of images (n, h, w, c) to the center of each as (n, H, W, C) float32.

    Where the numbers of channels differ, every channel is the mean of the image's.

    Args:
        shape: (H, W, C), such as a model's `image_shape`.
    """
    height, width, channels = arguments.image_shape("shape", shape)
    resize = _resizing((height, width), crop_to_aspect_ratio=True)

    def fit(images):
        images = tf.cast(images, tf.float32)
        if images.shape[-1] != channels:
            images = tf.repeat(tf.reduce_mean(images, axis=-1, keepdims=True), channels, axis=-1)
        return images if tuple(images.shape[1:3]) == (height, width) else resize(images)

    return fit


def _resizing(size: tuple[int, int], **options) -> keras.layers.Layer:
    return keras.layers.Resizing(*size, antialias=True, dtype="float32", **options)


def _pixels(image):
    return tf.cast(tf.round(tf.clip_by_value(image, 0, 255)), tf.uint8)
