"""Passes over data by tf.data, without the thread that tunes them."""

from typing import Any


def untuned() -> Any:
    """`tf.data.Options` without the thread that tunes parallelism, for whose end the end of a pass waits on a busy CPU.

    It looks again after 10, 20, 40 ms and so on. It is woken an instant before it can see that the pass has ended, and where
    the cores are busy it goes back to sleep, so that a pass of 45 s takes 80 s (TensorFlow 2.21). Without it a parallel
    `map` uses all cores.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return options
