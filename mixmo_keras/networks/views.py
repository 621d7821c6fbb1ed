"""Several views of each image at inference: the image, its mirror image, and both shifted by a pixel."""

import warnings

import keras
import numpy as np
from keras import ops

from mixmo_keras.common import arguments

# how much each view counts: the image, its mirror image, and where there are six both shifted down-right and up-left
WEIGHTS = {1: (1.0,), 2: (0.5, 0.5), 6: (0.25, 0.25, 0.125, 0.125, 0.125, 0.125)}


def checked(views: int) -> int:
    """A number of views: 1, 2 or 6."""
    views = arguments.integer("views", views, least=1)
    if views not in WEIGHTS:
        raise ValueError(
            f"`views` must be 1 (the image), 2 (and its mirror image) or 6 (and shifts of both), got {views}."
        )
    return views


def views_of(model, views: int) -> int:
    """A number of views to ask a model by. Warns of one that was trained without mirror images."""
    views = checked(views)
    if views > 1 and not model.trained_with_flips:
        warnings.warn(
            f"`views` (={views}) shows mirror images too, but {model.name} was trained without flips: its answers to them "
            "may be worse. Train with PadCropFlip(flip=True), or leave `views` out.",
            stacklevel=4,
        )
    return views


@keras.saving.register_keras_serializable("mixmo_keras")
class Views(keras.layers.Layer):
    """The views of each image: V = 2 are the image and its mirror image, V = 6 both also moved by a pixel two ways.

    airbench94's (Jordan, 2024). What comes in from the border is the image mirrored at its outermost pixels.

    Args:
        views: V.

    Call arguments:
        images: (n, H, W, C).

    Returns:
        (n·V, H, W, C), all views of the first image, then of the second.
    """

    def __init__(self, views: int, **kwargs):
        super().__init__(**kwargs)
        self.views = checked(views)

    def call(self, images):
        height, width, channels = images.shape[1:]
        moved = [images]
        if self.views == 6:
            padded = ops.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="reflect")
            moved += [padded[:, :height, :width], padded[:, 2:, 2:]]
        every = [view for one in moved for view in (one, ops.flip(one, axis=2))][: self.views]
        return ops.reshape(ops.stack(every, axis=1), (-1, height, width, channels))

    def compute_output_shape(self, input_shape):
        rows = None if input_shape[0] is None else input_shape[0] * self.views
        return (rows, *input_shape[1:])

    def get_config(self):
        return {**super().get_config(), "views": self.views}


@keras.saving.register_keras_serializable("mixmo_keras")
class AverageOfViews(keras.layers.Layer):
    """The weighted mean of what a network says of the views of each image, such as logits.

    Args:
        views: V, as in `Views`.

    Call arguments:
        values: (n·V, ...).

    Returns:
        (n, ...).
    """

    def __init__(self, views: int, **kwargs):
        super().__init__(**kwargs)
        self.views = checked(views)

    def call(self, values):
        shape = values.shape[1:]
        values = ops.reshape(values, (-1, self.views, int(np.prod(shape))))
        weights = ops.convert_to_tensor(WEIGHTS[self.views], values.dtype)
        return ops.reshape(ops.sum(values * weights[None, :, None], axis=1), (-1, *shape))

    def compute_output_shape(self, input_shape):
        rows = None if input_shape[0] is None else input_shape[0] // self.views
        return (rows, *input_shape[1:])

    def get_config(self):
        return {**super().get_config(), "views": self.views}


def averaged(network: keras.Model, views: int) -> keras.Model:
    """Returns a network that gives the mean of another's answers to the views of each image: V passes for an image.

    Args:
        network: From images (n, H, W, C) to answers (n, ...). Its layers are used, not copied.
        views: V. For 1 it is the network itself.
    """
    if checked(views) == 1:
        return network
    if len(network.output_shape) > 4:
        raise ValueError(
            f"`views` (={views}) averages answers about whole images; those of {network.name} are maps, which a mirror "
            "image turns round: leave `views` out."
        )
    images = keras.Input(network.input_shape[1:], name="images")
    answers = network(Views(views, dtype="float32", name="views")(images))
    answers = AverageOfViews(views, dtype="float32", name="average_of_views")(answers)
    return keras.Model(images, answers, name=f"{network.name}_{views}_views")
