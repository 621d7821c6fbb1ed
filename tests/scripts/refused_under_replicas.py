"""What several replicas can't do is refused at `compile`."""

import keras
import tiny

from mixmo_keras import distribution

with distribution.strategy("mirrored", 2).scope():
    model = tiny.model(synchronized_batch_norm=True)
    for options, message in (
        (dict(optimizer=keras.optimizers.SGD(gradient_accumulation_steps=2)), "can't accumulate gradients"),
        (dict(jit_compile=True), "can't be combined with synchronized_batch_norm"),
    ):
        try:
            model.compile(**options)
        except ValueError as error:
            assert message in str(error), error
        else:
            raise AssertionError(message)
print("done")
