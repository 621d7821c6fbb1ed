"""M different images a pass: which image sits in which seat, and an image's answer from those of its seats.

n images make P = ⌈n/M⌉ passes of M seats, one for each member. Image i sits in pass ⌊i/M⌋ as member i mod M. Where n leaves
seats of the last pass free, that pass' images sit there again, in turn: one image fills it, and is answered as by the
ensemble. Who sits with whom does not depend on how images come in batches.
"""

import keras
from keras import ops

from mixmo_keras.common import arguments
from mixmo_keras.metrics.pooling import AVERAGING


def image_of_each_seat(num_images, num_members: int):
    """The index (P·M,) of the image in each seat: those of the first pass, then of the second, and so on.

    Args:
        num_images: n ≥ 1, may be a tensor.
        num_members: M ≥ 1.
    """
    num_passes = (num_images + num_members - 1) // num_members
    seats = ops.arange(num_passes * num_members)
    first = (num_passes - 1) * num_members  # of the last pass: its first seat, and its first image
    return ops.where(seats < num_images, seats, first + (seats - first) % (num_images - first))


def answers(logits, num_images, averaging: str):
    """The logits (n, K), float32, of n images from their seats' (P, M, K): of an image with several seats the average.

    Args:
        logits: (P, M, K), of the members.
        num_images: n, may be a tensor.
        averaging: `"logits"` or `"probabilities"`; the latter gives logarithms of probabilities.
    """
    num_members, num_classes = logits.shape[1:]
    of_seats = ops.reshape(ops.cast(logits, "float32"), (-1, num_classes))
    num_seats = ops.shape(of_seats)[0]
    first = num_seats - num_members
    images = ops.arange(num_images)
    # an image of the last pass sits again so many seats further on; of one before, no second seat is there
    again = ops.where(images < first, num_seats, num_images - first)
    seats = images[:, None] + again[:, None] * ops.arange(num_members)  # (n, M)
    there = seats < num_seats
    of_images = ops.take(of_seats, ops.where(there, seats, 0), axis=0)  # (n, M, K)
    count = ops.sum(ops.cast(there, "float32"), axis=1, keepdims=True)
    there = there[:, :, None]
    if averaging == "logits":
        return ops.sum(ops.where(there, of_images, 0.0), axis=1) / count
    log_probabilities = ops.where(there, ops.log_softmax(of_images, axis=-1), -1e30)
    return ops.logsumexp(log_probabilities, axis=1) - ops.log(count)


@keras.saving.register_keras_serializable("mixmo_keras")
class Seating(keras.layers.Layer):
    """Seats images (n, H, W, C) in passes (P, M, H, W, C), see `image_of_each_seat`.

    Args:
        num_members: M ≥ 1.
    """

    def __init__(self, num_members: int, **kwargs):
        super().__init__(**kwargs)
        self.num_members = arguments.integer("num_members", num_members, least=1)

    def call(self, images):
        seats = image_of_each_seat(ops.shape(images)[0], self.num_members)
        return ops.reshape(ops.take(images, seats, axis=0), (-1, self.num_members, *images.shape[1:]))

    def compute_output_shape(self, input_shape):
        passes = None if input_shape[0] is None else -(-input_shape[0] // self.num_members)
        return (passes, self.num_members, *input_shape[1:])

    def get_config(self):
        return {**super().get_config(), "num_members": self.num_members}


@keras.saving.register_keras_serializable("mixmo_keras")
class Answers(keras.layers.Layer):
    """The answers (n, K) to images (n, ...) from the logits (P, M, K) of the passes that `Seating` made of them.

    Args:
        averaging: `"logits"` or `"probabilities"`, of images with several seats.
    """

    def __init__(self, averaging: str = "logits", **kwargs):
        super().__init__(**kwargs)
        self.averaging = arguments.choice("averaging", averaging, AVERAGING)

    def call(self, logits, images):
        return ops.cast(answers(logits, ops.shape(images)[0], self.averaging), self.compute_dtype)

    def compute_output_shape(self, logits_shape, images_shape):
        return (images_shape[0], logits_shape[2])

    def get_config(self):
        return {**super().get_config(), "averaging": self.averaging}
