"""What an ensemble costs at inference."""

import tensorflow as tf

from mixmo_keras.common import logs
from mixmo_keras.models.ensemble import Ensemble


def cost(model: Ensemble) -> dict[str, int]:
    """Parameters, and FLOPs an image, of the fused network; a multiplication with its addition counts as two FLOPs."""
    network = model.fused()
    signature = tf.TensorSpec((1, *model.image_shape), tf.float32)
    graph = tf.function(lambda images: network(images, training=False)).get_concrete_function(signature).graph
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    options = builder(builder.float_operation()).with_empty_output().build()
    with logs.only_errors(tf.get_logger()):  # the profiler calls what TensorFlow has deprecated
        counted = tf.compat.v1.profiler.profile(graph, options=options)
    return {"parameters": network.count_params(), "flops": int(counted.total_float_ops)}
