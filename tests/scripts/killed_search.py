"""A search that kills itself in one of its trials: python killed_search.py FOLDER TRIAL"""

import os
import signal
import sys

from tiny_search import TRAIN, VALIDATION, hypermodel

from mixmo_keras import search


class Killed(search.MixMoHyperModel):
    trials = 0

    def fit(self, *arguments, **options):
        Killed.trials += 1
        if Killed.trials == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(*arguments, **options)


tuner = search.tuner(hypermodel(Killed), "random", sys.argv[1], max_trials=4)
tuner.search(TRAIN, VALIDATION, epochs=1)
