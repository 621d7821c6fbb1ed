"""On JAX a killed run goes on exactly: python jax_resume.py FOLDER"""

import contextlib
import sys

import keras
import tiny

from mixmo_keras.training.checkpoints import Checkpoints

X, Y = tiny.data(40)


class Die(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 3:
            raise KeyboardInterrupt


def run(folder, *callbacks):
    model = tiny.model(learning_rate=None)
    resuming = Checkpoints(folder, every_steps=2)
    position = resuming.restore(model)
    history = model.fit(
        X,
        Y,
        batch_size=8,
        shuffle=False,
        initial_epoch=position.epoch,
        epochs=2,
        verbose=0,
        callbacks=[*callbacks, resuming],
    ).history
    return model, history


with contextlib.suppress(KeyboardInterrupt):
    run(sys.argv[1] + "/killed", Die())
resumed, history = run(sys.argv[1] + "/killed")
whole, whole_history = run(sys.argv[1] + "/whole")
assert tiny.equal_weights(resumed, whole)
assert history == whole_history, (history, whole_history)
print("done")
