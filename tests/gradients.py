"""The gradient of a step, written out in TensorFlow."""

import numpy as np
import tensorflow as tf

from mixmo_keras.seeds import StepSeed


def gradients(model, x, y, step=0, replica=0):
    """Of Σ_i w_i·CE, written out in TensorFlow on the batch that the step will draw."""
    batch = model.make_batch((tf.constant(x), tf.constant(y)), StepSeed(model.seed, step, replica))
    with tf.GradientTape() as tape:
        logits = model.member_logits(batch.images, batch.masks, training=True)
        entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(batch.targets, logits)
        loss = tf.reduce_mean(tf.reduce_sum(batch.loss_weights * entropy, axis=1))
    found = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    return [np.array(gradient) for gradient in found], float(loss)
