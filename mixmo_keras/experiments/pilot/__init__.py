"""Whether two members pay, before a long training is spent on them: short runs of one member and of two, side by side.

Every run has the same rows and epochs; what differs is one member, two members, and two that see the same image in half of
the rows (MIMO's input repetition, ρ = 0.5), at each width.
Judged is the ensemble's accuracy on validation data.
"""

from mixmo_keras.experiments.pilot.figures import gains, label_noise, plot, table
from mixmo_keras.experiments.pilot.runs import VARIANTS, check_rows
from mixmo_keras.experiments.pilot.runs import run_pilot as run
from mixmo_keras.experiments.pilot.verdict import Advice, advice, verdict

__all__ = ["VARIANTS", "Advice", "advice", "check_rows", "gains", "label_noise", "plot", "run", "table", "verdict"]
