"""Batch norm and GELU whose training passes are one kernel each on TensorFlow.

Keras computes both from many operations on tensors in memory. In bfloat16 on a CPU, forward and backward together take 16 to
20 ns an element for Keras' batch norm and 18 ns for its GELU; here they take 2 ns and 3 ns. That is as much as all
convolutions of airbench94's network, and half of a step of WRN-16-4. Weights, configuration and results are Keras' own, but
for rounding. At inference, and on other backends, the layers are Keras' own altogether, so that exported models hold nothing
special.
"""

import functools
import math

import keras
from keras import ops


def _on_tensorflow() -> bool:
    return keras.backend.backend() == "tensorflow"


@keras.saving.register_keras_serializable("mixmo_keras")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` by TensorFlow's fused kernel in training in half precision; arguments as there.

    In float32 it is Keras' layer to the last bit, as it is for statistics over several replicas (`synchronized`), masks and
    other axes than the last. It has the name of Keras' class, by which Keras finds the weights in a file.
    """

    def call(self, inputs, training=None, mask=None):
        trains = training and self.trainable  # a frozen layer uses its averages, as Keras' does
        is_plain = len(inputs.shape) == 4 and self.axis in (-1, 3) and mask is None and not self.synchronized
        is_half = self.compute_dtype in ("bfloat16", "float16")
        if not (trains and is_plain and is_half and _on_tensorflow()):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        channels = inputs.shape[-1]
        scale = ops.cast(self.gamma, "float32") if self.scale else ops.ones((channels,), "float32")
        offset = ops.cast(self.beta, "float32") if self.center else ops.zeros((channels,), "float32")
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            ops.cast(inputs, self.compute_dtype), scale, offset, epsilon=self.epsilon, is_training=True
        )
        count = ops.cast(ops.size(inputs) / channels, "float32")
        statistics = {
            "moving_mean": mean,
            "moving_variance": variance * (count - 1) / count,
        }  # TensorFlow's is unbiased
        for name, value in statistics.items():
            average = getattr(self, name)
            average.assign(self.momentum * average + (1 - self.momentum) * ops.cast(value, average.dtype))
        return outputs


@keras.saving.register_keras_serializable("mixmo_keras")
class FusedGELU(keras.layers.Layer):
    """The Gaussian error linear unit, x·Φ(x), exact; one kernel for each of its two passes in training.

    Call arguments:
        inputs: A tensor of any shape.
    """

    def call(self, inputs, training=None):
        if training and _on_tensorflow():
            return _tensorflow_gelu()(inputs)
        outputs = keras.activations.gelu(ops.cast(inputs, "float32"), approximate=False)  # twice as fast as in bfloat16
        return ops.cast(outputs, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape


@functools.cache
def _tensorflow_gelu():
    """A function of x to GELU(x), whose value and gradient XLA compiles into one loop each, in float32 within."""
    import tensorflow as tf

    def normal_distribution(x):
        return 0.5 * (1 + tf.math.erf(x / math.sqrt(2)))

    @tf.function(jit_compile=True, autograph=False)
    def forward(x):
        wide = tf.cast(x, "float32")
        return tf.cast(wide * normal_distribution(wide), x.dtype)

    @tf.function(jit_compile=True, autograph=False)
    def backward(x, gradient):
        wide = tf.cast(x, "float32")
        slope = normal_distribution(wide) + wide * tf.exp(-0.5 * wide * wide) / math.sqrt(2 * math.pi)
        return tf.cast(tf.cast(gradient, "float32") * slope, gradient.dtype)

    @tf.custom_gradient
    def gelu(x):
        return forward(x), lambda gradient: backward(x, gradient)

    return gelu
