"""On JAX a killed run goes on exactly: python jax_resume.py FOLDER"""

import contextlib
import sys

import keras
import numpy as np
import tiny

from mixmo_keras import SAM, FineTuning
from mixmo_keras.training.checkpoint_files import values_of
from mixmo_keras.training.checkpoints import Checkpoints
from mixmo_keras.training.weight_averaging import SwapAveragedWeights

X, Y = tiny.data(40)


class Die(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 3:
            raise KeyboardInterrupt


AVERAGED = {
    "moving": dict(),
    "mean": dict(average_from=0.3, sharpness=SAM(0.1)),
    "frozen": dict(sharpness=SAM(0.1), fine_tuning=FineTuning(0.5, frozen_epochs=1)),
}


def run(folder, *callbacks, ema=None):
    model = tiny.model(learning_rate=None)
    if ema:
        optimizer = keras.optimizers.SGD(model.schedule, 0.9, use_ema=True, ema_momentum=0.8)
        model.compile(optimizer, **AVERAGED[ema])
        callbacks = (*callbacks, SwapAveragedWeights())
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
        validation_data=(X, Y) if ema else None,
    ).history
    return model, history


for ema in (None, *AVERAGED):
    folder = f"{sys.argv[1]}/{ema}"
    with contextlib.suppress(KeyboardInterrupt):
        run(folder + "/killed", Die(), ema=ema)
    resumed, history = run(folder + "/killed", ema=ema)
    whole, whole_history = run(folder + "/whole", ema=ema)
    assert tiny.equal_weights(resumed, whole)
    assert tiny.equal_weights(*(values_of(model.optimizer.variables) for model in (resumed, whole)))
    assert history == whole_history, (history, whole_history)
begin = tiny.model()
frozen = tiny.model(learning_rate=None)
frozen.compile(keras.optimizers.SGD(0.1, 0.9), fine_tuning=FineTuning(0.5, frozen_epochs=1))
frozen.fit(X, Y, batch_size=8, verbose=0)
assert tiny.equal_weights(begin.core, frozen.core)
assert not tiny.equal_weights(begin.heads.get_weights(), frozen.heads.get_weights())
frozen.fit(X, Y, batch_size=8, initial_epoch=1, epochs=2, verbose=0)
assert not tiny.equal_weights(begin.core, frozen.core)
statistics = {v.name: np.array(v) for v in whole.non_trainable_variables if v.name.startswith("moving")}
averages = [np.array(v) for v in whole.optimizer.variables if v.name == "statistic_average"]
assert tiny.equal_weights([*statistics.values()], averages)  # `fit` ends with the averages in the model
print("done")
