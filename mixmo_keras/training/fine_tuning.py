"""Further training of a network that was trained already: its core more slowly than what is new, and not at all at first.

Discriminative learning rates and gradual unfreezing (Howard, Ruder, ACL 2018), with two groups: the core, which was taken
over, and encoders and heads.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping

import keras

from mixmo_keras import keras_internals
from mixmo_keras.common import arguments
from mixmo_keras.common.settings import Settings


@keras.saving.register_keras_serializable("mixmo_keras")
@dataclasses.dataclass(frozen=True)
class FineTuning(Settings):
    """Learning rates by group of layers, as `model.compile(fine_tuning=FineTuning())`.

    The optimizer updates the core by `core_rate` times its learning rate, and decays its weights by as much; encoders and
    heads have the rate itself. In the first epochs of `fit` the core can stay as it is: its weights do not move, SAM does
    not move them either, and its batch norm is in inference mode, whose averages stay too. An optimizer that keeps averages
    of gradients, such as Adam, gathers them meanwhile, so that the core's first steps are no larger than others; gradients
    are clipped together with the core's. A frozen epoch takes as long as another: the encoders' gradients pass the core.

    Args:
        core_rate: What the learning rate of the core is multiplied by, > 0.
        frozen_epochs: Epochs in which the core stays, counted as `fit` does, with `initial_epoch`; at least 0.
        freeze_batch_norm: Whether the core's batch norm is in inference mode in all epochs: its averages stay those of the
            images that it was trained on, and only its scales and shifts are trained. For few images, of which a batch's
            own statistics are a poor estimate.
    """

    core_rate: float = 0.1
    frozen_epochs: int = 0
    freeze_batch_norm: bool = False

    def __post_init__(self):
        arguments.number("core_rate", self.core_rate, above=0)
        arguments.integer("frozen_epochs", self.frozen_epochs, least=0)
        arguments.boolean("freeze_batch_norm", self.freeze_batch_norm)

    @classmethod
    def of(
        cls, core_rate: float | None, frozen_epochs: int | None, freeze_batch_norm: bool | None = None
    ) -> "FineTuning | None":
        """Returns the settings of options of which each may be `None`; `None` where all are."""
        if core_rate is None and frozen_epochs is None and not freeze_batch_norm:
            return None
        return cls(1.0 if core_rate is None else core_rate, frozen_epochs or 0, bool(freeze_batch_norm))


def check(model, fine_tuning: FineTuning | None) -> FineTuning | None:
    """`compile`'s argument. Raises where it is something else, or where the model's core has nothing to train."""
    arguments.instance("fine_tuning", fine_tuning, (FineTuning, type(None)), "a mixmo_keras.FineTuning or None")
    if fine_tuning is not None and not model.core.trainable_weights:
        raise ValueError(
            "`fine_tuning` has no meaning for this model: no weight of its core is trained. Leave it out, or, where the "
            "core is frozen, set model.core.trainable = True."
        )
    return fine_tuning


class FreezeCore(keras.callbacks.Callback):
    """Freezes a model's core in the first epochs; `fit` adds it. The step is traced anew where that ends."""

    def on_epoch_begin(self, epoch, logs=None):
        self._set(epoch < self.model.fine_tuning.frozen_epochs)

    def on_train_end(self, logs=None):
        self._set(False)

    def _set(self, frozen: bool) -> None:
        if frozen != self.model.core_frozen:
            self.model.core_frozen = frozen
            self.model.make_train_function(force=True)


@contextlib.contextmanager
def core_in_its_mode(model) -> Iterator[None]:
    """Has a frozen core's batch norm in inference mode, as layers that are not trainable are."""
    tuning = getattr(model, "fine_tuning", None)  # of a model that was compiled
    frozen = model.core_frozen or (tuning is not None and tuning.freeze_batch_norm)
    layers = keras_internals.flatten_layers(model.core) if frozen else []
    batch_norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    with keras_internals.seen_as_frozen(batch_norms):
        yield


def of_what_moves(model, gradients: list) -> list:
    """The gradients of the `trainable_weights`, `None` for those of a frozen core."""
    if not model.core_frozen:
        return gradients
    core = _of_core(model)
    return [
        None if id(weight) in core else gradient
        for weight, gradient in zip(model.trainable_weights, gradients, strict=True)
    ]


def check_rates(model, rates: Mapping[str, float] | None) -> dict[str, float]:
    """`compile`'s argument: shares of the learning rate by the last parts of weights' paths.

    Raises:
        ValueError: a share that is negative, or a name that no weight that is trained has.
    """
    rates = dict(arguments.instance("rates", {} if rates is None else rates, Mapping, "a mapping of names to numbers"))
    for name, rate in rates.items():
        arguments.number(f"rates[{name!r}]", rate, least=0)
        if not any(_is_named(weight, name) for weight in model.trainable_weights):
            ends = sorted({weight.name for weight in model.trainable_weights})
            raise ValueError(
                f"`rates` names {name!r}, but no weight that is trained has a path that ends so. Paths are such as "
                f"{model.trainable_weights[0].path}; last parts are {', '.join(ends)}."
            )
    return rates


def prepare(model) -> None:
    """Gives the core, and weights by name, of a compiled model their shares of the optimizer's learning rate and decay."""

    def rate_of(variable) -> float:
        rate = math.prod(rate for name, rate in model.rates.items() if _is_named(variable, name))
        if model.fine_tuning is None or id(variable) not in _of_core(model):
            return rate
        return 0.0 if model.core_frozen else rate * model.fine_tuning.core_rate

    has_own = model.fine_tuning is not None or model.rates
    is_decayed = _is_kernel if model.decay_kernels_only else None
    keras_internals.set_rates_by_variable(model.optimizer, rate_of if has_own else None, is_decayed)


def _is_kernel(variable) -> bool:
    """Whether a weight multiplies inputs: biases, scales and shifts of norms, positions and tokens don't."""
    return variable.name.endswith("kernel")


def _is_named(weight, name: str) -> bool:
    """Whether a weight's path ends in a name, such as "beta" or "whitening/kernel"."""
    return f"/{weight.path}".endswith(f"/{name}")


def _of_core(model) -> set[int]:
    """The `id` of each weight of the core that is trained."""
    return {id(weight) for weight in model.core.trainable_weights}
