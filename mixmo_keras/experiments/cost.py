"""What an ensemble costs at inference."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

from mixmo_keras.models.ensemble import Ensemble


def cost(model: Ensemble) -> dict[str, int]:
    """Parameters, and FLOPs an image, of the fused network; a multiplication with its addition counts as two FLOPs."""
    network = model.fused()
    signature = tf.TensorSpec((1, *model.image_shape), tf.float32)
    graph = tf.function(lambda images: network(images, training=False)).get_concrete_function(signature).graph
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    options = builder(builder.float_operation()).with_empty_output().build()
    with _quiet():
        counted = tf.compat.v1.profiler.profile(graph, options=options)
    return {"parameters": network.count_params(), "flops": int(counted.total_float_ops)}


@contextmanager
def _quiet() -> Iterator[None]:
    """The profiler calls what TensorFlow has deprecated."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
