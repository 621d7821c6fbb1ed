"""When a difference may be called one: beyond two standard errors, here and wherever else figures are put into words."""

import math

SURE = 2  # standard errors


def is_sure(difference: float, standard_error: float) -> bool:
    """Whether a difference, of either sign, is larger than chance explains."""
    return abs(difference) > SURE * standard_error


def is_above_guessing(accuracy: float, chance: float, count: int) -> bool:
    """Whether more of `count` images are right than when each is guessed, right with probability `chance`."""
    return accuracy > chance + SURE * math.sqrt(chance * (1 - chance) / count)
