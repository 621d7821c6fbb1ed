"""Each task under two replicas compiled by XLA, a strategy for each: the weights of one device; prints the tasks' names."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tasks"))

import keras
import numpy as np
from every_task import X, model, targets_and_tasks

from mixmo_keras import distribution

for name, (task, y) in targets_and_tasks().items():
    models = []
    for kind, count in (("mirrored", 2), ("none", None)):
        with distribution.strategy(kind, count).scope():
            made = model(task, num_members=1)
            made.compile(keras.optimizers.SGD(0.01), jit_compile=count == 2)
        made.fit(X, y, batch_size=8, shuffle=False, verbose=0, validation_data=(X, y))
        models.append(made)
    together, alone = (made.get_weights() for made in models)
    for ours, theirs in zip(together, alone, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-2, atol=2e-2, err_msg=name)
    models[0].calibrate(X, y)
    assert np.isfinite(models[0].figures(X, y)["ensemble"]["nll"])
    print(name)
