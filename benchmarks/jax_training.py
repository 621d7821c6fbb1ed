"""Training through JAX without Keras' loop: the images stay on the device, and many steps are taken in one call.

Needs no TensorFlow. Used by accelerator.py and studies/gpu_plan.py.
"""

import io
import itertools

import jax
import jax.numpy as jnp
import keras
import numpy as np

import mixmo_keras
from mixmo_keras import keras_internals


def stepper(model: keras.Model, images, labels):
    """The model's own step, compiled: `(state, rows) -> (logs, state)`, and its state.

    `rows` are numbers of images: (n,) of one step, or (steps, n) of several, which are taken without going back to Python.
    """
    state = state_of(model, images, labels)

    def take(state, rows, x, y):
        def one(state, rows):
            logs, (trainable, others, optimizer, metrics) = model.train_step(state, (x[rows], y[rows]))
            return (tuple(trainable), tuple(others), tuple(optimizer), tuple(metrics)), logs

        if rows.ndim == 1:
            state, logs = one(state, rows)
            return logs, state
        state, logs = jax.lax.scan(one, state, rows)
        return jax.tree.map(lambda values: values[-1], logs), state

    take = jax.jit(take, donate_argnums=0)
    return (lambda state, rows: take(state, rows, images, labels)), state


def state_of(model: keras.Model, images, labels):
    """A compiled model's variables as the step takes them: copies, since the step overwrites what it is given."""
    keras_internals.build_symbolically(model, (images[:2], labels[:2]))  # metrics; what `fit` would do
    model.make_train_function()  # the optimizer's variables
    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    return tuple(tuple(jnp.copy(variable.value) for variable in group) for group in groups)


def put_back(model: keras.Model, state) -> None:
    """Gives the model's variables the values of a state."""
    groups = (model.trainable_variables, model.non_trainable_variables, model.optimizer.variables)
    for variables, values in zip(groups, state, strict=False):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def orders(num_images: int, images_a_step: int, seed: int):
    """Numbers of images (images_a_step,), step by step without end: a new order in every epoch, its rest in the next."""
    rng, order = np.random.default_rng(seed), np.zeros(0, int)
    while True:
        while len(order) < images_a_step:
            order = np.concatenate([order, rng.permutation(num_images)])
        rows, order = order[:images_a_step], order[images_a_step:]
        yield rows


def scores(logits, labels) -> dict[str, float]:
    """Accuracy, negative log-likelihood (nats) and expected calibration error."""
    metrics = mixmo_keras.metrics
    return {
        "accuracy": metrics.accuracy(logits, labels),
        "nll": metrics.negative_log_likelihood(logits, labels),
        "ece": metrics.expected_calibration_error(logits, labels),
    }


def read(path: str, split: str):
    """Images (n, 32, 32, 3) uint8 and labels (n,) int32 of a split of the archive."""
    from PIL import Image

    with np.load(path) as archive:
        header, body = archive[f"{split}_header"].tobytes(), archive[f"{split}_bytes"].tobytes()
        offsets, labels = archive[f"{split}_offsets"], archive[f"{split}_labels"]
    jpegs = [header + body[start:end] for start, end in itertools.pairwise(offsets)]
    images = np.stack([np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")) for jpeg in jpegs])
    return images, labels.astype("int32")
