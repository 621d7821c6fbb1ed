"""Each task beside classes on JAX: two steps, calibration, answers; prints the tasks' names."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tasks"))

import keras
import numpy as np
from every_task import X, model, targets_and_tasks

assert keras.backend.backend() == "jax"
for name, (task, y) in targets_and_tasks().items():
    made = model(task)
    history = made.fit(X, y, batch_size=8, validation_data=(X, y), verbose=0).history
    assert np.isfinite([values[-1] for values in history.values()]).all()
    made.calibrate(X, y)
    assert all(np.isfinite(values).all() for values in made.answers(X).values())
    assert np.isfinite(made.figures(X, y)["ensemble"]["nll"])
    print(name)
