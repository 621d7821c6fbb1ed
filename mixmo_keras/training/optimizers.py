"""Optimizers by name, as recipes choose them."""

from collections.abc import Callable

import keras

MOMENTUM = 0.9  # of SGD with Nesterov's momentum: the papers'
OPTIMIZERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    "sgd": keras.optimizers.SGD,
    "adamw": keras.optimizers.AdamW,
    "lamb": keras.optimizers.Lamb,
}


def default_optimizer(learning_rate, **options) -> keras.optimizers.Optimizer:
    """The papers' optimizer: SGD with Nesterov momentum 0.9. `options` are of `keras.optimizers.SGD`."""
    return keras.optimizers.SGD(learning_rate, **{"momentum": MOMENTUM, "nesterov": True, **options})


def named(name: str, learning_rate, momentum: float, weight_decay: float | None, **options):
    """The optimizer of a name in `OPTIMIZERS`.

    Args:
        name: The name.
        learning_rate: A number or a schedule.
        momentum: Of SGD.
        weight_decay: λ of a decoupled decay, w ← w − rate·λ·w in each step. Defaults to none, for AdamW too.
        **options: Of all Keras optimizers, such as `use_ema`.
    """
    if name == "sgd":
        return default_optimizer(learning_rate, momentum=momentum, weight_decay=weight_decay, **options)
    # Keras' AdamW decays by 0.004 unless told otherwise
    return OPTIMIZERS[name](learning_rate, weight_decay=weight_decay or 0.0, **options)
