"""The training step of each backend: the only rooms that know a backend's tape."""

import keras

_BACKEND = keras.backend.backend()
if _BACKEND == "tensorflow":
    from mixmo_keras.training.steps.tensorflow import (
        accelerator_multiplies_bfloat16,
        clear_shape_errors,
        has_accelerator,
        in_known_shapes,
        noting,
        one_batch,
        predict_step,
        test_step,
        train_step,
    )
elif _BACKEND == "jax":
    from mixmo_keras.training.steps.jax import (  # type: ignore[assignment]
        accelerator_multiplies_bfloat16,
        clear_shape_errors,
        has_accelerator,
        in_known_shapes,
        noting,
        train_step,
    )
else:
    raise ImportError(
        f"mixmo_keras trains on the Keras backends tensorflow and jax; Keras runs on {_BACKEND!r}. "
        "Set the environment variable KERAS_BACKEND before keras is imported."
    )

__all__ = [
    "accelerator_multiplies_bfloat16",
    "clear_shape_errors",
    "has_accelerator",
    "in_known_shapes",
    "noting",
    "one_batch",
    "predict_step",
    "test_step",
    "train_step",
]
