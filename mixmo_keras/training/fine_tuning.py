"""Further training of a network that was trained already: its core more slowly than what is new, and not at all at first.

Discriminative learning rates and gradual unfreezing (Howard, Ruder, ACL 2018): of two groups, the core, which was taken
over, and encoders and heads; or of each layer by its depth, as in BEiT's code.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping

import keras

from mixmo_keras import keras_internals
from mixmo_keras.common import arguments
from mixmo_keras.common.settings import Settings, setting
from mixmo_keras.networks import depth


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
        layer_decay: What the learning rate of a layer is multiplied by for each residual branch of the core that ends
            behind it, in (0, 1]; once more by `core_rate` within the core. Encoders lie before all branches, heads behind
            them. BEiT's decay is by block: a transformer's block has two branches, so that its .75 is .87 here. Defaults
            to 1: all layers alike.
    """

    core_rate: float = setting(
        0.1, "a trained backbone's core's share of the learning rate, such as 0.1", arguments.number, above=0
    )
    frozen_epochs: int = setting(
        0, "first epochs in which a trained backbone's core stays as it is", arguments.integer, least=0
    )
    freeze_batch_norm: bool = setting(False, "a trained backbone's batch norm keeps its averages", arguments.boolean)
    layer_decay: float = setting(
        1.0,
        "share of the learning rate, such as 0.9, for each residual branch that ends behind a layer of a trained backbone",
        arguments.number,
        above=0,
        most=1,
    )

    @classmethod
    def of(
        cls,
        core_rate: float | None,
        frozen_epochs: int | None,
        freeze_batch_norm: bool | None = None,
        layer_decay: float | None = None,
    ) -> "FineTuning | None":
        """Returns the settings of options of which each may be `None`; `None` where all are."""
        if core_rate is None and frozen_epochs is None and not freeze_batch_norm and layer_decay is None:
            return None
        return cls(
            1.0 if core_rate is None else core_rate,
            frozen_epochs or 0,
            bool(freeze_batch_norm),
            1.0 if layer_decay is None else layer_decay,
        )


def check(model, fine_tuning: FineTuning | None) -> FineTuning | None:
    """`compile`'s argument. Raises where it is something else, or where the model's core has nothing to train."""
    arguments.instance("fine_tuning", fine_tuning, (FineTuning, type(None)), "a mixmo_keras.FineTuning or None")
    if fine_tuning is not None and not model.core.trainable_weights:
        raise ValueError(
            "`fine_tuning` has no meaning for this model: no weight of its core is trained. Leave it out, or, where the "
            "core is frozen, set model.core.trainable = True."
        )
    if fine_tuning is not None and fine_tuning.layer_decay != 1 and not depth.num_branches(model.core):
        raise ValueError(
            "`layer_decay` counts the residual branches of the core's graph, and this core has none: its layers hold them "
            "within, as those of keras_hub's transformers do, or it has no shortcuts. Use `core_rate`."
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

    tuning = model.fine_tuning
    by_depth = {} if tuning is None or tuning.layer_decay == 1 else _rates_by_depth(model, tuning.layer_decay)

    def rate_of(variable) -> float:
        rate = math.prod(rate for name, rate in model.rates.items() if _is_named(variable, name))
        rate *= by_depth.get(id(variable), 1.0)
        if tuning is None or id(variable) not in _of_core(model):
            return rate
        return 0.0 if model.core_frozen else rate * tuning.core_rate

    has_own = tuning is not None or model.rates
    is_decayed = _is_kernel if model.decay_kernels_only else None
    keras_internals.set_rates_by_variable(model.optimizer, rate_of if has_own else None, is_decayed)


def _rates_by_depth(model, decay: float) -> dict[int, float]:
    """The share of the learning rate of each weight of core and encoders by its `id`."""
    behind = depth.branches_behind(model.core)
    behind |= dict.fromkeys(map(id, model.encoders.trainable_weights), depth.num_branches(model.core))
    return {weight: decay**branches for weight, branches in behind.items()}


def _is_kernel(variable) -> bool:
    """Whether a weight multiplies inputs: biases, scales and shifts of norms, positions and tokens don't."""
    return variable.name.endswith("kernel")


def _is_named(weight, name: str) -> bool:
    """Whether a weight's path ends in a name, such as "beta" or "whitening/kernel"."""
    return f"/{weight.path}".endswith(f"/{name}")


def _of_core(model) -> set[int]:
    """The `id` of each weight of the core that is trained."""
    return {id(weight) for weight in model.core.trainable_weights}
